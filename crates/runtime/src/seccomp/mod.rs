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
    let mut flags = seccomp.flags().iter().flatten().fold(0, |bits, flag| {
        bits | match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 1,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => 1 << 1,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 1 << 2,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 1 << 5,
        }
    });
    if program.notifies {
        flags |= wharf_sys::seccomp::FLAG_NEW_LISTENER;
        // One thread: there is nobody to synchronise with, and the kernel refuses both at once.
        flags &= !1;
    }
    wharf_sys::seccomp::load(&program.instructions, flags)
        .map_err(failed("load the seccomp filter"))
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
