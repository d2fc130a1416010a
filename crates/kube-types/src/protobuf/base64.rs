//! Base64 with the standard alphabet and padding, as Go's encoder writes byte slices into JSON.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn value(c: u8) -> Option<u32> {
    let v = match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(v))
}

/// The text of bytes.
pub fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            if i <= chunk.len() {
                let index = bits >> (18 - 6 * i) & 63;
                out.push(char::from(ALPHABET[index as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// The bytes of a text, line breaks ignored; the position of the first bad byte otherwise.
///
/// # Errors
/// The text is not base64.
pub fn base64_decode(text: &str) -> Result<Vec<u8>, usize> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count, mut padding) = (0_u32, 0, 0);
    for (at, c) in text
        .bytes()
        .enumerate()
        .filter(|(_, c)| !matches!(c, b'\r' | b'\n'))
    {
        if c == b'=' && count + padding >= 2 && count + padding < 4 {
            padding += 1;
            continue;
        }
        let digit = value(c).filter(|_| padding == 0).ok_or(at)?;
        bits = bits << 6 | digit;
        count += 1;
        if count == 4 {
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, count) = (0, 0);
        }
    }
    match (count, padding) {
        (0, 0) => {}
        (2, 2) => out.push((bits >> 4) as u8),
        (3, 1) => out.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => return Err(text.len()),
    }
    Ok(out)
}

/// The position of the first byte that keeps a text from being base64.
pub fn base64_error(text: &str) -> Option<usize> {
    base64_decode(text).err()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        for length in 0..70_u8 {
            let bytes: Vec<u8> = (0..length).map(|b| b.wrapping_mul(37)).collect();
            assert_eq!(base64_decode(&base64_encode(&bytes)).unwrap(), bytes);
        }
        assert_eq!(base64_encode(b"hello"), "aGVsbG8=");
        assert_eq!(base64_decode("aGVs\nbG8=").unwrap(), b"hello");
        for bad in [
            "a", "a=", "ab", "abc", "a===", "ab=c", "a b=", "abcd=", "YQ==YQ==",
        ] {
            assert!(base64_decode(bad).is_err(), "{bad}");
        }
    }
}
