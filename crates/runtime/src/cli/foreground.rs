//! Standing in front of a process of a container: signals go on to it, its terminal is copied, its exit code is ours.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use wharf_sys::signal_queue::SignalQueue;

use super::terminal::Terminal;
use super::{Failure, Outcome, failed};

/// Added to the number of the signal that ended a process.
const SIGNALLED: i32 = 128;
/// For the Go language's own use only; runc does not pass it on either.
const SIGURG: i32 = 23;

/// Signals are held back from the moment this is made until [`Foreground::wait`].
#[derive(Debug)]
pub struct Foreground {
    signals: SignalQueue,
    terminal: Option<Terminal>,
}

impl Foreground {
    /// With the master of the process's terminal, if it has one.
    pub fn new(master: Option<OwnedFd>) -> Outcome<Foreground> {
        Ok(Foreground {
            signals: SignalQueue::open().map_err(failed("take signals"))?,
            terminal: master.map(Terminal::new).transpose()?,
        })
    }

    /// The terminal came only now.
    pub fn attach(&mut self, master: Option<OwnedFd>) -> Outcome<()> {
        self.terminal = master.map(Terminal::new).transpose()?;
        Ok(())
    }

    /// Until the process, a child of this one, has ended: its exit code.
    pub fn wait(mut self, pid: i32, pidfd: BorrowedFd<'_>) -> Outcome {
        loop {
            // First of all: it may have ended before anybody watched.
            if let Some(code) = reap(pid)? {
                if let Some(terminal) = &mut self.terminal {
                    terminal.drain();
                }
                return Ok(code);
            }
            self.wait_for_event()?;
            while let Some(signal) = self.signals.next().map_err(failed("take a signal"))? {
                self.pass_on(signal, pidfd);
            }
        }
    }

    fn wait_for_event(&mut self) -> Outcome<()> {
        let mut polled = vec![PollFd::from_borrowed_fd(
            self.signals.as_fd(),
            PollFlags::IN,
        )];
        if let Some(terminal) = &self.terminal {
            polled.extend(terminal.wishes());
        }
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed("wait for the container")(error)),
        }
        drop(polled);
        if let Some(terminal) = &mut self.terminal {
            terminal.copy();
        }
        Ok(())
    }

    fn pass_on(&self, signal: i32, pidfd: BorrowedFd<'_>) {
        if signal == Signal::WINCH.as_raw() {
            if let Some(terminal) = &self.terminal {
                terminal.resize();
            }
        } else if signal != Signal::CHILD.as_raw() && signal != SIGURG {
            // One that has just ended gets none.
            let _ = wharf_sys::signal::send_signal(pidfd, signal);
        }
    }
}

/// Takes all children that have ended, adopted ones too; the exit code if ours is among them.
fn reap(pid: i32) -> Outcome<Option<i32>> {
    loop {
        let ended = match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(ended)) => ended,
            Ok(None) => return Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::CHILD) => {
                return Err(Failure::new(
                    "the container's process is not ours to wait for",
                ));
            }
            Err(error) => return Err(failed("wait for the container's end")(error)),
        };
        let (child, status) = ended;
        if Some(child) != Pid::from_raw(pid) {
            continue;
        }
        let signalled = status.terminating_signal().map(|signal| SIGNALLED + signal);
        return Ok(Some(
            status.exit_status().or(signalled).unwrap_or(SIGNALLED),
        ));
    }
}
