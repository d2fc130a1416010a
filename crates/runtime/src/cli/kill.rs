//! `kill`: a signal to init, or to all processes.

use std::os::fd::AsFd;

use rustix::process::{Pid, PidfdFlags, Signal};

use super::args::{Flag, Parsed};
use super::state::{Container, Status};
use super::{Command, Failure, Global, Outcome, cgroup_failed, failed};

pub const COMMAND: Command = Command {
    name: "kill",
    usage: "<container-id> [signal]",
    about: "kill sends the specified signal (default: SIGTERM) to the container's init process",
    flags: &[Flag::switch(
        "all",
        "send the signal to all processes inside the container",
    )
    .short("a")],
    words: (1, 2),
    in_order: false,
    run: kill,
};

/// Names by number (signal(7), x86 and ARM).
const NAMES: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

fn kill(global: &Global, parsed: &Parsed) -> Outcome {
    let container = Container::open(global, parsed.id())?;
    let text = parsed.words.get(1).map_or("SIGTERM", String::as_str);
    let signal = number(text).ok_or_else(|| Failure::new(format!("unknown signal \"{text}\"")))?;
    if parsed.has("all") {
        signal_all(&container, signal)?;
        return Ok(0);
    }
    if signal == Signal::KILL.as_raw() && !super::delete::has_own_pids(&container) {
        // Its processes do not die with init: all are meant.
        let group = container.cgroup();
        let alive =
            |group: &dyn wharf_cgroup::Cgroup| group.processes().is_ok_and(|p| !p.is_empty());
        return match group {
            Ok(group) if alive(group.as_ref()) => {
                let kill = cgroup_failed("kill the container's processes");
                group.kill_all().map_err(kill).map(|()| 0)
            }
            _ => Err(Failure::new("container not running")),
        };
    }
    let Some(init) = container.init() else {
        return Err(Failure::new("container not running"));
    };
    wharf_sys::signal::send_signal(init.as_fd(), signal)
        .map_err(failed("unable to signal init"))?;
    if signal == Signal::KILL.as_raw() && container.status() == Status::Paused {
        // A frozen process does not even die.
        container
            .cgroup()?
            .thaw()
            .map_err(cgroup_failed("let the container go on"))?;
    }
    Ok(0)
}

/// `KILL`, `SIGKILL`, `9`.
fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(above) = name.strip_prefix("RTMIN+") {
        return above.parse().ok().map(|above: i32| 34 + above);
    }
    let found = NAMES.iter().position(|known| *known == name)?;
    i32::try_from(found + 1).ok()
}

/// Signals every process of the control group. They are stopped meanwhile, so that none is born unseen.
fn signal_all(container: &Container, signal: i32) -> Outcome<()> {
    let Ok(group) = container.cgroup() else {
        // Gone already.
        return Ok(());
    };
    if signal == Signal::KILL.as_raw() {
        return group
            .kill_all()
            .map_err(cgroup_failed("kill the container's processes"));
    }
    let was_frozen = group.is_frozen().unwrap_or(false);
    if !was_frozen {
        group
            .freeze()
            .map_err(cgroup_failed("stop the container's processes"))?;
    }
    let sent = group
        .processes()
        .map_err(cgroup_failed("list the container's processes"))
        .and_then(|pids| pids.into_iter().try_for_each(|pid| send(pid, signal)));
    if !was_frozen {
        group
            .thaw()
            .map_err(cgroup_failed("let the container's processes go on"))?;
    }
    sent
}

fn send(pid: i32, signal: i32) -> Outcome<()> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(());
    };
    // One that ended meanwhile needs no signal.
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(());
    };
    match wharf_sys::signal::send_signal(pidfd.as_fd(), signal) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            Ok(())
        }
        other => other.map_err(failed("unable to signal a process")),
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn signals_by_name_and_number() {
        for text in ["9", "KILL", "SIGKILL", "sigkill"] {
            assert_eq!(number(text), Some(9));
        }
        assert_eq!(number("SYS"), Some(31));
        assert_eq!(number("RTMIN+3"), Some(37));
        assert_eq!(number("BOGUS"), None);
    }
}
