//! Load on an API server of its own process, over TLS with durable writes: creates, GETs, LISTs and watchers.
//!
//! `cargo bench -p wharf-apiserver --bench load` prints one line for each row of the goals; the client runs on the same
//! machine and takes its share of it.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wharf_apiserver::{Config, Datastore, Server};

const OBJECTS: usize = 12_600;
const PATH: &str = "/api/v1/namespaces/default/configmaps";

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match args.get(1).map(String::as_str) {
        Some("serve") => runtime.block_on(serve(&args[2])),
        _ => runtime.block_on(measure()),
    }
}

async fn serve(folder: &str) {
    let config = Config {
        data_root: folder.into(),
        listen: "127.0.0.1:0".parse().unwrap(),
        datastore: Datastore::Embedded,
        kubeconfig_out: None,
    };
    let server = Server::open(config).await.unwrap();
    println!("{}", server.address());
    server.serve(std::future::pending()).await;
}

struct Target {
    child: Child,
    address: SocketAddr,
    tls: TlsConnector,
    ticks: AtomicUsize,
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(folder: &Path) -> Target {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let kubeconfig = std::fs::read_to_string(folder.join("admin.kubeconfig")).unwrap();
    let field = |name: &str| {
        let line = kubeconfig.lines().find(|l| l.contains(name)).unwrap();
        let text = line.rsplit(' ').next().unwrap();
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap()
    };
    let certificate = |pem: &[u8]| CertificateDer::from_pem_slice(pem).unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(certificate(&field("certificate-authority-data")))
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(&field("client-key-data")).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate(&field("client-certificate-data"))], key)
        .unwrap();
    Target {
        child,
        address: line.trim().parse().unwrap(),
        tls: TlsConnector::from(Arc::new(config)),
        ticks: AtomicUsize::new(0),
    }
}

type Sender = SendRequest<Full<Bytes>>;

async fn connect(target: &Target) -> Sender {
    let socket = TcpStream::connect(target.address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = target.tls.connect(name, socket).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut Sender, method: &str, path: &str, body: String) -> (u16, usize) {
    sender.ready().await.unwrap();
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .header("user-agent", "load/1")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let code = response.status().as_u16();
    let mut body = response.into_body();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        size += frame.unwrap().into_data().map_or(0, |d| d.len());
    }
    (code, size)
}

fn object(name: &str) -> String {
    let text = "x".repeat(700);
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"app":"load"}}}},"data":{{"text":"{text}"}}}}"#
    )
}

/// Requests a second with some connections; each request gets its number.
async fn rate(
    target: &Target,
    connections: usize,
    total: usize,
    make: impl Fn(usize) -> (&'static str, String, String) + Send + Sync + 'static,
) -> (f64, usize) {
    let (next, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let make = Arc::new(make);
    let mut senders = Vec::new();
    for _ in 0..connections {
        senders.push(connect(target).await);
    }
    let begin = Instant::now();
    let mut tasks = Vec::new();
    for mut sender in senders {
        let (next, bytes, make) = (next.clone(), bytes.clone(), make.clone());
        tasks.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return;
                }
                let (method, path, body) = make(number);
                let (code, size) = ask(&mut sender, method, &path, body).await;
                assert!(code < 300, "{method} {path}: {code}");
                bytes.fetch_add(size, Ordering::Relaxed);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    (
        total as f64 / begin.elapsed().as_secs_f64(),
        bytes.load(Ordering::Relaxed),
    )
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Microseconds of processor time that the server took since it was asked last, for each of some requests.
fn cost(target: &Target, requests: usize) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", target.child.id())).unwrap();
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: usize = fields[11].parse::<usize>().unwrap() + fields[12].parse::<usize>().unwrap();
    let before = target.ticks.swap(ticks, Ordering::Relaxed);
    (ticks - before) as f64 * 1e4 / requests as f64
}

fn resident(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find(|l| l.starts_with("VmRSS"))
        .unwrap_or_default();
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .unwrap_or("0")
        .parse()
        .unwrap_or_default();
    kib / 1024.0
}

async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let target = start(folder.path());
    println!(
        "ready from an empty disk: {:.0} ms (load {})",
        begin.elapsed().as_secs_f64() * 1e3,
        load()
    );
    cost(&target, 1);
    println!("idle: {:.1} MB resident", resident(target.child.id()));
    let create =
        |n: usize, prefix: &str| ("POST", PATH.to_owned(), object(&format!("{prefix}-{n}")));
    let (one, _) = rate(&target, 1, 2_600, move |n| create(n, "one")).await;
    println!(
        "creates, 1 connection: {one:.0}/s, {:.0} µs each of the server (load {})",
        cost(&target, 2_600),
        load()
    );
    let (many, _) = rate(&target, 32, OBJECTS - 2_600, move |n| create(n, "many")).await;
    println!(
        "creates, 32 connections: {many:.0}/s, {:.0} µs each of the server (load {})",
        cost(&target, OBJECTS - 2_600),
        load()
    );
    println!(
        "{OBJECTS} objects: {:.1} MB resident",
        resident(target.child.id())
    );
    let get = |n: usize| ("GET", format!("{PATH}/many-{}", n % 10_000), String::new());
    let (gets, _) = rate(&target, 32, 60_000, get).await;
    println!(
        "GET, 32 connections: {gets:.0}/s, {:.0} µs each of the server (load {})",
        cost(&target, 60_000),
        load()
    );
    let list = |_| ("GET", PATH.to_owned(), String::new());
    let (lists, bytes) = rate(&target, 8, 120, list).await;
    let each = bytes as f64 / 120.0 / 1e6;
    println!(
        "LIST of {OBJECTS} ({each:.1} MB), 8 connections: {lists:.1}/s, {:.0} MB/s (load {})",
        lists * each,
        load()
    );
    watchers(&target).await;
    println!("at the end: {:.1} MB resident", resident(target.child.id()));
}

/// 1,000 watchers of one namespace see 1,000 changes each.
async fn watchers(target: &Target) {
    const WATCHERS: usize = 1_000;
    const EVENTS: usize = 1_000;
    let ready = Arc::new(tokio::sync::Semaphore::new(0));
    let mut tasks = Vec::new();
    for _ in 0..WATCHERS {
        let mut sender = connect(target).await;
        let ready = ready.clone();
        tasks.push(tokio::spawn(async move {
            let request = http::Request::get("/api/v1/namespaces/kube-public/configmaps?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
                .header("host", "127.0.0.1")
                .body(Full::default())
                .unwrap();
            let mut body = sender.send_request(request).await.unwrap().into_body();
            let mut seen = 0;
            let mut counted = false;
            while seen < EVENTS {
                let Some(Ok(frame)) = body.frame().await else { break };
                let data = frame.into_data().unwrap_or_default();
                if !counted {
                    counted = true;
                    ready.add_permits(1);
                    continue;
                }
                seen += data.iter().filter(|b| **b == b'\n').count();
            }
            seen
        }));
    }
    ready.acquire_many(WATCHERS as u32).await.unwrap().forget();
    let begin = Instant::now();
    let path = "/api/v1/namespaces/kube-public/configmaps";
    rate(target, 16, EVENTS, move |n| {
        ("POST", path.to_owned(), object(&format!("w-{n}")))
    })
    .await;
    let mut total = 0;
    for task in tasks {
        total += tokio::time::timeout(Duration::from_secs(120), task)
            .await
            .unwrap()
            .unwrap();
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{WATCHERS} watchers x {EVENTS} events: {seconds:.2} s, {:.0} events/s, {total} seen (load {})",
        total as f64 / seconds,
        load()
    );
}
