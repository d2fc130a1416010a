//! Which cluster is asked, and as whom: a kubeconfig's current context.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use wharf_client::HttpConfig;

use crate::failure::Failure;

/// A kubeconfig is small; what is larger is none.
const BYTES_MAX: u64 = 4 << 20;
/// Where `wharf up` leaves word of itself.
const PLACE: &str = "/run/wharf/cluster.json";
/// The administrator's kubeconfig of `wharf server`.
const ADMINISTRATOR: &str = "/var/lib/wharf/server/admin.kubeconfig";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<Named>,
    #[serde(default)]
    contexts: Vec<Named>,
    #[serde(default)]
    users: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    cluster: Option<Entry>,
    context: Option<Entry>,
    user: Option<Entry>,
}

/// Texts by name; what is no text is of no concern here.
type Entry = BTreeMap<String, serde_json::Value>;

/// What a kubeconfig says of its current context.
#[derive(Clone)]
pub struct Context {
    /// How to reach the server, and as whom.
    pub http: HttpConfig,
    /// Where commands look unless told otherwise.
    pub namespace: String,
}

/// The kubeconfig that is meant: the one given, `$KUBECONFIG`'s first, that of the running cluster, the user's.
pub fn find(given: Option<&str>) -> Result<PathBuf, Failure> {
    if let Some(given) = given {
        return Ok(PathBuf::from(given));
    }
    let from_environment = std::env::var("KUBECONFIG").unwrap_or_default();
    if let Some(first) = from_environment.split(':').find(|one| !one.is_empty()) {
        return Ok(PathBuf::from(first));
    }
    let home = std::env::var("HOME").unwrap_or_default();
    let candidates = [
        running(Path::new(PLACE)),
        Some(PathBuf::from(ADMINISTRATOR)),
        Some(Path::new(&home).join(".kube/config")),
    ];
    let found = candidates.into_iter().flatten().find(|path| path.exists());
    found.ok_or_else(|| {
        Failure::said("there is no cluster: start one with wharf up, or name its --kubeconfig FILE")
    })
}

fn running(place: &Path) -> Option<PathBuf> {
    let place: serde_json::Value = serde_json::from_slice(&std::fs::read(place).ok()?).ok()?;
    Some(PathBuf::from(place["kubeconfig"].as_str()?))
}

/// Reads the current context.
pub fn read(path: &Path) -> Result<Context, Failure> {
    let failed = |source| Failure::File {
        verb: "open",
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > BYTES_MAX {
        return Err(Failure::said(format!(
            "{} is no kubeconfig: it is too large",
            path.display()
        )));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    parse(&text, folder).map_err(|why| Failure::said(format!("{}: {why}", path.display())))
}

fn parse(text: &str, folder: &Path) -> Result<Context, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let named = |list: &'_ [Named], name: &str| list.iter().position(|one| one.name == name);
    let missing = |what: &str, name: &str| format!("there is no {what} {name:?}");
    let current = &file.current_context;
    let at = named(&file.contexts, current).ok_or_else(|| missing("context", current))?;
    let context = file.contexts[at].context.clone().unwrap_or_default();
    let word = |entry: &Entry, key: &str| -> String {
        let text = entry.get(key).and_then(|value| value.as_str());
        text.unwrap_or_default().to_owned()
    };
    let name = word(&context, "cluster");
    let at = named(&file.clusters, &name).ok_or_else(|| missing("cluster", &name))?;
    let cluster = file.clusters[at].cluster.clone().unwrap_or_default();
    let name = word(&context, "user");
    let user = named(&file.users, &name).and_then(|at| file.users[at].user.clone());
    let user = user.unwrap_or_default();
    let bytes = |entry: &Entry, key: &str| bytes(entry, key, folder);
    let certificate = bytes(&user, "client-certificate")?;
    let key = bytes(&user, "client-key")?;
    let identity = certificate.zip(key).map(|(certificate, key)| {
        let mut pem = certificate;
        pem.push(b'\n');
        pem.extend(key);
        pem
    });
    let namespace = word(&context, "namespace");
    Ok(Context {
        http: HttpConfig {
            server: word(&cluster, "server"),
            authorities: bytes(&cluster, "certificate-authority")?.unwrap_or_default(),
            identity,
            token: Some(word(&user, "token")).filter(|token| !token.is_empty()),
            user_agent: concat!("wharf/", env!("CARGO_PKG_VERSION")).to_owned(),
        },
        namespace: match namespace.is_empty() {
            true => "default".to_owned(),
            false => namespace,
        },
    })
}

/// `KEY-data` in base64, or the file that `KEY` names.
fn bytes(entry: &Entry, key: &str, folder: &Path) -> Result<Option<Vec<u8>>, String> {
    if let Some(data) = entry.get(&format!("{key}-data")).and_then(|v| v.as_str()) {
        let decoded = STANDARD.decode(data.trim());
        return decoded
            .map(Some)
            .map_err(|error| format!("{key}-data: {error}"));
    }
    let Some(path) = entry.get(key).and_then(|value| value.as_str()) else {
        return Ok(None);
    };
    let path = folder.join(path);
    let read = std::fs::read(&path);
    read.map(Some)
        .map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: v1\nkind: Config\nclusters:\n- name: wharf\n  cluster:\n    server: https://127.0.0.1:6443\n    certificate-authority-data: Q0E=\ncontexts:\n- name: here\n  context: {cluster: wharf, user: admin, namespace: shop}\ncurrent-context: here\nusers:\n- name: admin\n  user:\n    client-certificate-data: QQ==\n    client-key-data: Qg==\n";

    #[test]
    fn the_current_context_is_read() {
        let context = parse(TEXT, Path::new("/")).unwrap();
        assert_eq!(context.http.server, "https://127.0.0.1:6443");
        assert_eq!(context.http.authorities, b"CA");
        assert_eq!(context.http.identity.unwrap(), b"A\nB");
        assert_eq!(context.namespace, "shop");
        assert!(context.http.token.is_none());
    }

    #[test]
    fn what_is_missing_is_named() {
        let refused = |text: &str| parse(text, Path::new("/")).err().unwrap();
        let other = TEXT.replace("current-context: here", "current-context: there");
        assert_eq!(refused(&other), "there is no context \"there\"");
        let other = TEXT.replace("cluster: wharf, ", "cluster: fort, ");
        assert_eq!(refused(&other), "there is no cluster \"fort\"");
        let other = TEXT.replace("Q0E=", "Q0E?");
        assert!(refused(&other).starts_with("certificate-authority-data: "));
    }
}
