//! Pipes between the supervisor and a process, or its terminal.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use oci_spec::runtime::{Linux, Spec, User};
use rustix::pipe::PipeFlags;
use wharf_runtime::Stdio;

/// The supervisor's ends.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    pub terminal: Option<OwnedFd>,
}

impl Ends {
    /// Input and output through duplicates, so that each is watched by itself.
    pub(super) fn of_terminal(terminal: OwnedFd, open_stdin: bool) -> io::Result<Ends> {
        Ok(Ends {
            stdin: open_stdin.then(|| terminal.try_clone()).transpose()?,
            stdout: Some(terminal.try_clone()?),
            stderr: None,
            terminal: Some(terminal),
        })
    }
}

/// The process's ends.
#[derive(Debug)]
pub(super) struct Pipes {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Pipes {
    /// None at all: /dev/null, or the terminal that the runtime makes.
    pub(super) fn none() -> Pipes {
        Pipes {
            stdin: None,
            stdout: None,
            stderr: None,
        }
    }

    pub(super) fn new(open_stdin: bool, output: bool) -> io::Result<(Pipes, Ends)> {
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
        let (mut pipes, mut ends) = (Pipes::none(), Ends::default());
        if open_stdin {
            let (read, write) = pipe()?;
            (pipes.stdin, ends.stdin) = (Some(read), Some(write));
        }
        if output {
            let (read, write) = pipe()?;
            (pipes.stdout, ends.stdout) = (Some(write), Some(read));
            let (read, write) = pipe()?;
            (pipes.stderr, ends.stderr) = (Some(write), Some(read));
        }
        Ok((pipes, ends))
    }

    /// Gives the pipes to the process's user, who may open them again through /dev/stdout. With a user namespace of
    /// the container's own, its users' numbers are not ours.
    pub(super) fn give_to(&self, spec: &Spec, user: &User) {
        let mapped = |linux: &Linux| linux.uid_mappings().as_ref().is_some_and(|m| !m.is_empty());
        if spec.linux().as_ref().is_some_and(mapped) {
            return;
        }
        let uid = rustix::fs::Uid::from_raw(user.uid());
        let gid = rustix::fs::Gid::from_raw(user.gid());
        for fd in [&self.stdin, &self.stdout, &self.stderr]
            .into_iter()
            .flatten()
        {
            let _ = rustix::fs::fchown(fd, Some(uid), Some(gid));
        }
    }

    pub(super) fn stdio(&self) -> Stdio<'_> {
        Stdio::Pipes {
            stdin: self.stdin.as_ref().map(AsFd::as_fd),
            stdout: self.stdout.as_ref().map(AsFd::as_fd),
            stderr: self.stderr.as_ref().map(AsFd::as_fd),
        }
    }
}
