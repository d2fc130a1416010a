//! Which addresses a registry's name stands for, and which of them answers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use super::http;
use super::session::Session;
use crate::reference::HUB;
use crate::{Credentials, Error, Reference, RegistryConfig, Result};

/// Where docker.io's images really are.
const HUB_ENDPOINT: &str = "https://registry-1.docker.io";

/// All registries as this daemon is configured to see them.
pub(crate) struct Registries {
    config: RegistryConfig,
    /// HTTP clients by host; each keeps its connections.
    clients: Mutex<HashMap<String, reqwest::Client>>,
    /// Which scheme an insecure host answered last.
    schemes: Mutex<HashMap<String, &'static str>>,
}

impl std::fmt::Debug for Registries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.config.fmt(f)
    }
}

/// What a session is for: only pulls may use mirrors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Pull,
    Push,
}

/// One address to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `https://HOST[:PORT]`.
    pub base: String,
    pub host: String,
    /// Certificates are not verified.
    pub insecure: bool,
    pub mirror: bool,
}

impl Registries {
    pub(crate) fn new(config: RegistryConfig) -> Registries {
        Registries {
            config,
            clients: Mutex::default(),
            schemes: Mutex::default(),
        }
    }

    /// Opens a session for a repository with each endpoint that answers, mirrors first.
    pub(crate) async fn sessions(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
        purpose: Purpose,
    ) -> Result<Vec<Session>> {
        let credentials = credentials.filter(is_meaningful);
        let mut sessions: Vec<Session> = Vec::new();
        let mut refused = None;
        for group in self.endpoints(&reference.registry, purpose) {
            match self
                .first_that_answers(&group, &reference.repository, credentials.clone())
                .await
            {
                Ok(session) => sessions.push(session),
                Err(e) if group.iter().all(|endpoint| endpoint.mirror) => {
                    tracing::warn!(
                        error = &e as &dyn std::error::Error,
                        "a registry mirror does not answer"
                    );
                }
                Err(e) => refused = Some(e),
            }
        }
        match refused {
            Some(e) if sessions.is_empty() => Err(e),
            _ => Ok(sessions),
        }
    }

    /// A session with one registry, for logging in. `""` and the hub's old address mean docker.io.
    pub(crate) async fn login_session(
        &self,
        server: &str,
        credentials: Credentials,
    ) -> Result<Session> {
        let registry = registry_of(server);
        let group = self
            .endpoints(&registry, Purpose::Push)
            .pop()
            .unwrap_or_default();
        self.first_that_answers(&group, "", Some(credentials)).await
    }

    /// Groups of addresses; in a group the first that answers is taken.
    fn endpoints(&self, registry: &str, purpose: Purpose) -> Vec<Vec<Endpoint>> {
        let mut groups = Vec::new();
        if registry != HUB {
            groups.push(self.addresses(registry, false));
            return groups;
        }
        if purpose == Purpose::Pull {
            groups.extend(
                self.config
                    .mirrors
                    .iter()
                    .map(|mirror| self.addresses(mirror, true)),
            );
        }
        groups.push(self.addresses(self.config.hub.as_deref().unwrap_or(HUB_ENDPOINT), false));
        groups
    }

    /// Addresses behind `[SCHEME://]HOST[:PORT]`. Plain HTTP only where it is asked for, or the host may be insecure.
    fn addresses(&self, text: &str, mirror: bool) -> Vec<Endpoint> {
        let (scheme, rest) = text
            .split_once("://")
            .map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
        let host = rest.split('/').next().unwrap_or_default().to_owned();
        let insecure = self.is_insecure(&host);
        let endpoint = |scheme: &str| Endpoint {
            base: format!("{scheme}://{host}"),
            host: host.clone(),
            insecure,
            mirror,
        };
        match scheme {
            Some("http") => vec![endpoint("http")],
            Some(_) => vec![endpoint("https")],
            None if !insecure => vec![endpoint("https")],
            None => {
                let last = lock(&self.schemes).get(&host).copied();
                if last == Some("http") {
                    vec![endpoint("http"), endpoint("https")]
                } else {
                    vec![endpoint("https"), endpoint("http")]
                }
            }
        }
    }

    fn is_insecure(&self, host: &str) -> bool {
        let name = host_name(host);
        if name == "localhost"
            || name
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
        {
            return true;
        }
        let address = name.parse::<IpAddr>().ok();
        self.config.insecure.iter().any(|entry| {
            let entry = entry
                .trim_start_matches("http://")
                .trim_start_matches("https://")
                .trim_end_matches('/');
            entry == host
                || entry == name
                || address.is_some_and(|address| in_network(entry, address))
        })
    }

