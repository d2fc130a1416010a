//! `create`: a bundle becomes a container that waits for `start`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oci_spec::runtime::Spec;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::args::{Flag, Parsed};
use super::state::{self, Container, NewFolder, Record};
use super::systemd::{self, Scope};
use super::{Command, Failure, Global, Outcome, failed, protect};
use crate::{CreateRequest, Created, Gate, Stdio};

pub const BUNDLE: Flag =
    Flag::value("bundle", "folder of the bundle (the working folder)").short("b");
pub const CONSOLE_SOCKET: Flag = Flag::value(
    "console-socket",
    "unix socket that gets the terminal's master",
);
pub const PID_FILE: Flag = Flag::value("pid-file", "file to write the process's number to");
pub const NO_PIVOT: Flag = Flag::switch(
    "no-pivot",
    "move the root instead of pivoting, for a root on a ram disk",
);
pub const NO_KEYRING: Flag = Flag::switch("no-new-keyring", "keep the caller's session keyring");
pub const PIDFD_SOCKET: Flag = Flag::value(
    "pidfd-socket",
    "unix socket that gets a descriptor of the process",
);
pub const PRESERVE: Flag = Flag::value(
    "preserve-fds",
    "pass N further descriptors to the container",
);

pub const COMMAND: Command = Command {
    name: "create",
    usage: "<container-id>",
    about: "create a container",
    flags: &[
        BUNDLE,
        CONSOLE_SOCKET,
        PID_FILE,
        NO_PIVOT,
        NO_KEYRING,
        PIDFD_SOCKET,
        PRESERVE,
    ],
    words: (1, 1),
    in_order: false,
    run: |global, parsed| create(global, parsed).map_err(|e| e.after("runtime create failed")),
};

fn create(global: &Global, parsed: &Parsed) -> Outcome {
    protect::own_program()?;
    let bundle = Bundle::read(global, parsed)?;
    bundle.check_terminal(parsed, true)?;
    let folder = NewFolder::make(global, parsed.id())?;
    let gate = listen(&folder.path)?;
    let (created, _) = bundle.create(global, parsed, &folder, Gate::Socket(gate))?;
    folder.keep();
    created.leave();
    Ok(0)
}

/// A bundle and its configuration.
#[derive(Debug)]
pub struct Bundle {
    pub path: PathBuf,
    pub spec: Spec,
    text: Vec<u8>,
}

impl Bundle {
    pub fn read(global: &Global, parsed: &Parsed) -> Outcome<Bundle> {
        let given = parsed.get("bundle").unwrap_or(".");
        let path = std::fs::canonicalize(given).map_err(failed(format!("chdir {given}")))?;
        let text = state::read(&path.join("config.json"))?
            .ok_or_else(|| Failure::new("JSON specification file config.json not found"))?;
        let (spec, warnings) = state::parse_spec_warned(&text)?;
        for warning in warnings {
            global.log.warn(&warning);
        }
        Ok(Bundle { path, spec, text })
    }

    /// What was made has gone again; those who were told of its beginning are told of its end.
    pub fn after_failure(&self, global: &Global, id: &str) {
        let state = crate::state_json(id, "stopped", 0, &self.path, &self.spec);
        let listed = self.spec.hooks().as_ref();
        let list = listed.and_then(|listed| listed.poststop().as_ref());
        super::start::run_reported(global, list, &state);
    }

    /// The kernel takes no capability as ambient that is not inheritable too.
    fn warn_of_ambient(&self, global: &Global) {
        let process = self.spec.process().as_ref();
        let Some(sets) = process.and_then(|process| process.capabilities().as_ref()) else {
            return;
        };
        let inheritable = sets.inheritable().clone().unwrap_or_default();
        for name in sets.ambient().iter().flatten() {
            if !inheritable.contains(name) {
                global.log.warn(&format!(
                    "can't raise ambient capability CAP_{}: operation not permitted",
                    name.to_string().trim_start_matches("CAP_")
                ));
            }
        }
    }

