//! Attaching clients to a container's streams, and further processes with theirs.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use oci_spec::runtime::Process;
use serde_json::json;
use wharf_shim::client::{AttachStreams, ExecLaunch};

use crate::error_from::{blocking, io};
use crate::index::{Entry, lock};
use crate::start::{StartFailed, exit_code_of};
use crate::{
    AttachOptions, Attached, Engine, Error, Exec, ExecSpec, Kind, Result, Status, capabilities,
    names, users,
};

/// Ended execs that are remembered, so that their exit code can be asked for.
const ENDED_EXECS_MAX: usize = 4_096;

const OUTPUT_BLOCK_BYTES: usize = 16 * 1024;

/// Every exec of the engine, by ID.
pub(crate) type Execs = Mutex<HashMap<String, Exec>>;

impl Engine {
    /// Attaches to a container's streams. A created container may be attached to before its start.
    pub async fn attach(&self, container: &str, options: AttachOptions) -> Result<Attached> {
        let entry = self.inner.containers.find(container)?;
        let (status, tty, open_stdin) = {
            let record = entry.record();
            (record.state.status, record.spec.tty, record.spec.open_stdin)
        };
        if status == Status::Paused {
            return Err(Error::new(
                Kind::Conflict,
                format!("container {container} is paused, unpause the container before attach"),
            ));
        }
        let streams = AttachStreams {
            stdin: options.stdin && open_stdin,
            stdout: options.stdout,
            stderr: options.stderr,
        };
        let (ours, theirs) = UnixStream::pair().map_err(io("make a socket pair"))?;
        match entry.running() {
            Ok(supervisor) if options.stream => {
                blocking(move || Ok(supervisor.attach(theirs, streams)?)).await?
            }
            Err(_) if options.stream && matches!(status, Status::Created | Status::Exited) => {
                lock(&entry.waiting).push((theirs, streams));
            }
            // Nothing to come: the client sees the end at once.
            _ => drop(theirs),
        }
        self.container_event(&entry, "attach", &[]);
        let mut attached = into_attached(ours, tty)?;
        if options.logs {
            attached.output = self.log_frames(&entry, &options, attached.output).await?;
        }
        Ok(attached)
    }

