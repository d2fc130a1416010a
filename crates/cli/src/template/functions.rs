//! The functions a template can call: Go's, and those that Docker adds.

use std::cmp::Ordering;

use super::value::Value;
use super::{compare, json, print, printf};

/// Why a call failed; each has its own words around it.
#[derive(Debug)]
pub enum Wrong {
    /// Number of arguments.
    Count(String),
    /// An argument's type.
    Kind(String),
    /// The function itself.
    Call(String),
}

const NAMES: &[&str] = &[
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "index", "slice", "len", "print",
    "printf", "println", "html", "js", "urlquery", "call", "json", "split", "join", "title",
    "lower", "upper", "pad", "truncate",
];

/// Whether there is such a function.
pub fn known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Whether the function changes how a text looks; headings of tables are left alone by those.
pub fn shapes_text(name: &str) -> bool {
    matches!(
        name,
        "json" | "title" | "lower" | "upper" | "truncate" | "split" | "join" | "pad"
    )
}

type Called = Result<Value, Wrong>;

/// Calls the function.
pub fn call(name: &str, arguments: &[Value]) -> Called {
    match (name, arguments) {
        ("not", [value]) => Ok(Value::Bool(!value.truth())),
        ("eq", [first, others @ ..]) if !others.is_empty() => compare::equal(first, others)
            .map(Value::Bool)
            .map_err(Wrong::Call),
        ("eq", [_]) => Err(Wrong::Call("missing argument for comparison".into())),
        ("ne", [a, b]) => compare::equal(a, std::slice::from_ref(b))
            .map(|same| Value::Bool(!same))
            .map_err(Wrong::Call),
        ("lt" | "le" | "gt" | "ge", [a, b]) => ordered(name, a, b),
        ("len", [value]) => length(value),
        ("index", [value, keys @ ..]) => keys
            .iter()
            .try_fold(value.clone(), |at, key| index(&at, key)),
        ("slice", [value, bounds @ ..]) if bounds.len() <= 3 => slice(value, bounds),
        ("print", _) => Ok(print::sprint(arguments).into()),
        ("println", _) => Ok(print::sprintln(arguments).into()),
        ("printf", [format, rest @ ..]) => Ok(printf::format(text(format)?, rest).into()),
        ("html", _) => Ok(escape_html(&print::sprint(arguments)).into()),
        ("js", _) => Ok(escape_js(&print::sprint(arguments)).into()),
        ("urlquery", _) => Ok(escape_url(&print::sprint(arguments)).into()),
        ("call", [value, ..]) => Err(Wrong::Call(format!(
            "non-function {} of type {}",
            print::show(value),
            value.type_name()
        ))),
        ("json", [value]) => Ok(json::encode(value).into()),
        ("split", [value, by]) => Ok(split(text(value)?, text(by)?)),
        ("join", [value, by]) => join(value, text(by)?),
        ("title", [value]) => Ok(title(text(value)?).into()),
        ("lower", [value]) => Ok(text(value)?.to_lowercase().into()),
        ("upper", [value]) => Ok(text(value)?.to_uppercase().into()),
        ("pad", [value, before, after]) => pad(text(value)?, before, after),
        ("truncate", [value, length]) => truncate(text(value)?, length),
        _ => Err(count(name, arguments.len())),
    }
}

fn count(name: &str, given: usize) -> Wrong {
    let want = match name {
        "not" | "len" | "json" | "title" | "lower" | "upper" => "1",
        "ne" | "lt" | "le" | "gt" | "ge" | "split" | "join" | "truncate" => "2",
        "pad" => "3",
        _ => return Wrong::Count(format!("want at least 1 got {given}")),
    };
    Wrong::Count(format!("want {want} got {given}"))
}

fn text(value: &Value) -> Result<&str, Wrong> {
    value.as_text().ok_or_else(|| match value {
        Value::Nil | Value::Missing => Wrong::Kind("invalid value; expected string".into()),
        other => Wrong::Kind(format!(
            "wrong type for value; expected string; got {}",
            other.type_name()
        )),
    })
}

fn whole(value: &Value) -> Result<i64, Wrong> {
    value.as_int().ok_or_else(|| {
        Wrong::Kind(format!(
            "wrong type for value; expected int; got {}",
            value.type_name()
        ))
    })
}

