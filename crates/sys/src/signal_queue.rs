//! Signals as a stream to poll (signalfd(2)), and as a fate to share.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// All signals of the calling process, which do nothing from now on but wait here to be read.
#[derive(Debug)]
pub struct SignalQueue(OwnedFd);

impl SignalQueue {
    /// Blocks every signal of the calling thread (SIGKILL and SIGSTOP cannot be) and queues them. For programs with a
    /// single thread; a child that execs has to unblock them ([`crate::signal::reset_all`]).
    pub fn open() -> io::Result<SignalQueue> {
        // SAFETY: sigset_t is plain data; sigfillset fills it whole.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `all` is a valid set that lives through both calls; no old set is asked for.
        let result = unsafe {
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut())
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `all` is a valid set; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor for us and nobody else owns it.
        Ok(SignalQueue(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that came, if one is waiting.
    pub fn next(&self) -> io::Result<Option<i32>> {
        // SAFETY: signalfd_siginfo is plain integers.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is `size` bytes long and lives through the call; any bytes are valid for it.
        let read = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size) };
        if read == size as isize {
            return Ok(Some(info.ssi_signo as i32));
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            error => Err(error),
        }
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read() {
        let queue = SignalQueue::open().unwrap();
        assert_eq!(queue.next().unwrap(), None);
        // To this thread alone: the test program has others, which do not block it.
        // SAFETY: pthread_self is always valid; integers only.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) };
        assert_eq!(queue.next().unwrap(), Some(libc::SIGUSR1));
    }
}
