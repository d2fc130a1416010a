//! Bootstrap tokens: expired ones are deleted, and `cluster-info` is signed with those that are for signing, so that a
//! machine which joins can tell the cluster's word from another's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::Value;
use wharf_kube_types::time::Timestamp;
use wharf_kube_types::{Status, object};

use super::queue::{Controller, Reconciled};
use crate::api::Api;
use crate::authn::bootstrap::is_token;
use crate::call::Call;
use crate::clock;
use crate::object::Object;
use crate::verbs::delete;
use crate::verbs::update::{Demand, Made, change};

const TOKEN: &str = "bootstrap.kubernetes.io/token";
const PREFIX: &str = "core/secrets/kube-system/bootstrap-token-";
const INFO: &str = "core/configmaps/kube-public/cluster-info";
const SIGNATURE: &str = "jws-kubeconfig-";

/// Follows tokens and what they sign.
pub struct BootstrapTokens;

impl Controller for BootstrapTokens {
    fn name(&self) -> &'static str {
        "bootstrap-tokens"
    }

    fn keys(&mut self, _api: &Api, object: &Arc<Object>, gone: bool) -> Vec<String> {
        let key = &*object.key;
        if key == INFO {
            return vec![INFO.to_owned()];
        }
        if !key.starts_with(PREFIX) {
            return Vec::new();
        }
        let own = (!gone).then(|| key.to_owned());
        own.into_iter().chain([INFO.to_owned()]).collect()
    }

    fn reconcile<'a>(&'a mut self, api: &'a Arc<Api>, key: &'a str) -> Reconciled<'a> {
        Box::pin(async move {
            if key == INFO {
                return sign(api).await.map(|()| None);
            }
            clean(api, key).await
        })
    }
}

fn field(secret: &Value, name: &str) -> Option<String> {
    let text = secret["data"].get(name).and_then(Value::as_str)?;
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

/// Seconds that a token has left; nothing for one that lasts. One whose end can't be read has ended.
fn seconds_left(secret: &Value) -> Option<i64> {
    let end = field(secret, "expiration")?;
    let left = |end: Timestamp| end.seconds - clock::now().seconds;
    Some(Timestamp::parse(&end).map_or(0, left))
}

/// Deletes a token that has expired.
async fn clean(api: &Arc<Api>, key: &str) -> Result<Option<Duration>, Status> {
    let kind = api.builtin("", "secrets")?;
    let Some(found) = kind.cache.get(key) else {
        return Ok(None);
    };
    let secret = found.record.to_value();
    if object::text(&secret, "type") != TOKEN {
        return Ok(None);
    }
    let Some(left) = seconds_left(&secret) else {
        return Ok(None);
    };
    if left > 0 {
        return Ok(Some(Duration::from_secs(left.unsigned_abs())));
    }
    let (namespace, name) = found.names();
    let mut call = Call::internal(api, &kind, namespace, name, "token-cleaner");
    let options = delete::Options {
        uid: Some(found.facts.uid.to_string()),
        ..delete::Options::default()
    };
    match delete::delete(&mut call, &options).await {
        Err(status) if status.code != 404 && status.code != 409 => Err(status),
        _ => Ok(None),
    }
}

/// Id and secret of every token that signs.
fn signers(api: &Api) -> Result<Vec<(String, String)>, Status> {
    let kind = api.builtin("", "secrets")?;
    let mut out = Vec::new();
    for found in kind.cache.all(&kind.range("kube-system")) {
        if !found.key.starts_with(PREFIX) || found.facts.deleting {
            continue;
        }
        let secret = found.record.to_value();
        let (id, text) = (field(&secret, "token-id"), field(&secret, "token-secret"));
        let signs = object::text(&secret, "type") == TOKEN
            && field(&secret, "usage-bootstrap-signing").as_deref() == Some("true")
            && seconds_left(&secret).is_none_or(|left| left > 0);
        if let (true, Some(id), Some(text)) = (signs, id, text)
            && is_token(&id, &text)
            && found.key.strip_prefix(PREFIX) == Some(&id)
        {
            out.push((id, text));
        }
    }
    Ok(out)
}

/// A detached JSON web signature (RFC 7515, appendix F) of a text.
fn signature(text: &str, id: &str, secret: &str) -> String {
    let head = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{id}\"}}"));
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(text));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{head}..{tag}")
}

