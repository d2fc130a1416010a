//! OCI distribution server (distribution-spec 1.1): push, pull, mount, tags, catalogue, delete, referrers; users from an
//! htpasswd file. Must not know the engine.
#![forbid(unsafe_code)]

mod auth;
mod blobs;
mod error;
mod listing;
mod manifests;
mod request;
mod route;
mod serve;
mod storage;
mod uploads;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, Response, header};

use crate::error::{Outcome, Refusal};
use crate::request::{Query, json};
use crate::route::Route;

pub use serve::serve;

/// How the registry is served.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub addr: SocketAddr,
    /// Folder of blobs, manifests and uploads.
    pub data: PathBuf,
    /// Users (bcrypt); absent: anyone may push and pull.
    pub htpasswd: Option<PathBuf>,
    /// Certificate chain and key, PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// What can go wrong with serving.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or socket could not be used.
    #[error("{operation}")]
    Io {
        /// What was tried, on what.
        operation: String,
        /// Why.
        source: std::io::Error,
    },
    /// The folder could not be opened.
    #[error("open the registry's folder {}", path.display())]
    Storage {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The users can't be read.
    #[error("{0}")]
    Users(String),
    /// Certificate or key can't be used.
    #[error("use certificate {} with key {}", certificate.display(), key.display())]
    Tls {
        /// Certificate chain.
        certificate: PathBuf,
        /// Private key.
        key: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// All that a request needs.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) storage: storage::Storage,
    pub(crate) parked: uploads::Parked,
    users: Option<Arc<auth::Users>>,
}

impl Registry {
    /// Opens folder and users.
    pub(crate) fn open(config: &Config) -> Result<Registry, Error> {
        let storage = storage::Storage::open(&config.data).map_err(|source| Error::Storage {
            path: config.data.clone(),
            source,
        })?;
        let users = config
            .htpasswd
            .as_deref()
            .map(auth::Users::open)
            .transpose()
            .map_err(Error::Users)?;
        Ok(Registry {
            storage,
            parked: uploads::Parked::default(),
            users: users.map(Arc::new),
        })
    }
}

/// Answers a request.
pub(crate) async fn handle(registry: Arc<Registry>, request: Request<Body>) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = match route(registry, request).await {
        Ok(response) => response,
        Err(refusal) => {
            tracing::debug!(%method, path, status = refusal.status.as_u16(), message = refusal.message, "refused");
            refusal.into_response()
        }
    };
    response.headers_mut().insert(
        "docker-distribution-api-version",
        header::HeaderValue::from_static("registry/2.0"),
    );
    response
}

async fn route(registry: Arc<Registry>, request: Request<Body>) -> Outcome {
    if let Some(users) = registry.users.clone() {
        let headers = request.headers().clone();
        blocking(move || users.check(&headers)).await?;
    }
    let route = Route::parse(request.uri().path())?;
    let query = Query::of(request.uri());
    let (parts, body) = request.into_parts();
    let (method, headers) = (parts.method, parts.headers);
    let head = method == Method::HEAD;
    match (&method, route) {
        (&Method::GET | &Method::HEAD, Route::Base) => json(&[], &serde_json::json!({})),
        (&Method::GET, Route::Catalog) => {
            blocking(move || listing::catalog(&registry, &query)).await
        }
        (&Method::GET | &Method::HEAD, Route::Blob { name, digest }) => {
            blobs::get(registry, name, digest, headers, head).await
        }
        (&Method::DELETE, Route::Blob { name, digest }) => {
            blocking(move || blobs::delete(&registry, &name, &digest)).await
        }
        (&Method::POST, Route::Uploads { name }) => {
            uploads::begin(registry, name, query, headers, body).await
        }
        (&Method::PATCH, Route::Upload { name, id }) => {
            uploads::append(registry, name, id, headers, body).await
        }
        (&Method::PUT, Route::Upload { name, id }) => {
            let digest = query
                .get("digest")
                .ok_or_else(|| Refusal::digest_invalid("the parameter digest is missing"))?;
            let digest = wharf_blob::Digest::parse(digest)?;
            uploads::finish(registry, name, id, false, digest, headers, body).await
        }
        (&Method::GET | &Method::HEAD, Route::Upload { name, id }) => {
            uploads::status(&registry, &name, &id)
        }
        (&Method::DELETE, Route::Upload { id, .. }) => {
            blocking(move || uploads::cancel(&registry, &id)).await
        }
        (&Method::GET | &Method::HEAD, Route::Manifest { name, reference }) => {
            blocking(move || manifests::get(&registry, &name, &reference, head)).await
        }
        (&Method::PUT, Route::Manifest { name, reference }) => {
            manifests::put(registry, name, reference, headers, body).await
        }
        (&Method::DELETE, Route::Manifest { name, reference }) => {
            blocking(move || manifests::delete(&registry, &name, &reference)).await
        }
        (&Method::GET, Route::Tags { name }) => {
            blocking(move || listing::tags(&registry, &name, &query)).await
        }
        (&Method::GET, Route::Referrers { name, digest }) => {
            blocking(move || manifests::referrers(&registry, &name, &digest, &query)).await
        }
        _ => Err(Refusal::unsupported()),
    }
}

/// Runs file-system work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Refusal::internal(&error)),
    }
}
