//! Ending, freezing and signalling containers.

use std::sync::Arc;
use std::time::Duration;

use crate::error_from::blocking;
use crate::index::Entry;
use crate::{Engine, Error, Kind, Result, Status, signal};

const STOP_TIMEOUT_DEFAULT_S: i64 = 10;
/// After SIGKILL the kernel needs no longer than this, unless a disk hangs.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Sends the stop signal, waits, then kills. Timeout: absent, the container's own or 10 s; -1: for ever.
    pub async fn stop(
        &self,
        container: &str,
        stop_signal: Option<&str>,
        timeout_s: Option<i64>,
    ) -> Result<()> {
        let entry = self.inner.containers.find(container)?;
        let signal = match stop_signal {
            Some(text) => signal::parse(text)?,
            None => signal::parse(
                entry
                    .record()
                    .spec
                    .stop_signal
                    .as_deref()
                    .unwrap_or("SIGTERM"),
            )?,
        };
        if !self.mark_stopped(&entry).await {
            return Err(Error::new(
                Kind::NotModified,
                format!("container {} does not run", entry.id),
            ));
        }
        self.stop_process(&entry, signal, timeout_s).await?;
        self.container_event(&entry, "stop", &[]);
        Ok(())
    }

    /// Notes that a person wants it so; `false`: nothing runs.
    async fn mark_stopped(&self, entry: &Entry) -> bool {
        // A start that is under way comes first: what it starts is to be stopped.
        let _gate = entry.gate.lock().await;
        let mut record = entry.record();
        match record.state.status {
            Status::Running | Status::Paused => {}
            // Between two runs: the next one does not come.
            Status::Restarting => record.state.status = Status::Exited,
            _ => return false,
        }
        record.stopped_by_user = true;
        if let Err(error) = record.save(&self.folder(&entry.id), true) {
            // A full disk is no reason to let it run on.
            tracing::warn!(container = entry.id, %error, "that it is stopped is not written down");
        }
        true
    }

    pub(crate) async fn stop_process(
        &self,
        entry: &Arc<Entry>,
        signal: i32,
        timeout_s: Option<i64>,
    ) -> Result<()> {
        let timeout_s = timeout_s
            .or(entry.record().spec.stop_timeout_s)
            .unwrap_or(STOP_TIMEOUT_DEFAULT_S);
        let mut progress = entry.progress.subscribe();
        let exits = progress.borrow().exits;
        if entry.running().is_err() {
            return Ok(());
        }
        if entry.record().state.status == Status::Paused {
            self.thaw(entry).await?;
        }
        self.send_signal(entry, signal).await?;
        let ended = progress.wait_for(|p| p.exits > exits || p.removed);
        let in_time = match u64::try_from(timeout_s) {
            Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), ended)
                .await
                .is_ok(),
            Err(_) => ended.await.is_ok(),
        };
        if in_time {
            Ok(())
        } else {
            self.kill_process(entry).await
        }
    }

    /// SIGKILL to everything in the container, and waits for the end.
    pub(crate) async fn kill_process(&self, entry: &Arc<Entry>) -> Result<()> {
        let mut progress = entry.progress.subscribe();
        let exits = progress.borrow().exits;
        if entry.running().is_err() {
            return Ok(());
        }
        if entry.record().state.status == Status::Paused {
            self.thaw(entry).await?;
        }
        self.send_signal(entry, 9).await?;
        let ended = progress.wait_for(|p| p.exits > exits || p.removed);
        match tokio::time::timeout(KILL_PATIENCE, ended).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(
                Kind::Internal,
                format!(
                    "container {} does not end, although it was killed: is a disk or a network file system hanging?",
                    entry.id
                ),
            )),
        }
    }

    async fn send_signal(&self, entry: &Arc<Entry>, signal: i32) -> Result<()> {
        // Who asks has seen it running; if it ended since, the end is what they wait for.
        let Ok(supervisor) = entry.running() else {
            return Ok(());
        };
        self.container_event(entry, "kill", &[("signal", signal.to_string())]);
        blocking(move || match supervisor.signal(signal) {
            // It ended in this moment, and that is about to be noticed.
            Err(wharf_shim::client::Error::Lost { .. }) => Ok(()),
            other => Ok(other?),
        })
        .await
    }

    /// Sends a signal, by name or number.
    pub async fn kill(&self, container: &str, signal: &str) -> Result<()> {
        let entry = self.inner.containers.find(container)?;
        let signal = signal::parse(if signal.is_empty() { "KILL" } else { signal })?;
        drop(entry.gate.lock().await);
        if entry.running().is_err() {
            let message = format!(
                "Cannot kill container: {container}: Container {} is not running",
                entry.id
            );
            return Err(Error::new(Kind::Conflict, message));
        }
        if signal != 9 {
            return self.send_signal(&entry, signal).await;
        }
        entry.record().stopped_by_user = true;
        self.kill_process(&entry).await
    }

    /// Stops (if it runs) and starts.
    pub async fn restart(
        &self,
        container: &str,
        signal: Option<&str>,
        timeout_s: Option<i64>,
    ) -> Result<()> {
        match self.stop(container, signal, timeout_s).await {
            Err(error) if error.kind != Kind::NotModified => return Err(error),
            _ => {}
        }
        self.start(container).await?;
        let entry = self.inner.containers.find(container)?;
        self.container_event(&entry, "restart", &[]);
        Ok(())
    }

    /// Freezes.
    pub async fn pause(&self, container: &str) -> Result<()> {
        let entry = self.inner.containers.find(container)?;
        let _gate = entry.gate.lock().await;
        entry.running()?;
        if entry.record().state.status == Status::Paused {
            return Err(Error::new(
                Kind::Conflict,
                format!("Container {container} is already paused"),
            ));
        }
        let path = self.cgroup_path(&entry);
        blocking(move || Ok(wharf_cgroup::open(&path)?.freeze()?)).await?;
        self.set_status(&entry, Status::Paused)?;
        self.container_event(&entry, "pause", &[]);
        Ok(())
    }

    /// Thaws.
    pub async fn unpause(&self, container: &str) -> Result<()> {
        let entry = self.inner.containers.find(container)?;
        let _gate = entry.gate.lock().await;
        if entry.record().state.status != Status::Paused {
            return Err(Error::new(
                Kind::Conflict,
                format!("Container {container} is not paused"),
            ));
        }
        self.thaw(&entry).await?;
        self.container_event(&entry, "unpause", &[]);
        Ok(())
    }

    async fn thaw(&self, entry: &Arc<Entry>) -> Result<()> {
        let path = self.cgroup_path(entry);
        blocking(move || {
            match wharf_cgroup::open(&path).and_then(|group| group.thaw()) {
                // A container that ended meanwhile took its group along.
                Err(wharf_cgroup::Error::File { source, .. }) if is_gone(&source) => Ok(()),
                outcome => Ok(outcome?),
            }
        })
        .await?;
        self.set_status(entry, Status::Running)
    }

    fn set_status(&self, entry: &Entry, status: Status) -> Result<()> {
        let mut record = entry.record();
        if record.is_live() {
            record.state.status = status;
        }
        record.save(&self.folder(&entry.id), false)
    }

    /// The container's control group.
    pub(crate) fn cgroup_path(&self, entry: &Entry) -> String {
        let record = entry.record();
        let parent = match record.spec.cgroup_parent.trim_matches('/') {
            "" => self.inner.config.cgroup_parent.trim_matches('/'),
            parent => parent,
        };
        format!("/{parent}/{}", record.id)
    }
}

/// A group's folder, or the file in it, went while it was looked for or written to.
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}
