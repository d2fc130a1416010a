//! Changing a container's limits and restart policy, and its networks.

use std::sync::Arc;

use crate::error_from::{blocking, io};
use crate::index::Entry;
use crate::spec::EndpointSpec;
use crate::{Engine, Error, Kind, NetworkAttachment, Resources, Result, Update, bundle, validate};

impl Engine {
    /// Changes limits and restart policy in place. Returns warnings.
    pub async fn update(&self, container: &str, update: Update) -> Result<Vec<String>> {
        let entry = self.inner.containers.find(container)?;
        let _gate = entry.gate.lock().await;
        let mut spec = entry.record().spec.clone();
        merge(&mut spec.resources, &update.resources);
        validate::check_resources(&spec.resources)?;
        if let Some(restart) = update.restart {
            spec.restart = restart;
            validate::check(&spec)?;
        }
        if entry.running().is_ok() {
            let path = self.cgroup_path(&entry);
            let limits = serde_json::from_value(bundle::limits(&spec.resources))
                .map_err(io("write the new limits"))?;
            blocking(move || Ok(wharf_cgroup::open(&path)?.apply(&limits)?)).await?;
        }
        {
            let mut record = entry.record();
            record.spec = spec;
            record.save(&self.folder(&entry.id), true)?;
        }
        self.container_event(&entry, "update", &[]);
        Ok(Vec::new())
    }

    /// Connects a container, running or not.
    pub async fn network_connect(
        &self,
        network: &str,
        container: &str,
        endpoint: EndpointSpec,
    ) -> Result<()> {
        let entry = self.inner.containers.find(container)?;
        let network = self.inner.networks.find(network)?;
        let _gate = entry.gate.lock().await;
        {
            let mut record = entry.record();
            let mode = record.spec.network_mode.clone();
            if mode == "host" || mode.starts_with("container:") || network.bridge.is_none() {
                return Err(Error::new(
                    Kind::Forbidden,
                    "container sharing network namespace with another container or host cannot be connected to any other network",
                ));
            }
            if record.networks.contains_key(&network.spec.name) {
                return Err(Error::new(
                    Kind::Forbidden,
                    format!(
                        "endpoint with name {} already exists in network {}",
                        record.name, network.spec.name
                    ),
                ));
            }
            let attachment = NetworkAttachment::planned(network.id.clone(), endpoint);
            record
                .networks
                .insert(network.spec.name.clone(), attachment);
            // `none` was only a place holder.
            record.networks.remove("none");
        }
        let outcome = match entry.running() {
            Ok(_) => self.plug(&entry, &network).await,
            Err(_) => Ok(()),
        };
        if outcome.is_err() {
            entry.record().networks.remove(&network.spec.name);
        }
        entry.record().save(&self.folder(&entry.id), true)?;
        outcome?;
        self.network_event("connect", &network, Some(&entry.id));
        Ok(())
    }

    /// Puts a further interface into a running container.
    async fn plug(
        &self,
        entry: &Arc<Entry>,
        network: &crate::network::NetworkRecord,
    ) -> Result<()> {
        let (pid, asked, used, had_dns) = {
            let record = entry.record();
            let asked = record
                .networks
                .get(&network.spec.name)
                .map(|a| a.spec.clone())
                .unwrap_or_default();
            let used: Vec<String> = record
                .networks
                .values()
                .filter_map(|a| Some(a.endpoint.as_ref()?.interface.clone()))
                .collect();
            (record.state.pid, asked, used, entry.has_dns())
        };
        let Some(bridge) = network.bridge.as_ref().map(|bridge| bridge.bridge.clone()) else {
            return Ok(());
        };
        let path = format!("/proc/{pid}/ns/net");
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let namespace = rustix::fs::open(&path, flags, rustix::fs::Mode::empty())
            .map_err(io(format!("open {path}")))?;
        let interface = (0..)
            .map(|n| format!("eth{n}"))
            .find(|name| !used.contains(name))
            .unwrap_or_default();
        let request = wharf_net::EndpointRequest {
            interface,
            ipv4: asked.ipv4_address,
            ipv6: asked.ipv6_address,
            mac: None,
            default_route: used.is_empty(),
        };
        let endpoint = self
            .inner
            .net
            .attach(&bridge, std::os::fd::AsFd::as_fd(&namespace), &request)
            .await?;
        self.note_endpoint(entry, network, endpoint)?;
        if network.has_dns() && !had_dns {
            self.serve_names(entry, &namespace).await?;
        }
        self.rewrite_hosts(entry)
    }

    /// Disconnects a container.
    pub async fn network_disconnect(
        &self,
        network: &str,
        container: &str,
        force: bool,
    ) -> Result<()> {
        let network = self.inner.networks.find(network)?;
        let entry = match self.inner.containers.find(container) {
            Err(error) if error.kind == Kind::NotFound && force => return Ok(()),
            other => other?,
        };
        let _gate = entry.gate.lock().await;
        let attachment = entry
            .record()
            .networks
            .remove(&network.spec.name)
            .ok_or_else(|| {
                Error::new(
                    Kind::Forbidden,
                    format!(
                        "container {} is not connected to network {}",
                        entry.id, network.spec.name
                    ),
                )
            })?;
        if let (Some(endpoint), Some(bridge)) = (&attachment.endpoint, &network.bridge) {
            self.inner.net.detach(&bridge.bridge, endpoint).await?;
        }
        entry.record().save(&self.folder(&entry.id), true)?;
        if entry.running().is_ok() {
            self.rewrite_hosts(&entry)?;
        }
        self.network_event("disconnect", &network, Some(&entry.id));
        Ok(())
    }

    fn rewrite_hosts(&self, entry: &Entry) -> Result<()> {
        let record = entry.record().clone();
        let hostname = self.hostname(&record);
        crate::hosts::write_hosts(
            &self.folder(&entry.id).join("hosts"),
            &self.host_lines(&record, &hostname),
        )
    }
}

impl Entry {
    fn has_dns(&self) -> bool {
        crate::index::lock(&self.dns).is_some()
    }
}

/// What is set replaces, the rest stays.
fn merge(current: &mut Resources, update: &Resources) {
    macro_rules! take {
        ($($field:ident),*) => {$(
            if update.$field.is_some_and(|value| value != 0) {
                current.$field = update.$field;
            }
        )*};
    }
    take!(
        cpu_shares,
        cpu_quota_us,
        cpu_period_us,
        nano_cpus,
        cpu_rt_period_us,
        cpu_rt_runtime_us,
        memory_bytes,
        memory_reservation_bytes,
        memory_swap_bytes,
        kernel_memory_bytes,
        pids_limit,
        blkio_weight
    );
    for (current, update) in [
        (&mut current.cpuset_cpus, &update.cpuset_cpus),
        (&mut current.cpuset_mems, &update.cpuset_mems),
    ] {
        if !update.is_empty() {
            current.clone_from(update);
        }
    }
}