    /// Sets the terminal's size.
    pub async fn resize(&self, container: &str, height: u16, width: u16) -> Result<()> {
        let entry = self.inner.containers.find(container)?;
        let supervisor = match entry.running() {
            Ok(supervisor) => supervisor,
            Err(_) if matches!(entry.record().state.status, Status::Created) => {
                entry.record().spec.console_size = Some((height, width));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        blocking(move || Ok(supervisor.resize(height, width)?)).await
    }

    /// Prepares a further process in a running container; returns the exec's ID.
    pub async fn exec_create(&self, container: &str, spec: ExecSpec) -> Result<String> {
        let entry = self.inner.containers.find(container)?;
        entry.running()?;
        if entry.record().state.status == Status::Paused {
            return Err(Error::new(
                Kind::Conflict,
                format!("Container {container} is paused, unpause the container before exec"),
            ));
        }
        if spec.cmd.is_empty() || spec.cmd[0].is_empty() {
            return Err(Error::new(
                Kind::InvalidParameter,
                "No exec command specified",
            ));
        }
        let id = names::new_id()?;
        let action = format!("exec_create: {}", spec.cmd.join(" "));
        let exec = Exec {
            id: id.clone(),
            container_id: entry.id.clone(),
            spec,
            running: false,
            exit_code: None,
            pid: 0,
        };
        let mut execs = lock(&self.inner.execs);
        if execs.len() >= ENDED_EXECS_MAX {
            execs.retain(|_, exec| exec.exit_code.is_none());
        }
        execs.insert(id.clone(), exec);
        drop(execs);
        self.container_event(&entry, &action, &[("execID", id.clone())]);
        Ok(id)
    }

    /// Runs it. Detached: nothing attached, returns at once.
    pub async fn exec_start(
        &self,
        exec: &str,
        detach: bool,
        console_size: Option<(u16, u16)>,
    ) -> Result<Option<Attached>> {
        let exec = self.claim_exec(exec)?;
        let entry = self.inner.containers.find(&exec.container_id)?;
        let outcome = self.run_exec(&entry, &exec, detach, console_size).await;
        if let Err(error) = &outcome
            && let exit_code = exit_code_of(error).unwrap_or(126)
            && let Some(known) = lock(&self.inner.execs).get_mut(&exec.id)
        {
            known.running = false;
            known.exit_code = Some(exit_code);
        }
        outcome
    }

    /// An exec that can be started now, as far as that can be told before.
    pub fn exec_ready(&self, exec: &str) -> Result<Exec> {
        let exec = self.exec_inspect(exec)?;
        not_run_yet(&exec)?;
        self.inner.containers.find(&exec.container_id)?.running()?;
        Ok(exec)
    }

    /// One start for each exec, whoever asks.
    fn claim_exec(&self, id: &str) -> Result<Exec> {
        let mut execs = lock(&self.inner.execs);
        let exec = execs
            .get_mut(id)
            .ok_or_else(|| Error::new(Kind::NotFound, format!("No such exec instance: {id}")))?;
        not_run_yet(exec)?;
        exec.running = true;
        Ok(exec.clone())
    }

    async fn run_exec(
        &self,
        entry: &Entry,
        exec: &Exec,
        detach: bool,
        size: Option<(u16, u16)>,
    ) -> Result<Option<Attached>> {
        let supervisor = entry.running()?;
        let pid = entry.record().state.pid;
        let record = entry.record().clone();
        let hostname = self.hostname(&record);
        let spec = exec.spec.clone();
        let process = blocking(move || exec_process(&record, &spec, pid, &hostname)).await?;
        let spec = &exec.spec;
        let streams = AttachStreams {
            stdin: spec.attach_stdin,
            stdout: spec.attach_stdout,
            stderr: spec.attach_stderr,
        };
        let (ours, theirs) = UnixStream::pair().map_err(io("make a socket pair"))?;
        let launch = ExecLaunch {
            exec_id: exec.id.clone(),
            process,
            open_stdin: spec.attach_stdin && !detach,
            console_size: size.or(spec.console_size),
            attached: (!detach).then_some((theirs, streams)),
        };
        self.container_event(
            entry,
            &format!("exec_start: {}", spec.cmd.join(" ")),
            &[("execID", exec.id.clone())],
        );
        let started = blocking(move || supervisor.exec(launch).map_err(exec_error)).await?;
        if let Some(known) = lock(&self.inner.execs).get_mut(&exec.id) {
            known.pid = started;
        }
        if detach {
            return Ok(None);
        }
        let mut attached = into_attached(ours, spec.tty)?;
        attached.output = self.until_ended(&exec.id, attached.output);
        Ok(Some(attached))
    }

    /// The output, whose end comes after the exec's exit code is known: clients ask for it as soon as they see the end.
    fn until_ended(&self, exec: &str, output: crate::Reader) -> crate::Reader {
        let (engine, exec) = (self.clone(), exec.to_owned());
        let blocks = futures_util::stream::unfold(Some(output), move |output| {
            let (engine, exec) = (engine.clone(), exec.clone());
            async move {
                let mut output = output?;
                let mut block = bytes::BytesMut::with_capacity(OUTPUT_BLOCK_BYTES);
                match tokio::io::AsyncReadExt::read_buf(&mut output, &mut block).await {
                    Ok(0) => {
                        engine.exec_end(&exec).await;
                        None
                    }
                    Ok(_) => Some((Ok(block.freeze()), Some(output))),
                    Err(error) => Some((Err(error), None)),
                }
            }
        });
        Box::pin(tokio_util::io::StreamReader::new(Box::pin(blocks)))
    }

    /// Waits until an exec has ended.
    async fn exec_end(&self, exec: &str) {
        let mut exits = self.inner.exec_exits.subscribe();
        while lock(&self.inner.execs).get(exec).is_some_and(|e| e.running) {
            if exits.changed().await.is_err() {
                return;
            }
        }
    }

    /// State of an exec.
    pub fn exec_inspect(&self, exec: &str) -> Result<Exec> {
        let execs = lock(&self.inner.execs);
        execs
            .get(exec)
            .cloned()
            .ok_or_else(|| Error::new(Kind::NotFound, format!("No such exec instance: {exec}")))
    }

    /// Sets the size of an exec's terminal.
    pub async fn exec_resize(&self, exec: &str, height: u16, width: u16) -> Result<()> {
        let exec = self.exec_inspect(exec)?;
        let supervisor = self.inner.containers.find(&exec.container_id)?.running()?;
        blocking(move || Ok(supervisor.resize_exec(&exec.id, height, width)?)).await
    }

    /// Sends a signal to an exec's process; one that has ended is fine.
    pub async fn exec_signal(&self, exec: &str, signal: i32) -> Result<()> {
        let exec = self.exec_inspect(exec)?;
        let supervisor = self.inner.containers.find(&exec.container_id)?.running()?;
        blocking(move || match supervisor.signal_exec(&exec.id, signal) {
            Ok(()) | Err(wharf_shim::client::Error::Start { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        })
        .await
    }

    /// Has a container's supervisor open its log anew, after somebody moved the file away.
    pub async fn reopen_log(&self, container: &str) -> Result<()> {
        let supervisor = self.inner.containers.find(container)?.running()?;
        blocking(move || Ok(supervisor.reopen_log()?)).await
    }

    pub(crate) fn exec_ended(&self, entry: &Entry, exec: &str, exit_code: i32) {
        if let Some(known) = lock(&self.inner.execs).get_mut(exec) {
            known.running = false;
            known.exit_code = Some(exit_code);
        }
        self.inner.exec_exits.send_modify(|count| *count += 1);
        let further = [
            ("execID", exec.to_owned()),
            ("exitCode", exit_code.to_string()),
        ];
        self.container_event(entry, "exec_die", &further);
    }

    /// The container is gone, and every exec with it.
    pub(crate) fn execs_ended(&self, entry: &Entry) {
        for exec in lock(&self.inner.execs)
            .values_mut()
            .filter(|e| e.container_id == entry.id && e.running)
        {
            exec.running = false;
            exec.exit_code.get_or_insert(137);
        }
        self.inner.exec_exits.send_modify(|count| *count += 1);
    }
}

fn not_run_yet(exec: &Exec) -> Result<()> {
    let state = match (exec.running, exec.exit_code) {
        (true, _) => "is already running",
        (false, Some(_)) => "has already run",
        (false, None) => return Ok(()),
    };
    Err(Error::new(
        Kind::Conflict,
        format!("Error: Exec command {} {state}", exec.id),
    ))
}

fn into_attached(socket: UnixStream, tty: bool) -> Result<Attached> {
    socket.set_nonblocking(true).map_err(io("attach"))?;
    let stream = tokio::net::UnixStream::from_std(socket).map_err(io("attach"))?;
    let (output, input) = stream.into_split();
    Ok(Attached {
        tty,
        output: Box::pin(output),
        input: Box::pin(input),
    })
}

fn exec_error(error: wharf_shim::client::Error) -> Error {
    match error {
        wharf_shim::client::Error::Start { message, exit_code } => Error {
            kind: Kind::InvalidParameter,
            message: format!(
                "OCI runtime exec failed: exec failed: unable to start container process: {message}: unknown"
            ),
            source: Some(Box::new(StartFailed(exit_code))),
        },
        other => other.into(),
    }
}

/// The process of an exec: the container's environment and rights, unless told otherwise.
fn exec_process(
    record: &crate::record::Record,
    spec: &ExecSpec,
    pid: i32,
    hostname: &str,
) -> Result<Process> {
    use rustix::fs::{Mode, OFlags};
    let root = rustix::fs::open(
        format!("/proc/{pid}/root"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(io("open the container's root"))?;
    let user = if spec.user.is_empty() {
        &record.spec.user
    } else {
        &spec.user
    };
    let user = users::of_container(std::os::fd::AsFd::as_fd(&root), &record.spec, user)?;
    let container = if spec.privileged {
        crate::ContainerSpec {
            privileged: true,
            ..record.spec.clone()
        }
    } else {
        record.spec.clone()
    };
    let set = capabilities::of(&container);
    let effective = if user.uid == 0 {
        set.clone()
    } else {
        Vec::new()
    };
    let env = exec_env(record, spec, &user, hostname);
    let cwd = [&spec.working_dir, &record.spec.working_dir]
        .into_iter()
        .find(|dir| !dir.is_empty())
        .map_or("/", |dir| dir);
    let process = json!({
        "terminal": spec.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.additional_gids},
        "args": spec.cmd,
        "env": env,
        "cwd": cwd,
        "capabilities": {"bounding": set, "permitted": effective, "effective": effective},
        "rlimits": crate::bundle::rlimits(&record.spec),
        "noNewPrivileges": record.spec.security_opt.iter().any(|o| o.starts_with("no-new-privileges") && !o.ends_with("false")),
    });
    serde_json::from_value(process).map_err(io("put the process's configuration together"))
}

/// The container's variables, overridden by those of the exec.
fn exec_env(
    record: &crate::record::Record,
    spec: &ExecSpec,
    user: &users::User,
    hostname: &str,
) -> Vec<String> {
    let mut env: Vec<String> = record.spec.env.clone();
    env.retain(|entry| entry.contains('='));
    let has = |env: &[String], key: &str| {
        env.iter().any(|entry| {
            entry
                .strip_prefix(key)
                .is_some_and(|rest| rest.starts_with('='))
        })
    };
    if !has(&env, "PATH") {
        env.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    }
    env.push(format!("HOSTNAME={hostname}"));
    if spec.tty && !has(&env, "TERM") && !has(&spec.env, "TERM") {
        env.push("TERM=xterm".into());
    }
    let key = |entry: &str| entry.split('=').next().unwrap_or(entry).to_owned();
    env.retain(|entry| !spec.env.iter().any(|other| key(other) == key(entry)));
    env.extend(spec.env.iter().filter(|entry| entry.contains('=')).cloned());
    if !has(&env, "HOME") {
        env.push(format!("HOME={}", user.home.as_deref().unwrap_or("/")));
    }
    env
}
