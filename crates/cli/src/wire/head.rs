//! The head of a response: status and headers, bounded in size.

use std::io::{self, BufRead};

/// Most bytes a head may have.
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Status line and headers.
#[derive(Debug, Default)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Names in lower case, values as sent.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// A header's first value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Reads a head. An end of stream before its first byte is `UnexpectedEof`.
    pub fn read(from: &mut impl BufRead) -> io::Result<Head> {
        let mut budget = HEAD_BYTES_MAX;
        loop {
            let first = line(from, &mut budget)?;
            let mut words = first.split(' ');
            let version = words.next().unwrap_or_default();
            let status = words.next().and_then(|code| code.parse::<u16>().ok());
            let (true, Some(status)) = (version.starts_with("HTTP/1."), status) else {
                return Err(invalid(format!("malformed HTTP response {first:?}")));
            };
            let mut head = Head {
                status,
                headers: Vec::new(),
            };
            loop {
                let text = line(from, &mut budget)?;
                if text.is_empty() {
                    break;
                }
                let Some((name, value)) = text.split_once(':') else {
                    return Err(invalid(format!("malformed header line {text:?}")));
                };
                head.headers
                    .push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
            // Interim answers precede the real one; 101 is the real one.
            if status >= 200 || status == 101 {
                return Ok(head);
            }
        }
    }
}

fn line(from: &mut impl BufRead, budget: &mut usize) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut limited = io::Read::take(&mut *from, *budget as u64);
    limited.read_until(b'\n', &mut bytes)?;
    if bytes.last() != Some(&b'\n') {
        let full = bytes.len() >= *budget;
        let kind = if full {
            io::ErrorKind::InvalidData
        } else {
            io::ErrorKind::UnexpectedEof
        };
        let text = if full {
            "response head is too large"
        } else {
            "unexpected end of the connection"
        };
        return Err(io::Error::new(kind, text));
    }
    *budget -= bytes.len();
    bytes.pop();
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    String::from_utf8(bytes).map_err(|_| invalid("header is not UTF-8".into()))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interim_answers_are_skipped() {
        let mut bytes: &[u8] =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nX-Y:  z \r\n\r\nrest";
        let head = Head::read(&mut bytes).unwrap();
        assert_eq!((head.status, head.get("x-y")), (201, Some("z")));
        assert_eq!(bytes, b"rest");
    }

    #[test]
    fn endless_heads_are_refused() {
        let long = format!(
            "HTTP/1.1 200 OK\r\nA: {}\r\n\r\n",
            "x".repeat(HEAD_BYTES_MAX)
        );
        assert!(Head::read(&mut long.as_bytes()).is_err());
        assert!(Head::read(&mut &b"SSH-2.0\r\n"[..]).is_err());
    }
}
