//! The table of messages: fields with number, type and JSON name.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

static TEXT: &str = include_str!("../table/fields.tsv");

/// The envelope's message.
pub(super) const ENVELOPE: &str = "io.k8s.apimachinery.pkg.runtime.Unknown";

/// The type of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Bytes,
    Bool,
    Int,
    Double,
    Message(&'static str),
}

/// How often a value is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    One,
    List,
    Map,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// The JSON name; empty if the fields of its message are its holder's own.
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) kind: Type,
    pub(super) count: Count,
    /// Whether an empty value is a value.
    pub(super) keeps_zero: bool,
}

struct Message {
    text: &'static str,
    fields: OnceLock<Vec<Field>>,
}

static MESSAGES: LazyLock<HashMap<&'static str, Message>> = LazyLock::new(|| {
    TEXT.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, text)| {
            (
                name,
                Message {
                    text,
                    fields: OnceLock::new(),
                },
            )
        })
        .collect()
});

/// The fields of a message, or `None` if there is no such message.
pub(super) fn of(message: &str) -> Option<&'static [Field]> {
    let message = MESSAGES.get(message)?;
    let fields = message
        .fields
        .get_or_init(|| message.text.split(';').filter_map(read).collect());
    Some(fields)
}

fn read(text: &'static str) -> Option<Field> {
    let (name, rest) = text.split_once('=')?;
    let (number, kind) = rest.split_once(' ')?;
    let (keeps_zero, number) = number
        .strip_prefix('!')
        .map_or((false, number), |n| (true, n));
    let (count, kind) = match kind.as_bytes().first()? {
        b'*' => (Count::List, &kind[1..]),
        b'%' => (Count::Map, &kind[1..]),
        _ => (Count::One, kind),
    };
    let kind = match kind {
        "string" => Type::Text,
        "bytes" => Type::Bytes,
        "bool" => Type::Bool,
        "int32" | "int64" => Type::Int,
        "double" => Type::Double,
        message => Type::Message(message),
    };
    Some(Field {
        name,
        number: number.parse().ok()?,
        kind,
        count,
        keeps_zero,
    })
}