    async fn first_that_answers(
        &self,
        group: &[Endpoint],
        repository: &str,
        credentials: Option<Credentials>,
    ) -> Result<Session> {
        let mut first_error = None;
        for endpoint in group {
            let client = self.client(endpoint).await?;
            match Session::open(client, endpoint.clone(), repository, credentials.clone()).await {
                Ok(session) => {
                    if endpoint.insecure {
                        let scheme = if endpoint.base.starts_with("http:") {
                            "http"
                        } else {
                            "https"
                        };
                        lock(&self.schemes).insert(endpoint.host.clone(), scheme);
                    }
                    return Ok(session);
                }
                // The error of the last address tried says most: HTTPS first always fails at a plain server.
                Err(e) => first_error = Some(e),
            }
        }
        Err(first_error.unwrap_or_else(|| Error::InvalidReference(String::new())))
    }

    async fn client(&self, endpoint: &Endpoint) -> Result<reqwest::Client> {
        if let Some(client) = lock(&self.clients).get(&endpoint.host) {
            return Ok(client.clone());
        }
        // Reads the system's certificates.
        let wanted = endpoint.clone();
        let client = crate::pull::blocking(move || {
            http::client(&wanted.host, wanted.insecure, http::CERTIFICATES)
        })
        .await?;
        lock(&self.clients).insert(endpoint.host.clone(), client.clone());
        Ok(client)
    }
}

/// Clients send an empty object where they have nothing.
pub(crate) fn is_meaningful(credentials: &Credentials) -> bool {
    let some = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    !credentials.username.is_empty()
        || some(&credentials.identity_token)
        || some(&credentials.registry_token)
}

/// The registry that a login's server address means.
fn registry_of(server: &str) -> String {
    let host = server
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default();
    match host {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        _ if server.starts_with("http://") => format!("http://{host}"),
        other => other.to_owned(),
    }
}

/// Host without port and brackets.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether `ADDRESS/BITS` contains an address.
fn in_network(text: &str, address: IpAddr) -> bool {
    let Some((network, bits)) = text.split_once('/') else {
        return false;
    };
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(network) & mask == u32::from(address) & mask
        }
        (IpAddr::V6(network), IpAddr::V6(address)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            u128::from(network) & mask == u128::from(address) & mask
        }
        _ => false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(config: &RegistryConfig, registry: &str, purpose: Purpose) -> String {
        let groups = Registries::new(config.clone()).endpoints(registry, purpose);
        let bases = groups.iter().map(|group| {
            let bases: Vec<&str> = group
                .iter()
                .map(|endpoint| endpoint.base.as_str())
                .collect();
            bases.join(",")
        });
        bases.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn addresses_of_the_hub() {
        let config = RegistryConfig {
            mirrors: vec!["http://mirror:81".into(), "mirror2".into()],
            ..RegistryConfig::default()
        };
        assert_eq!(
            show(&config, "docker.io", Purpose::Pull),
            "http://mirror:81 https://mirror2 https://registry-1.docker.io"
        );
        assert_eq!(
            show(&config, "docker.io", Purpose::Push),
            "https://registry-1.docker.io"
        );
        assert_eq!(show(&config, "quay.io", Purpose::Pull), "https://quay.io");
        let config = RegistryConfig {
            hub: Some("127.0.0.1:9".into()),
            ..config
        };
        assert_eq!(
            show(&config, "docker.io", Purpose::Push),
            "https://127.0.0.1:9,http://127.0.0.1:9"
        );
    }

    #[test]
    fn plain_http_only_where_it_is_allowed() {
        let config = RegistryConfig {
            insecure: vec!["reg.lan:5000".into(), "10.1.0.0/16".into()],
            ..RegistryConfig::default()
        };
        for (registry, insecure) in [
            ("reg.lan:5000", true),
            ("reg.lan", false),
            ("10.1.2.3:5000", true),
            ("10.2.2.3:5000", false),
            ("localhost:5000", true),
            ("127.1.2.3", true),
            ("[::1]:5000", true),
            ("[::2]:5000", false),
            ("localhost.evil.org", false),
        ] {
            let both = format!("https://{registry},http://{registry}");
            let expected = if insecure {
                both
            } else {
                format!("https://{registry}")
            };
            assert_eq!(show(&config, registry, Purpose::Pull), expected);
        }
    }

    #[test]
    fn servers_of_a_login() {
        for (server, registry) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("localhost:5000", "localhost:5000"),
            ("https://quay.io/v2/", "quay.io"),
        ] {
            assert_eq!(registry_of(server), registry);
        }
    }
}
