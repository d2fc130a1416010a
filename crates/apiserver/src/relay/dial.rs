//! Connections to nodes, pods, services and extension servers: where to, as whom, and whom to believe.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certificates::Pair;

const DIAL_LIMIT: Duration = Duration::from_secs(10);
const ADDRESSES_MAX: usize = 8;

/// Whose certificates of servers are believed.
#[derive(Clone, Copy, Debug)]
pub enum Believe<'a> {
    /// Those that these authorities signed, in PEM.
    Authorities(&'a str),
    /// Everyone's.
    Anyone,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The address or name to connect to.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The name in the certificate and the `Host` header, where it is not `host`.
    pub name: Option<String>,
    /// TLS, or plain text.
    pub tls: Option<Arc<ClientConfig>>,
    /// Path and query.
    pub path: String,
}

/// Which addresses are never connected to.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// The port that this server listens on: what it sends to itself would come with its own rights.
    pub own_port: u16,
    /// Only addresses that belong to a network: not this machine's own, nor those of a link.
    pub global_only: bool,
}

impl Destination {
    /// `scheme://host:port/path`, for messages.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority(), self.path)
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        let host = self.name.as_deref().unwrap_or(&self.host);
        if host.contains(':') {
            format!("[{host}]:{}", self.port)
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Whether an address may be the goal of a request whose goal a client chose.
pub fn is_global(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast())
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unicast_link_local()
                || ip.is_multicast())
        }
    }
}

/// An error of a connection in the words of the original.
fn words(address: SocketAddr, error: &std::io::Error) -> String {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    let why = match error.kind() {
        ConnectionRefused => "connect: connection refused".to_owned(),
        HostUnreachable => "connect: no route to host".to_owned(),
        NetworkUnreachable => "connect: network is unreachable".to_owned(),
        TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {address}: {why}")
}

async fn addresses(destination: &Destination) -> Result<Vec<SocketAddr>, String> {
    if let Ok(ip) = destination.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, destination.port)]);
    }
    let host = destination.host.as_str();
    let found = tokio::net::lookup_host((host, destination.port)).await;
    let found = found.map_err(|_| format!("dial tcp: lookup {host}: no such host"))?;
    Ok(found.take(ADDRESSES_MAX).collect())
}

/// Checked on the address that is connected to, not on the name: a name may mean another address a moment later.
fn refused(guard: Guard, socket: &TcpStream, address: SocketAddr) -> bool {
    let itself = socket
        .local_addr()
        .is_ok_and(|own| own.ip() == address.ip());
    (itself && address.port() == guard.own_port) || (guard.global_only && !is_global(address.ip()))
}

async fn socket(destination: &Destination, guard: Guard) -> Result<TcpStream, String> {
    let mut failed = format!("dial tcp: lookup {}: no such host", destination.host);
    for address in addresses(destination).await? {
        if guard.global_only && !is_global(address.ip()) {
            failed = "address not allowed".to_owned();
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(socket) if refused(guard, &socket, address) => {
                failed = "address not allowed".to_owned();
            }
            Ok(socket) => {
                let _ = socket.set_nodelay(true);
                let _ = rustix::net::sockopt::set_socket_keepalive(&socket, true);
                let idle = Duration::from_secs(30);
                let _ = rustix::net::sockopt::set_tcp_keepidle(&socket, idle);
                return Ok(socket);
            }
            Err(error) => failed = words(address, &error),
        }
    }
    Err(failed)
}

/// Connects.
///
/// # Errors
/// In the original's words.
pub async fn dial(destination: &Destination, guard: Guard) -> Result<Box<dyn Stream>, String> {
    let dialled = async {
        let socket = socket(destination, guard).await?;
        let Some(config) = &destination.tls else {
            return Ok(Box::new(socket) as Box<dyn Stream>);
        };
        let host = destination.name.as_ref().unwrap_or(&destination.host);
        let name = ServerName::try_from(host.clone()).map_err(|e| e.to_string())?;
        let stream = TlsConnector::from(config.clone())
            .connect(name, socket)
            .await
            .map_err(|error| format!("tls: {error}"))?;
        Ok(Box::new(stream) as Box<dyn Stream>)
    };
    let late = |_| format!("dial tcp {}: i/o timeout", destination.authority());
    tokio::time::timeout(DIAL_LIMIT, dialled)
        .await
        .map_err(late)?
}

/// The client's side of TLS, with HTTP/1.1 only: that is what can be upgraded.
///
/// # Errors
/// Certificates or keys that are none.
pub fn tls(believe: Believe<'_>, identity: Option<&Pair>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = match believe {
        Believe::Authorities(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|e| e.to_string())?;
                roots.add(certificate).map_err(|e| e.to_string())?;
            }
            builder.with_root_certificates(roots)
        }
        Believe::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider))),
    };
    let Some(pair) = identity else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|e| e.to_string())?;
    let config = builder
        .with_client_auth_cert(chain, key)
        .map_err(|e| e.to_string())?;
    Ok(Arc::new(config))
}

/// Believes every certificate; that whoever sends it has its key is checked all the same.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_and_link_are_no_goals() {
        for bad in [
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "::1",
            "fe80::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(!is_global(bad.parse().unwrap()), "{bad}");
        }
        for good in ["10.42.0.7", "192.168.1.1", "2001:db8::1", "fd00::1"] {
            assert!(is_global(good.parse().unwrap()), "{good}");
        }
    }
}
