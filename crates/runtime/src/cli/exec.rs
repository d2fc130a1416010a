//! `exec`: a further process in a running container.

use std::os::fd::AsFd;

use oci_spec::runtime::Process;
use serde_json::{Value, json};

use super::args::{Flag, Parsed};
use super::create::{
    CONSOLE_SOCKET, PID_FILE, PIDFD_SOCKET, PRESERVE, check_terminal, hand_over_process,
    hand_over_terminal, preserved, write_pid_file,
};
use super::foreground::Foreground;
use super::state::{self, Container, Status};
use super::{Command, Failure, Global, Outcome, protect};
use crate::init::processors;
use crate::{ExecRequest, Stdio};

/// runc's exit code where the process did not come to be: 255 is nobody else's.
const NOT_EXECUTED: i32 = 255;

pub const COMMAND: Command = Command {
    name: "exec",
    usage: "<container-id> <command> [command options]  || -p process.json <container-id>",
    about: "execute new process inside the container",
    flags: &[
        CONSOLE_SOCKET,
        Flag::value("cwd", "working folder in the container"),
        Flag::value("env", "set an environment variable, NAME=VALUE").short("e"),
        Flag::switch("tty", "allocate a terminal").short("t"),
        Flag::value("user", "UID or UID:GID").short("u"),
        Flag::value("additional-gids", "a further group of the user").short("g"),
        Flag::value("process", "file with the process, as in config.json").short("p"),
        Flag::switch("detach", "return once the process runs").short("d"),
        PID_FILE,
        Flag::value("process-label", "accepted and ignored: there is no SELinux"),
        Flag::value("apparmor", "accepted and ignored: there is no AppArmor"),
        Flag::switch("no-new-privs", "set the no_new_privs bit"),
        Flag::value("cap", "add a capability to the bounding set").short("c"),
        PIDFD_SOCKET,
        PRESERVE,
        Flag::value(
            "cgroup",
            "join a group below the container's, [<controller>[,<controller>...]:]<path>",
        ),
        Flag::switch("ignore-paused", "execute in a paused container too"),
    ],
    words: (1, usize::MAX),
    in_order: true,
    run: |global, parsed| {
        exec(global, parsed).map_err(|e| Failure {
            exit_code: NOT_EXECUTED,
            ..e.after("exec failed")
        })
    },
};

fn exec(global: &Global, parsed: &Parsed) -> Outcome {
    let container = Container::open(global, parsed.id())?;
    match container.status() {
        Status::Stopped => return Err(Failure::new("cannot exec in a stopped container")),
        Status::Paused if !parsed.has("ignore-paused") => {
            return Err(Failure::new(
                "cannot exec in a paused container (use --ignore-paused to override)",
            ));
        }
        _ => {}
    }
    protect::own_program()?;
    let process = process(parsed, &container)?;
    let terminal = process.terminal().unwrap_or(false);
    let detached = parsed.has("detach");
    check_terminal(parsed, detached, terminal)?;
    let foreground = match detached {
        true => None,
        // The process unblocks what this blocks.
        false => Some(Foreground::new(None)?),
    };
    global.log.debug(&format!(
        "nsexec container setup: process in {}",
        container.id
    ));
    if let Some(list) = processors::initial(&process) {
        let mask = affinity_mask(list)?;
        global.log.debug(&format!(
            "nsexec: process in {}: affinity: {mask:#x}",
            container.id
        ));
    }
    let groups_below = groups_below(parsed)?;
    let mut executed = crate::exec(ExecRequest {
        id: &container.id,
        init: container.record.pid,
        bundle: &container.record.bundle,
        spec: &container.spec,
        process: &process,
        stdio: if terminal { Stdio::Pty } else { Stdio::Inherit },
        preserve_fds: preserved(parsed)?,
        no_new_keyring: container.record.no_new_keyring,
        groups_below: &groups_below,
    })?;
    global.log.debug(&format!(
        "child process in init(), setns_init: about to exec: process {} in {}",
        executed.pid, container.id
    ));
    hand_over_process(parsed, executed.pidfd.as_fd())?;
    write_pid_file(parsed, executed.pid)?;
    let master = executed.pty.take();
    let Some(mut foreground) = foreground else {
        hand_over_terminal(parsed, master)?;
        return Ok(0);
    };
    foreground.attach(master)?;
    foreground.wait(executed.pid, executed.pidfd.as_fd())
}

