//! Requests to others: webhooks by URL or by service, over TLS with the authority that their configuration names.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wharf_kube_types::object;

use crate::api::Api;

const ANSWER_BYTES_MAX: usize = 3 << 20;

/// Where a client configuration points.
struct Target {
    /// Host name for TLS and the `Host` header.
    host: String,
    /// Where to connect: an address, or a name to resolve.
    connect: String,
    /// Host and port, for messages.
    shown: String,
    path: String,
}

fn target(api: &Api, client: &Value) -> Result<Target, String> {
    if let Some(url) = client["url"].as_str() {
        let rest = url.strip_prefix("https://").ok_or("the URL is not https")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let named = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let connect = if named == host {
            format!("{host}:443")
        } else {
            host.to_owned()
        };
        return Ok(Target {
            host: named.trim_matches(['[', ']']).to_owned(),
            connect,
            shown: host.to_owned(),
            path: format!("/{path}"),
        });
    }
    let service = &client["service"];
    let (name, namespace) = (
        object::text(service, "name"),
        object::text(service, "namespace"),
    );
    let port = object::int(service, "port").unwrap_or(443);
    let address = endpoint(api, namespace, name, port)?;
    let path = object::text(service, "path").trim_start_matches('/');
    Ok(Target {
        host: format!("{name}.{namespace}.svc"),
        connect: address.to_string(),
        shown: format!("{name}.{namespace}.svc:{port}"),
        path: format!("/{path}"),
    })
}

/// A ready endpoint of a service.
fn endpoint(api: &Api, namespace: &str, name: &str, port: i64) -> Result<SocketAddr, String> {
    let missing = || format!("no endpoints available for service {namespace}/{name}");
    let services = api.builtin("", "services").map_err(|s| s.message)?;
    let service = services.cache.get(&services.key(namespace, name));
    let service = service
        .ok_or_else(|| format!("service {name:?} not found"))?
        .record
        .to_value();
    let ports = object::list(&service, "spec.ports");
    let wanted = ports.iter().find(|p| object::int(p, "port") == Some(port));
    let wanted = object::text(wanted.ok_or_else(missing)?, "name").to_owned();
    let slices = api
        .builtin("discovery.k8s.io", "endpointslices")
        .map_err(|s| s.message)?;
    for slice in slices.cache.all(&slices.range(namespace)) {
        if slice.label("kubernetes.io/service-name") != Some(name) {
            continue;
        }
        let slice = slice.record.to_value();
        let ports = object::list(&slice, "ports");
        let port = ports
            .iter()
            .find(|p| object::text(p, "name") == wanted)
            .and_then(|p| object::int(p, "port"));
        let ready = object::list(&slice, "endpoints")
            .iter()
            .filter(|e| e["conditions"]["ready"] != false);
        let address = ready
            .flat_map(|e| object::list(e, "addresses"))
            .find_map(Value::as_str);
        if let (Some(port), Some(address)) = (port, address)
            && let (Ok(ip), Ok(port)) = (address.parse(), u16::try_from(port))
        {
            return Ok(SocketAddr::new(ip, port));
        }
    }
    Err(missing())
}

fn tls(client: &Value) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let bundle = client["caBundle"].as_str().unwrap_or_default();
    let pem = STANDARD
        .decode(bundle)
        .map_err(|e| format!("caBundle: {e}"))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| format!("caBundle: {e}"))?;
        roots
            .add(certificate)
            .map_err(|e| format!("caBundle: {e}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// Posts a value to where a webhook's `clientConfig` points, which is told how long it has, and gives the answer.
///
/// # Errors
/// What went wrong, in words.
pub async fn post_within(
    api: &Api,
    client: &Value,
    value: &Value,
    limit: Duration,
) -> Result<Value, String> {
    let query = format!("timeout={}s", limit.as_secs());
    let posted = send(api, client, &query, value);
    match tokio::time::timeout(limit, posted).await {
        Ok(answer) => answer,
        Err(_) => {
            let target = target(api, client)?;
            Err(format!(
                "Post \"https://{}{}?{query}\": context deadline exceeded",
                target.shown, target.path
            ))
        }
    }
}

/// Posts a value to where a webhook's `clientConfig` points, and gives the answer.
///
/// # Errors
/// What went wrong, in words.
pub async fn post(api: &Api, client: &Value, value: &Value) -> Result<Value, String> {
    send(api, client, "", value).await
}

async fn send(api: &Api, client: &Value, query: &str, value: &Value) -> Result<Value, String> {
    let target = target(api, client)?;
    let path = match query {
        "" => target.path.clone(),
        query if target.path.contains('?') => format!("{}&{query}", target.path),
        query => format!("{}?{query}", target.path),
    };
    let fail = |e: &dyn std::fmt::Display| format!("Post \"https://{}{path}\": {e}", target.shown);
    let socket = TcpStream::connect(&target.connect).await.map_err(|e| {
        let why = match e.kind() {
            std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            _ => e.to_string(),
        };
        fail(&format!("dial tcp {}: {why}", target.connect))
    })?;
    let name = ServerName::try_from(target.host.clone()).map_err(|e| fail(&e))?;
    let connector = TlsConnector::from(Arc::new(tls(client)?));
    let stream = connector
        .connect(name, socket)
        .await
        .map_err(|e| fail(&e))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| fail(&e))?;
    let connection = tokio::spawn(connection);
    let request = http::Request::post(&path)
        .header("host", &target.host)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .body(Full::new(bytes::Bytes::from(value.to_string())))
        .map_err(|e| fail(&e))?;
    let response = sender.send_request(request).await.map_err(|e| fail(&e))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await;
    connection.abort();
    let body = body.map_err(|e| fail(&e))?.to_bytes();
    if !status.is_success() {
        return Err(fail(&format!("the answer is {status}")));
    }
    serde_json::from_slice(&body).map_err(|e| fail(&e))
}
