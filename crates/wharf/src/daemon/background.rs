//! Starting a daemon from the client, for a person who just typed `wharf run`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::notify::Waiter;

const READY_LIMIT: Duration = Duration::from_secs(30);
const RUN_ROOT: &str = "/run/wharf";

/// Starts `wharf daemon` with its defaults, detached from this terminal, and returns once it is ready.
pub fn start_in_background() -> io::Result<()> {
    fs::create_dir_all(RUN_ROOT)?;
    let args = ["daemon", "--detached"].map(OsString::from);
    start_detached(&args, &Path::new(RUN_ROOT).join("daemon.log"))
}

/// Starts this program with these arguments, its messages in a file, and returns once it says that it is ready.
pub fn start_detached(args: &[OsString], log_path: &Path) -> io::Result<()> {
    let log = File::options().create(true).append(true).open(log_path)?;
    let waiter = Waiter::bind()?;
    let child = Command::new("/proc/self/exe")
        .arg0("wharf")
        .args(args)
        .env("NOTIFY_SOCKET", waiter.address())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    if waiter.wait(READY_LIMIT)? {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "wharf {} (pid {}) was not ready within {} s; its messages are in {}",
        args.first().unwrap_or(&OsString::new()).display(),
        child.id(),
        READY_LIMIT.as_secs(),
        log_path.display()
    )))
}
