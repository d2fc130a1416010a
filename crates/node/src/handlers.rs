//! What is asked of containers from outside: commands, HTTP requests, connections. For probes and for hooks.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{
    Container, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use tokio::net::TcpStream;
use wharf_cri::v1;

use crate::Node;
use crate::launch::port;

/// Output of a command that is told.
const OUTPUT_BYTES_MAX: usize = 10 << 10;

/// Whom to ask.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub container: Container,
    pub id: String,
    pub ip: String,
}

impl Place {
    fn address(&self, host: Option<&str>, number: u16) -> Result<SocketAddr, String> {
        let host = host.filter(|host| !host.is_empty()).unwrap_or(&self.ip);
        let ip = host
            .parse()
            .map_err(|_| format!("{host:?} is not an address"))?;
        Ok(SocketAddr::new(ip, number))
    }
}

/// Runs a probe once; the error is what it says of the container.
pub(crate) async fn probe(node: &Node, place: &Place, probe: &Probe) -> Result<(), String> {
    let limit = u64::try_from(probe.timeout_seconds.unwrap_or(1))
        .unwrap_or(1)
        .max(1);
    let limit = Duration::from_secs(limit);
    if let Some(exec) = &probe.exec {
        let words = exec.command.clone().unwrap_or_default();
        return command(node, place, words, limit).await;
    }
    let asked = async {
        if let Some(get) = &probe.http_get {
            http_get(place, get).await
        } else if let Some(socket) = &probe.tcp_socket {
            tcp(place, socket).await
        } else if let Some(grpc) = &probe.grpc {
            grpc_health(place, grpc).await
        } else {
            Ok(())
        }
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(outcome) => outcome,
        Err(_) => Err("context deadline exceeded (the probe's time is over)".to_owned()),
    }
}

/// Runs a hook.
pub(crate) async fn hook(
    node: &Node,
    place: &Place,
    hook: &LifecycleHandler,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let words = exec.command.clone().unwrap_or_default();
        return command(node, place, words, limit).await;
    }
    let asked = async {
        if let Some(get) = &hook.http_get {
            http_get(place, get).await
        } else if let Some(socket) = &hook.tcp_socket {
            tcp(place, socket).await
        } else if let Some(sleep) = &hook.sleep {
            let seconds = u64::try_from(sleep.seconds).unwrap_or_default();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(())
        } else {
            Ok(())
        }
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(outcome) => outcome,
        Err(_) => Err("the hook did not end in time".to_owned()),
    }
}

async fn command(
    node: &Node,
    place: &Place,
    words: Vec<String>,
    limit: Duration,
) -> Result<(), String> {
    let request = v1::ExecSyncRequest {
        container_id: place.id.clone(),
        cmd: words,
        timeout: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
    };
    match node.cri.exec_sync(request).await {
        Ok(answer) if answer.exit_code == 0 => Ok(()),
        Ok(answer) => {
            let mut output = answer.stdout;
            output.extend(answer.stderr);
            output.truncate(OUTPUT_BYTES_MAX);
            Err(String::from_utf8_lossy(&output).into_owned())
        }
        Err(status) => Err(format!(
            "command timed out or could not be run: {}",
            status.message()
        )),
    }
}

async fn tcp(place: &Place, socket: &TCPSocketAction) -> Result<(), String> {
    let number = port(&place.container, &socket.port)
        .ok_or_else(|| format!("there is no port {:?}", socket.port))?;
    let address = place.address(socket.host.as_deref(), number)?;
    TcpStream::connect(address)
        .await
        .map(drop)
        .map_err(|error| format!("dial tcp {address}: connect: {error}"))
}

async fn http_get(place: &Place, get: &HTTPGetAction) -> Result<(), String> {
    let number = port(&place.container, &get.port)
        .ok_or_else(|| format!("there is no port {:?}", get.port))?;
    let address = place.address(get.host.as_deref(), number)?;
    let path = get.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let secure = get.scheme.as_deref() == Some("HTTPS");
    let scheme = if secure { "https" } else { "http" };
    let url = format!("{scheme}://{address}{path}");
    let failed = |error: &dyn std::fmt::Display| format!("Get {url:?}: {error}");
    let mut request = http::Request::get(&path).header(http::header::ACCEPT, "*/*");
    let mut has_host = false;
    let mut has_agent = false;
    for header in get.http_headers.iter().flatten() {
        has_host |= header.name.eq_ignore_ascii_case("host");
        has_agent |= header.name.eq_ignore_ascii_case("user-agent");
        request = request.header(header.name.as_str(), header.value.as_str());
    }
    if !has_host {
        request = request.header(http::header::HOST, address.to_string());
    }
    if !has_agent {
        request = request.header(http::header::USER_AGENT, "kube-probe/1.37");
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("Get {url:?}: dial tcp {address}: connect: {error}"))?;
    let status = match secure {
        false => ask(TokioIo::new(stream), request).await,
        true => {
            let stream = crate::server::unverified(stream)
                .await
                .map_err(|error| failed(&error))?;
            ask(TokioIo::new(stream), request).await
        }
    };
    let status = status.map_err(|error| failed(&error))?;
    match status.as_u16() {
        200..400 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

async fn ask<S>(
    stream: S,
    request: http::Request<Empty<Bytes>>,
) -> Result<http::StatusCode, hyper::Error>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    driver.abort();
    Ok(answer?.status())
}

/// The health protocol of gRPC: one call, whose answer is one field.
async fn grpc_health(place: &Place, grpc: &GRPCAction) -> Result<(), String> {
    let number = u16::try_from(grpc.port).map_err(|_| format!("there is no port {}", grpc.port))?;
    let address = place.address(None, number)?;
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("dial tcp {address}: connect: {error}"))?;
    let service = grpc.service.as_deref().unwrap_or_default();
    crate::probes::grpc::check(stream, address, service).await
}