fn ordered(name: &str, a: &Value, b: &Value) -> Called {
    let order = compare::order(a, b).map_err(Wrong::Call)?;
    Ok(Value::Bool(match name {
        "lt" => order == Ordering::Less,
        "le" => order != Ordering::Greater,
        "gt" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }))
}

fn length(value: &Value) -> Called {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.as_ref().map_or(0, |items| items.len()),
        Value::Map(items) => items.as_ref().map_or(0, |items| items.len()),
        Value::Nil | Value::Missing | Value::NilPointer => {
            return Err(Wrong::Call("len of nil pointer".into()));
        }
        other => return Err(Wrong::Call(format!("len of type {}", other.type_name()))),
    };
    Ok(Value::Int(length as i64))
}

fn index(value: &Value, key: &Value) -> Called {
    let call = |what: String| Err(Wrong::Call(what));
    match value {
        Value::Map(_) => match key {
            Value::Text(name) => Ok(value.get(name).cloned().unwrap_or_else(|| zero_of(value))),
            other => call(format!(
                "value has type {}; should be string",
                other.type_name()
            )),
        },
        Value::List(_) | Value::Text(_) => {
            let Value::Int(at) = key else {
                return call(format!(
                    "cannot index slice/array with type {}",
                    key.type_name()
                ));
            };
            let at_usize = usize::try_from(*at).unwrap_or(usize::MAX);
            let found = match value {
                Value::Text(text) => text
                    .as_bytes()
                    .get(at_usize)
                    .map(|byte| Value::Int(i64::from(*byte))),
                other => other.items().get(at_usize).cloned(),
            };
            match found {
                Some(item) => Ok(item),
                None => call(format!("index out of range: {at}")),
            }
        }
        Value::Nil | Value::Missing => call("index of untyped nil".into()),
        Value::NilPointer => call("index of nil pointer".into()),
        other => call(format!("can't index item of type {}", other.type_name())),
    }
}

/// What a map gives for a key it hasn't: a map of texts an empty one.
fn zero_of(map: &Value) -> Value {
    match map
        .pairs()
        .iter()
        .all(|(_, value)| value.as_text().is_some())
    {
        true => Value::text(""),
        false => Value::Missing,
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Called {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(_) => value.items().len(),
        other => {
            return Err(Wrong::Call(format!(
                "can't slice item of type {}",
                other.type_name()
            )));
        }
    };
    let mut range = [0, length];
    for (at, bound) in bounds.iter().take(2).enumerate() {
        let Value::Int(number) = bound else {
            return Err(Wrong::Call(format!(
                "cannot index slice/array with type {}",
                bound.type_name()
            )));
        };
        range[at] = usize::try_from(*number)
            .ok()
            .filter(|n| *n <= length)
            .ok_or_else(|| Wrong::Call(format!("index out of range: {number}")))?;
    }
    if range[0] > range[1] {
        return Err(Wrong::Call(format!(
            "invalid slice index: {} > {}",
            range[0], range[1]
        )));
    }
    Ok(match value {
        Value::Text(text) => String::from_utf8_lossy(&text.as_bytes()[range[0]..range[1]])
            .into_owned()
            .into(),
        other => Value::list(other.items()[range[0]..range[1]].to_vec()),
    })
}

fn split(value: &str, by: &str) -> Value {
    if by.is_empty() {
        return Value::list(value.chars().map(|c| Value::text(c.to_string())).collect());
    }
    Value::list(value.split(by).map(Value::text).collect())
}

fn join(value: &Value, by: &str) -> Called {
    let Value::List(_) = value else {
        return Err(Wrong::Kind(format!(
            "wrong type for value; expected []string; got {}",
            value.type_name()
        )));
    };
    let items: Vec<String> = value.items().iter().map(print::show).collect();
    Ok(items.join(by).into())
}

fn title(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut start = true;
    for c in value.chars() {
        if start {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        start = !(c.is_alphanumeric() || c == '_' || c == '\'');
    }
    out
}

fn pad(value: &str, before: &Value, after: &Value) -> Called {
    if value.is_empty() {
        return Ok(value.into());
    }
    let spaces = |n: i64| " ".repeat(usize::try_from(n).unwrap_or(0).min(10_000));
    Ok(format!("{}{value}{}", spaces(whole(before)?), spaces(whole(after)?)).into())
}

fn truncate(value: &str, length: &Value) -> Called {
    let length = usize::try_from(whole(length)?).unwrap_or(0);
    Ok(value.chars().take(length).collect::<String>().into())
}

fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

fn escape_url(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
