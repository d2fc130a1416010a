//! The init of `--init`: process 1 of a container, which passes signals on and reaps what nobody else waits for.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait};
use rustix::stdio::stdin;
use wharf_sys::signal::reset_before_exec;
use wharf_sys::signal_queue::SignalQueue;

/// Name of the program inside a container; the supervisor's executable called by it is the init.
pub const NAME: &str = "docker-init";

/// As a shell says it: the program can't be run, or isn't there.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Runs the words after `--` as a child and ends as it ends.
pub fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let command: Vec<OsString> = words.skip_while(|word| word != "--").skip(1).collect();
    match supervise(&command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn supervise(command: &[OsString]) -> io::Result<u8> {
    // Before there is a child, so that none of its signals is missed.
    let signals = SignalQueue::open()?;
    let Some((program, args)) = command.split_first() else {
        return hold(&signals);
    };
    // A process group of its own: what a terminal sends goes to the child alone, and not through us a second time.
    let mut command = Command::new(program);
    command.args(args).process_group(0);
    let child = match reset_before_exec(&mut command).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("{NAME}: exec {}: {error}", program.display());
            return Ok(match error.kind() {
                io::ErrorKind::NotFound => NOT_FOUND,
                _ => NOT_EXECUTABLE,
            });
        }
    };
    let child = Pid::from_child(&child);
    // Refused where there is no terminal. A child that was quicker and asked the terminal is stopped: it goes on.
    if rustix::termios::tcsetpgrp(stdin(), child).is_ok() {
        rustix::process::kill_process(child, Signal::CONT)?;
    }
    watch(&signals, child)
}

/// Without a program: process 1 of the process namespace that a pod's containers share. Reaps, until told to end.
fn hold(signals: &SignalQueue) -> io::Result<u8> {
    loop {
        let mut waiting = [PollFd::new(signals, PollFlags::IN)];
        match poll(&mut waiting, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(signal) = signals.next()? {
            if signal == Signal::CHILD.as_raw() {
                while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
            } else if signal == Signal::TERM.as_raw() {
                return Ok(0);
            }
        }
    }
}

/// Passes signals on to the child, until it ends.
fn watch(signals: &SignalQueue, child: Pid) -> io::Result<u8> {
    loop {
        let mut waiting = [PollFd::new(signals, PollFlags::IN)];
        match poll(&mut waiting, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(signal) = signals.next()? {
            if signal != Signal::CHILD.as_raw() {
                // Not waited for yet, so that the number is still its own, ended or not.
                let _ = wharf_sys::signal::kill(child.as_raw_nonzero().get(), signal);
            } else if let Some(code) = reap(child)? {
                return Ok(code);
            }
        }
    }
}

/// Takes in every process that ended; the exit code when the child is among them.
fn reap(child: Pid) -> io::Result<Option<u8>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => {
                return Ok(Some(exit_code(status)));
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}
