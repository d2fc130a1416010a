//! Volumes of the local driver: a folder each, with what its maker said of it beside.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use jiff::Timestamp;

use crate::error_from::{blocking, io};
use crate::record::write_whole;
use crate::{Engine, Error, Kind, Labels, Result, Volume, names};

const RECORD: &str = "volume.json";
const DATA: &str = "_data";
/// Tells a volume that nobody named.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// The folder of all volumes.
#[derive(Debug)]
pub(crate) struct Volumes {
    root: PathBuf,
    /// Made and removed one at a time.
    gate: Mutex<()>,
}

impl Volumes {
    /// Opens (or makes) the folder; takes away volumes whose making was interrupted.
    pub fn open(root: PathBuf) -> Result<Volumes> {
        fs::create_dir_all(&root).map_err(io(format!("make {}", root.display())))?;
        let volumes = Volumes {
            root,
            gate: Mutex::default(),
        };
        for entry in fs::read_dir(&volumes.root).into_iter().flatten().flatten() {
            // The record is written last: without it nobody was ever given the volume.
            if !entry.path().join(RECORD).exists() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(volumes)
    }

    /// Finds a volume.
    pub fn get(&self, name: &str) -> Result<Volume> {
        let missing = || Error::new(Kind::NotFound, format!("get {name}: no such volume"));
        names::check("volume", name).map_err(|_| missing())?;
        let bytes = fs::read(self.root.join(name).join(RECORD)).map_err(|_| missing())?;
        serde_json::from_slice(&bytes).map_err(io(format!("read the record of volume {name}")))
    }

    /// Makes a volume, or returns the one with that name; the flag says whether it is new.
    pub fn ensure(
        &self,
        name: &str,
        driver: &str,
        options: Labels,
        labels: Labels,
    ) -> Result<(Volume, bool)> {
        if !matches!(driver, "" | "local") {
            return Err(Error::new(
                Kind::NotFound,
                format!("error looking up volume plugin {driver}: plugin \"{driver}\" not found"),
            ));
        }
        let anonymous = name.is_empty() || labels.contains_key(ANONYMOUS_LABEL);
        let name = if name.is_empty() {
            names::new_id()?
        } else {
            name.to_owned()
        };
        names::check("volume", &name).map_err(|_| {
            Error::new(
                Kind::InvalidParameter,
                format!(
                    "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
                     \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
                ),
            )
        })?;
        let _one_at_a_time = crate::index::lock(&self.gate);
        if let Ok(volume) = self.get(&name) {
            return Ok((volume, false));
        }
        check_options(&options)?;
        let folder = self.root.join(&name);
        let mountpoint = folder.join(DATA);
        fs::create_dir_all(&mountpoint).map_err(io(format!("make volume {name}")))?;
        let volume = Volume {
            name: name.clone(),
            driver: "local".into(),
            mountpoint,
            created: Timestamp::now(),
            labels,
            options,
            anonymous,
            used_by: Vec::new(),
        };
        let bytes = serde_json::to_vec(&volume).map_err(io("write a volume's record"))?;
        write_whole(&folder.join(RECORD), &bytes, true)
            .map_err(io(format!("write the record of volume {name}")))?;
        Ok((volume, true))
    }

    /// Every volume, by name.
    pub fn all(&self) -> Vec<Volume> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut volumes: Vec<Volume> = entries
            .filter_map(|entry| self.get(entry.file_name().to_str()?).ok())
            .collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        volumes
    }

    /// Removes a volume with what is in it.
    pub fn remove(&self, name: &str) -> Result<()> {
        let _one_at_a_time = crate::index::lock(&self.gate);
        self.get(name)?;
        let folder = self.root.join(name);
        // The record first: what is left of an interrupted removal is taken away at the next start.
        fs::remove_file(folder.join(RECORD)).map_err(io(format!("remove volume {name}")))?;
        fs::remove_dir_all(&folder).map_err(io(format!("remove volume {name}")))
    }
}

/// The options of the local driver are those of mount(8).
fn check_options(options: &Labels) -> Result<()> {
    for key in options.keys() {
        if !matches!(key.as_str(), "type" | "o" | "device" | "size") {
            return Err(Error::new(
                Kind::InvalidParameter,
                format!("invalid option: \"{key}\""),
            ));
        }
    }
    if options.contains_key("type") != options.contains_key("device") {
        return Err(Error::new(
            Kind::InvalidParameter,
            "missing required option: \"device\" and \"type\" go together",
        ));
    }
    Ok(())
}

/// Bytes below a folder, links not followed.
pub(crate) fn size_of(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                sum += metadata.blocks() * 512;
            }
        }
    }
    sum
}

impl Engine {
    /// Makes a volume, or returns the one with that name; an empty name is generated (64 hex digits).
    pub async fn volume_create(
        &self,
        name: &str,
        driver: &str,
        options: Labels,
        labels: Labels,
    ) -> Result<Volume> {
        let (engine, name, driver) = (self.clone(), name.to_owned(), driver.to_owned());
        let (volume, new) =
            blocking(move || engine.inner.volumes.ensure(&name, &driver, options, labels)).await?;
        if new {
            self.emit(
                "volume",
                "create",
                &volume.name,
                [("driver".to_owned(), "local".to_owned())].into(),
            );
        }
        Ok(self.with_users(volume))
    }

    /// One volume.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        Ok(self.with_users(self.inner.volumes.get(name)?))
    }

    /// All volumes.
    pub fn volumes(&self) -> Vec<Volume> {
        self.inner
            .volumes
            .all()
            .into_iter()
            .map(|volume| self.with_users(volume))
            .collect()
    }

    /// Removes a volume that no container uses.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        let volume = match self.volume(name) {
            Err(error) if error.kind == Kind::NotFound && force => return Ok(()),
            other => other?,
        };
        if !volume.used_by.is_empty() {
            let users = volume.used_by.join(", ");
            return Err(Error::new(
                Kind::Conflict,
                format!("remove {name}: volume is in use - [{users}]"),
            ));
        }
        let (engine, name) = (self.clone(), volume.name.clone());
        blocking(move || engine.inner.volumes.remove(&name)).await?;
        self.emit(
            "volume",
            "destroy",
            &volume.name,
            [("driver".to_owned(), "local".to_owned())].into(),
        );
        Ok(())
    }

    /// What a volume's files take up.
    pub async fn volume_size_bytes(&self, volume: &Volume) -> Result<u64> {
        let mountpoint = volume.mountpoint.clone();
        blocking(move || Ok(size_of(&mountpoint))).await
    }

    /// Removes unused volumes (`all`: named ones too) that `keep` does not hold back; returns names and bytes freed.
    pub async fn prune_volumes(
        &self,
        all: bool,
        keep: &(dyn Fn(&Volume) -> bool + Sync),
    ) -> Result<(Vec<String>, u64)> {
        let mut removed = Vec::new();
        let mut freed = 0;
        for volume in self.volumes() {
            if !volume.used_by.is_empty() || !(all || volume.anonymous) || keep(&volume) {
                continue;
            }
            freed += self.volume_size_bytes(&volume).await?;
            self.volume_remove(&volume.name, false).await?;
            removed.push(volume.name);
        }
        Ok((removed, freed))
    }

    fn with_users(&self, mut volume: Volume) -> Volume {
        volume.used_by = self
            .inner
            .containers
            .all()
            .iter()
            .filter(|entry| {
                entry
                    .record()
                    .mounts
                    .iter()
                    .any(|mount| mount.name == volume.name)
            })
            .map(|entry| entry.id.clone())
            .collect();
        volume
    }
}
