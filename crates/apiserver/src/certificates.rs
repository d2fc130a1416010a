//! The server's own certificate authority: made once, kept in the data root; certificates that are renewed in time.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 86_400);
/// Certificates are replaced when less than this remains.
const RENEW_BEFORE: Duration = Duration::from_secs(60 * 86_400);
/// Clocks of clients may be behind by this much.
const SKEW: Duration = Duration::from_secs(300);

/// What went wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error("{operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key or certificate.
    #[error("{operation} {name}; if its file is damaged, move it away and start again")]
    Make {
        /// What was tried.
        operation: &'static str,
        /// Of what.
        name: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

fn make(operation: &'static str, name: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let name = name.to_owned();
    move |source| Error::Make {
        operation,
        name,
        source,
    }
}

/// A certificate with its key, in PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key, in PKCS #8.
    pub key: String,
}

/// Signs certificates.
pub struct Authority {
    /// The authority's certificate in PEM.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// For what a certificate is.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The common name.
    pub name: String,
    /// Organisations: groups of a client.
    pub organisations: Vec<String>,
    /// Names and addresses of a server; none makes a client's certificate.
    pub hosts: Vec<String>,
}

/// Writes a file so that it is whole or not there.
pub(crate) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let fail = |operation| {
        let path = path.to_owned();
        move |source| Error::File {
            operation,
            path,
            source,
        }
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .map_err(fail("make"))?;
    file.write_all(bytes).map_err(fail("write"))?;
    file.sync_all().map_err(fail("write"))?;
    fs::rename(&new, path).map_err(fail("put in place"))
}

fn read_text(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File {
            operation: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// A key that is made once and kept.
///
/// # Errors
/// The file can't be read or written.
pub fn lasting_key(folder: &Path, name: &str) -> Result<KeyPair, Error> {
    let path = folder.join(format!("{name}.key"));
    if let Some(text) = read_text(&path)? {
        return KeyPair::from_pem(&text).map_err(make("read the key", name));
    }
    let key = KeyPair::generate().map_err(make("make the key", name))?;
    write_file(&path, key.serialize_pem().as_bytes(), 0o600)?;
    Ok(key)
}

fn name_of(name: &str, organisations: &[String]) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    for organisation in organisations {
        out.push(DnType::OrganizationName, organisation.as_str());
    }
    out.push(DnType::CommonName, name);
    out
}

fn params(lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = Duration::from_secs(u64::try_from(crate::clock::now().seconds).unwrap_or_default());
    params.not_before = epoch + now.saturating_sub(SKEW);
    params.not_after = epoch + now + lifetime;
    params.serial_number = Some(SerialNumber::from_slice(&crate::random::bytes::<16>()));
    params
}

/// Whether a certificate is good for a while yet, and for these hosts.
fn lasts(pem: &str, hosts: &[String]) -> bool {
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(pem.as_bytes()) else {
        return false;
    };
    let Ok(certificate) = pem.parse_x509() else {
        return false;
    };
    let left = certificate.validity().not_after.timestamp() - crate::clock::now().seconds;
    let names: Vec<String> = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|names| {
            names
                .value
                .general_names
                .iter()
                .filter_map(host_of)
                .collect()
        })
        .unwrap_or_default();
    left > i64::try_from(RENEW_BEFORE.as_secs()).unwrap_or(i64::MAX)
        && hosts.iter().all(|host| names.contains(host))
}

fn host_of(name: &x509_parser::extensions::GeneralName<'_>) -> Option<String> {
    match name {
        x509_parser::extensions::GeneralName::DNSName(name) => Some((*name).to_owned()),
        x509_parser::extensions::GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|b| IpAddr::from(b).to_string()),
            16 => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|b| IpAddr::from(b).to_string()),
            _ => None,
        },
        _ => None,
    }
}

impl Authority {
    /// Opens an authority in a folder, making it if it is missing.
    ///
    /// # Errors
    /// The files can't be read or written.
    pub fn open(folder: &Path, name: &str, common_name: &str) -> Result<Self, Error> {
        let key = lasting_key(folder, name)?;
        let path = folder.join(format!("{name}.crt"));
        let pem = match read_text(&path)? {
            Some(pem) => pem,
            None => {
                let mut params = params(CA_LIFETIME);
                params.distinguished_name = name_of(common_name, &[]);
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.key_usages = vec![
                    KeyUsagePurpose::DigitalSignature,
                    KeyUsagePurpose::KeyEncipherment,
                    KeyUsagePurpose::KeyCertSign,
                ];
                let made = params.self_signed(&key).map_err(make("sign", name))?;
                write_file(&path, made.pem().as_bytes(), 0o644)?;
                made.pem()
            }
        };
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(make("read", name))?;
        Ok(Self { pem, issuer })
    }

