//! The caller's terminal joined to the container's: keys go in raw, output and window size follow.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{OptionalActions, OutputModes, Termios};

use super::{Outcome, failed};

const CHUNK_BYTES: usize = 16 * 1024;

/// Both ends. The caller's terminal is set back when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    before: Option<Termios>,
    /// Typed, but not taken by the container yet.
    pending: Vec<u8>,
    input_open: bool,
    output_open: bool,
}

impl Terminal {
    /// Takes over the caller's standard input, where that is a terminal.
    pub fn new(master: OwnedFd) -> Outcome<Terminal> {
        let flags =
            rustix::fs::fcntl_getfl(&master).map_err(failed("read the terminal's flags"))?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)
            .map_err(failed("set the terminal's flags"))?;
        if let Ok(mut modes) = rustix::termios::tcgetattr(&master) {
            modes.output_modes.remove(OutputModes::ONLCR);
            rustix::termios::tcsetattr(&master, OptionalActions::Now, &modes)
                .map_err(failed("set the terminal's modes"))?;
        }
        let stdin = rustix::stdio::stdin();
        let before = rustix::termios::tcgetattr(stdin).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            // Line ends are made here, once: the container's terminal leaves them alone.
            raw.output_modes = before.output_modes;
            rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw)
                .map_err(failed("set the terminal to raw"))?;
        }
        let terminal = Terminal {
            master,
            before,
            pending: Vec::new(),
            input_open: true,
            output_open: true,
        };
        terminal.resize();
        Ok(terminal)
    }

    /// Gives the container's terminal the size of the caller's.
    pub fn resize(&self) {
        if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
            // A container that is gone needs no size.
            let _ = rustix::termios::tcsetwinsize(&self.master, size);
        }
    }

    /// What to wait for.
    pub fn wishes(&self) -> Vec<PollFd<'_>> {
        let mut list = Vec::new();
        if self.output_open {
            let mut events = PollFlags::IN;
            events.set(PollFlags::OUT, !self.pending.is_empty());
            list.push(PollFd::new(&self.master, events));
        }
        // No more is read than can be passed on.
        if self.input_open && self.pending.is_empty() {
            list.push(PollFd::from_borrowed_fd(
                rustix::stdio::stdin(),
                PollFlags::IN,
            ));
        }
        list
    }

    /// Copies what is there, without waiting.
    pub fn copy(&mut self) {
        self.copy_input();
        self.copy_output(1);
    }

    /// Copies what is left once the container has ended.
    pub fn drain(&mut self) {
        self.copy_output(usize::MAX);
    }

    fn copy_input(&mut self) {
        let stdin = rustix::stdio::stdin();
        if self.input_open && self.pending.is_empty() && readable(stdin) {
            let mut chunk = vec![0; CHUNK_BYTES];
            match rustix::io::read(stdin, &mut chunk[..]) {
                // The container's terminal stays as it is: only a person at a terminal can type an end of file.
                Ok(0) => self.input_open = false,
                Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.input_open = false,
            }
        }
        if self.pending.is_empty() {
            return;
        }
        match rustix::io::write(&self.master, &self.pending) {
            Ok(count) => drop(self.pending.drain(..count)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.pending.clear(),
        }
    }

    fn copy_output(&mut self, chunks_max: usize) {
        let mut chunk = vec![0; CHUNK_BYTES];
        for _ in 0..chunks_max {
            match rustix::io::read(&self.master, &mut chunk[..]) {
                // EIO: nobody holds the other end any more.
                Ok(0) | Err(Errno::IO) => {
                    self.output_open = false;
                    return;
                }
                Ok(count) => write_all(&chunk[..count]),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

fn readable(fd: std::os::fd::BorrowedFd<'_>) -> bool {
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0)
}

/// To standard output; a reader that has gone loses the rest.
fn write_all(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let stdout = rustix::stdio::stdout();
                let _ = rustix::event::poll(
                    &mut [PollFd::from_borrowed_fd(stdout, PollFlags::OUT)],
                    None,
                );
            }
            Err(_) => return,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let stdin = rustix::stdio::stdin();
            let _ = rustix::termios::tcsetattr(stdin.as_fd(), OptionalActions::Now, before);
        }
    }
}
