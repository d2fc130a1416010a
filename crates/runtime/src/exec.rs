//! A further process in a running container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::Spec;
use rustix::process::{Pid, PidfdFlags};
use wharf_sys::process::{Cloned, namespace};

use crate::agent;
use crate::create::{Moment, await_exec, cgroup_path, clone_into, kill_and_reap, wait_until_ready};
use crate::error::{Error, Result};
use crate::init::child;
use crate::init::{Failure, Step, console, failed, kernel_settings, processors};
use crate::message::{Channel, Message};
use crate::namespaces::{Plan, flag};
use crate::userns_clone::clone_by_helper;
use crate::{ExecRequest, Executed, Gate, Stdio};

/// Runs a process in the namespaces, cgroup and security context of a running container. The process is a child of the
/// caller, although it lives in another PID namespace.
pub fn exec(request: ExecRequest<'_>) -> Result<Executed> {
    let pid = Pid::from_raw(request.init)
        .ok_or_else(|| Error::State("the container is not running".into()))?;
    let init = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(Error::system(
        format!("open the container's process {}", request.init),
    ))?;
    let joined = joined_flags(request.spec);
    let path = cgroup_path(request.spec, request.id);
    let cgroup = match wharf_cgroup::open_below(&path, request.groups_below) {
        // Made by an ordinary user, without a group.
        Err(_) if !crate::has_root() && request.groups_below.is_empty() => wharf_cgroup::absent(),
        other => other.map_err(|source| Error::Cgroup { path, source })?,
    };
    let mut plan = plan_of(joined, &init)?;
    let (channel, theirs) = Channel::pair().map_err(Error::system("make a socket pair"))?;
    let cloned = match plan.needs_helper() {
        true => clone_by_helper(&mut plan)?,
        false => clone_into(&plan, cgroup.clone_target())?,
    };
    let pidfd = match cloned {
        Cloned::Child => {
            drop(channel);
            let failure = match enter(
                &request,
                init.as_fd(),
                cgroup.as_ref(),
                joined & !namespace::PID & !plan.joined,
                &theirs,
            ) {
                Ok(ready) => ready.wait_and_exec(&theirs, &Gate::Channel, || Ok(())),
                Err(failure) => failure,
            };
            child::end(&theirs, failure)
        }
        Cloned::Parent { pid, pidfd } => Reaped {
            pid,
            pidfd: Some(pidfd),
        },
    };
    drop(theirs);
    let state = crate::state_json(
        request.id,
        "running",
        request.init,
        request.bundle,
        request.spec,
    );
    let pty = wait_until_ready(&channel, &mut |moment| match moment {
        Moment::Listener(listener) => {
            let process = pidfd.pidfd.as_ref().ok_or(Error::Vanished)?;
            agent::hand_over(request.spec, pidfd.pid, &state, process.as_fd(), listener)
        }
        Moment::Hooks | Moment::Clocks | Moment::Devices => Ok(()),
    })?;
    channel
        .send(&Message::Start, &[])
        .map_err(Error::system("talk to the process"))?;
    await_exec(&channel)?;
    pidfd.into_executed(pty)
}

/// What is joined before or by the clone: inside, the host's numbers mean nothing.
fn plan_of(joined: u64, init: &OwnedFd) -> Result<Plan> {
    let copy = || {
        init.try_clone()
            .map_err(Error::system("keep the container's process"))
    };
    let mut plan = Plan::default();
    if joined & namespace::PID != 0 {
        plan.join_pid = Some(copy()?);
    }
    if joined & namespace::USER != 0 && !crate::has_root() {
        // An ordinary user has rights over the other namespaces only in there.
        plan.join.push((namespace::USER, copy()?));
    }
    Ok(plan)
}

/// Killed and reaped unless it is handed on.
struct Reaped {
    pid: i32,
    pidfd: Option<OwnedFd>,
}

impl Reaped {
    fn into_executed(mut self, pty: Option<OwnedFd>) -> Result<Executed> {
        let pidfd = self.pidfd.take().ok_or(Error::Vanished)?;
        Ok(Executed {
            pid: self.pid,
            pidfd,
            pty,
        })
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd {
            kill_and_reap(pidfd.as_fd());
        }
    }
}

/// The child's side: control group first, while the host's is in sight; then the container's namespaces.
fn enter(
    request: &ExecRequest<'_>,
    init: BorrowedFd<'_>,
    cgroup: &dyn wharf_cgroup::Cgroup,
    joined: u64,
    channel: &Channel,
) -> Step<child::ReadyToExec> {
    rustix::process::umask(rustix::fs::Mode::empty());
    // What this process holds of the host's must not be read by the container it enters (CVE-2016-9962).
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(failed("protect the process from being traced"))?;
    processors::set_initial(request.process)?;
    cgroup
        .join_self()
        .map_err(|e| Failure::new(crate::cgroup_words(&e)))?;
    processors::set_final(request.process)?;
    kernel_settings::set_oom_score(request.process)?;
    if !request.no_new_keyring {
        child::join_keyring(request.id)?;
    }
    wharf_sys::process::join_namespaces(init, joined)
        .map_err(failed("join the container's namespaces"))?;
    rustix::process::setsid().map_err(failed("begin a session"))?;
    let console = match request.stdio {
        Stdio::Pty => {
            let root = rustix::fs::open(
                "/",
                rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )
            .map_err(failed("open the container's root"))?;
            let size = request.process.console_size().map(|size| {
                (
                    u16::try_from(size.height()).unwrap_or(u16::MAX),
                    u16::try_from(size.width()).unwrap_or(u16::MAX),
                )
            });
            Some(console::open(root.as_fd(), size)?)
        }
        _ => None,
    };
    child::finish(
        request.process,
        request.spec,
        &request.stdio,
        console,
        request.preserve_fds,
        channel,
        None,
    )
}

/// The namespaces that the container does not share with the host.
fn joined_flags(spec: &Spec) -> u64 {
    let listed = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref());
    listed
        .into_iter()
        .flatten()
        .fold(0, |bits, entry| bits | flag(entry.typ()))
}
