//! `healthCheckNodePort`: a load balancer in front of the cluster asks each node whether it has endpoints.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use wharf_client::Key;

/// How long a client may take for its question and for taking the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients served at once, at one port.
const CLIENTS_MAX: usize = 64;
/// Longest question.
const QUESTION_BYTES_MAX: usize = 8 * 1024;
/// How long to wait until a port that is taken, or descriptors that lack, are tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Servers by service.
#[derive(Default)]
pub(crate) struct Health {
    servers: HashMap<Key, Server>,
}

struct Server {
    port: u16,
    endpoints: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Health {
    /// Serves this number of endpoints at this port, or nothing.
    pub(crate) fn set(&mut self, key: &Key, asked: Option<(u16, usize)>) {
        let Some((port, endpoints)) = asked else {
            self.servers.remove(key);
            return;
        };
        if let Some(server) = self.servers.get(key).filter(|server| server.port == port) {
            server.endpoints.store(endpoints, Ordering::Relaxed);
            return;
        }
        self.servers.remove(key);
        let endpoints = Arc::new(AtomicUsize::new(endpoints));
        let task = tokio::spawn(serve(key.clone(), port, endpoints.clone()));
        let server = Server {
            port,
            endpoints,
            task,
        };
        self.servers.insert(key.clone(), server);
    }
}

async fn bind(port: u16) -> std::io::Result<TcpListener> {
    // A socket of IPv6 serves both families, where there is IPv6.
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await,
    }
}

async fn serve(key: Key, port: u16, endpoints: Arc<AtomicUsize>) {
    let listener = loop {
        match bind(port).await {
            Ok(listener) => break listener,
            Err(error) => {
                tracing::warn!(service = %key, port, %error, "the health check's port can't be used");
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut under_way = tokio::task::JoinSet::new();
    loop {
        while under_way.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        // One too many is closed at once.
        let Ok(permit) = clients.clone().try_acquire_owned() else {
            continue;
        };
        let answer = answer(&key, endpoints.load(Ordering::Relaxed));
        under_way.spawn(async move {
            let _ = tokio::time::timeout(PATIENCE, reply(stream, &answer)).await;
            drop(permit);
        });
    }
}

/// 200 where there are endpoints, 503 where there is none; the words are kube-proxy's.
fn answer(key: &Key, endpoints: usize) -> String {
    let status = if endpoints > 0 {
        "200 OK"
    } else {
        "503 Service Unavailable"
    };
    let body = json!({
        "service": {"namespace": key.namespace, "name": key.name},
        "localEndpoints": endpoints,
        "serviceProxyHealthy": true,
    });
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\
         X-Load-Balancing-Endpoint-Weight: {endpoints}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// The answer is the same whatever is asked; it comes when the question has ended.
async fn reply(mut stream: TcpStream, answer: &str) -> std::io::Result<()> {
    let mut question = Vec::new();
    let mut buffer = [0; 1024];
    while !question.windows(4).any(|four| four == b"\r\n\r\n") {
        let length = stream.read(&mut buffer).await?;
        if length == 0 || question.len() > QUESTION_BYTES_MAX {
            return Ok(());
        }
        question.extend_from_slice(&buffer[..length]);
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
