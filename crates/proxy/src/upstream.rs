//! Whom to ask about names that are not the cluster's: the servers of stub domains, or the host's own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use k8s_openapi::api::core::v1::ConfigMap;

/// Longest file of resolvers that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024;
const DNS: u16 = 53;

/// Domains (lower case, no trailing dot) and their servers.
pub(crate) type Stubs = Vec<(String, Vec<SocketAddr>)>;

/// Servers by name.
pub(crate) struct Upstream {
    /// Asking itself would go on for ever.
    own: IpAddr,
    given: Stubs,
    declared: RwLock<Declared>,
    resolv_conf: PathBuf,
    read: Mutex<Option<(SystemTime, Vec<SocketAddr>)>>,
}

/// What the ConfigMap says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    stubs: Stubs,
    /// Instead of the host's.
    servers: Vec<SocketAddr>,
}

impl Declared {
    /// Keys `stubDomains` (`{"acme.local": ["1.2.3.4"]}`) and `upstreamNameservers` (`["8.8.8.8"]`). What can't be
    /// read is logged and left out.
    pub(crate) fn of(map: &ConfigMap) -> Declared {
        let data = map.data.as_ref();
        let text = |key: &str| data.and_then(|data| data.get(key)).map(String::as_str);
        let malformed = |key: &str, error: serde_json::Error| {
            tracing::warn!(key, %error, "the ConfigMap kube-system/kube-dns can't be read");
        };
        let stubs: BTreeMap<String, Vec<String>> = text("stubDomains")
            .map(serde_json::from_str)
            .transpose()
            .unwrap_or_else(|error| {
                malformed("stubDomains", error);
                None
            })
            .unwrap_or_default();
        let servers: Vec<String> = text("upstreamNameservers")
            .map(serde_json::from_str)
            .transpose()
            .unwrap_or_else(|error| {
                malformed("upstreamNameservers", error);
                None
            })
            .unwrap_or_default();
        let stub = |(domain, servers): (String, Vec<String>)| {
            let domain = domain.trim_end_matches('.').to_ascii_lowercase();
            (
                domain,
                servers.iter().filter_map(|text| server(text)).collect(),
            )
        };
        Declared {
            stubs: stubs.into_iter().map(stub).collect(),
            servers: servers.iter().filter_map(|text| server(text)).collect(),
        }
    }
}

/// `ADDRESS` or `ADDRESS:PORT`.
fn server(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let plain = text
        .parse::<IpAddr>()
        .map(|address| SocketAddr::new(address, DNS));
    plain.or_else(|_| text.parse()).ok()
}

/// The servers of a resolv.conf(5).
fn servers(text: &str, own: IpAddr) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver"))
            .then(|| words.next())
            .flatten()
    });
    named
        .filter_map(|word| word.parse::<IpAddr>().ok())
        .filter(|address| *address != own)
        .map(|address| SocketAddr::new(address, DNS))
        .collect()
}

/// The servers of the longest domain that the name is in.
fn stub<'a>(
    stubs: impl Iterator<Item = &'a (String, Vec<SocketAddr>)>,
    name: &str,
) -> Option<Vec<SocketAddr>> {
    let is_in = |domain: &str| {
        let rest = name.strip_suffix(domain);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    stubs
        .filter(|(domain, servers)| is_in(domain) && !servers.is_empty())
        .max_by_key(|(domain, _)| domain.len())
        .map(|(_, servers)| servers.clone())
}

impl Upstream {
    pub(crate) fn new(own: IpAddr, given: Stubs, resolv_conf: PathBuf) -> Upstream {
        let given = given
            .into_iter()
            .map(|(domain, servers)| (domain.trim_end_matches('.').to_ascii_lowercase(), servers));
        Upstream {
            own,
            given: given.collect(),
            declared: RwLock::default(),
            resolv_conf,
            read: Mutex::default(),
        }
    }

    pub(crate) fn declare(&self, declared: Declared) {
        *self
            .declared
            .write()
            .unwrap_or_else(PoisonError::into_inner) = declared;
    }

    /// Servers to ask about a name (lower case, no trailing dot), in order.
    pub(crate) fn of(&self, name: &str) -> Vec<SocketAddr> {
        let declared = self.declared.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(servers) = stub(self.given.iter().chain(&declared.stubs), name) {
            return servers;
        }
        if !declared.servers.is_empty() {
            return declared.servers.clone();
        }
        drop(declared);
        self.host()
    }

    /// The host's servers, as the file names them now: it changes when the host moves to another network.
    fn host(&self) -> Vec<SocketAddr> {
        let Ok(meta) = std::fs::metadata(&self.resolv_conf) else {
            return Vec::new();
        };
        let changed = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, servers)) = read.as_ref().filter(|(when, _)| *when == changed) {
            return servers.clone();
        }
        let text = match meta.len() <= FILE_BYTES_MAX {
            true => std::fs::read_to_string(&self.resolv_conf).unwrap_or_default(),
            false => String::new(),
        };
        let servers = servers(&text, self.own);
        *read = Some((changed, servers.clone()));
        servers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> IpAddr {
        [10, 96, 0, 10].into()
    }

    #[test]
    fn the_longest_domain_that_fits_is_asked() {
        let map: ConfigMap = serde_json::from_value(serde_json::json!({
            "metadata": {},
            "data": {
                "stubDomains": "{\"acme.local\": [\"10.0.0.1\"], \"Deep.acme.local.\": [\"10.0.0.2:5353\", \"nonsense\"]}",
                "upstreamNameservers": "[\"9.9.9.9\"]",
            },
        }))
        .unwrap();
        let upstream = Upstream::new(
            own(),
            vec![("given.".into(), vec!["10.0.0.3:53".parse().unwrap()])],
            "/nowhere".into(),
        );
        assert!(upstream.of("example.org").is_empty());
        upstream.declare(Declared::of(&map));
        for (name, servers) in [
            ("acme.local", "10.0.0.1:53"),
            ("a.acme.local", "10.0.0.1:53"),
            ("notacme.local", "9.9.9.9:53"),
            ("x.deep.acme.local", "10.0.0.2:5353"),
            ("given", "10.0.0.3:53"),
            ("example.org", "9.9.9.9:53"),
        ] {
            assert_eq!(upstream.of(name), [servers.parse().unwrap()], "{name}");
        }
        let broken: ConfigMap = serde_json::from_value(
            serde_json::json!({"metadata": {}, "data": {"stubDomains": "["}}),
        )
        .unwrap();
        assert_eq!(Declared::of(&broken), Declared::default());
    }

    #[test]
    fn the_host_s_file_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(&path, "# nameserver 1.1.1.1\nnameserver 10.96.0.10\nnameserver 192.0.2.53\nsearch a b\nnameserver ::1 x\nnameserver nonsense\n").unwrap();
        let upstream = Upstream::new(own(), Vec::new(), path.clone());
        assert_eq!(
            upstream.of("a"),
            [
                "192.0.2.53:53".parse().unwrap(),
                "[::1]:53".parse().unwrap()
            ]
        );
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        std::fs::write(&path, "nameserver 192.0.2.54\n").unwrap();
        std::fs::File::open(&path)
            .unwrap()
            .set_modified(later)
            .unwrap();
        assert_eq!(upstream.of("a"), ["192.0.2.54:53".parse().unwrap()]);
        std::fs::remove_file(&path).unwrap();
        assert!(upstream.of("a").is_empty());
    }
}
