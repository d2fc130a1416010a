//! One record of the log, escaped as Go's encoder escapes it: control characters, the HTML characters, the two
//! line separators, and one replacement character for each byte that is not UTF-8.

use std::collections::BTreeMap;

const HEX: &[u8; 16] = b"0123456789abcdef";

pub(super) fn open(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"log\":\"");
}

/// Everything between the text and the time.
pub(super) fn close(newline: bool, stream: &str, attributes: &[u8], out: &mut Vec<u8>) {
    if newline {
        out.extend_from_slice(b"\\n");
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.as_bytes());
    out.push(b'"');
    out.extend_from_slice(attributes);
    out.extend_from_slice(b",\"time\":\"");
}

/// `,"attrs":{…}`, or nothing.
pub(super) fn attributes(attributes: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in attributes {
        out.extend_from_slice(if out.is_empty() {
            b",\"attrs\":{\""
        } else {
            b",\""
        });
        text(name.as_bytes(), &mut out);
        out.extend_from_slice(b"\":\"");
        text(value.as_bytes(), &mut out);
        out.push(b'"');
    }
    if !out.is_empty() {
        out.push(b'}');
    }
    out
}

/// The inside of a JSON string.
pub(super) fn text(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        valid(chunk.valid().as_bytes(), out);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn valid(bytes: &[u8], out: &mut Vec<u8>) {
    let mut plain = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let separator = *byte == 0xe2
            && bytes.get(at + 1) == Some(&0x80)
            && bytes.get(at + 2).is_some_and(|last| last & !1 == 0xa8);
        if !separator && !needs_escape(*byte) {
            continue;
        }
        if at < plain {
            continue;
        }
        out.extend_from_slice(&bytes[plain..at]);
        if separator {
            out.extend_from_slice(b"\\u202");
            out.push(HEX[usize::from(bytes[at + 2] & 0xf)]);
            plain = at + 3;
        } else {
            escape(*byte, out);
            plain = at + 1;
        }
    }
    out.extend_from_slice(&bytes[plain..]);
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 0xf)]);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_is_escaped_as_go_does() {
        let cases: [(&[u8], &str); 8] = [
            (b"plain", "plain"),
            (b"a\"b\\c", "a\\\"b\\\\c"),
            (b"\r\t\x1b[0m\x00", "\\r\\u0009\\u001b[0m\\u0000"),
            (b"<a&b>", "\\u003ca\\u0026b\\u003e"),
            ("ä€\u{2028}x\u{2029}".as_bytes(), "ä€\\u2028x\\u2029"),
            (b"\xff\xfeok", "\\ufffd\\ufffdok"),
            // A character cut short counts byte by byte.
            (b"\xe2\x82", "\\ufffd\\ufffd"),
            (b"\x7f", "\x7f"),
        ];
        for (input, expected) in cases {
            let mut out = Vec::new();
            super::text(input, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