/// The process by its file, or the container's own with what the flags change.
fn process(parsed: &Parsed, container: &Container) -> Outcome<Process> {
    let read = |value: Value| {
        serde_json::from_value(value)
            .map_err(|e| Failure::new(format!("the process is not valid: {e}")))
    };
    if let Some(path) = parsed.get("process") {
        let text = state::read(std::path::Path::new(path))?
            .ok_or_else(|| Failure::new(format!("open {path}: no such file or directory")))?;
        let invalid = |e| Failure::new(format!("the process in {path} is not valid: {e}"));
        let mut value: Value = serde_json::from_slice(&text).map_err(invalid)?;
        if value["user"].is_null() {
            value["user"] = json!({"uid": 0, "gid": 0});
        }
        return serde_json::from_value(value).map_err(invalid);
    }
    let command = &parsed.words[1..];
    if command.is_empty() {
        return Err(Failure::new("process args cannot be empty"));
    }
    let own = container.spec.process().as_ref();
    let own = own.ok_or_else(|| Failure::new("the container has no process"))?;
    let mut value = serde_json::to_value(own)
        .map_err(|e| Failure::new(format!("read the container's process: {e}")))?;
    value["args"] = json!(command);
    value["terminal"] = json!(parsed.has("tty"));
    if let Some(cwd) = parsed.get("cwd") {
        value["cwd"] = json!(cwd);
    }
    if parsed.has("no-new-privs") {
        value["noNewPrivileges"] = json!(true);
    }
    if let Some(user) = parsed.get("user") {
        set_user(&mut value["user"], user)?;
    }
    add(
        &mut value["env"],
        parsed.all("env").map(|entry| json!(entry)),
    );
    for group in parsed.all("additional-gids") {
        let group: u32 = number(group)?;
        add(&mut value["user"]["additionalGids"], [json!(group)]);
    }
    for name in parsed.all("cap") {
        let name = name.to_ascii_uppercase();
        for set in ["bounding", "effective", "permitted"] {
            add(&mut value["capabilities"][set], [json!(name)]);
        }
        let inheritable = value["capabilities"]["inheritable"].as_array();
        if inheritable.is_some_and(|list| !list.is_empty()) {
            add(&mut value["capabilities"]["ambient"], [json!(name)]);
        }
    }
    read(value)
}

/// For people who read masks; CPUs above the first 64 are left out.
fn affinity_mask(list: &str) -> Outcome<u64> {
    let numbers = processors::numbers(list, 1024).map_err(|e| Failure::new(e.message))?;
    let low = numbers.into_iter().filter(|number| *number < 64);
    Ok(low.fold(0, |mask, number| mask | 1 << number))
}

/// `cpu,cpuacct:sub`, `sub`, `/`.
fn groups_below(parsed: &Parsed) -> Outcome<Vec<wharf_cgroup::Below>> {
    let given: Vec<&str> = parsed.all("cgroup").collect();
    let read = |text: &&str| {
        let (controllers, path) = match text.split_once(':') {
            Some((controllers, path)) => (controllers, path),
            None => ("", *text),
        };
        if path.contains(':') || (controllers.is_empty() && given.len() > 1) {
            return Err(Failure::new(format!("invalid --cgroup argument: {text}")));
        }
        Ok(wharf_cgroup::Below {
            controllers: controllers
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            path: path.to_owned(),
        })
    };
    given.iter().map(read).collect()
}

fn set_user(user: &mut Value, text: &str) -> Outcome<()> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    user["uid"] = json!(number(uid)?);
    if let Some(gid) = gid {
        user["gid"] = json!(number(gid)?);
    }
    Ok(())
}

fn number(text: &str) -> Outcome<u32> {
    text.parse()
        .map_err(|_| Failure::new(format!("\"{text}\" is not the number of a user or group")))
}

/// Appends to a list, which may be absent.
fn add(list: &mut Value, entries: impl IntoIterator<Item = Value>) {
    let mut all = list.as_array().cloned().unwrap_or_default();
    for entry in entries {
        if !all.contains(&entry) {
            all.push(entry);
        }
    }
    *list = Value::Array(all);
}
