//! A container's streams over a raw connection: keys in, output out, apart again where they were put together.

use std::io::{self, BufReader, Read, Write};
use std::sync::mpsc;

use crate::failure::Failure;
use crate::wire::endpoint::Stream;

/// Largest frame; a daemon never sends one of this size.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// What is to be connected.
#[derive(Debug, Clone, Default)]
pub struct Wiring {
    /// The container has a terminal: output is one stream.
    pub tty: bool,
    /// Standard input is passed on.
    pub stdin: bool,
    /// Keys that detach; empty for the usual ones.
    pub detach_keys: String,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The container's side closed the streams.
    Closed,
    /// The detach keys were typed.
    Detached,
}

/// Connects the streams until either side is done with them.
pub fn pump(connection: BufReader<Stream>, wiring: &Wiring) -> Result<Ended, Failure> {
    if !wiring.stdin {
        copy_output(connection, wiring.tty).map_err(Failure::Stream)?;
        return Ok(Ended::Closed);
    }
    let (done, events) = mpsc::channel::<io::Result<Ended>>();
    let mut to = connection.get_ref().try_clone().map_err(Failure::Stream)?;
    let keys = if wiring.tty {
        detach_keys(&wiring.detach_keys)?
    } else {
        Vec::new()
    };
    let detached = done.clone();
    let is_tty = wiring.tty;
    std::thread::spawn(move || {
        if let Ok(true) = copy_input(&mut to, &keys) {
            let _ = detached.send(Ok(Ended::Detached));
        } else {
            let _ = to.finish_writing();
        }
    });
    std::thread::spawn(move || {
        let _ = done.send(copy_output(connection, is_tty).map(|()| Ended::Closed));
    });
    match events.recv() {
        Ok(result) => result.map_err(Failure::Stream),
        Err(_) => Ok(Ended::Closed),
    }
}

/// Copies output to where it belongs, to its end.
pub fn copy_output(mut from: impl Read, tty: bool) -> io::Result<()> {
    if !tty {
        return split_frames(
            &mut from,
            &mut io::stdout().lock(),
            &mut io::stderr().lock(),
        );
    }
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        match read(&mut from, &mut buffer)? {
            0 => return Ok(()),
            count => {
                let mut out = io::stdout().lock();
                out.write_all(&buffer[..count])?;
                out.flush()?;
            }
        }
    }
}

fn read(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A daemon that closed with input unread resets the connection; its output is complete.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(0),
            other => return other,
        }
    }
}

/// Takes frames apart: one byte for the stream, three of nothing, four for the length.
pub fn split_frames(
    from: &mut impl Read,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<()> {
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        let mut head = [0u8; 8];
        let mut have = 0;
        while have < head.len() {
            match read(from, &mut head[have..])? {
                0 => return Ok(()),
                count => have += count,
            }
        }
        let mut left = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if left > FRAME_BYTES_MAX || head[0] > 3 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("Unrecognized input header: {}", head[0]),
            ));
        }
        let mut failure = Vec::new();
        while left > 0 {
            let most = left.min(buffer.len());
            let count = read(from, &mut buffer[..most])?;
            if count == 0 {
                return Ok(());
            }
            match head[0] {
                2 => err.write_all(&buffer[..count])?,
                3 => failure.extend_from_slice(&buffer[..count]),
                _ => out.write_all(&buffer[..count])?,
            }
            left -= count;
        }
        if head[0] == 3 {
            let text = String::from_utf8_lossy(&failure);
            return Err(io::Error::other(format!(
                "error from daemon in stream: {text}"
            )));
        }
        out.flush()?;
    }
}

/// Copies standard input to the container; true when the detach keys came.
fn copy_input(to: &mut Stream, keys: &[u8]) -> io::Result<bool> {
    let mut from = io::stdin().lock();
    let mut buffer = [0u8; 16 * 1024];
    let mut matched = 0;
    loop {
        let count = read(&mut from, &mut buffer)?;
        if count == 0 {
            return Ok(false);
        }
        let (pass, detached) = filter_keys(&buffer[..count], keys, &mut matched);
        to.write_all(&pass)?;
        if detached {
            return Ok(true);
        }
    }
}

/// Holds back what may be the start of the detach keys.
fn filter_keys(typed: &[u8], keys: &[u8], matched: &mut usize) -> (Vec<u8>, bool) {
    if keys.is_empty() {
        return (typed.to_vec(), false);
    }
    let mut pass = Vec::with_capacity(typed.len());
    for byte in typed {
        if keys[*matched] == *byte {
            *matched += 1;
            if *matched == keys.len() {
                return (pass, true);
            }
            continue;
        }
        pass.extend_from_slice(&keys[..*matched]);
        *matched = 0;
        if keys[0] == *byte {
            *matched = 1;
        } else {
            pass.push(*byte);
        }
    }
    (pass, false)
}

/// Bytes of `ctrl-p,ctrl-q` and the like.
pub fn detach_keys(text: &str) -> Result<Vec<u8>, Failure> {
    let text = if text.is_empty() {
        "ctrl-p,ctrl-q"
    } else {
        text
    };
    let keys = text.split(',').map(|key| {
        let byte = match key.strip_prefix("ctrl-") {
            Some(letter) => match letter.as_bytes() {
                [c @ b'a'..=b'z'] => Some(c - b'a' + 1),
                [b'@'] => Some(0),
                [c @ b'['..=b'_'] => Some(c - b'[' + 27),
                _ => None,
            },
            None => match key.as_bytes() {
                [c] => Some(*c),
                _ => None,
            },
        };
        byte.ok_or_else(|| {
            Failure::said(format!(
                "invalid detach keys ({text}): Unknown character: '{key}'"
            ))
        })
    });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_to_their_streams() {
        let bytes = b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03err\x01\0\0\0\0\0\0\x01!";
        let (mut out, mut err) = (Vec::new(), Vec::new());
        split_frames(&mut &bytes[..], &mut out, &mut err).unwrap();
        assert_eq!(
            (out.as_slice(), err.as_slice()),
            (&b"out!"[..], &b"err"[..])
        );
        assert!(split_frames(&mut &b"GET / HT"[..], &mut out, &mut err).is_err());
    }

    #[test]
    fn detach_keys_are_read_and_found() {
        let keys = detach_keys("").unwrap();
        assert_eq!(keys, [16, 17]);
        assert_eq!(detach_keys("ctrl-a,x").unwrap(), [1, b'x']);
        assert!(detach_keys("foo").is_err());
        let mut matched = 0;
        assert_eq!(
            filter_keys(b"ab\x10", &keys, &mut matched),
            (b"ab".to_vec(), false)
        );
        assert_eq!(
            filter_keys(b"c\x10\x11d", &keys, &mut matched),
            (b"\x10c".to_vec(), true)
        );
    }
}
