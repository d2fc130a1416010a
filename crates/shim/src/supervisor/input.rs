//! Standard input of a process: one bounded piece in flight, whoever sent it.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::poller::{EventFlags, Poller, Token};

/// The writing end of a pipe, or the terminal.
#[derive(Debug)]
pub(super) struct Input {
    fd: Option<OwnedFd>,
    token: Token,
    pending: Vec<u8>,
    watched: bool,
    /// Close once what is pending has been taken.
    closing: bool,
}

impl Input {
    pub(super) fn new(fd: Option<OwnedFd>, token: Token) -> Input {
        Input {
            fd,
            token,
            pending: Vec::new(),
            watched: false,
            closing: false,
        }
    }

    /// Whether clients should be read.
    pub(super) fn has_room(&self) -> bool {
        self.fd.is_some() && self.pending.is_empty() && !self.closing
    }

    /// Takes a piece. Bytes for a closed input are thrown away, as the process would.
    pub(super) fn push(&mut self, poller: &Poller, bytes: &[u8]) {
        if self.fd.is_none() || self.closing {
            return;
        }
        let written = if self.pending.is_empty() {
            self.write(bytes)
        } else {
            0
        };
        self.pending
            .extend_from_slice(bytes.get(written..).unwrap_or_default());
        self.settle(poller);
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let Some(fd) = &self.fd else {
            return bytes.len();
        };
        let mut written = 0;
        while written < bytes.len() {
            match rustix::io::write(fd, &bytes[written..]) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // Nobody reads any more.
                Err(_) => {
                    self.closing = true;
                    return bytes.len();
                }
            }
        }
        written
    }

    /// There is room again.
    pub(super) fn resume(&mut self, poller: &Poller) {
        let pending = std::mem::take(&mut self.pending);
        let written = self.write(&pending);
        self.pending = pending[written..].to_vec();
        self.settle(poller);
    }

    /// No more input will come.
    pub(super) fn close(&mut self, poller: &Poller) {
        self.closing = true;
        self.settle(poller);
    }

    fn settle(&mut self, poller: &Poller) {
        let wanted = !self.pending.is_empty();
        if let Some(fd) = &self.fd
            && wanted != self.watched
        {
            if wanted {
                self.watched = poller.add(fd, self.token, EventFlags::OUT).is_ok();
            } else {
                poller.remove(fd);
                self.watched = false;
            }
        }
        if self.closing && self.pending.is_empty() {
            self.fd = None;
        }
    }
}
