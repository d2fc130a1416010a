//! HTTP clients: certificates, timeouts, redirects.

use std::path::Path;
use std::time::Duration;

use reqwest::Client;

use crate::{Error, Result};

/// Certificates by registry, in folders named `HOST[:PORT]`.
pub(super) const CERTIFICATES: &str = "/etc/docker/certs.d";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A connection on which nothing moves for so long is given up (and resumed).
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const REDIRECTS_MAX: usize = 10;

pub(super) fn client(host: &str, insecure: bool, certificates: &str) -> Result<Client> {
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
    let folder = Path::new(certificates).join(host);
    if !insecure && !host.contains('/') && folder.is_dir() {
        builder = builder.tls_backend_preconfigured(super::certificates::tls(&folder)?);
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    /// As most people make one: signed by itself, its own authority.
    fn certificate(folder: &Path) {
        let output = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ])
            .args([
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=t",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
            ])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(output.status.success());
    }

    #[tokio::test]
    async fn a_registrys_own_certificate_is_trusted_for_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path());
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let mut server = Command::new("openssl")
            .args([
                "s_server", "-www", "-accept", &address, "-cert", "cert.pem", "-key", "key.pem",
            ])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("ACCEPT")));
        std::thread::spawn(move || lines.for_each(drop));

        let certificates = folder.path().join("certs.d");
        let root = certificates.to_str().unwrap();
        let url = format!("https://{address}/");
        let get = async |client: Client| {
            client
                .get(&url)
                .send()
                .await
                .map(|response| response.status().as_u16())
        };
        let stranger = get(client(&address, false, root).unwrap()).await;
        std::fs::create_dir_all(certificates.join(&address)).unwrap();
        std::fs::create_dir_all(certificates.join("other")).unwrap();
        let cert = folder.path().join("cert.pem");
        std::fs::copy(&cert, certificates.join(&address).join("ca.crt")).unwrap();
        let known = get(client(&address, false, root).unwrap()).await;
        let elsewhere = get(client("other", false, root).unwrap()).await;
        let unverified = get(client(&address, true, root).unwrap()).await;
        server.kill().unwrap();
        server.wait().unwrap();
        assert!(stranger.is_err() && elsewhere.is_err());
        assert_eq!((known.unwrap(), unverified.unwrap()), (200, 200));
    }
}
