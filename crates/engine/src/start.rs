//! Starting a container. Snapshot, network and supervisor are got ready side by side; then the supervisor starts it.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use wharf_shim::client::{Idle, Launch, PortSocket, Supervisor};
use wharf_shim::protocol::LogConfig;

use crate::bundle::Facts;
use crate::error_from::{blocking, io};
use crate::index::{Entry, lock};
use crate::{ContainerSpec, Engine, Error, Kind, Result, Status, hosts, users, validate};

/// Rotated files of the json-file driver unless told otherwise.
const LOG_FILES_DEFAULT: u32 = 1;

/// Where the time of a start goes, step by step.
pub(crate) struct Trace {
    last: Instant,
    steps: Vec<(String, u64)>,
}

impl Trace {
    fn new() -> Trace {
        Trace {
            last: Instant::now(),
            steps: Vec::new(),
        }
    }

    fn step(&mut self, name: &str) {
        let now = Instant::now();
        let micros = u64::try_from(now.duration_since(self.last).as_micros()).unwrap_or(u64::MAX);
        self.steps.push((name.to_owned(), micros));
        self.last = now;
    }
}

impl Engine {
    /// Starts a created or stopped container. `Kind::NotModified` when it runs already.
    pub async fn start(&self, container: &str) -> Result<()> {
        let entry = self.inner.containers.find(container)?;
        let gate = entry.gate.lock().await;
        startable(&entry)?;
        {
            let mut record = entry.record();
            record.stopped_by_user = false;
            record.restart_count = 0;
        }
        let outcome = self.start_locked(&entry).await;
        drop(gate);
        if outcome.is_err() && entry.record().spec.auto_remove {
            self.remove_ended(&entry).await;
        }
        outcome
    }

    /// The start itself; the caller holds the container's gate.
    pub(crate) async fn start_locked(&self, entry: &Arc<Entry>) -> Result<()> {
        let outcome = self.try_start(entry).await;
        // Not before: it would compete with the start for the processors.
        self.refill();
        if let Err(error) = &outcome {
            self.start_failed(entry, error).await;
        }
        outcome
    }

    async fn try_start(&self, entry: &Arc<Entry>) -> Result<()> {
        let mut trace = Trace::new();
        let joined = self.joined(&entry.record().spec.clone())?;
        let (rootfs, network, idle) = tokio::join!(
            self.mount_root(entry),
            self.connect(entry),
            self.idle_shim()
        );
        trace.step("snapshot, network and supervisor");
        // The network is undone by `start_failed` whatever fails from here on.
        let network = network?;
        let (rootfs, idle) = (rootfs?, idle?);
        let engine = self.clone();
        let handle = entry.clone();
        let waiting = std::mem::take(&mut *lock(&entry.waiting));
        let (supervisor, trace) = blocking(move || {
            let launch = engine.prepare_launch(&handle, rootfs, network, &joined, waiting)?;
            trace.step("configuration");
            let supervisor = idle.launch(launch).map_err(launch_error)?;
            trace.step("supervisor: clone to exec");
            Ok((supervisor, trace))
        })
        .await?;
        self.started(entry, supervisor, trace);
        Ok(())
    }

    /// Writes down that it runs, and watches for its end.
    fn started(&self, entry: &Arc<Entry>, supervisor: Supervisor, mut trace: Trace) {
        let supervisor = Arc::new(supervisor);
        let started_at = supervisor
            .started_at
            .parse::<Timestamp>()
            .unwrap_or_else(|_| Timestamp::now());
        {
            let mut record = entry.record();
            let state = &mut record.state;
            state.status = Status::Running;
            state.pid = supervisor.pid;
            state.exit_code = 0;
            state.oom_killed = false;
            state.error.clear();
            state.started_at = Some(started_at);
            state.health = None;
            if let Err(error) = record.save(&self.folder(&entry.id), false) {
                // It runs all the same, and its supervisor tells so after a restart.
                tracing::warn!(container = entry.id, %error, "that it runs is not written down");
            }
        }
        *lock(&entry.supervisor) = Some(supervisor.clone());
        *lock(&entry.started) = Some(Instant::now());
        trace.step("record");
        *lock(&entry.trace) = trace.steps;
        self.watch(entry.clone(), supervisor);
        self.watch_health(entry);
        self.container_event(entry, "start", &[]);
    }

    async fn mount_root(&self, entry: &Entry) -> Result<OwnedFd> {
        let (engine, id) = (self.clone(), entry.id.clone());
        blocking(move || Ok(engine.inner.images.mount(&id)?)).await
    }

    /// A supervisor that waits already; another takes its place meanwhile.
    async fn idle_shim(&self) -> Result<Idle> {
        let ready = lock(&self.inner.idle).take();
        let idle = match ready {
            Some(idle) => idle,
            None => blocking(|| Ok(Idle::spawn()?)).await?,
        };
        Ok(idle)
    }

