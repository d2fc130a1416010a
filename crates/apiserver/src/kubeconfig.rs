//! The administrator's kubeconfig.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::certificates::Pair;

/// A kubeconfig for a server with this URL, its authority and a client's certificate.
pub fn write(url: &str, authority: &str, user: &str, pair: &Pair) -> String {
    let encode = |text: &str| STANDARD.encode(text);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: wharf\n  cluster:\n    server: {url}\n    certificate-authority-data: {}\ncontexts:\n- name: wharf\n  context:\n    cluster: wharf\n    user: {user}\ncurrent-context: wharf\nusers:\n- name: {user}\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        encode(authority),
        encode(&pair.certificate),
        encode(&pair.key),
    )
}
