//! HTTP clients: certificates, timeouts, redirects.

use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, Identity};

use crate::{Error, Result};

/// Certificates per registry, in a folder named `HOST[:PORT]`: `*.crt` are roots, `X.cert` with `X.key` are the client's.
const CERTIFICATES: &str = "/etc/docker/certs.d";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A connection on which nothing moves for so long is given up (and resumed).
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const REDIRECTS_MAX: usize = 10;

pub(super) fn client(host: &str, insecure: bool) -> Result<Client> {
    // Fails when somebody else installed a provider before, which then serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(IDLE_TIMEOUT)
        .redirect(redirects(insecure))
        .tls_danger_accept_invalid_certs(insecure);
    if insecure {
        // As everywhere, a proxy is not asked for this machine; insecure ones are on the near side of it.
        builder = builder.no_proxy();
    }
    let folder = Path::new(CERTIFICATES).join(host);
    if !host.contains('/') && folder.is_dir() {
        let (roots, identity) = certificates(&folder)?;
        builder = builder.tls_certs_merge(roots);
        if let Some(identity) = identity {
            builder = builder.identity(identity);
        }
    }
    builder.build().map_err(|e| Error::Registry {
        operation: format!("prepare TLS for registry {host}"),
        source: Box::new(e),
    })
}

/// Registries send clients elsewhere for blobs; never from TLS to plain text.
fn redirects(insecure: bool) -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(move |attempt| {
        let from_tls = attempt
            .previous()
            .last()
            .is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error("too many redirects")
        } else if from_tls && attempt.url().scheme() != "https" && !insecure {
            attempt.error("the registry redirects from HTTPS to plain HTTP")
        } else {
            attempt.follow()
        }
    })
}

fn certificates(folder: &Path) -> Result<(Vec<Certificate>, Option<Identity>)> {
    let failed = |path: &Path| {
        let operation = format!("read certificate {}", path.display());
        move |e: reqwest::Error| Error::Registry {
            operation,
            source: Box::new(e),
        }
    };
    let read =
        |path: &Path| std::fs::read(path).map_err(crate::error::io_at("read certificate", path));
    let mut roots = Vec::new();
    let mut identity = None;
    let entries = std::fs::read_dir(folder).map_err(crate::error::io_at("list", folder))?;
    for entry in entries {
        let path = entry.map_err(crate::error::io_at("list", folder))?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => {
                roots.extend(Certificate::from_pem_bundle(&read(&path)?).map_err(failed(&path))?)
            }
            Some("cert") => {
                let pem = [
                    read(&path)?,
                    b"\n".to_vec(),
                    read(&path.with_extension("key"))?,
                ]
                .concat();
                identity = Some(Identity::from_pem(&pem).map_err(failed(&path))?);
            }
            _ => {}
        }
    }
    Ok((roots, identity))
}
