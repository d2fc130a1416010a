//! Short names for what a template says.

use serde::Serialize;

/// Letters that make no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name for a value: the same for the same value and number of collisions before it.
pub(crate) fn of<T: Serialize>(value: &T, collisions: Option<i32>) -> String {
    let text = serde_json::to_vec(value).unwrap_or_default();
    let mut hash = fnv(0x811c_9dc5, &text);
    if let Some(collisions) = collisions {
        hash = fnv(hash, &collisions.to_le_bytes());
    }
    let letter = |digit: u8| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]);
    hash.to_string().bytes().map(letter).collect()
}

/// FNV-1a in 32 bits.
fn fnv(from: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(from, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}
