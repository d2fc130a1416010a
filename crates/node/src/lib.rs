//! The node: runs the pods that the cluster gives to this machine, and tells the cluster how they are.
//!
//! - [`run`] registers the machine ([`register`]), keeps its lease, follows its pods ([`pods`]) and serves the node's
//!   HTTPS interface ([`server`]).
//! - Each pod has a worker ([`worker`]). Whatever happens to the pod (a change of the object, an event of the runtime, a
//!   probe's verdict, a timer) wakes it; it looks at what the runtime has ([`seen`]), decides ([`decide`], pure), acts
//!   ([`act`]) and writes the status ([`status`], pure).
//! - What a container gets comes from [`environment`], [`launch`] and [`volumes`].
//!
//! It knows the API (pods come, status goes), the Container Runtime Interface (sandboxes and containers) and the files
//! of volumes. It must not know which runtime answers behind [`wharf_cri::Cri`], nor where the API lives. The truth is
//! what the runtime has: after a restart of this process workers begin by looking.
#![forbid(unsafe_code)]

mod act;
mod backoff;
mod decide;
mod environment;
mod events;
mod expand;
mod figures;
mod handlers;
mod images;
mod launch;
mod logs;
mod machine;
mod objects;
mod part;
mod pods;
mod probes;
mod register;
mod relay;
mod resources;
mod seen;
mod server;
mod status;
mod terminate;
mod volumes;
mod worker;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wharf_client::Api;
use wharf_cri::Cri;

use crate::events::Recorder;
use crate::objects::Objects;
use crate::volumes::Volumes;

/// How a node runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name in the cluster, a DNS name.
    pub name: String,
    /// The machine's addresses, the first one being the node's own.
    pub addresses: Vec<IpAddr>,
    /// Folder of pods' volumes and files.
    pub root: PathBuf,
    /// Folder of pods' logs.
    pub logs: PathBuf,
    /// Where the HTTPS interface listens; port 0 for a free one.
    pub listen: SocketAddr,
    /// Certificate and key of that interface, PEM.
    pub identity: (String, String),
    /// Who signs the certificates of those who may ask, PEM.
    pub client_authority: String,
    /// Where pods ask for names.
    pub cluster_dns: Option<IpAddr>,
    /// Usually `cluster.local`.
    pub cluster_domain: String,
    /// Labels on top of those that every node has.
    pub labels: BTreeMap<String, String>,
    /// Most pods.
    pub max_pods: u32,
    /// Control group that pods' groups are made in.
    pub cgroup_root: String,
}

impl Options {
    /// The usual ones.
    pub fn new(name: &str, root: PathBuf) -> Options {
        Options {
            name: name.to_owned(),
            addresses: Vec::new(),
            logs: PathBuf::from("/var/log/pods"),
            root,
            listen: SocketAddr::from(([0, 0, 0, 0], 10250)),
            identity: Default::default(),
            client_authority: String::new(),
            cluster_dns: None,
            cluster_domain: "cluster.local".to_owned(),
            labels: BTreeMap::new(),
            max_pods: 110,
            cgroup_root: "/kubepods".to_owned(),
        }
    }

    fn address(&self) -> String {
        let first = self.addresses.first();
        first.map(IpAddr::to_string).unwrap_or_default()
    }
}

/// Why a node can't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTPS interface.
    #[error("listen on {address} for the API server: is another node running here?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its certificates.
    #[error("read the node's certificates: {0}")]
    Certificates(String),
    /// A folder.
    #[error("make {}", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What all parts of a node share.
pub(crate) struct Node {
    pub api: Arc<dyn Api>,
    pub cri: Arc<dyn Cri>,
    pub options: Options,
    pub recorder: Recorder,
    pub objects: Objects,
    pub volumes: Volumes,
    pub machine: machine::Machine,
}

/// Runs a node until `stop`. Pods go on then: a later run takes them over.
///
/// # Errors
/// What keeps it from starting. What fails later is logged and tried again.
pub async fn run(
    api: Arc<dyn Api>,
    cri: Arc<dyn Cri>,
    options: Options,
    stop: CancellationToken,
) -> Result<(), Error> {
    for folder in [options.root.join("pods"), options.logs.clone()] {
        std::fs::create_dir_all(&folder).map_err(|source| Error::Folder {
            path: folder,
            source,
        })?;
    }
    let server = server::Server::bind(&options).await?;
    let (recorder, recording) = events::channel(api.clone(), &options.name);
    let node = Arc::new(Node {
        objects: Objects::new(api.clone()),
        volumes: Volumes::new(options.root.clone()),
        machine: machine::Machine::look(&options.root),
        api,
        cri,
        recorder,
        options,
    });
    let pods = pods::Pods::new(node.clone());
    tokio::select! {
        () = recording => {}
        () = register::run(&node, server.port()) => {}
        () = pods.run() => {}
        () = server.serve(node.clone(), pods.clone()) => {}
        () = stop.cancelled() => {}
    }
    Ok(())
}
