//! Cleaning up after a shim that was killed before its container ended.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags};

use crate::protocol::{EXIT_FILE, ExitRecord, RUN_FILE, RunRecord, SOCKET_FILE};
use crate::run_dir::RunDir;
use crate::supervisor::clock;

/// Exit code of a container that lost its supervisor: as after SIGKILL.
const KILLED: i32 = 137;
const ROUNDS: usize = 64;

/// Kills what is left of the container, removes its control group and writes the exit record that the shim could
/// not write.
pub(crate) fn bury(path: &Path) -> io::Result<Option<ExitRecord>> {
    let run_dir = RunDir::open(path)?;
    if let Some(record) = run_dir.read::<ExitRecord>(EXIT_FILE)? {
        return Ok(Some(record));
    }
    let Some(run) = run_dir.read::<RunRecord>(RUN_FILE)? else {
        return Ok(None);
    };
    if let Some(group) = run
        .cgroup
        .as_deref()
        .and_then(|path| wharf_cgroup::open(path).ok())
    {
        for _ in 0..ROUNDS {
            let members = group.processes().unwrap_or_default();
            if members.is_empty() {
                break;
            }
            let watched = watch(&members);
            let _ = group.kill_all();
            // A frozen member dies once it is thawed.
            let _ = group.thaw();
            wait(&watched);
        }
        group.delete().map_err(io::Error::other)?;
    }
    let record = ExitRecord {
        exit_code: KILLED,
        oom_killed: false,
        started_at: run.started_at,
        finished_at: clock::rfc3339(clock::now()),
    };
    run_dir.write(EXIT_FILE, &record, true)?;
    run_dir.remove(SOCKET_FILE)?;
    Ok(Some(record))
}

fn watch(members: &[i32]) -> Vec<OwnedFd> {
    let open =
        |pid: &i32| rustix::process::pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok();
    members.iter().filter_map(open).collect()
}

fn wait(watched: &[OwnedFd]) {
    let patience = rustix::time::Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    for process in watched {
        let _ = rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&patience));
    }
}