/// Gives `cluster-info` the signatures of the tokens that are there, and takes the others away.
async fn sign(api: &Arc<Api>) -> Result<(), Status> {
    let kind = api.builtin("", "configmaps")?;
    let Some(found) = kind.cache.get(INFO) else {
        return Ok(());
    };
    let info = found.record.to_value();
    let Some(text) = info["data"]["kubeconfig"].as_str() else {
        return Ok(());
    };
    let signed: BTreeMap<String, String> = signers(api)?
        .iter()
        .map(|(id, secret)| (format!("{SIGNATURE}{id}"), signature(text, id, secret)))
        .collect();
    let mut call = Call::internal(
        api,
        &kind,
        "kube-public",
        "cluster-info",
        "bootstrap-signer",
    );
    let changed = change(&mut call, &Demand::default(), |_, old| {
        let mut new = old.clone();
        if let Some(data) = new["data"].as_object_mut() {
            data.retain(|name, _| !name.starts_with(SIGNATURE) || signed.contains_key(name));
            for (name, text) in &signed {
                data.insert(name.clone(), text.clone().into());
            }
        }
        Ok(Made::plain(new))
    })
    .await;
    match changed {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::harness::Cluster;

    const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
    const MAP: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

    fn token(id: &str, expiration: &str) -> Value {
        let mut data = json!({"token-id": id, "token-secret": "0123456789abcdef",
            "usage-bootstrap-signing": "true"});
        if !expiration.is_empty() {
            data["expiration"] = expiration.into();
        }
        json!({"metadata": {"name": format!("bootstrap-token-{id}")}, "type": TOKEN, "stringData": data})
    }

    /// Checked with another implementation of RFC 7515: Python's hmac and base64.
    #[test]
    fn signatures_are_those_of_the_standard() {
        assert_eq!(
            signature("hello", "abcdef", "0123456789abcdef"),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..MxsnbCjBaYzcbNIFa06F-wuF9LX26rhMlrL4zA1511s"
        );
    }

    #[tokio::test]
    async fn tokens_sign_while_they_last() {
        let cluster = Cluster::open().await;
        cluster.make(SECRETS, token("abcdef", "")).await;
        let signed = cluster
            .until(MAP, |a| {
                a.value()["data"]["jws-kubeconfig-abcdef"].is_string()
            })
            .await
            .value();
        let text = signed["data"]["kubeconfig"].as_str().unwrap();
        assert!(text.contains(&cluster.address.port().to_string()), "{text}");
        let expect = signature(text, "abcdef", "0123456789abcdef");
        assert_eq!(signed["data"]["jws-kubeconfig-abcdef"], expect);
        // Whoever wants to join has no name yet.
        let request = http::Request::get(MAP)
            .header("host", "test")
            .body(http_body_util::Full::default());
        assert_eq!(cluster.send(request.unwrap(), false).await.code, 200);
        let past = "2020-01-01T00:00:00Z";
        cluster.make(SECRETS, token("old000", past)).await;
        let old = format!("{SECRETS}/bootstrap-token-old000");
        cluster.until(&old, |a| a.code == 404).await;
        let gone = format!("{SECRETS}/bootstrap-token-abcdef");
        cluster.ask(http::Method::DELETE, &gone, &Value::Null).await;
        let data = |a: &crate::harness::Answer| a.value()["data"].as_object().unwrap().len();
        cluster.until(MAP, |a| data(a) == 1).await;
    }
}
