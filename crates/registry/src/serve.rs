//! Listening: connections, TLS, orderly shutdown.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{Config, Error, Registry, handle};

/// A client that takes longer to say who it is, or what it wants, is let go.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves until `shutdown` ends. `ready` is called with the address that was bound.
pub async fn serve(
    config: Config,
    ready: impl FnOnce(SocketAddr) + Send,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let acceptor = config
        .tls
        .as_ref()
        .map(|(certificate, key)| acceptor(certificate, key))
        .transpose()?;
    let io = |source| Error::Io {
        operation: format!("listen on {}", config.addr),
        source,
    };
    let listener = TcpListener::bind(config.addr).await.map_err(io)?;
    let address = listener.local_addr().map_err(io)?;
    let registry = Arc::new(Registry::open(&config)?);
    ready(address);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // A small answer must not wait for a larger packet.
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(connection(registry.clone(), stream, acceptor.clone()));
                }
                // Out of descriptors, or a client that was gone at once: others are still served.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

async fn connection(
    registry: Arc<Registry>,
    stream: tokio::net::TcpStream,
    acceptor: Option<TlsAcceptor>,
) {
    match acceptor {
        None => requests(registry, stream).await,
        Some(acceptor) => match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => requests(registry, stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        },
    }
}

async fn requests(
    registry: Arc<Registry>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) {
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let registry = registry.clone();
        async move { Ok::<_, std::convert::Infallible>(handle(registry, request.map(Body::new)).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, Error> {
    let read = || -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
        let chain = CertificateDer::pem_slice_iter(&fs::read(certificate)?)
            .collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&fs::read(key)?)?;
        Ok(ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)?)
    };
    let config = read().map_err(|source| Error::Tls {
        certificate: certificate.into(),
        key: key.into(),
        source,
    })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
