//! Opening: the same code whether the last run ended in good order or was killed at any instant.

use std::fs;
use std::sync::Arc;

use wharf_shim::client::Supervisor;

use crate::error_from::{blocking, io};
use crate::exit::wants_restart;
use crate::index::{Entry, lock};
use crate::record::Record;
use crate::{Engine, RestartPolicy, Result, Status};

impl Engine {
    /// Loads the records, then brings containers, networks and files into agreement with them.
    pub(crate) async fn recover(&self) -> Result<()> {
        let engine = self.clone();
        blocking(move || engine.load_records()).await?;
        self.restore_networks().await?;
        let mut to_restart = Vec::new();
        for entry in self.inner.containers.all() {
            match self.recover_one(&entry).await {
                Ok(true) => to_restart.push(entry),
                Ok(false) => {}
                // One that can't be recovered must not keep the others down.
                Err(error) => {
                    tracing::error!(container = entry.id, %error, "container could not be recovered")
                }
            }
        }
        self.inner.net.remove_unclaimed().await?;
        if let Some(bridge) = self.inner.networks.find("bridge")?.bridge {
            self.inner.net.prepare(&bridge.bridge).await?;
        }
        self.refill();
        for entry in to_restart {
            let engine = self.clone();
            tokio::spawn(async move {
                let _gate = entry.gate.lock().await;
                if let Err(error) = engine.start_locked(&entry).await {
                    tracing::warn!(container = entry.id, %error, "could not be started again");
                }
            });
        }
        Ok(())
    }

    fn load_records(&self) -> Result<()> {
        let root = self.inner.config.data_root.join("containers");
        fs::create_dir_all(&root).map_err(io(format!("make {}", root.display())))?;
        for found in fs::read_dir(&root)
            .map_err(io(format!("read {}", root.display())))?
            .flatten()
        {
            let folder = found.path();
            let Some(id) = found.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            if folder
                .extension()
                .is_some_and(|e| e == crate::remove::REMOVED)
            {
                let _ = fs::remove_dir_all(&folder);
                continue;
            }
            match Record::load(&folder) {
                Ok(record) => {
                    if let Err(error) = self.inner.containers.reserve(&record.name, &record.id) {
                        tracing::error!(container = record.id, %error, "two containers have one name; this one is reachable by ID");
                    }
                    self.inner.containers.insert(Entry::new(record));
                }
                // Never finished: nobody was told of it.
                Err(_) if !folder.join("container.json").exists() => {
                    let _ = self.inner.images.remove_snapshot(&id);
                    let _ = fs::remove_dir_all(&folder);
                }
                Err(error) => {
                    tracing::error!(container = id, %error, "the record can't be read; the container's files are left alone")
                }
            }
        }
        self.remove_stray_snapshots();
        Ok(())
    }

    /// Snapshots of creations that were interrupted before their folder was made.
    fn remove_stray_snapshots(&self) {
        for key in self.inner.images.snapshots() {
            let is_id = key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit());
            if is_id && !self.folder(&key).exists() {
                let _ = self.inner.images.remove_snapshot(&key);
            }
        }
    }

    /// Brings one container into a state that is true; returns whether its policy wants it started.
    async fn recover_one(&self, entry: &Arc<Entry>) -> Result<bool> {
        let (status, live) = {
            let record = entry.record();
            (record.state.status, record.is_live())
        };
        if status == Status::Removing {
            let volumes = entry.record().spec.auto_remove;
            self.remove_rest(entry, volumes).await?;
            return Ok(false);
        }
        let run_folder = self.run_folder(&entry.id);
        let supervisor = if run_folder.exists() {
            let folder = run_folder.clone();
            blocking(move || Ok(Supervisor::connect(&folder)?)).await?
        } else {
            None
        };
        match supervisor {
            Some(supervisor) => {
                self.take_over(entry, supervisor).await?;
                Ok(false)
            }
            None if live => {
                let exit = self.exit_of(entry).await;
                self.forget_endpoints(entry);
                self.write_exit(entry, &exit);
                let _ = fs::remove_dir_all(&run_folder);
                self.container_event(entry, "die", &[("exitCode", exit.exit_code.to_string())]);
                if entry.record().spec.auto_remove {
                    self.remove_rest(entry, true).await?;
                    return Ok(false);
                }
                Ok(self.wants_start(entry, true))
            }
            None => {
                self.forget_endpoints(entry);
                Ok(self.wants_start(entry, status == Status::Restarting))
            }
        }
    }

    /// A container that ran on without us: its addresses, ports and names are ours to keep again.
    async fn take_over(&self, entry: &Arc<Entry>, supervisor: Supervisor) -> Result<()> {
        let supervisor = Arc::new(supervisor);
        let ports = entry.record().ports.clone();
        for (number, (network, bridge)) in self.bridges_of(entry)?.iter().enumerate() {
            let endpoint = entry
                .record()
                .networks
                .get(&network.spec.name)
                .and_then(|a| a.endpoint.clone());
            if let Some(endpoint) = endpoint {
                self.inner.net.restore_endpoint(bridge, &endpoint).await?;
            }
            if number == 0 && !ports.is_empty() {
                self.inner.net.restore_published(bridge, &ports).await?;
            }
        }
        {
            let mut record = entry.record();
            if !record.is_live() {
                record.state.status = Status::Running;
            }
            record.state.pid = supervisor.pid;
            record.state.started_at = supervisor
                .started_at
                .parse()
                .ok()
                .or(record.state.started_at);
            record.save(&self.folder(&entry.id), false)?;
        }
        let embedded = self
            .bridges_of(entry)?
            .iter()
            .any(|(network, _)| network.has_dns());
        if embedded {
            let path = format!("/proc/{}/ns/net", supervisor.pid);
            let namespace = rustix::fs::open(
                &path,
                rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )
            .map_err(io(format!("open {path}")))?;
            self.serve_names(entry, &namespace).await?;
        }
        *lock(&entry.supervisor) = Some(supervisor.clone());
        self.watch(entry.clone(), supervisor);
        self.watch_health(entry);
        Ok(())
    }

    fn forget_endpoints(&self, entry: &Entry) {
        let mut record = entry.record();
        record.ports.clear();
        record
            .networks
            .values_mut()
            .for_each(|attachment| attachment.endpoint = None);
    }

    /// After a restart of the engine: `always` whatever happened, `unless-stopped` unless a person stopped it, and
    /// `on-failure` as if it had just ended.
    fn wants_start(&self, entry: &Entry, just_ended: bool) -> bool {
        let record = entry.record();
        match record.spec.restart {
            RestartPolicy::No => false,
            RestartPolicy::Always => record.state.status != Status::Created,
            RestartPolicy::UnlessStopped => {
                record.state.status != Status::Created && !record.stopped_by_user
            }
            RestartPolicy::OnFailure { .. } => {
                just_ended
                    && wants_restart(
                        &record.spec.restart,
                        record.state.exit_code,
                        record.restart_count,
                        record.stopped_by_user,
                    )
            }
        }
    }
}