    /// Spawns a supervisor ahead, for the next start, unless one waits.
    pub(crate) fn refill(&self) {
        if lock(&self.inner.idle).is_some() {
            return;
        }
        let engine = self.clone();
        tokio::task::spawn_blocking(move || match Idle::spawn() {
            Ok(idle) => *lock(&engine.inner.idle) = Some(idle),
            Err(error) => tracing::warn!(
                error = crate::error_from::chain(&error),
                "no supervisor could be spawned ahead"
            ),
        });
    }

    /// PIDs of the containers whose namespaces are joined.
    fn joined(&self, spec: &ContainerSpec) -> Result<BTreeMap<&'static str, i32>> {
        let mut joined = BTreeMap::new();
        for (key, mode) in [
            ("net", &spec.network_mode),
            ("pid", &spec.pid_mode),
            ("ipc", &spec.ipc_mode),
        ] {
            let Some(other) = mode.strip_prefix("container:") else {
                continue;
            };
            let entry = self.inner.containers.find(other)?;
            let pid = entry.record().state.pid;
            if pid == 0 {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("cannot join {key} of a non running container: {}", entry.id),
                ));
            }
            joined.insert(key, pid);
        }
        Ok(joined)
    }

    fn prepare_launch(
        &self,
        entry: &Entry,
        rootfs: OwnedFd,
        network: Connected,
        joined: &BTreeMap<&'static str, i32>,
        attached: Vec<crate::index::Waiting>,
    ) -> Result<Launch> {
        let record = entry.record().clone();
        let spec = &record.spec;
        let run_dir = self.run_folder(&entry.id);
        // What an earlier run left there says nothing about this one.
        let _ = fs::remove_dir_all(&run_dir);
        fs::create_dir_all(&run_dir).map_err(io(format!("make {}", run_dir.display())))?;
        let folder = self.folder(&entry.id);
        let facts = Facts {
            user: users::of_container(rootfs.as_fd(), spec, &spec.user)?,
            hostname: self.hostname(&record),
            link_env: self.link_env(&record.name, spec),
            joined: joined.clone(),
            init: self.init(spec)?,
            volume_options: self.volume_options(&record),
            folder: &folder,
        };
        if spec.pod.is_none() {
            mark(rootfs.as_fd());
            self.write_files(&record, &facts.hostname)?;
        }
        let configuration = self.bundle(entry, &facts)?;
        Ok(Launch {
            id: entry.id.clone(),
            run_dir,
            spec: configuration,
            log: log_config(spec, &self.log_path(&entry.id))?,
            open_stdin: spec.open_stdin,
            stdin_once: spec.stdin_once,
            console_size: spec.console_size,
            rootfs: Some(rootfs),
            netns: network.namespace,
            ports: network.ports,
            attached,
        })
    }

    /// The init's file, for a container that has process IDs of its own and asked for an init.
    fn init(&self, spec: &ContainerSpec) -> Result<Option<PathBuf>> {
        let shared = spec.pid_mode == "host" || spec.pid_mode.starts_with("container:");
        if !spec.init || shared {
            return Ok(None);
        }
        let file = self.inner.config.run_root.join(wharf_shim::init::NAME);
        let mut written = lock(&self.inner.init);
        if !*written {
            wharf_shim::client::write_init(&file).map_err(io(format!(
                "write the containers' init to {}",
                file.display()
            )))?;
            *written = true;
        }
        Ok(Some(file))
    }

    /// Options of those volumes that have any.
    fn volume_options(&self, record: &crate::record::Record) -> BTreeMap<String, crate::Labels> {
        let named = record.mounts.iter().filter(|mount| !mount.name.is_empty());
        named
            .filter_map(|mount| self.inner.volumes.get(&mount.name).ok())
            .filter(|volume| volume.options.contains_key("device"))
            .map(|volume| (volume.name, volume.options))
            .collect()
    }

    /// The container's own name, or that of what it shares its network with.
    pub(crate) fn hostname(&self, record: &crate::record::Record) -> String {
        match record.spec.hostname.as_deref() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ if record.spec.network_mode == "host" || record.spec.pod.is_some() => {
                rustix::system::uname()
                    .nodename()
                    .to_string_lossy()
                    .into_owned()
            }
            _ => record.id[..12].to_owned(),
        }
    }

    fn write_files(&self, record: &crate::record::Record, hostname: &str) -> Result<()> {
        let folder = self.folder(&record.id);
        let spec = &record.spec;
        hosts::write_hostname(&folder.join("hostname"), hostname)?;
        hosts::write_hosts(&folder.join("hosts"), &self.host_lines(record, hostname))?;
        let embedded = record
            .networks
            .keys()
            .any(|name| self.inner.networks.find(name).is_ok_and(|n| n.has_dns()));
        let resolver = hosts::Resolver {
            servers: if spec.dns.is_empty() {
                &self.inner.config.dns
            } else {
                &spec.dns
            },
            search: &spec.dns_search,
            options: &spec.dns_options,
            embedded,
            host_network: spec.network_mode == "host",
        };
        hosts::write_resolv_conf(&folder.join("resolv.conf"), &resolver)
    }

    /// Where a container's output is kept.
    pub(crate) fn log_path(&self, id: &str) -> std::path::PathBuf {
        self.folder(id).join(format!("{id}-json.log"))
    }

    async fn start_failed(&self, entry: &Arc<Entry>, error: &Error) {
        self.disconnect(entry).await;
        let exit_code = exit_code_of(error).unwrap_or(128);
        {
            let mut record = entry.record();
            record.state.status = if record.state.started_at.is_some() {
                Status::Exited
            } else {
                Status::Created
            };
            record.state.pid = 0;
            record.state.exit_code = exit_code;
            record.state.error = error.message.clone();
            record.state.finished_at = record.state.started_at.map(|_| Timestamp::now());
            if let Err(error) = record.save(&self.folder(&entry.id), false) {
                tracing::error!(container = entry.id, %error, "the failed start could not be written down");
            }
        }
        let _ = fs::remove_dir_all(self.run_folder(&entry.id));
        lock(&entry.waiting).clear();
        self.finished(entry, exit_code, Some(error.message.clone()));
    }

    /// Where the time of the latest start of a container went: step and microseconds.
    pub fn start_trace(&self, container: &str) -> Result<Vec<(String, u64)>> {
        Ok(lock(&self.inner.containers.find(container)?.trace).clone())
    }
}

