//! A response's body, by length, in chunks or up to the end of the stream; and a request's body in chunks.

use std::io::{self, BufRead, BufReader, Read, Write};

use super::endpoint::Stream;
use super::head::Head;

#[derive(Debug)]
enum Left {
    Bytes(u64),
    FirstChunk,
    Chunk(u64),
    ChunkEnd,
    UntilEnd,
    Nothing,
}

/// Reads a body and keeps the connection for the next request.
#[derive(Debug)]
pub struct Body {
    stream: BufReader<Stream>,
    left: Left,
    reusable: bool,
}

impl Body {
    /// The body that follows `head` on `stream`. `bodyless` for answers that have none by definition.
    pub fn new(stream: BufReader<Stream>, head: &Head, bodyless: bool) -> io::Result<Body> {
        let close = head
            .get("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let chunked = head
            .get("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let left = if bodyless || head.status == 204 || head.status == 304 {
            Left::Nothing
        } else if chunked {
            Left::FirstChunk
        } else if let Some(length) = head.get("content-length") {
            let length = length
                .parse()
                .map_err(|_| invalid("content length is not a number"))?;
            if length == 0 {
                Left::Nothing
            } else {
                Left::Bytes(length)
            }
        } else {
            Left::UntilEnd
        };
        let reusable = !close && !matches!(left, Left::UntilEnd);
        Ok(Body {
            stream,
            left,
            reusable,
        })
    }

    /// The connection, when the body was read to its end and the server keeps it.
    pub fn into_idle(self) -> Option<BufReader<Stream>> {
        let whole = !matches!(self.stream.get_ref(), Stream::Relay(_));
        (whole && self.reusable && matches!(self.left, Left::Nothing)).then_some(self.stream)
    }

    /// Connection of a request that was upgraded: what was read ahead, and the stream.
    pub fn into_raw(self) -> BufReader<Stream> {
        self.stream
    }

    fn next_chunk(&mut self, first: bool) -> io::Result<()> {
        if !first {
            let mut end = [0u8; 2];
            self.stream.read_exact(&mut end)?;
        }
        let mut line = Vec::new();
        (&mut self.stream).take(64).read_until(b'\n', &mut line)?;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim().split(';').next().unwrap_or_default().to_owned();
        if text.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "unexpected EOF",
            ));
        }
        let size = u64::from_str_radix(&text, 16).map_err(|_| invalid("malformed chunk size"))?;
        if size > 0 {
            self.left = Left::Chunk(size);
            return Ok(());
        }
        loop {
            let mut trailer = Vec::new();
            (&mut self.stream)
                .take(8192)
                .read_until(b'\n', &mut trailer)?;
            if trailer.len() <= 2 {
                break;
            }
        }
        self.left = Left::Nothing;
        Ok(())
    }

    fn read_some(&mut self, buffer: &mut [u8], most: u64) -> io::Result<usize> {
        let most = usize::try_from(most)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.stream.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "unexpected EOF",
            ));
        }
        Ok(count)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.left {
                Left::Nothing => return Ok(0),
                Left::UntilEnd => return self.stream.read(buffer),
                Left::Bytes(left) => {
                    let count = self.read_some(buffer, left)?;
                    let left = left - count as u64;
                    self.left = if left == 0 {
                        Left::Nothing
                    } else {
                        Left::Bytes(left)
                    };
                    return Ok(count);
                }
                Left::FirstChunk => self.next_chunk(true)?,
                Left::ChunkEnd => self.next_chunk(false)?,
                Left::Chunk(left) => {
                    let count = self.read_some(buffer, left)?;
                    let left = left - count as u64;
                    if left > 0 {
                        self.left = Left::Chunk(left);
                    } else {
                        self.left = Left::ChunkEnd;
                        self.finish_if_buffered()?;
                    }
                    return Ok(count);
                }
            }
        }
    }
}

impl Body {
    /// Takes the final chunk along when it has arrived already, so that a reader that stops at the end of its
    /// document leaves a connection that can be used again.
    fn finish_if_buffered(&mut self) -> io::Result<()> {
        if self.stream.buffer().starts_with(b"\r\n0\r\n\r\n") {
            self.next_chunk(false)
        } else {
            Ok(())
        }
    }
}

/// Writes `from` in chunks.
pub fn write_chunked(to: &mut Stream, from: &mut dyn Read) -> io::Result<()> {
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if count == 0 {
            to.write_all(b"0\r\n\r\n")?;
            return Ok(());
        }
        to.write_all(format!("{count:x}\r\n").as_bytes())?;
        to.write_all(&buffer[..count])?;
        to.write_all(b"\r\n")?;
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn read(head: &str, bytes: &[u8]) -> (io::Result<Vec<u8>>, bool) {
        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(bytes).unwrap();
        drop(there);
        let head = Head::read(&mut head.as_bytes()).unwrap();
        let mut body = Body::new(BufReader::new(Stream::Unix(here)), &head, false).unwrap();
        let mut out = Vec::new();
        let result = body.read_to_end(&mut out).map(|_| out);
        (result, body.into_idle().is_some())
    }

    #[test]
    fn lengths_chunks_and_ends() {
        let (body, kept) = read("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"abcd");
        assert_eq!((body.unwrap(), kept), (b"abc".to_vec(), true));
        let (body, kept) = read(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n",
        );
        assert_eq!((body.unwrap(), kept), (b"abc".to_vec(), true));
        let (body, kept) = read("HTTP/1.1 200 OK\r\n\r\n", b"abc");
        assert_eq!((body.unwrap(), kept), (b"abc".to_vec(), false));
    }

    #[test]
    fn a_body_cut_short_is_an_error() {
        assert!(
            read("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"abc")
                .0
                .is_err()
        );
        assert!(
            read(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"5\r\nab"
            )
            .0
            .is_err()
        );
        assert!(
            read(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"2\r\nab\r\n"
            )
            .0
            .is_err()
        );
    }
}
