//! What is kept of a sandbox: one file, written before anything else of it exists.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde::{Deserialize, Serialize};
use tonic::Status;
use wharf_net::{Endpoint, PortMapping, Subnet};

use super::{io, lock};
use crate::v1;

/// How far a sandbox has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Nobody was told of it yet: taken back at the next start.
    Making,
    Ready,
    /// Stopped; its containers' remains are still there.
    NotReady,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub id: String,
    pub created_ns: i64,
    pub phase: Phase,
    /// `PodSandboxConfig` as it came, base64.
    config: String,
    pub runtime_handler: String,
    pub endpoint: Option<Endpoint>,
    #[serde(default)]
    pub ports: Vec<PortMapping>,
}

impl Record {
    pub fn new(
        id: String,
        created_ns: i64,
        handler: String,
        config: &v1::PodSandboxConfig,
    ) -> Self {
        Record {
            id,
            created_ns,
            phase: Phase::Making,
            config: encode(config),
            runtime_handler: handler,
            endpoint: None,
            ports: Vec::new(),
        }
    }

    /// What the client asked for.
    pub fn config(&self) -> v1::PodSandboxConfig {
        decode(&self.config).unwrap_or_default()
    }
}

/// A message as text, for a JSON file.
pub(super) fn encode<M: Message>(message: &M) -> String {
    STANDARD.encode(message.encode_to_vec())
}

/// The message of a text; `None`: it is none.
pub(super) fn decode<M: Message + Default>(text: &str) -> Option<M> {
    M::decode(STANDARD.decode(text).ok()?.as_slice()).ok()
}

/// A sandbox in memory.
#[derive(Debug)]
pub(super) struct Pod {
    pub id: String,
    /// Held through everything that changes its life, the making of its containers included.
    pub gate: tokio::sync::Mutex<()>,
    record: Mutex<Record>,
    /// What the client asked for.
    pub config: v1::PodSandboxConfig,
    /// Sockets that keep published ports from others.
    pub sockets: Mutex<Vec<std::os::fd::OwnedFd>>,
}

impl Pod {
    pub fn new(record: Record) -> Arc<Pod> {
        Arc::new(Pod {
            id: record.id.clone(),
            gate: tokio::sync::Mutex::default(),
            config: record.config(),
            record: Mutex::new(record),
            sockets: Mutex::default(),
        })
    }

    /// Held for moments only.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }

    pub fn namespace_options(&self) -> v1::NamespaceOption {
        let linux = self.config.linux.as_ref();
        let security = linux.and_then(|linux| linux.security_context.as_ref());
        security
            .and_then(|security| security.namespace_options.clone())
            .unwrap_or_default()
    }

    pub fn host_network(&self) -> bool {
        self.namespace_options().network() == v1::NamespaceMode::Node
    }
}

/// The records' folder and the run folder.
#[derive(Debug)]
pub(super) struct Store {
    records: PathBuf,
    run: PathBuf,
    loaded: Mutex<HashMap<String, Arc<Pod>>>,
}

impl Store {
    /// Reads what there is. A record that can't be read is left alone, and told of.
    pub fn load(data_root: &Path, run_root: &Path) -> Result<Store, Status> {
        let store = Store {
            records: data_root.join("pods"),
            run: run_root.join("pods"),
            loaded: Mutex::default(),
        };
        for folder in [&store.records, &store.run] {
            fs::create_dir_all(folder).map_err(io(format!("make {}", folder.display())))?;
        }
        let listing = fs::read_dir(&store.records).map_err(io("read the sandboxes' records"))?;
        for found in listing.flatten() {
            let path = found.path();
            let is_record = path.extension().is_some_and(|e| e == "json")
                && path.file_stem().is_some_and(|stem| stem.len() == 64);
            if !is_record {
                continue;
            }
            let read = fs::read(&path).map_err(|e| e.to_string());
            match read.and_then(|b| serde_json::from_slice(&b).map_err(|e| e.to_string())) {
                Ok(record) => {
                    let pod = Pod::new(record);
                    lock(&store.loaded).insert(pod.id.clone(), pod);
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), error, "a sandbox's record can't be read");
                }
            }
        }
        Ok(store)
    }

    /// The sandboxes that were loaded, once.
    pub fn take(&self) -> HashMap<String, Arc<Pod>> {
        std::mem::take(&mut lock(&self.loaded))
    }

    /// The same, without taking them.
    pub fn loaded(&self) -> Vec<Arc<Pod>> {
        lock(&self.loaded).values().cloned().collect()
    }

    /// Survives a crash of this program; after one of the machine no pod runs anyway.
    pub fn save(&self, record: &Record) -> Result<(), Status> {
        let path = self.path(&record.id);
        let bytes = serde_json::to_vec(record).map_err(io("write a sandbox's record"))?;
        write_whole(&path, &bytes, false).map_err(io(format!("write {}", path.display())))
    }

    pub fn remove(&self, id: &str) -> Result<(), Status> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io(format!("remove the record of sandbox {id}"))(error))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.records.join(format!("{id}.json"))
    }

    /// Where a sandbox's namespaces and files are.
    pub fn folder(&self, id: &str) -> PathBuf {
        self.run.join(id)
    }

    /// Names of all run folders there are.
    pub fn folders(&self) -> Vec<String> {
        let listing = fs::read_dir(&self.run).into_iter().flatten().flatten();
        listing
            .filter_map(|found| found.file_name().into_string().ok())
            .collect()
    }

    /// The range of pods' addresses that a client set.
    pub fn pod_cidr(&self) -> Option<Subnet> {
        serde_json::from_slice(&fs::read(self.records.join("network.json")).ok()?).ok()
    }

    pub fn save_pod_cidr(&self, subnet: Subnet) -> Result<(), Status> {
        let bytes = serde_json::to_vec(&subnet).map_err(io("write the pods' network"))?;
        write_whole(&self.records.join("network.json"), &bytes, true)
            .map_err(io("write the pods' network"))
    }
}

/// Readers see the old file or the new one, never a part.
fn write_whole(path: &Path, bytes: &[u8], durable: bool) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&temporary, path)
}