/// Whether a container is in a state from which it can be started.
fn startable(entry: &Entry) -> Result<()> {
    match entry.record().state.status {
        Status::Running => {
            return Err(Error::new(
                Kind::NotModified,
                format!("container {} runs already", entry.id),
            ));
        }
        Status::Paused => {
            return Err(Error::new(
                Kind::Conflict,
                "cannot start a paused container, try unpause instead",
            ));
        }
        Status::Removing | Status::Dead => {
            return Err(Error::new(
                Kind::Conflict,
                "container is marked for removal and cannot be started",
            ));
        }
        _ => {}
    }
    Ok(())
}

/// What [`Engine::connect`] made.
#[derive(Debug, Default)]
pub(crate) struct Connected {
    /// To be joined; none for the host's network and another container's.
    pub namespace: Option<OwnedFd>,
    /// Host sockets for the supervisor.
    pub ports: Vec<PortSocket>,
}

/// The reference's words around the runtime's, and its status: a command that can't run is the client's mistake.
fn launch_error(error: wharf_shim::client::Error) -> Error {
    match error {
        wharf_shim::client::Error::Start { message, exit_code } => {
            let kind = if exit_code == 125 {
                Kind::Internal
            } else {
                Kind::InvalidParameter
            };
            let text = format!(
                "failed to create task for container: failed to create shim task: OCI runtime create failed: \
                 unable to start container process: {message}: unknown"
            );
            Error {
                kind,
                message: text,
                source: Some(Box::new(StartFailed(exit_code))),
            }
        }
        other => other.into(),
    }
}

/// Carries the exit code that Docker's convention gives a failed start.
#[derive(Debug, thiserror::Error)]
#[error("the container's process could not be started (exit code {0})")]
pub(crate) struct StartFailed(pub i32);

/// The exit code that a failed start carries.
pub(crate) fn exit_code_of(error: &Error) -> Option<i32> {
    let source = error.source.as_deref()?;
    source.downcast_ref::<StartFailed>().map(|failed| failed.0)
}

/// Makes the file by which programs know where they are. Whatever has its name already stays as it is.
fn mark(rootfs: BorrowedFd<'_>) {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(
        rootfs,
        crate::bundle::MARK,
        flags,
        Mode::from_raw_mode(0o755),
    ) {
        Ok(_) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => tracing::debug!(%error, "a container is not marked as one"),
    }
}

fn log_config(spec: &ContainerSpec, path: &std::path::Path) -> Result<LogConfig> {
    if let Some(pod) = &spec.pod {
        return Ok(match &pod.log {
            Some(path) => LogConfig::Cri { path: path.clone() },
            None => LogConfig::None,
        });
    }
    if spec.log.driver == "none" {
        return Ok(LogConfig::None);
    }
    let option = |key: &str| spec.log.options.get(key);
    let mut attributes = BTreeMap::new();
    for key in option("labels")
        .into_iter()
        .flat_map(|list| list.split(','))
    {
        attributes.extend(
            spec.labels
                .get(key)
                .map(|value| (key.to_owned(), value.clone())),
        );
    }
    for key in option("env").into_iter().flat_map(|list| list.split(',')) {
        let value = spec
            .env
            .iter()
            .find_map(|entry| entry.strip_prefix(key)?.strip_prefix('='));
        attributes.extend(value.map(|value| (key.to_owned(), value.to_owned())));
    }
    Ok(LogConfig::JsonFile {
        path: path.to_owned(),
        max_size_bytes: option("max-size")
            .map(|text| validate::parse_size(text))
            .transpose()?,
        max_files: option("max-file")
            .and_then(|text| text.parse().ok())
            .unwrap_or(LOG_FILES_DEFAULT),
        compress: option("compress").is_some_and(|text| text == "true"),
        attributes,
    })
}
