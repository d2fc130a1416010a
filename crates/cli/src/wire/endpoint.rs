//! Where the daemon is: `unix:///path` or `tcp://host:port`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};

use crate::failure::Failure;

/// The default socket.
pub const DEFAULT_SOCKET: &str = "unix:///run/wharf/wharf.sock";

/// A daemon's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Path of a Unix socket.
    Unix(String),
    /// Host and port.
    Tcp(String),
}

impl Endpoint {
    /// Reads an address as given with `-H` or in the environment.
    pub fn parse(text: &str) -> Result<Endpoint, Failure> {
        let bad = || {
            Failure::said(format!(
                "Failed to initialize: unable to resolve docker endpoint: invalid bind address format: {text}"
            ))
        };
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix://") {
            let path = if path.is_empty() {
                &DEFAULT_SOCKET["unix://".len()..]
            } else {
                path
            };
            return Ok(Endpoint::Unix(path.to_owned()));
        }
        if let Some(address) = text.strip_prefix("tcp://") {
            return Endpoint::tcp(address).ok_or_else(bad);
        }
        if text.contains("://") {
            return Err(bad());
        }
        Endpoint::tcp(text).ok_or_else(bad)
    }

    fn tcp(address: &str) -> Option<Endpoint> {
        let address = address.trim_end_matches('/');
        let bare_v6 = address.starts_with('[') && address.ends_with(']');
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !bare_v6 => (host, port.parse::<u16>().ok()?),
            _ => (address, 2375),
        };
        let host = if host.is_empty() { "localhost" } else { host };
        if host.contains('/') {
            return None;
        }
        Some(Endpoint::Tcp(format!("{host}:{port}")))
    }

    /// Opens a stream.
    pub fn connect(&self) -> io::Result<Stream> {
        match self {
            Endpoint::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{path}"),
            Endpoint::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// An open stream to the daemon.
#[derive(Debug)]
pub enum Stream {
    /// Unix socket.
    Unix(UnixStream),
    /// TCP.
    Tcp(TcpStream),
    /// What a thread has read, and reads, from the stream while something else is written to it.
    Relay(Relay),
}

/// The reading end of a stream, taken over by a thread.
#[derive(Debug)]
pub struct Relay {
    pieces: Receiver<io::Result<Vec<u8>>>,
    left: io::Cursor<Vec<u8>>,
}

impl Relay {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.left.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.pieces.recv() {
                Ok(piece) => self.left = io::Cursor::new(piece?),
                Err(_) => return Ok(0),
            }
        }
    }
}

impl Stream {
    /// Reads the stream on a thread from now on. A daemon that reports while it takes a long upload would
    /// otherwise wait for its reports to be read, and the upload for the daemon.
    pub fn relay(&self) -> io::Result<Stream> {
        let mut from = self.try_clone()?;
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0u8; 32 * 1024];
            loop {
                let piece = match from.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => Ok(buffer[..count].to_vec()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = piece.is_err();
                if sender.send(piece).is_err() || failed {
                    return;
                }
            }
        });
        Ok(Stream::Relay(Relay {
            pieces,
            left: io::Cursor::new(Vec::new()),
        }))
    }

    /// A second handle of the same stream.
    pub fn try_clone(&self) -> io::Result<Stream> {
        match self {
            Stream::Unix(stream) => stream.try_clone().map(Stream::Unix),
            Stream::Tcp(stream) => stream.try_clone().map(Stream::Tcp),
            Stream::Relay(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Tells the other side that nothing more will be written.
    pub fn finish_writing(&self) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Relay(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Relay(relay) => relay.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(buffer),
            Stream::Tcp(stream) => stream.write(buffer),
            Stream::Relay(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parse = |text| {
            Endpoint::parse(text)
                .map(|e| e.to_string())
                .map_err(|e| e.to_string())
        };
        assert_eq!(parse("unix:///a/b.sock").unwrap(), "unix:///a/b.sock");
        assert_eq!(parse("unix://").unwrap(), DEFAULT_SOCKET);
        assert_eq!(parse("tcp://127.0.0.1:99").unwrap(), "tcp://127.0.0.1:99");
        assert_eq!(parse("tcp://[::1]").unwrap(), "tcp://[::1]:2375");
        assert_eq!(parse(":5000").unwrap(), "tcp://localhost:5000");
        assert!(
            parse("foo://x")
                .unwrap_err()
                .ends_with("invalid bind address format: foo://x")
        );
        assert!(parse("tcp://h:notaport").is_err());
    }
}
