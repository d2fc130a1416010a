//! `run`: create and start at once, in the foreground or detached.

use std::os::fd::AsFd;

use super::args::{Flag, Parsed};
use super::create::{
    BUNDLE, Bundle, CONSOLE_SOCKET, NO_KEYRING, NO_PIVOT, PID_FILE, PIDFD_SOCKET, PRESERVE,
};
use super::foreground::Foreground;
use super::state::NewFolder;
use super::{Command, Global, Outcome, delete, failed, protect, start};
use crate::Gate;

pub const COMMAND: Command = Command {
    name: "run",
    usage: "<container-id>",
    about: "create and run a container",
    flags: &[
        BUNDLE,
        CONSOLE_SOCKET,
        Flag::switch("detach", "return once the container runs").short("d"),
        Flag::switch("keep", "do not delete the container when it ends"),
        PID_FILE,
        Flag::switch(
            "no-subreaper",
            "leave orphans of the container to somebody else",
        ),
        NO_PIVOT,
        NO_KEYRING,
        PIDFD_SOCKET,
        PRESERVE,
    ],
    words: (1, 1),
    in_order: false,
    run: |global, parsed| run(global, parsed).map_err(|e| e.after("runtime run failed")),
};

fn run(global: &Global, parsed: &Parsed) -> Outcome {
    protect::own_program()?;
    let detached = parsed.has("detach");
    let bundle = Bundle::read(global, parsed)?;
    bundle.check_terminal(parsed, detached)?;
    let folder = NewFolder::make(global, parsed.id())?;
    if !detached && !parsed.has("no-subreaper") {
        // Processes that outlive their parents in a container without PID namespace come to us.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(failed("become the parent of orphans"))?;
    }
    let (mut created, container) = bundle.create(global, parsed, &folder, Gate::Channel)?;
    let foreground = match detached {
        true => None,
        // Before the start: a signal from then on is the container's.
        false => Some(Foreground::new(created.pty.take())?),
    };
    created
        .start()
        .inspect_err(|_| bundle.after_failure(global, parsed.id()))?;
    folder.keep();
    if let Err(failure) = start::poststart_hooks(&container) {
        delete::destroy(global, &container)?;
        return Err(failure);
    }
    let pidfd = created.pidfd.try_clone();
    let pidfd = pidfd.map_err(failed("keep the container's process"))?;
    let pid = created.pid;
    created.leave();
    let Some(foreground) = foreground else {
        return Ok(0);
    };
    let code = foreground.wait(pid, pidfd.as_fd());
    if !parsed.has("keep") {
        delete::destroy(global, &container)?;
    }
    code
}