    pub fn terminal(&self) -> bool {
        let process = self.spec.process().as_ref();
        process.is_some_and(|process| process.terminal().unwrap_or(false))
    }

    /// A terminal needs somebody at its other end.
    pub fn check_terminal(&self, parsed: &Parsed, detached: bool) -> Outcome<()> {
        check_terminal(parsed, detached, self.terminal())
    }

    /// Makes the container and writes down all that later commands need.
    pub fn create(
        &self,
        global: &Global,
        parsed: &Parsed,
        folder: &NewFolder,
        gate: Gate,
    ) -> Outcome<(Created, Container)> {
        if !global.systemd {
            check_group(global, &crate::cgroup_path(&self.spec, parsed.id()))?;
            let created = self.create_placed(global, parsed, folder, gate)?;
            let container = self.record(parsed, folder, &created, None)?;
            return Ok((created, container));
        }
        let scope = Scope::start(global, &self.spec, parsed.id())?;
        let text = systemd::place(&self.text, scope.group())?;
        let placed = Bundle {
            path: self.path.clone(),
            spec: state::parse_spec_warned(&text)?.0,
            text,
        };
        let created = placed.create_placed(global, parsed, folder, gate)?;
        let container = placed.record(parsed, folder, &created, Some(scope.keep()))?;
        Ok((created, container))
    }

    /// Makes the container in the control group that the configuration names.
    fn create_placed(
        &self,
        global: &Global,
        parsed: &Parsed,
        folder: &NewFolder,
        gate: Gate,
    ) -> Outcome<Created> {
        // Before there is a process: whoever finds this folder without a state can clean up by it.
        state::write(&folder.path.join("config.json"), &self.text, 0o600)?;
        self.warn_of_ambient(global);
        let linux = self.spec.linux().as_ref();
        if let Some(seccomp) = linux.and_then(|linux| linux.seccomp().as_ref()) {
            let flags = crate::seccomp::flags(seccomp);
            global.log.debug(&format!("seccomp filter flags: {flags}"));
        }
        let request = CreateRequest {
            id: parsed.id(),
            bundle: &self.path,
            spec: &self.spec,
            stdio: if self.terminal() {
                Stdio::Pty
            } else {
                Stdio::Inherit
            },
            rootfs: None,
            netns: None,
            preserve_fds: preserved(parsed)?,
            no_pivot: parsed.has("no-pivot"),
            no_new_keyring: parsed.has("no-new-keyring"),
            gate,
        };
        global.log.debug(&format!(
            "nsexec container setup: container {}, bundle {}, control group {}",
            parsed.id(),
            self.path.display(),
            crate::cgroup_path(&self.spec, parsed.id())
        ));
        let mut created =
            crate::create(request).inspect_err(|_| self.after_failure(global, parsed.id()))?;
        global.log.debug(&format!(
            "child process in init(): {} has its mounts and rights",
            created.pid
        ));
        global
            .log
            .debug("init: closing the pipe to signal completion");
        hand_over_process(parsed, created.pidfd.as_fd())?;
        hand_over_terminal(
            parsed,
            created
                .pty
                .take_if(|_| parsed.get("console-socket").is_some()),
        )?;
        Ok(created)
    }

    /// Writes the state, by which the container is one.
    fn record(
        &self,
        parsed: &Parsed,
        folder: &NewFolder,
        created: &Created,
        unit: Option<String>,
    ) -> Outcome<Container> {
        let record = Record {
            pid: created.pid,
            start_ticks: state::start_ticks(created.pid)
                .ok_or_else(|| Failure::from(crate::Error::Vanished))?,
            bundle: self.path.clone(),
            created: super::log::rfc3339(SystemTime::now(), true),
            no_new_keyring: parsed.has("no-new-keyring"),
            unit,
        };
        let text = serde_json::to_vec(&record)
            .map_err(|e| Failure::new(format!("write the state: {e}")))?;
        state::write(&folder.path.join("state.json"), &text, 0o600)?;
        write_pid_file(parsed, created.pid)?;
        Ok(Container {
            id: parsed.id().to_owned(),
            folder: folder.path.clone(),
            record,
            spec: self.spec.clone(),
        })
    }
}

