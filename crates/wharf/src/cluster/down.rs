//! `wharf down`: ends the cluster's process and its pods. What was declared stays on disk, and runs again after the
//! next `wharf up`.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use clap::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use super::Result;
use super::place::Place;
use crate::rooms::EngineArgs;

/// A cluster's process gets this long to end by itself.
const END_LIMIT: Duration = Duration::from_secs(30);

/// End the cluster on this machine and all its pods; what was declared stays, and runs again after `wharf up`
#[derive(Debug, Parser)]
#[command(name = "wharf down")]
struct Command {
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs the command line after `wharf down`.
pub fn main(args: &[OsString]) -> i32 {
    let command: Command = match super::parse("wharf down", args) {
        Ok(command) => command,
        Err(code) => return code,
    };
    crate::daemon::log_to_stderr("warn");
    let done = crate::daemon::async_runtime()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(&command.engine)));
    match done {
        Ok(()) => 0,
        Err(error) => {
            crate::daemon::report("wharf down", error.as_ref());
            1
        }
    }
}

async fn run(args: &EngineArgs) -> Result<()> {
    let (data_root, run_root) = crate::daemon::folders(args)?;
    if let Some(process) = Place::read(&run_root)?.and_then(|place| place.process()) {
        end(process.as_fd())?;
    }
    let _lock = crate::daemon::lock(&data_root)?;
    // Whatever the process left, and if it was killed: all is found again by opening.
    let rooms = crate::rooms::open(args, &data_root, &run_root).await?;
    let ended = super::compose::end_pods(rooms)
        .await
        .map_err(super::local)?;
    Place::remove(&run_root);
    println!(
        "ended {ended} pods; what was declared is kept in {}",
        data_root.display()
    );
    Ok(())
}

/// Asks the process to end, and waits for it.
fn end(process: BorrowedFd<'_>) -> Result<()> {
    pidfd_send_signal(process, Signal::TERM)?;
    let limit = Timespec::try_from(END_LIMIT)?;
    let mut waiting = [PollFd::new(&process, PollFlags::IN)];
    if poll(&mut waiting, Some(&limit))? == 0 {
        pidfd_send_signal(process, Signal::KILL)?;
        poll(&mut waiting, Some(&limit))?;
    }
    Ok(())
}
