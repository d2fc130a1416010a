//! Bootstrap tokens: `id.secret`, kept as Secrets in kube-system.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use wharf_kube_types::object;
use wharf_kube_types::time::Timestamp;

use super::{AUTHENTICATED, User};
use crate::api::Api;
use crate::clock;

/// Whether these can be a token's two parts.
pub fn is_token(id: &str, secret: &str) -> bool {
    let plain = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)
}

/// The user of a bootstrap token.
pub fn user(api: &Api, token: &str) -> Option<User> {
    let (id, secret) = token
        .split_once('.')
        .filter(|(id, secret)| is_token(id, secret))?;
    let kind = api.builtin("", "secrets").ok()?;
    let key = kind.key("kube-system", &format!("bootstrap-token-{id}"));
    let value = kind.cache.get(&key)?.record.to_value();
    if object::text(&value, "type") != "bootstrap.kubernetes.io/token"
        || !object::text(&value, "metadata.deletionTimestamp").is_empty()
    {
        return None;
    }
    let field = |name: &str| -> Option<String> {
        let text = value["data"].get(name).and_then(Value::as_str)?;
        String::from_utf8(STANDARD.decode(text).ok()?).ok()
    };
    let same = field("token-id")? == id && equal(&field("token-secret")?, secret);
    let usable = field("usage-bootstrap-authentication").as_deref() == Some("true");
    let expired = field("expiration").is_some_and(|at| {
        Timestamp::parse(&at).is_none_or(|at| at.seconds <= clock::now().seconds)
    });
    if !same || !usable || expired {
        return None;
    }
    let mut groups = vec!["system:bootstrappers".to_owned()];
    let more = field("auth-extra-groups").unwrap_or_default();
    groups.extend(
        more.split(',')
            .filter(|g| g.starts_with("system:bootstrappers:"))
            .map(str::to_owned),
    );
    groups.push(AUTHENTICATED.to_owned());
    Some(User {
        name: format!("system:bootstrap:{id}"),
        groups,
        ..User::default()
    })
}

/// Compares in a time that says nothing about where the texts differ.
fn equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |d, (a, b)| d | (a ^ b)) == 0
}
