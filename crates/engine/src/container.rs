//! Looking at containers.

use std::sync::Arc;

use wharf_image::Change;

use crate::error_from::blocking;
use crate::index::{Entry, lock};
use crate::{Container, Engine, Result};

impl Engine {
    /// By full ID, name or unique ID prefix (in this order).
    pub fn container(&self, container: &str) -> Result<Container> {
        let entry = self.inner.containers.find(container)?;
        Ok(self.view(&entry))
    }

    /// Every container that is not part of a pod, newest first.
    pub fn containers(&self) -> Vec<Container> {
        self.listed(|pod| pod.is_none())
    }

    /// The containers of pods, newest first.
    pub fn pod_containers(&self) -> Vec<Container> {
        self.listed(|pod| pod.is_some())
    }

    fn listed(&self, wanted: impl Fn(&Option<Box<crate::PodPart>>) -> bool) -> Vec<Container> {
        let mut all: Vec<Container> = self
            .inner
            .containers
            .all()
            .iter()
            .filter(|entry| wanted(&entry.record().spec.pod))
            .map(|entry| self.view(entry))
            .collect();
        all.sort_by_key(|container| std::cmp::Reverse(container.created));
        all
    }

    fn view(&self, entry: &Entry) -> Container {
        let record = entry.record().clone();
        let folder = self.folder(&record.id);
        let execs = lock(&self.inner.execs);
        let exec_ids = execs
            .values()
            .filter(|e| e.container_id == record.id && e.running)
            .map(|e| e.id.clone())
            .collect();
        drop(execs);
        let (path, args) = match record.argv.split_first() {
            Some((path, args)) => (path.clone(), args.to_vec()),
            None => (String::new(), Vec::new()),
        };
        let sandbox_key = match record.state.pid {
            0 => String::new(),
            pid => format!("/proc/{pid}/ns/net"),
        };
        Container {
            path,
            args,
            link_names: self.links_to(&record.name),
            log_path: if record.spec.log.driver == "none" {
                Default::default()
            } else {
                self.log_path(&record.id)
            },
            hostname_path: folder.join("hostname"),
            hosts_path: folder.join("hosts"),
            resolv_conf_path: folder.join("resolv.conf"),
            exec_ids,
            snapshot: self.inner.images.snapshot(&record.id).ok(),
            sandbox_id: if sandbox_key.is_empty() {
                String::new()
            } else {
                record.id.clone()
            },
            sandbox_key,
            id: record.id,
            name: record.name,
            created: record.created,
            spec: Arc::new(record.spec),
            image_id: record.image_id,
            state: record.state,
            networks: record.networks,
            ports: record.ports,
            mounts: record.mounts,
            restart_count: record.restart_count,
        }
    }

    /// `/other/alias` of every container that links to this name.
    fn links_to(&self, name: &str) -> Vec<String> {
        let mut names = Vec::new();
        for entry in self.inner.containers.all() {
            let Some((own, links)) = entry.try_links() else {
                continue;
            };
            for link in links {
                let (target, alias) = link.split_once(':').unwrap_or((&link, &link));
                if target.trim_start_matches('/') == name {
                    names.push(format!("/{own}/{alias}"));
                }
            }
        }
        names
    }

    /// Bytes of the writable layer.
    pub async fn size_rw(&self, container: &str) -> Result<u64> {
        let id = self.inner.containers.find(container)?.id.clone();
        let engine = self.clone();
        blocking(move || Ok(engine.inner.images.usage_bytes(&id)?)).await
    }

    /// What the container changed in its root file system.
    pub async fn changes(&self, container: &str) -> Result<Vec<Change>> {
        let id = self.inner.containers.find(container)?.id.clone();
        let engine = self.clone();
        blocking(move || {
            Ok(engine
                .inner
                .images
                .changes(&id, crate::bundle::MOUNTPOINTS)?)
        })
        .await
    }

    /// Whether a container needs the image with this ID: its name, and whether it runs.
    pub fn image_user(&self, image_id: &str) -> Option<(String, bool)> {
        let mut users: Vec<(String, bool)> = self
            .inner
            .containers
            .all()
            .iter()
            .filter_map(|entry| {
                let record = entry.record();
                (record.image_id == image_id).then(|| (record.id.clone(), record.is_live()))
            })
            .collect();
        // One that runs counts more: it can't be forced away.
        users.sort_by_key(|(_, live)| !live);
        users.into_iter().next()
    }
}

impl Entry {
    /// Name and links, where there are any.
    fn try_links(&self) -> Option<(String, Vec<String>)> {
        let record = self.record();
        (!record.spec.links.is_empty()).then(|| (record.name.clone(), record.spec.links.clone()))
    }
}
