//! Making a container: name, snapshot, volumes, record. Nothing runs yet.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use wharf_image::Image;

use crate::error_from::{blocking, io};
use crate::index::Entry;
use crate::merge::ImageDefaults;
use crate::record::Record;
use crate::spec::EndpointSpec;
use crate::undo::Undo;
use crate::{
    ContainerSpec, Created, Engine, Error, Kind, NetworkAttachment, Result, State, Status, names,
    validate,
};

/// Names tried before a generated one gets a number.
const NAME_TRIES: u32 = 100;

impl Engine {
    /// Makes a container; nothing runs yet. The name is checked, or generated.
    pub async fn create(&self, name: Option<&str>, spec: ContainerSpec) -> Result<Created> {
        validate::check(&spec)?;
        if let Some(name) = name {
            names::check("container", name.trim_start_matches('/'))?;
        }
        let warnings = self.warnings(&spec);
        let (engine, name) = (
            self.clone(),
            name.map(|name| name.trim_start_matches('/').to_owned()),
        );
        let entry = blocking(move || engine.create_blocking(name.as_deref(), spec)).await?;
        self.container_event(&entry, "create", &[]);
        let folder = self.folder(&entry.id);
        // Not waited for: a machine that loses power now has a container less that did nothing yet.
        tokio::task::spawn_blocking(move || match Record::sync(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, folder = %folder.display(), "the new container's record is not on disk yet");
            }
            _ => {}
        });
        Ok(Created {
            id: entry.id.clone(),
            warnings,
        })
    }

    /// The steps; a failed one takes back those before it.
    fn create_blocking(&self, name: Option<&str>, mut spec: ContainerSpec) -> Result<Arc<Entry>> {
        let image = self.inner.images.resolve(&spec.image)?;
        ImageDefaults::of(&image)?.merge_into(&mut spec);
        let argv = argv(&spec)?;
        self.qualify(&mut spec)?;
        crate::bundle::protect_system_paths(&mut spec);
        let mut undo = Undo::default();

        let id = names::new_id()?;
        // A pod's containers are known by their adapter's names; the ID is always free.
        let own_name = spec.pod.is_some().then_some(id.as_str());
        let name = self.take_name(own_name.or(name), &id)?;
        let (engine, taken) = (self.clone(), name.clone());
        undo.push(move || engine.inner.containers.release(&taken));

        let folder = self.folder(&id);
        fs::create_dir_all(&folder).map_err(io(format!("make {}", folder.display())))?;
        let made = folder.clone();
        undo.push(move || drop(fs::remove_dir_all(made)));

        self.inner.images.prepare(&id, image.top.as_ref())?;
        let (engine, key) = (self.clone(), id.clone());
        undo.push(move || drop(engine.inner.images.remove_snapshot(&key)));

        let mounts = self.make_mounts(&spec, &image, &mut undo)?;
        let record = Record {
            id: id.clone(),
            name,
            created: Timestamp::now(),
            networks: self.plan_networks(&spec)?,
            argv,
            image_id: image.id.clone(),
            state: new_state(),
            ports: Vec::new(),
            mounts,
            restart_count: 0,
            stopped_by_user: false,
            spec,
        };
        record.save(&folder, false)?;
        let entry = Entry::new(record);
        self.inner.containers.insert(entry.clone());
        undo.keep();
        Ok(entry)
    }

    /// Volumes and binds; what the image has at the place of a new volume is copied into it.
    fn make_mounts(
        &self,
        spec: &ContainerSpec,
        image: &Image,
        undo: &mut Undo,
    ) -> Result<Vec<crate::MountPoint>> {
        let resolved = self.resolve_mounts(spec)?;
        for mount in resolved.iter().filter(|mount| mount.new_volume) {
            let (engine, name) = (self.clone(), mount.point.name.clone());
            undo.push(move || drop(engine.inner.volumes.remove(&name)));
        }
        for mount in resolved
            .iter()
            .filter(|mount| mount.copy && !mount.point.name.is_empty())
        {
            if let Some(top) = &image.top {
                let root = self.inner.images.mount_read_only(top)?;
                crate::volume_copy::copy_up(&root, &mount.point.destination, &mount.point.source)?;
            }
        }
        Ok(resolved.into_iter().map(|mount| mount.point).collect())
    }

    fn take_name(&self, name: Option<&str>, id: &str) -> Result<String> {
        if let Some(name) = name {
            self.inner.containers.reserve(name, id)?;
            return Ok(name.to_owned());
        }
        for attempt in 0..NAME_TRIES {
            let name = names::generate(attempt)?;
            if self.inner.containers.reserve(&name, id).is_ok() {
                return Ok(name);
            }
        }
        // An ID is always free.
        self.inner.containers.reserve(id, id)?;
        Ok(id.to_owned())
    }

    /// Puts what depends on other containers into its final form, so that it does not change with their names.
    fn qualify(&self, spec: &mut ContainerSpec) -> Result<()> {
        for mode in [
            &mut spec.network_mode,
            &mut spec.pid_mode,
            &mut spec.ipc_mode,
        ] {
            if let Some(other) = mode.strip_prefix("container:") {
                let entry = self.inner.containers.find(other)?;
                *mode = format!("container:{}", entry.id);
            }
        }
        if spec.network_mode.is_empty() {
            spec.network_mode = "default".into();
        }
        for link in &spec.links {
            let target = link.split(':').next().unwrap_or(link);
            self.inner
                .containers
                .find(target)
                .map_err(|error| match error.kind {
                    Kind::NotFound => Error::new(
                        Kind::InvalidParameter,
                        format!("could not get container for {target}: {error}"),
                    ),
                    _ => error,
                })?;
        }
        Ok(())
    }

    /// Networks to be joined at the start, by name.
    fn plan_networks(&self, spec: &ContainerSpec) -> Result<BTreeMap<String, NetworkAttachment>> {
        let mode = match spec.network_mode.as_str() {
            mode if mode.starts_with("container:") || spec.pod.is_some() => {
                return Ok(BTreeMap::new());
            }
            "default" => "bridge",
            mode => mode,
        };
        let mut networks = BTreeMap::new();
        let mut wanted: Vec<(String, EndpointSpec)> = spec.endpoints.clone().into_iter().collect();
        let resolves_to_mode = |name: &str| {
            let (a, b) = (
                self.inner.networks.find(name),
                self.inner.networks.find(mode),
            );
            matches!((a, b), (Ok(a), Ok(b)) if a.id == b.id)
        };
        if !wanted.iter().any(|(name, _)| resolves_to_mode(name)) {
            wanted.push((mode.to_owned(), EndpointSpec::default()));
        }
        for (name, endpoint) in wanted {
            // One that does not exist yet may exist at the start, which says so if not.
            let Ok(record) = self.inner.networks.find(&name) else {
                networks.insert(name, NetworkAttachment::planned(String::new(), endpoint));
                continue;
            };
            if !record.has_dns() && !endpoint.aliases.is_empty() {
                return Err(Error::new(
                    Kind::InvalidParameter,
                    "network-scoped alias is supported only for containers in user defined networks",
                ));
            }
            if (endpoint.ipv4_address.is_some() || endpoint.ipv6_address.is_some())
                && !record.has_dns()
            {
                return Err(Error::new(
                    Kind::InvalidParameter,
                    "user specified IP address is supported on user defined networks only",
                ));
            }
            networks.insert(
                record.spec.name.clone(),
                NetworkAttachment::planned(record.id, endpoint),
            );
        }
        Ok(networks)
    }

    /// What the kernel here can't do: the container is made all the same, without it.
    fn warnings(&self, spec: &ContainerSpec) -> Vec<String> {
        let mut warnings = Vec::new();
        if spec.resources.memory_bytes.unwrap_or(0) > 0 && !self.inner.machine.swap_limit {
            warnings.push("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.".to_owned());
        }
        if spec.resources.kernel_memory_bytes.unwrap_or(0) > 0 {
            warnings.push(
                "Specifying a kernel memory limit is deprecated and has no effect.".to_owned(),
            );
        }
        if spec.oom_kill_disable && spec.resources.memory_bytes.unwrap_or(0) == 0 {
            warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned());
        }
        if spec.network_mode == "host" && (!spec.port_bindings.is_empty() || spec.publish_all) {
            warnings.push("Published ports are discarded when using host network mode".to_owned());
        }
        warnings
    }

    /// Where a container's durable files are.
    pub(crate) fn folder(&self, id: &str) -> PathBuf {
        self.inner.config.data_root.join("containers").join(id)
    }

    /// Where a container's files of this boot are.
    pub(crate) fn run_folder(&self, id: &str) -> PathBuf {
        self.inner.config.run_root.join("containers").join(id)
    }
}

fn argv(spec: &ContainerSpec) -> Result<Vec<String>> {
    let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let entrypoint = words(&spec.entrypoint);
    // An entrypoint of one empty word takes the image's away.
    let entrypoint = if entrypoint == [""] {
        Vec::new()
    } else {
        entrypoint
    };
    let argv: Vec<String> = entrypoint.into_iter().chain(words(&spec.cmd)).collect();
    match argv.first() {
        Some(_) => Ok(argv),
        None => Err(Error::new(Kind::InvalidParameter, "no command specified")),
    }
}

fn new_state() -> State {
    State {
        status: Status::Created,
        pid: 0,
        exit_code: 0,
        oom_killed: false,
        error: String::new(),
        started_at: None,
        finished_at: None,
        health: None,
    }
}
