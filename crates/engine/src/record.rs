//! What is kept of a container on disk: one JSON file, replaced whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wharf_net::PortMapping;

use crate::error_from::io;
use crate::{ContainerSpec, MountPoint, NetworkAttachment, Result, State, Status};

const FILE: &str = "container.json";

/// A container's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub id: String,
    pub name: String,
    pub created: Timestamp,
    pub spec: ContainerSpec,
    pub image_id: String,
    /// Command line as merged: entrypoint, then command.
    pub argv: Vec<String>,
    pub state: State,
    pub networks: BTreeMap<String, NetworkAttachment>,
    #[serde(default)]
    pub ports: Vec<PortMapping>,
    pub mounts: Vec<MountPoint>,
    #[serde(default)]
    pub restart_count: u32,
    /// Stopped by a person: `unless-stopped` leaves it so after a restart of the daemon.
    #[serde(default)]
    pub stopped_by_user: bool,
}

impl Record {
    /// Replaces the file. `durable`: it is on disk when this returns; else it survives a crash of the daemon, but not
    /// of the machine, after which nothing runs anyway.
    pub fn save(&self, folder: &Path, durable: bool) -> Result<()> {
        let path = folder.join(FILE);
        let what = || format!("write {}", path.display());
        let bytes = serde_json::to_vec(self).map_err(io(what()))?;
        write_whole(&path, &bytes, durable).map_err(io(what()))
    }

    /// Brings to disk what was saved without.
    pub fn sync(folder: &Path) -> std::io::Result<()> {
        File::open(folder.join(FILE))?.sync_all()?;
        File::open(folder)?.sync_all()
    }

    /// Reads the record of a folder.
    pub fn load(folder: &Path) -> Result<Record> {
        let path = folder.join(FILE);
        let what = || format!("read {}", path.display());
        serde_json::from_slice(&fs::read(&path).map_err(io(what()))?).map_err(io(what()))
    }

    /// Whether a process of it should exist.
    pub fn is_live(&self) -> bool {
        matches!(self.state.status, Status::Running | Status::Paused)
    }
}

/// Writes a file beside and renames it: readers see the old or the new one, never a part.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], durable: bool) -> std::io::Result<()> {
    let temporary = PathBuf::from(format!("{}.new", path.display()));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&temporary, path)?;
    match (durable, path.parent()) {
        (true, Some(folder)) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}
