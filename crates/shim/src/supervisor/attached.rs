//! One attached client: frames (or raw bytes, with a terminal) out, raw bytes in.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::poller::{EventFlags, Poller, Token};
use crate::client::AttachStreams;
use crate::protocol::FRAME_HEADER_BYTES;

/// A client that lags this far behind makes its process wait, as with Docker.
const LAG_BYTES_MAX: usize = 256 << 10;
/// Where the process goes on.
const LAG_BYTES_LOW: usize = 64 << 10;

/// An attached client. Its socket may be shared with the daemon, so it is never made non-blocking: each call asks
/// for that by itself.
#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    token: Token,
    pub streams: AttachStreams,
    queue: Vec<u8>,
    /// How much of the queue is out.
    sent: usize,
    watched: EventFlags,
    /// No more input comes from it.
    pub input_ended: bool,
    pub gone: bool,
}

impl Client {
    pub(super) fn new(
        poller: &Poller,
        socket: OwnedFd,
        token: Token,
        streams: AttachStreams,
    ) -> std::io::Result<Client> {
        poller.add(&socket, token, EventFlags::empty())?;
        Ok(Client {
            socket,
            token,
            streams,
            queue: Vec::new(),
            sent: 0,
            watched: EventFlags::empty(),
            input_ended: !streams.stdin,
            gone: false,
        })
    }

    fn waiting(&self) -> usize {
        self.queue.len() - self.sent
    }

    pub(super) fn lags(&self) -> bool {
        self.waiting() > LAG_BYTES_MAX
    }

    pub(super) fn caught_up(&self) -> bool {
        self.waiting() <= LAG_BYTES_LOW
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting() == 0
    }

    /// Sends what a stream (0 output, 1 errors) said, or keeps it for later.
    pub(super) fn deliver(&mut self, stream: usize, framed: bool, bytes: &[u8]) {
        if self.gone
            || !(if stream == 0 {
                self.streams.stdout
            } else {
                self.streams.stderr
            })
        {
            return;
        }
        let mut header = [0; FRAME_HEADER_BYTES];
        header[0] = stream as u8 + 1;
        header[4..].copy_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        let header = if framed { &header[..] } else { &[] };
        let mut out = 0;
        if self.is_idle() {
            out = self.send(&[IoSlice::new(header), IoSlice::new(bytes)]);
        }
        for part in [header, bytes] {
            let skipped = out.min(part.len());
            self.queue.extend_from_slice(&part[skipped..]);
            out -= skipped;
        }
    }

    fn send(&mut self, parts: &[IoSlice<'_>]) -> usize {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::sendmsg(&self.socket, parts, &mut Default::default(), flags) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.gone = true;
                0
            }
        }
    }

    /// Sends of the queue what fits.
    pub(super) fn flush(&mut self) {
        while !self.gone && !self.is_idle() {
            let queue = std::mem::take(&mut self.queue);
            let count = self.send(&[IoSlice::new(&queue[self.sent..])]);
            self.queue = queue;
            self.sent += count;
            if count == 0 {
                break;
            }
        }
        if self.is_idle() {
            // Freed, not kept: one burst must not cost memory for ever.
            self.queue = Vec::new();
            self.sent = 0;
        } else if self.sent > LAG_BYTES_MAX {
            self.queue.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// One read of input; `None`: nothing at the moment. 0: no more will come.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((count, _)) => Some(count),
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(_) => {
                self.gone = true;
                Some(0)
            }
        }
    }

    /// Waits for exactly what is of use now; a hang-up is reported always.
    pub(super) fn watch(&mut self, poller: &Poller, takes_input: bool) {
        let mut wanted = EventFlags::empty();
        if takes_input && !self.input_ended {
            wanted |= EventFlags::IN;
        }
        if !self.is_idle() {
            wanted |= EventFlags::OUT;
        }
        if wanted != self.watched {
            self.watched = wanted;
            poller.modify(&self.socket, self.token, wanted);
        }
    }

    /// Ends the stream: the client sees the end of file.
    pub(super) fn close(self, poller: &Poller) {
        poller.remove(&self.socket);
        // The daemon may hold a duplicate.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}
