//! How entries and changes are laid out in the database file.
//!
//! `object`: key → created, revision (8 bytes each, big endian), value.
//! `log`: revision → flags, key, and the entries before and after as length-prefixed objects.
//! `meta`: the newest revision, the revision up to which the log is forgotten, and the layout's number.

use std::sync::Arc;

use bytes::Bytes;
use redb::TableDefinition;

use crate::{Change, Entry, Revision};

pub const OBJECTS: TableDefinition<&str, &[u8]> = TableDefinition::new("object");
pub const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
pub const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

pub const META_REVISION: &str = "revision";
pub const META_FLOOR: &str = "floor";
pub const META_LAYOUT: &str = "layout";
pub const LAYOUT: u64 = 1;

const HAS_NOW: u8 = 1;
const HAS_BEFORE: u8 = 2;

/// An entry without its key.
pub fn object(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + entry.value.len());
    out.extend_from_slice(&entry.created.to_be_bytes());
    out.extend_from_slice(&entry.revision.to_be_bytes());
    out.extend_from_slice(&entry.value);
    out
}

/// The reverse of [`object`].
pub fn parse_object(key: Arc<str>, bytes: &[u8]) -> Option<Entry> {
    let (created, rest) = take_u64(bytes)?;
    let (revision, value) = take_u64(rest)?;
    Some(Entry {
        key,
        value: Bytes::copy_from_slice(value),
        created,
        revision,
    })
}

/// A change without its revision.
pub fn change(change: &Change) -> Vec<u8> {
    let flags = change.now.as_ref().map_or(0, |_| HAS_NOW)
        | change.before.as_ref().map_or(0, |_| HAS_BEFORE);
    let mut out = vec![flags];
    put_slice(&mut out, change.key.as_bytes());
    for entry in [&change.now, &change.before].into_iter().flatten() {
        put_slice(&mut out, &object(entry));
    }
    out
}

/// The reverse of [`change`].
pub fn parse_change(revision: Revision, bytes: &[u8]) -> Option<Change> {
    let (&flags, rest) = bytes.split_first()?;
    let (key, mut rest) = take_slice(rest)?;
    let key: Arc<str> = std::str::from_utf8(key).ok()?.into();
    let mut next = |flag: u8| -> Option<Option<Entry>> {
        if flags & flag == 0 {
            return Some(None);
        }
        let (entry, after) = take_slice(rest)?;
        rest = after;
        parse_object(key.clone(), entry).map(Some)
    };
    let now = next(HAS_NOW)?;
    let before = next(HAS_BEFORE)?;
    Some(Change {
        revision,
        key: key.clone(),
        now,
        before,
    })
}

fn put_slice(out: &mut Vec<u8>, slice: &[u8]) {
    // Values are bounded by the server long before 4 GiB.
    let len = u32::try_from(slice.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(slice);
}

fn take_slice(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize)
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_survive_the_round_trip_and_cut_ones_are_refused() {
        let entry = |revision| Entry {
            key: "a/b".into(),
            value: Bytes::from_static(b"value"),
            created: 1,
            revision,
        };
        for (now, before) in [
            (Some(entry(3)), Some(entry(2))),
            (Some(entry(3)), None),
            (None, Some(entry(2))),
        ] {
            let original = Change {
                revision: 3,
                key: "a/b".into(),
                now,
                before,
            };
            let bytes = change(&original);
            assert_eq!(parse_change(3, &bytes), Some(original));
            assert_eq!(parse_change(3, &bytes[..20]), None);
        }
    }
}
