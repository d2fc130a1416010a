//! A server in one piece: opened on a data root, then served until it is told to end.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;
use wharf_store::{Embedded, Etcd, EtcdOptions, Options, Store};

use crate::api::Api;
use crate::authn::jwt::SigningKey;
use crate::authn::service_account::Issuer;
use crate::authn::{Authenticator, MASTERS};
use crate::cache::Caches;
use crate::certificates::{Authority, Pair, Subject, lasting_key, write_file};
use crate::dispatch::Follower;
use crate::local::Local;
use crate::registry::Registry;
use crate::relay::{NodeTrust, Relay};
use crate::{bootstrap, certificates, controllers, kubeconfig, seal, serve};

/// How often certificates are looked at for renewal.
const RENEWAL_EVERY: Duration = Duration::from_secs(12 * 3600);
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// How a server is to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of everything that lasts.
    pub data_root: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where objects are kept.
    pub datastore: Datastore,
    /// Where to write the administrator's kubeconfig besides the data root.
    pub kubeconfig_out: Option<PathBuf>,
}

/// Where objects are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Datastore {
    /// In one file of the data root.
    #[default]
    Embedded,
    /// In an etcd with members at these URLs. Several servers may share it if their data roots have the same `pki`.
    Etcd(Vec<String>),
}

impl std::str::FromStr for Datastore {
    type Err = String;

    /// `embedded`, or `etcd://HOST:PORT,HOST:PORT`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        let members = text
            .strip_prefix("etcd://")
            .filter(|members| !members.is_empty())
            .ok_or("neither \"embedded\" nor \"etcd://HOST:PORT,…\"")?;
        let urls = members.split(',').map(|member| format!("http://{member}"));
        Ok(Self::Etcd(urls.collect()))
    }
}

/// Why a server can't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error("open the store")]
    Store(#[from] wharf_store::Error),
    /// Keys and certificates.
    #[error("prepare keys and certificates")]
    Certificates(#[from] certificates::Error),
    /// TLS.
    #[error("prepare TLS")]
    Tls(#[from] rustls::Error),
    /// The signing key of service account tokens.
    #[error(
        "read the key of service account tokens: {0}; move the file away to have a new one made"
    )]
    SigningKey(String),
    /// The address.
    #[error("listen on {address}: choose another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What every cluster has could not be made.
    #[error("make the default objects: {0}")]
    Bootstrap(String),
}

/// An open server.
#[derive(Debug)]
pub struct Server {
    api: Arc<Api>,
    listener: TcpListener,
    address: SocketAddr,
    tls: watch::Sender<Arc<ServerConfig>>,
    config: Config,
}

async fn store(config: &Config) -> Result<Arc<dyn Store>, Error> {
    let history = Options::default();
    Ok(match &config.datastore {
        Datastore::Embedded => Arc::new(Embedded::open(&database(&config.data_root), history)?),
        Datastore::Etcd(endpoints) => Arc::new(
            Etcd::open(EtcdOptions {
                endpoints: endpoints.clone(),
                prefix: "/wharf/".to_owned(),
                history,
            })
            .await?,
        ),
    })
}

fn keys_folder(config: &Config) -> PathBuf {
    config.data_root.join("pki")
}

/// The store's file in a data root.
pub fn database(data_root: &Path) -> PathBuf {
    data_root.join("store.redb")
}

fn hosts(address: SocketAddr) -> Vec<String> {
    let mut hosts: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        "::1",
        "10.96.0.1",
    ]
    .map(str::to_owned)
    .into();
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy().into_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if !name.is_empty() && name.chars().all(plain) && !hosts.contains(&name) {
        hosts.push(name);
    }
    let own = match address.ip() {
        ip if ip.is_unspecified() => outward(),
        ip => Some(ip),
    };
    if let Some(ip) = own
        .map(|ip| ip.to_string())
        .filter(|ip| !hosts.contains(ip))
    {
        hosts.push(ip);
    }
    hosts
}

/// The address from which this machine talks to others; nothing is sent.
fn outward() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn subject(address: SocketAddr) -> Subject {
    Subject {
        name: "kube-apiserver".to_owned(),
        hosts: hosts(address),
        ..Subject::default()
    }
}

