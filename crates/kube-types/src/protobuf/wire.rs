//! Tags, varints and lengths.

use super::{ProtobufError, error};

/// A field's raw value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn tag(out: &mut Vec<u8>, number: u32, kind: u64) {
    varint(out, u64::from(number) << 3 | kind);
}

/// A field of bytes, text or a message.
pub(crate) fn bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    tag(out, number, 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A field of an integer or boolean.
pub(crate) fn integer(out: &mut Vec<u8>, number: u32, value: i64) {
    tag(out, number, 0);
    varint(out, value as u64);
}

/// A field of a double.
pub(crate) fn double(out: &mut Vec<u8>, number: u32, value: f64) {
    tag(out, number, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn take_varint(from: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let Some((byte, rest)) = from.split_first() else {
            return error("unexpected EOF");
        };
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    error("proto: integer overflow")
}

fn take<'a>(from: &mut &'a [u8], length: usize) -> Result<&'a [u8], ProtobufError> {
    match from.split_at_checked(length) {
        Some((found, rest)) => {
            *from = rest;
            Ok(found)
        }
        None => error("unexpected EOF"),
    }
}

/// The next field, or `None` at the end.
pub(crate) fn next<'a>(from: &mut &'a [u8]) -> Result<Option<(u32, Raw<'a>)>, ProtobufError> {
    if from.is_empty() {
        return Ok(None);
    }
    let head = take_varint(from)?;
    let Ok(number) = u32::try_from(head >> 3) else {
        return error("proto: illegal tag");
    };
    let raw = match head & 7 {
        0 => Raw::Varint(take_varint(from)?),
        1 => Raw::Fixed64(u64::from_le_bytes(
            take(from, 8)?.try_into().unwrap_or_default(),
        )),
        2 => {
            let length = usize::try_from(take_varint(from)?).unwrap_or(usize::MAX);
            Raw::Bytes(take(from, length)?)
        }
        5 => Raw::Fixed32(u32::from_le_bytes(
            take(from, 4)?.try_into().unwrap_or_default(),
        )),
        kind => return error(format!("proto: illegal wireType {kind}")),
    };
    Ok(Some((number, raw)))
}
