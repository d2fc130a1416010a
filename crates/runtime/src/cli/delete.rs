//! `delete`: control group, state and, with `--force`, processes go.

use std::os::fd::{AsFd, BorrowedFd};

use oci_spec::runtime::LinuxNamespaceType;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;

use super::args::{Flag, Parsed};
use super::state::{self, Container, Status};
use super::{Command, Failure, Global, Outcome, cgroup_failed, failed, start};

/// How long a killed process may take to end.
const END_SECONDS_MAX: i64 = 10;

pub const COMMAND: Command = Command {
    name: "delete",
    usage: "<container-id>",
    about: "delete any resources held by the container often used with detached container",
    flags: &[Flag::switch("force", "kill the container if it is still running").short("f")],
    words: (1, 1),
    in_order: false,
    run: delete,
};

fn delete(global: &Global, parsed: &Parsed) -> Outcome {
    let (id, force) = (parsed.id(), parsed.has("force"));
    let folder = global.root.join(id);
    state::check_id(id)?;
    let container = match Container::open(global, id) {
        Ok(container) => container,
        // Without a state that can be read, processes are found by the control group alone.
        Err(_) if force => return remove_unfinished(&folder, id),
        Err(failure) => return Err(failure),
    };
    let _lock = container.lock()?;
    match container.status() {
        Status::Stopped => {}
        Status::Created => end(&container)?,
        _ if force => end(&container)?,
        status => {
            return Err(Failure::new(format!(
                "cannot delete container {id} that is not stopped: {status}"
            )));
        }
    }
    destroy(global, &container)?;
    Ok(0)
}

/// What a creation that was cut off has left. A container that never was is no error, with `--force`.
fn remove_unfinished(folder: &std::path::Path, id: &str) -> Outcome {
    if !folder.exists() {
        return Ok(0);
    }
    if let Ok(spec) = state::saved_spec(folder)
        && let Ok(group) = wharf_cgroup::open(&crate::cgroup_path(&spec, id))
    {
        group
            .kill_all()
            .map_err(cgroup_failed("kill the container's processes"))?;
        group
            .delete()
            .map_err(cgroup_failed("remove the control group"))?;
    }
    std::fs::remove_dir_all(folder).map_err(failed(format!("remove {}", folder.display())))?;
    Ok(0)
}

/// SIGKILL, and waits for the end.
pub fn end(container: &Container) -> Outcome<()> {
    let Some(init) = container.init() else {
        return Ok(());
    };
    let _ = rustix::process::pidfd_send_signal(&init, Signal::KILL);
    if let Ok(group) = container.cgroup() {
        // Frozen processes do not even die.
        let _ = group.thaw();
    }
    if await_end(init.as_fd())? {
        Ok(())
    } else {
        Err(Failure::new("container init still running"))
    }
}

fn await_end(pidfd: BorrowedFd<'_>) -> Outcome<bool> {
    let limit = Timespec {
        tv_sec: END_SECONDS_MAX,
        tv_nsec: 0,
    };
    loop {
        match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed("wait for the container's end")(error)),
        }
    }
}

/// Removes all that is left of a container whose init has ended. The state goes last: what fails can be tried again.
pub fn destroy(global: &Global, container: &Container) -> Outcome<()> {
    let group = container.cgroup();
    if let Ok(group) = &group
        && !has_own_pids(container)
    {
        // With a PID namespace they have died with init.
        group
            .kill_all()
            .map_err(cgroup_failed("kill the container's processes"))?;
    }
    if let Some(unit) = &container.record.unit {
        wharf_cgroup::systemd::stop(unit).map_err(cgroup_failed("remove the scope"))?;
    }
    if let Ok(group) = group {
        group
            .delete()
            .map_err(cgroup_failed("remove the control group"))?;
    }
    crate::create::remove_shared_mounts(&container.spec, &container.record.bundle);
    start::poststop_hooks(global, container);
    let folder = &container.folder;
    std::fs::remove_dir_all(folder).map_err(failed(format!("remove {}", folder.display())))
}

/// Whether all of a container's processes end with its init.
pub fn has_own_pids(container: &Container) -> bool {
    let linux = container.spec.linux().as_ref();
    linux
        .and_then(|linux| linux.namespaces().as_ref())
        .into_iter()
        .flatten()
        .any(|entry| entry.typ() == LinuxNamespaceType::Pid && entry.path().is_none())
}
