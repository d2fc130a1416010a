//! Removing, renaming and waiting for containers.

use std::fs;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use crate::error_from::{blocking, io};
use crate::index::Entry;
use crate::{
    Container, Engine, Error, Exit, Kind, RemoveOptions, Result, Status, WaitCondition, names,
};

/// Extension of the folder of a container that is gone.
pub(crate) const REMOVED: &str = "removed";

/// Files of a container that is gone. Those that a crash leaves go at the next start.
struct Remains {
    snapshot: wharf_image::Detached,
    folder: PathBuf,
}

impl Remains {
    fn discard(self) {
        if let Err(error) = self.snapshot.discard() {
            tracing::warn!(
                error = crate::error_from::chain(&error),
                "files of a removed container are left until the next start"
            );
        }
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(folder = %self.folder.display(), %error, "left until the next start");
            }
            _ => {}
        }
    }
}

impl Engine {
    /// Removes a container; a running one only with `force`.
    pub async fn remove(&self, container: &str, options: RemoveOptions) -> Result<()> {
        if options.link {
            return self.remove_link(container);
        }
        let entry = self.inner.containers.find(container)?;
        let _gate = loop {
            // A start that is under way comes first: what it starts is to be removed.
            let gate = entry.gate.lock().await;
            let status = entry.record().state.status;
            let ends = status == Status::Restarting && options.force;
            if ends || !(entry.record().is_live() || status == Status::Restarting) {
                break gate;
            }
            drop(gate);
            self.end_for_removal(&entry, options.force).await?;
        };
        {
            let mut record = entry.record();
            if record.state.status == Status::Removing && entry.progress.borrow().removed {
                return Err(Error::new(
                    Kind::NotFound,
                    format!("No such container: {container}"),
                ));
            }
            record.state.status = Status::Removing;
            let durable = !record.spec.auto_remove;
            if let Err(error) = record.save(&self.folder(&entry.id), durable) {
                // On a full disk above all, a container must be removable.
                tracing::warn!(container = entry.id, %error, "its removal is not written down");
            }
        }
        self.remove_rest(&entry, options.volumes).await
    }

    /// Kills what runs in a container, if that was allowed.
    async fn end_for_removal(&self, entry: &Arc<Entry>, force: bool) -> Result<()> {
        if force {
            entry.record().stopped_by_user = true;
            return self.kill_process(entry).await;
        }
        let record = entry.record();
        let (name, status) = (&record.name, record.state.status.as_str());
        Err(Error::new(
            Kind::Conflict,
            format!(
                "cannot remove container \"/{name}\": container is {status}: stop the container before removing or force remove"
            ),
        ))
    }

    /// What is left to be removed once nothing runs; also of a removal that was interrupted.
    pub(crate) async fn remove_rest(&self, entry: &Arc<Entry>, volumes: bool) -> Result<()> {
        let (engine, id, name, mounts) = {
            let record = entry.record();
            (
                self.clone(),
                record.id.clone(),
                record.name.clone(),
                record.mounts.clone(),
            )
        };
        let remains = blocking(move || engine.detach(&id)).await?;
        tokio::task::spawn_blocking(move || remains.discard());
        self.container_event(entry, "destroy", &[]);
        self.inner.containers.remove(&entry.id, &name);
        entry
            .progress
            .send_modify(|progress| progress.removed = true);
        if volumes {
            for mount in mounts.iter().filter(|mount| mount.anonymous) {
                // In use by another container by now: then it stays.
                let _ = self.volume_remove(&mount.name, true).await;
            }
        }
        Ok(())
    }