impl Server {
    /// Opens store, keys and address, and makes what is missing. Blocks for the store's opening.
    ///
    /// # Errors
    /// What can't be opened, and what to do.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let listener = TcpListener::bind(config.listen);
        let listener = listener.await.map_err(|source| Error::Listen {
            address: config.listen,
            source,
        })?;
        let address = listener.local_addr().unwrap_or(config.listen);
        let store = store(&config).await?;
        let keys = keys_folder(&config);
        make_private(&keys)?;
        seal::prepare(&keys)?;
        let authority = Arc::new(Authority::open(&keys, "ca", "wharf-ca")?);
        let front = front_proxy(&keys)?;
        let pair = authority.keep(&keys, "server", &subject(address))?;
        let tls = serve::tls(&pair, &authority.pem)?;
        let relay = Relay::new(node_client(&authority, &keys)?, &authority.pem, front)?;
        relay.set_own_port(address.port());
        let authenticator = authenticator(&config, &keys)?;
        let describe = |caches: &Caches| {
            // Describing is a side effect of making a registry.
            let _ = Registry::new(caches, Vec::new(), 0);
        };
        let (caches, follower) = Follower::open(&*store, describe).await?;
        let registry = controllers::registry(&caches, 1);
        tokio::spawn(follower.run(store.clone(), caches.clone()));
        let api = Arc::new(Api::new(
            store,
            caches,
            registry,
            authenticator,
            authority,
            relay,
        ));
        let server = Self {
            api,
            listener,
            address,
            tls: watch::Sender::new(tls),
            config,
        };
        let outside = match address.ip() {
            ip if ip.is_unspecified() => outward().unwrap_or(IpAddr::from([127, 0, 0, 1])),
            ip => ip,
        };
        bootstrap::run(&server.api, address.port(), &outside.to_string())
            .await
            .map_err(|status| Error::Bootstrap(status.message))?;
        server.write_kubeconfig()?;
        controllers::start(&server.api);
        Ok(server)
    }

    /// Its inside.
    #[cfg(test)]
    pub(crate) fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// The API for a part of this process that acts as this user: the same authorisation, admission and validation as
    /// for a request from outside, without a connection. Works from the opening on, before and after [`Server::serve`].
    pub fn local(&self, user: &str, groups: &[&str]) -> Arc<dyn wharf_client::Api> {
        Arc::new(Local::new(self.api.clone(), user, groups))
    }

    /// The certificate, in PEM, of the authority that signs clients, nodes and this server.
    pub fn authority(&self) -> &str {
        &self.api.authority.pem
    }

    /// A client's certificate and key, in PEM: for a node `system:node:NAME` in `system:nodes`. Kept in the data root and
    /// renewed when it is asked for again.
    ///
    /// # Errors
    /// The files can't be read or written.
    pub fn client_certificate(
        &self,
        user: &str,
        groups: &[&str],
    ) -> Result<(String, String), Error> {
        let pair = self.client_pair(user, groups)?;
        Ok((pair.certificate, pair.key))
    }

    fn client_pair(&self, user: &str, groups: &[&str]) -> Result<Pair, Error> {
        let subject = Subject {
            name: user.to_owned(),
            organisations: groups.iter().map(|group| (*group).to_owned()).collect(),
            hosts: Vec::new(),
        };
        // Another set of groups is another certificate.
        let digest = Sha256::digest(format!("{user}\n{}", groups.join("\n")).as_bytes());
        let file = format!("client-{}", hex::encode(&digest[..16]));
        let keys = keys_folder(&self.config);
        Ok(self.api.authority.keep(&keys, &file, &subject)?)
    }

    /// A kubeconfig of a client who is this user, for programs on this machine.
    ///
    /// # Errors
    /// The certificate can't be made or kept.
    pub fn kubeconfig_of(&self, user: &str, groups: &[&str]) -> Result<String, Error> {
        let pair = self.client_pair(user, groups)?;
        let authority = &self.api.authority.pem;
        Ok(kubeconfig::write(&self.url(), authority, user, &pair))
    }

    /// The URL for clients on this machine.
    pub fn url(&self) -> String {
        let ip = match self.address.ip() {
            ip if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            ip => ip,
        };
        format!("https://{}", SocketAddr::new(ip, self.address.port()))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The administrator's kubeconfig in the data root.
    pub fn kubeconfig(&self) -> PathBuf {
        self.config.data_root.join("admin.kubeconfig")
    }

    /// Says whose certificates of nodes are believed; at first the cluster's own authority's.
    ///
    /// # Errors
    /// Certificates that are none.
    pub fn trust_nodes(&self, trust: NodeTrust) -> Result<(), Error> {
        Ok(self.api.relay.trust(trust)?)
    }

    /// A certificate and key, in PEM, for the server of a node that has these names and addresses, signed by the
    /// cluster's authority. Kept in the data root and renewed when it is asked for again.
    ///
    /// # Errors
    /// The files can't be read or written.
    pub fn node_certificate(
        &self,
        node: &str,
        hosts: &[String],
    ) -> Result<(String, String), Error> {
        let subject = Subject {
            name: format!("system:node:{node}"),
            organisations: vec!["system:nodes".to_owned()],
            hosts: hosts.to_vec(),
        };
        let file = format!("node-{}", hex::encode(node));
        let keys = keys_folder(&self.config);
        let pair = self.api.authority.keep(&keys, &file, &subject)?;
        Ok((pair.certificate, pair.key))
    }

    fn write_kubeconfig(&self) -> Result<(), Error> {
        let subject = Subject {
            name: "kubernetes-admin".to_owned(),
            organisations: vec![MASTERS.to_owned()],
            hosts: Vec::new(),
        };
        let authority = &self.api.authority;
        let pair = authority.keep(&keys_folder(&self.config), "admin", &subject)?;
        let text = kubeconfig::write(&self.url(), &authority.pem, "kubernetes-admin", &pair);
        write_file(&self.kubeconfig(), text.as_bytes(), 0o600)?;
        if let Some(path) = &self.config.kubeconfig_out {
            write_file(path, text.as_bytes(), 0o600)?;
        }
        Ok(())
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let config = self.tls.subscribe();
        let renewal = self.renew();
        let serving = serve::serve(self.api.clone(), self.listener, config, shutdown);
        tokio::pin!(renewal);
        tokio::select! {
            () = serving => {}
            () = &mut renewal => {}
        }
    }

    /// Looks at the server's certificate from time to time; connections from then on get the new one.
    fn renew(&self) -> impl Future<Output = ()> + use<> {
        let (api, address, tls) = (self.api.clone(), self.address, self.tls.clone());
        let keys = keys_folder(&self.config);
        async move {
            loop {
                tokio::time::sleep(RENEWAL_EVERY).await;
                let renewed = api.authority.keep(&keys, "server", &subject(address));
                let config = renewed.map_err(|e| e.to_string()).and_then(|pair| {
                    serve::tls(&pair, &api.authority.pem).map_err(|e| e.to_string())
                });
                if let Ok((pair, _)) = front_proxy(&keys) {
                    api.relay.renew_front(pair);
                }
                let renewed = node_client(&api.authority, &keys).map_err(|e| e.to_string());
                if let Err(error) =
                    renewed.and_then(|pair| api.relay.renew(pair).map_err(|e| e.to_string()))
                {
                    tracing::error!(%error, "renew the certificate for nodes");
                }
                match config {
                    Ok(config) => {
                        tls.send_replace(config);
                    }
                    Err(error) => tracing::error!(%error, "renew the server's certificate"),
                }
            }
        }
    }
}

