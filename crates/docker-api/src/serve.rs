//! Connections: HTTP/1 with upgrades and half-closed clients, on Unix sockets and TCP.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Api, Listener, route};

/// A client that takes longer to say what it wants is let go.
const HEADER_PATIENCE: Duration = Duration::from_secs(60);

/// Serves until `shutdown` ends.
pub async fn serve(
    api: Api,
    listeners: Vec<Listener>,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let api = Arc::new(api);
    let mut accepting = tokio::task::JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(api.clone(), listener));
    }
    tokio::select! {
        () = shutdown => Ok(()),
        _ = accepting.join_next() => Ok(()),
    }
}

async fn accept(api: Arc<Api>, listener: Listener) {
    loop {
        let accepted = match &listener {
            Listener::Unix(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| drop(tokio::spawn(connection(api.clone(), stream)))),
            Listener::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| drop(tokio::spawn(connection(api.clone(), stream)))),
        };
        if let Err(error) = accepted {
            // Out of descriptors, or a client gone at once: others are still served.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::task::yield_now().await;
        }
    }
}

async fn connection(api: Arc<Api>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let api = api.clone();
        async move {
            Ok::<_, std::convert::Infallible>(route::answer(api, request.map(Body::new)).await)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        // A client that has sent all it has still wants its answer.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}