    /// Two renames and the container is gone; what is left of it nobody has to wait for.
    fn detach(&self, id: &str) -> Result<Remains> {
        let snapshot = self.inner.images.detach_snapshot(id)?;
        let _ = fs::remove_dir_all(self.run_folder(id));
        let folder = self.folder(id);
        let removed = folder.with_extension(REMOVED);
        match fs::rename(&folder, &removed) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(format!("remove {}", folder.display()))(error));
            }
            _ => {}
        }
        Ok(Remains {
            snapshot,
            folder: removed,
        })
    }

    fn remove_link(&self, path: &str) -> Result<()> {
        let (parent, alias) = path
            .trim_start_matches('/')
            .split_once('/')
            .ok_or_else(|| {
                Error::new(
                    Kind::InvalidParameter,
                    format!(
                        "Conflict, cannot remove the default link name of the container: {path}"
                    ),
                )
            })?;
        let entry = self.inner.containers.find(parent)?;
        let mut record = entry.record();
        let before = record.spec.links.len();
        record
            .spec
            .links
            .retain(|link| link.rsplit(':').next() != Some(alias));
        if record.spec.links.len() == before {
            return Err(Error::new(Kind::NotFound, format!("No such link: {path}")));
        }
        record.save(&self.folder(&entry.id), true)
    }

    /// Removes stopped containers that `keep` does not hold back; returns their IDs and the bytes freed.
    pub async fn prune_containers(
        &self,
        keep: &(dyn Fn(&Container) -> bool + Sync),
    ) -> Result<(Vec<String>, u64)> {
        let mut removed = Vec::new();
        let mut freed = 0;
        for container in self.containers() {
            let idle = matches!(
                container.state.status,
                Status::Created | Status::Exited | Status::Dead
            );
            if !idle || keep(&container) {
                continue;
            }
            freed += self.size_rw(&container.id).await.unwrap_or(0);
            // Started meanwhile: then it stays.
            if self
                .remove(&container.id, RemoveOptions::default())
                .await
                .is_ok()
            {
                removed.push(container.id);
            }
        }
        Ok((removed, freed))
    }

    /// Gives another name.
    pub async fn rename(&self, container: &str, name: &str) -> Result<()> {
        let name = name.trim_start_matches('/');
        if name.is_empty() {
            return Err(Error::new(
                Kind::InvalidParameter,
                "Neither old nor new names may be empty",
            ));
        }
        names::check("container", name)?;
        let entry = self.inner.containers.find(container)?;
        let _gate = entry.gate.lock().await;
        let old = entry.record().name.clone();
        if old == name {
            return Err(Error::new(
                Kind::InvalidParameter,
                "Renaming a container with the same name as its current name",
            ));
        }
        self.inner.containers.reserve(name, &entry.id)?;
        let saved = {
            let mut record = entry.record();
            record.name = name.to_owned();
            for attachment in record.networks.values_mut() {
                attachment
                    .dns_names
                    .iter_mut()
                    .filter(|n| **n == old)
                    .for_each(|n| *n = name.to_owned());
            }
            let saved = record.save(&self.folder(&entry.id), true);
            if saved.is_err() {
                record.name = old.clone();
            }
            saved
        };
        self.inner
            .containers
            .release(if saved.is_ok() { &old } else { name });
        saved?;
        self.container_event(&entry, "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    /// Waits. The condition is registered before this returns, so that a start sent afterwards can't be missed; the
    /// inner future ends with the exit.
    pub async fn wait(
        &self,
        container: &str,
        condition: WaitCondition,
    ) -> Result<Pin<Box<dyn Future<Output = Result<Exit>> + Send>>> {
        let entry = self.inner.containers.find(container)?;
        let mut progress = entry.progress.subscribe();
        let exits = progress.borrow().exits;
        let (idle, code) = {
            let record = entry.record();
            (
                !record.is_live() && record.state.status != Status::Restarting,
                record.state.exit_code,
            )
        };
        Ok(Box::pin(async move {
            if condition == WaitCondition::NotRunning && idle {
                return Ok(Exit {
                    exit_code: code,
                    error: None,
                });
            }
            let done = |p: &crate::index::Progress| match condition {
                WaitCondition::Removed => p.removed,
                _ => p.exits > exits || p.removed,
            };
            let last = progress
                .wait_for(done)
                .await
                .map(|p| p.last.clone())
                .map_err(|_| {
                    Error::new(
                        Kind::Internal,
                        format!(
                            "the engine forgot container {} while it was waited for",
                            entry.id
                        ),
                    )
                })?;
            let last = last.unwrap_or(Exit {
                exit_code: code,
                error: None,
            });
            // Who waits for the removal is not told of a start that failed: the starter is.
            let error = last.error.filter(|_| condition != WaitCondition::Removed);
            Ok(Exit { error, ..last })
        }))
    }
}