    /// A certificate in a folder: the one that is there if it lasts, else a new one.
    ///
    /// # Errors
    /// The files can't be read or written.
    pub fn keep(&self, folder: &Path, file: &str, subject: &Subject) -> Result<Pair, Error> {
        let key = lasting_key(folder, file)?;
        let path = folder.join(format!("{file}.crt"));
        if let Some(certificate) = read_text(&path)?.filter(|pem| lasts(pem, &subject.hosts)) {
            return Ok(Pair {
                certificate,
                key: key.serialize_pem(),
            });
        }
        let mut params = params(LEAF_LIFETIME);
        params.distinguished_name = name_of(&subject.name, &subject.organisations);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.use_authority_key_identifier_extension = true;
        for host in &subject.hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.as_str().try_into().map_err(make("name", host))?),
            });
        }
        params.extended_key_usages = vec![if subject.hosts.is_empty() {
            ExtendedKeyUsagePurpose::ClientAuth
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        }];
        let made = params
            .signed_by(&key, &self.issuer)
            .map_err(make("sign", file))?;
        write_file(&path, made.pem().as_bytes(), 0o644)?;
        Ok(Pair {
            certificate: made.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Signs a request for usages that were approved.
    ///
    /// # Errors
    /// The request is none, or its key is of a sort that is not supported.
    pub fn sign(
        &self,
        request: &str,
        usages: &[&str],
        lifetime: Duration,
    ) -> Result<String, rcgen::Error> {
        let mut request = CertificateSigningRequestParams::from_pem(request)?;
        let fresh = params(lifetime.clamp(Duration::from_secs(600), LEAF_LIFETIME));
        request.params.not_before = fresh.not_before;
        request.params.not_after = fresh.not_after;
        request.params.serial_number = fresh.serial_number;
        request.params.is_ca = IsCa::ExplicitNoCa;
        request.params.use_authority_key_identifier_extension = true;
        request.params.key_usages = usages.iter().filter_map(|u| key_usage(u)).collect();
        request.params.extended_key_usages =
            usages.iter().filter_map(|u| extended_usage(u)).collect();
        Ok(request.signed_by(&self.issuer)?.pem())
    }
}

fn key_usage(name: &str) -> Option<KeyUsagePurpose> {
    Some(match name {
        "digital signature" | "signing" => KeyUsagePurpose::DigitalSignature,
        "content commitment" => KeyUsagePurpose::ContentCommitment,
        "key encipherment" => KeyUsagePurpose::KeyEncipherment,
        "key agreement" => KeyUsagePurpose::KeyAgreement,
        "data encipherment" => KeyUsagePurpose::DataEncipherment,
        _ => return None,
    })
}

fn extended_usage(name: &str) -> Option<ExtendedKeyUsagePurpose> {
    Some(match name {
        "client auth" => ExtendedKeyUsagePurpose::ClientAuth,
        "server auth" => ExtendedKeyUsagePurpose::ServerAuth,
        "code signing" => ExtendedKeyUsagePurpose::CodeSigning,
        "email protection" => ExtendedKeyUsagePurpose::EmailProtection,
        "timestamping" => ExtendedKeyUsagePurpose::TimeStamping,
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_kept_until_they_must_change() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), "ca", "test").unwrap();
        let mut subject = Subject {
            name: "server".to_owned(),
            hosts: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            ..Subject::default()
        };
        let first = authority.keep(folder.path(), "server", &subject).unwrap();
        let again = Authority::open(folder.path(), "ca", "test").unwrap();
        assert_eq!(authority.pem, again.pem);
        let second = again.keep(folder.path(), "server", &subject).unwrap();
        assert_eq!(first.certificate, second.certificate);
        subject.hosts.push("10.0.0.1".to_owned());
        let third = again.keep(folder.path(), "server", &subject).unwrap();
        assert_ne!(first.certificate, third.certificate);
        assert_eq!(first.key, third.key);
    }

    #[test]
    fn requests_are_signed_for_approved_usages_only() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), "ca", "test").unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = name_of("jane", &["dev".to_owned()]);
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let pem = authority
            .sign(&request, &["client auth"], Duration::from_secs(3600))
            .unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let user = crate::authn::certificate::user(&pem.contents).unwrap();
        assert_eq!(user.name, "jane");
        assert!(user.is_in("dev"));
        assert!(authority.sign("nonsense", &[], Duration::ZERO).is_err());
    }
}