/// This server as a client of extension servers, with the authority that they believe.
fn front_proxy(keys: &Path) -> Result<(Pair, String), certificates::Error> {
    let front = Authority::open(keys, "front-proxy-ca", "wharf-front-proxy-ca")?;
    let subject = Subject {
        name: "front-proxy-client".to_owned(),
        ..Subject::default()
    };
    let pair = front.keep(keys, "front-proxy-client", &subject)?;
    Ok((pair, front.pem))
}

/// This server as a client of nodes.
fn node_client(authority: &Authority, keys: &Path) -> Result<Pair, certificates::Error> {
    let subject = Subject {
        name: "kube-apiserver-kubelet-client".to_owned(),
        organisations: vec![MASTERS.to_owned()],
        hosts: Vec::new(),
    };
    authority.keep(keys, "apiserver-kubelet-client", &subject)
}

fn make_private(folder: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.map_err(|source| {
        Error::Certificates(certificates::Error::File {
            operation: "make the folder",
            path: folder.to_owned(),
            source,
        })
    })
}

fn authenticator(config: &Config, keys: &Path) -> Result<Authenticator, Error> {
    let key = lasting_key(keys, "service-account")?;
    let key = SigningKey::from_pkcs8(&key.serialize_der()).map_err(Error::SigningKey)?;
    let issuer = Issuer {
        url: ISSUER.to_owned(),
        audience: ISSUER.to_owned(),
        key,
    };
    // The file is optional.
    let tokens = std::fs::read_to_string(config.data_root.join("tokens.csv")).unwrap_or_default();
    Ok(Authenticator::new(issuer, &tokens))
}

/// Writes a copy of a stopped server's store.
///
/// # Errors
/// The store can't be opened, as when the server runs, or the copy can't be written.
pub fn snapshot(data_root: &Path, to: &Path) -> Result<u64, Error> {
    let store = Embedded::open(&database(data_root), Options::default())?;
    Ok(store.snapshot(to)?)
}
