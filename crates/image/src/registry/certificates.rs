//! Certificates that a machine's owner trusts for one registry (`certs.d/HOST[:PORT]/`), as Docker reads them:
//! `*.crt` are authorities, or the registry's very certificate; `X.cert` with `X.key` is what the client shows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::{Error, Result};

/// TLS for the registry that a folder belongs to: the system's authorities and the folder's.
pub(super) fn tls(folder: &Path) -> Result<ClientConfig> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| Error::Registry {
        operation: format!("prepare TLS with the certificates in {}", folder.display()),
        source: e,
    };
    let mut trusted = Vec::new();
    let mut own = None;
    for path in files(folder)? {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => trusted.extend(read_chain(&path)?),
            Some("cert") => {
                own = Some((read_chain(&path)?, read_key(&path.with_extension("key"))?))
            }
            _ => {}
        }
    }
    let mut roots = RootCertStore::empty();
    // A damaged one among the system's is left out, as everywhere.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(trusted.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let chains = chains.build().map_err(|e| failed(Box::new(e)))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(Box::new(e)))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { chains, trusted }));
    match own {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|e| failed(Box::new(e))),
        None => Ok(builder.with_no_client_auth()),
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = || crate::error::io_at::<std::io::Error>("list", folder);
    let entries = std::fs::read_dir(folder).map_err(failed())?;
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(failed())?.path());
    }
    files.sort();
    Ok(files)
}

fn malformed(path: &Path) -> impl FnOnce(rustls::pki_types::pem::Error) -> Error {
    let operation = format!("read certificate {}", path.display());
    move |e| Error::Registry {
        operation,
        source: Box::new(e),
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = std::fs::read(path).map_err(crate::error::io_at("read certificate", path))?;
    let chain: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    chain.map_err(malformed(path))
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let bytes = std::fs::read(path).map_err(crate::error::io_at("read key", path))?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(malformed(path))
}

/// Chains to authorities, and besides the certificates in the folder themselves. The owner put them there for this
/// host: a registry with a certificate signed by itself is the commonest use of the folder, and webpki does not take an
/// authority for a server.
#[derive(Debug)]
struct Verifier {
    chains: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if self.trusted.iter().any(|trusted| trusted == server) {
            return Ok(ServerCertVerified::assertion());
        }
        self.chains
            .verify_server_cert(server, intermediates, name, ocsp, now)
    }

    // That the server has the certificate's key is checked in either case.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
