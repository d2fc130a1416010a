//! Hooks (runtime-spec, "POSIX-platform Hooks"): programs that get the container's state on standard input.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Hooks};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::error::{Error, Result};

/// A hook that says more than this on standard error is quoted in part.
const QUOTED_BYTES_MAX: u64 = 4096;

/// Whether there are hooks that run on the runtime's side before the change of root.
pub fn has_runtime_hooks(hooks: &Hooks) -> bool {
    #[allow(deprecated)]
    let prestart = hooks
        .prestart()
        .as_ref()
        .is_some_and(|list| !list.is_empty());
    prestart
        || hooks
            .create_runtime()
            .as_ref()
            .is_some_and(|list| !list.is_empty())
}

/// Runs the hooks of that moment: `prestart` (deprecated, still used), then `createRuntime`.
pub fn run_runtime_hooks(hooks: &Hooks, state: &str) -> Result<()> {
    #[allow(deprecated)]
    let prestart = hooks.prestart().iter().flatten();
    run_all("prestart", prestart, state, None)?;
    run_all(
        "createRuntime",
        hooks.create_runtime().iter().flatten(),
        state,
        None,
    )
}

/// Runs hooks of a moment in order, up to the first that fails.
pub fn run_all<'a>(
    moment: &str,
    hooks: impl Iterator<Item = &'a Hook>,
    state: &str,
    env: Option<&[String]>,
) -> Result<()> {
    for (number, hook) in hooks.enumerate() {
        run(hook, state, env).map_err(|error| Error::Moment {
            moment: moment.to_owned(),
            number,
            source: Box::new(error),
        })?;
    }
    Ok(())
}

/// Runs one hook to its end, or to its time limit. `env`: of a hook that has none of its own.
pub fn run(hook: &Hook, state: &str, env: Option<&[String]>) -> Result<()> {
    let path = hook.path();
    let fail = |message: String| Error::Hook {
        path: path.clone(),
        message,
    };
    let args = hook.args().as_deref().unwrap_or_default();
    let mut command = Command::new(path);
    if let Some(name) = args.first() {
        command.arg0(name);
    }
    command.args(args.iter().skip(1)).env_clear();
    let own = hook.env().as_deref().filter(|own| !own.is_empty());
    for entry in own.or(env).unwrap_or_default() {
        if let Some((key, value)) = entry.split_once('=') {
            command.env(key, value);
        }
    }
    let spawned = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|e| fail(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook that does not want to know its state closes the pipe early.
        let _ = stdin.write_all(state.as_bytes());
    }
    let limit = hook
        .timeout()
        .and_then(|seconds| u64::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0);
    if let Some(seconds) = limit
        && !ends_within(&child, Duration::from_secs(seconds)).map_err(|e| fail(e.to_string()))?
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(fail(format!("did not end within {seconds} s")));
    }
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        // What is not text is not quoted.
        let _ = stderr.take(QUOTED_BYTES_MAX).read_to_string(&mut said);
    }
    let status = child.wait().map_err(|e| fail(e.to_string()))?;
    if status.success() {
        Ok(())
    } else {
        Err(fail(format!("{}, stderr: {}", words(status), said.trim())))
    }
}

/// How a program ended, as callers of other runtimes know it.
fn words(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return format!("exit status {}", status.code().unwrap_or(-1));
    };
    let name = match signal {
        4 => "illegal instruction",
        6 => "aborted",
        7 => "bus error",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        15 => "terminated",
        31 => "bad system call",
        _ => return format!("signal {signal}"),
    };
    format!("signal: {name}")
}

fn ends_within(child: &Child, limit: Duration) -> std::io::Result<bool> {
    let pid = rustix::process::Pid::from_child(child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        match rustix::event::poll(
            &mut [PollFd::new(&pidfd.as_fd(), PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
