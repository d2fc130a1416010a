//! Seccomp (runtime-spec, "Seccomp"): profiles compiled to BPF here, without libseccomp.

mod compile;
mod profile;
mod syscalls;

use std::os::fd::OwnedFd;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSyscall};

use crate::init::{Failure, Step, failed};

pub use compile::compile;
pub use profile::default_profile;

/// Compiles a profile and puts it on this process. Returns the listener where an action asks for one.
pub fn load(seccomp: &LinuxSeccomp) -> Step<Option<OwnedFd>> {
    if asks_about_write(seccomp) {
        return Err(Failure::new(
            "SCMP_ACT_NOTIFY cannot be used for the write syscall: the agent is told of itself by one",
        ));
    }
    let program =
        compile(seccomp).map_err(|e| Failure::new(format!("compile the seccomp profile: {e}")))?;
    let mut flags = flags(seccomp);
    if program.notifies {
        flags |= wharf_sys::seccomp::FLAG_NEW_LISTENER;
    }
    wharf_sys::seccomp::load(&program.instructions, flags)
        .map_err(failed("load the seccomp filter"))
}

/// Flags of the filter. A profile that says nothing allows speculation, as other runtimes do: without it every program
/// in a container is slowed down on some machines.
pub fn flags(seccomp: &LinuxSeccomp) -> u32 {
    const SPEC_ALLOW: u32 = 1 << 2;
    let listener = match asks(seccomp) {
        true => wharf_sys::seccomp::FLAG_NEW_LISTENER,
        false => 0,
    };
    let Some(listed) = seccomp.flags() else {
        return SPEC_ALLOW | listener;
    };
    listed.iter().fold(listener, |bits, flag| {
        bits | match flag {
            // One thread: there is nobody to synchronise with.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => 1 << 1,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 1 << 5,
        }
    })
}

/// Whether an outcome of the profile asks an agent.
fn asks(seccomp: &LinuxSeccomp) -> bool {
    let asks = |action| action == LinuxSeccompAction::ScmpActNotify;
    let rules = seccomp.syscalls().iter().flatten();
    asks(seccomp.default_action()) || rules.map(LinuxSyscall::action).any(asks)
}

fn asks_about_write(seccomp: &LinuxSeccomp) -> bool {
    let asks = |action| action == LinuxSeccompAction::ScmpActNotify;
    let named = |rule: &LinuxSyscall| rule.names().iter().any(|name| name == "write");
    let rules = seccomp.syscalls().as_deref().unwrap_or_default();
    if asks(seccomp.default_action()) {
        return !rules
            .iter()
            .any(|rule| named(rule) && rule.action() == LinuxSeccompAction::ScmpActAllow);
    }
    rules.iter().any(|rule| asks(rule.action()) && named(rule))
}
