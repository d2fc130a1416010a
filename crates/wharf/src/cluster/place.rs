//! Where a cluster leaves word of itself, for the commands that come after: a file in its run root.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

const FILE: &str = "cluster.json";

/// What is known of a cluster's process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Place {
    /// Its number.
    pub pid: i32,
    /// Where the API server listens.
    pub address: SocketAddr,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// What the node is called.
    pub node: String,
    /// Where Docker's API listens.
    pub hosts: Vec<String>,
    /// Folder of everything that lasts.
    pub data_root: PathBuf,
}

impl Place {
    /// Leaves word.
    pub fn write(&self, run_root: &Path) -> io::Result<()> {
        let path = run_root.join(FILE);
        let new = path.with_extension("new");
        File::create(&new)?.write_all(&serde_json::to_vec_pretty(self)?)?;
        fs::rename(new, path)
    }

    /// Reads what was left; `None`: no cluster was ever started there since the machine was.
    pub fn read(run_root: &Path) -> io::Result<Option<Place>> {
        match fs::read(run_root.join(FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the word back.
    pub fn remove(run_root: &Path) {
        let _ = fs::remove_file(run_root.join(FILE));
    }

    /// The process, if it is still there. A number alone may have gone to another: only who holds the data root's lock
    /// is the cluster.
    pub fn process(&self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        crate::daemon::lock(&self.data_root)
            .is_err()
            .then_some(pidfd)
    }
}
