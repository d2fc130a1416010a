//! For tests: a whole server in a temporary folder, a client for it, and HTTPS servers of others that do as a test says.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::api::Api;
use crate::authn::User;
use crate::certificates::{Authority, Pair, Subject};
use crate::relay::dial::{Believe, Destination, Guard, Stream, dial, tls};
use crate::relay::forward::{Body, full};
use crate::server::{Config, Datastore, Server};

/// A server that runs for as long as this lives.
pub struct Cluster {
    /// Its inside.
    pub api: Arc<Api>,
    /// Where it listens.
    pub address: SocketAddr,
    folder: tempfile::TempDir,
    admin: Pair,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub code: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The message of a `Status`.
    pub fn message(&self) -> String {
        self.value()["message"]
            .as_str()
            .unwrap_or(&self.text)
            .to_owned()
    }
}

const NO_GUARD: Guard = Guard {
    own_port: 0,
    global_only: false,
};

impl Cluster {
    /// Starts one.
    pub async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            data_root: folder.path().to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            datastore: Datastore::Embedded,
            kubeconfig_out: None,
        };
        let server = Server::open(config).await.unwrap();
        let api = server.api().clone();
        api.relay.allow_loopback();
        let address = server.address();
        let subject = Subject {
            name: "admin".to_owned(),
            organisations: vec!["system:masters".to_owned()],
            hosts: Vec::new(),
        };
        let admin = api.authority.keep(folder.path(), "test", &subject).unwrap();
        let task = tokio::spawn(server.serve(std::future::pending()));
        Self {
            api,
            address,
            folder,
            admin,
            task,
        }
    }

    /// A certificate of the cluster's authority for a server at these names.
    pub fn certificate(&self, hosts: &[&str]) -> Pair {
        let subject = Subject {
            name: hosts[0].to_owned(),
            organisations: Vec::new(),
            hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
        };
        let file = hosts.join("-");
        let keys = self.folder.path();
        self.api.authority.keep(keys, &file, &subject).unwrap()
    }

    /// A certificate of an authority that nobody knows.
    pub fn strange_certificate(&self, hosts: &[&str]) -> Pair {
        let keys = self.folder.path();
        let other = Authority::open(keys, "strange", "strange").unwrap();
        let subject = Subject {
            name: hosts[0].to_owned(),
            organisations: Vec::new(),
            hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
        };
        other.keep(keys, "strange-leaf", &subject).unwrap()
    }

    /// The authority in base64, as `caBundle` wants it.
    pub fn bundle(&self) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(&self.api.authority.pem)
    }

    /// A connection, as the administrator unless a test says otherwise.
    pub async fn connect(&self, admin: bool) -> Box<dyn Stream> {
        let believe = Believe::Authorities(&self.api.authority.pem);
        let destination = Destination {
            host: "127.0.0.1".to_owned(),
            port: self.address.port(),
            name: None,
            tls: Some(tls(believe, admin.then_some(&self.admin)).unwrap()),
            path: String::new(),
        };
        dial(&destination, NO_GUARD).await.unwrap()
    }

    /// Sends a request and gives the answer's head with its body still to come.
    pub async fn begin(&self, request: Request<Full<Bytes>>, admin: bool) -> Response<Incoming> {
        let io = TokioIo::new(self.connect(admin).await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.unwrap()
    }

    /// Sends a request and gives the whole answer.
    pub async fn send(&self, request: Request<Full<Bytes>>, admin: bool) -> Answer {
        whole(self.begin(request, admin).await).await
    }

    /// Sends a value as the administrator.
    pub async fn ask(&self, method: Method, path: &str, value: &Value) -> Answer {
        let media = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = match value {
            Value::Null => Bytes::new(),
            value => value.to_string().into(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "test")
            .header("content-type", media)
            .body(Full::new(body))
            .unwrap();
        self.send(request, true).await
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &Value::Null).await
    }

    /// Makes an object that must be accepted.
    #[track_caller]
    pub fn make<'a>(
        &'a self,
        path: &'a str,
        value: Value,
    ) -> impl Future<Output = Value> + Send + 'a {
        let at = std::panic::Location::caller();
        async move {
            let answer = self.ask(Method::POST, path, &value).await;
            assert!(answer.code < 300, "{at}: {answer:?}");
            answer.value()
        }
    }

    /// Lets a service have an endpoint on this machine, which nobody could write.
    pub async fn endpoint(&self, service: &str, port_name: &str, port: u16, pod: &str) {
        let mut endpoint =
            serde_json::json!({"addresses": ["127.0.0.1"], "conditions": {"ready": true}});
        if !pod.is_empty() {
            endpoint["targetRef"] =
                serde_json::json!({"kind": "Pod", "name": pod, "namespace": "default"});
        }
        let slice = serde_json::json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": service, "namespace": "default", "uid": "u",
                "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "endpoints": [endpoint],
            "ports": [{"name": port_name, "port": port, "protocol": "TCP"}]});
        let record = crate::object::Record::encode(&slice, 0);
        let key = format!("discovery.k8s.io/endpointslices/default/{service}");
        let written = self
            .api
            .commit(&key, wharf_store::Expect::Absent, Some(&record));
        let revision = written.await.unwrap();
        let mut applied = self.api.caches.changes();
        applied.wait_for(|seen| *seen >= revision).await.unwrap();
    }

    /// Replaces the status of an object.
    pub async fn set_status(&self, path: &str, status: &Value) {
        let patch = serde_json::json!({"status": status});
        let answer = self
            .ask(Method::PATCH, &format!("{path}/status"), &patch)
            .await;
        assert_eq!(answer.code, 200, "{answer:?}");
    }

    /// Reads until the answer is as wished; the server is woken by its own events, so this ends soon or never.
    pub async fn until(&self, path: &str, wished: impl Fn(&Answer) -> bool) -> Answer {
        let limit = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let changes = &mut self.api.caches.changes();
            changes.borrow_and_update();
            let answer = self.get(path).await;
            if wished(&answer) {
                return answer;
            }
            let now = tokio::time::Instant::now();
            assert!(now < limit, "{path} stays {answer:?}");
            // Not every state is an object's: discovery changes a moment after the object that causes it.
            let soon = Duration::from_millis(100);
            let _ = tokio::time::timeout(soon, changes.changed()).await;
        }
    }
}