/// A terminal needs somebody at its other end.
pub fn check_terminal(parsed: &Parsed, detached: bool, terminal: bool) -> Outcome<()> {
    let socket = parsed.get("console-socket").is_some();
    if detached && terminal && !socket {
        return Err(Failure::new(
            "cannot allocate tty if runtime will detach without setting console socket",
        ));
    }
    if socket && !(detached && terminal) {
        return Err(Failure::new(
            "cannot use console socket if runtime will not detach or allocate tty",
        ));
    }
    Ok(())
}

/// Descriptors 3.. that go on: those asked for, and those of socket activation.
pub fn preserved(parsed: &Parsed) -> Outcome<u32> {
    let asked: u32 = parsed.number("preserve-fds")?.unwrap_or(0);
    let activated = std::env::var("LISTEN_FDS")
        .ok()
        .and_then(|count| count.parse::<u32>().ok())
        .unwrap_or(0);
    let count = asked.saturating_add(activated);
    for number in 0..count {
        // A descriptor of our own in their place would be closed by the exec, and be missed there.
        if !Path::new(&format!("/proc/self/fd/{}", number.saturating_add(3))).exists() {
            return Err(Failure::new(format!(
                "please check that preserved-fd {number} (of {count}) is open"
            )));
        }
    }
    Ok(count)
}

/// Written whole: whoever watches for the file reads a number.
pub fn write_pid_file(parsed: &Parsed, pid: i32) -> Outcome<()> {
    match parsed.get("pid-file") {
        Some(path) => state::write(Path::new(path), pid.to_string().as_bytes(), 0o644),
        None => Ok(()),
    }
}

fn listen(folder: &Path) -> Outcome<OwnedFd> {
    let what = "make the socket that starts the container";
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(failed(what))?;
    let (_folder, path) = state::short_path(folder, "start.sock")?;
    let address = SocketAddrUnix::new(path).map_err(failed(what))?;
    rustix::net::bind(&socket, &address).map_err(failed(what))?;
    rustix::net::listen(&socket, 1).map_err(failed(what))?;
    Ok(socket)
}

/// Sends what stands for the process to the caller's socket.
pub fn hand_over_process(parsed: &Parsed, pidfd: BorrowedFd<'_>) -> Outcome<()> {
    let Some(path) = parsed.get("pidfd-socket") else {
        return Ok(());
    };
    crate::agent::send_descriptor(Path::new(path), b"pidfd", pidfd)
        .map_err(failed(format!("send the process to the socket {path}")))
}

/// Sends the terminal's master to the caller's socket, as containerd and conmon expect it.
pub fn hand_over_terminal(parsed: &Parsed, master: Option<OwnedFd>) -> Outcome<()> {
    let (Some(path), Some(master)) = (parsed.get("console-socket"), master) else {
        return Ok(());
    };
    // The name that runc sends along; some receivers read it, all want a byte at least.
    crate::agent::send_descriptor(Path::new(path), b"/dev/ptmx", master.as_fd()).map_err(failed(
        format!("send the terminal to the console socket {path}"),
    ))
}

/// A process that joins a frozen group stops there, and we would wait for it for ever. One that joins a group with
/// others in it shares their limits, and dies with them.
fn check_group(global: &Global, path: &str) -> Outcome<()> {
    let Ok(group) = wharf_cgroup::open(path) else {
        return Ok(());
    };
    if group.is_frozen().unwrap_or(false) {
        return Err(Failure::new(format!(
            "container's cgroup unexpectedly frozen: {path} is another container's, or was left by one"
        )));
    }
    if group.processes().is_ok_and(|pids| !pids.is_empty()) {
        global.log.warn(&format!(
            "container's cgroup is not empty: {path} is another container's too"
        ));
    }
    Ok(())
}