/// The whole of an answer.
pub async fn whole(answer: Response<Incoming>) -> Answer {
    let (parts, body) = answer.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        code: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// What a test's server does with a request.
pub type Handling = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Someone else's server.
pub struct Other {
    /// Where it listens.
    pub address: SocketAddr,
    /// The heads of the requests that came: method, path with query, headers as lines.
    pub seen: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Other {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Other {
    /// The last request's head.
    pub fn last(&self) -> String {
        self.seen
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap_or_default()
    }

    /// How many requests came.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn head(request: &Request<Incoming>) -> String {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    if let Some(user) = request.extensions().get::<Option<User>>() {
        let name = user.as_ref().map_or("nobody", |u| u.name.as_str());
        text.push_str(&format!("user: {name}\n"));
    }
    text
}

/// Runs a server over TLS (or without, where there is no pair) that asks for client certificates of an authority.
pub async fn other<F>(pair: Option<&Pair>, clients: &str, handler: F) -> Other
where
    F: Fn(Request<Incoming>) -> Handling + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tls = pair.map(|pair| TlsAcceptor::from(crate::serve::tls(pair, clients).unwrap()));
    let handler = Arc::new(handler);
    let log = seen.clone();
    let task = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (tls, handler, log) = (tls.clone(), handler.clone(), log.clone());
            tokio::spawn(async move {
                let (io, user): (Box<dyn Stream>, _) = match tls {
                    None => (Box::new(socket), None),
                    Some(tls) => {
                        let Ok(stream) = tls.accept(socket).await else {
                            return;
                        };
                        let chain = stream.get_ref().1.peer_certificates();
                        let user = chain.and_then(|c| crate::authn::certificate::user(c.first()?));
                        (Box::new(stream), user)
                    }
                };
                let service = service_fn(move |mut request: Request<Incoming>| {
                    request.extensions_mut().insert(user.clone());
                    log.lock().unwrap().push(head(&request));
                    let handling = handler(request);
                    async move { Ok::<_, std::convert::Infallible>(handling.await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(io), service)
                    .with_upgrades()
                    .await;
            });
        }
    });
    Other {
        address,
        seen,
        task,
    }
}

/// An answer with a text.
pub fn says(code: u16, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text.into()));
    *response.status_mut() = code.try_into().unwrap();
    response
}

/// An answer with a value.
pub fn says_value(value: &Value) -> Response<Body> {
    let mut response = says(200, value.to_string());
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

/// The body of a request as JSON.
pub async fn read_value(request: Request<Incoming>) -> Value {
    let bytes = request.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}
