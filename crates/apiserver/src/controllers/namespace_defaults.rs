//! What every namespace has: the service account `default` and the server's authority; and tokens in Secrets that ask
//! for one.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wharf_kube_types::{Status, object};

use super::queue::{Controller, Reconciled};
use crate::api::Api;
use crate::call::Call;
use crate::clock;
use crate::object::Object;
use crate::verbs::update::{Demand, Made, change};
use crate::verbs::{create, delete};

const ROOT_CA: &str = "kube-root-ca.crt";
const TOKEN_TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// Keeps these objects there.
pub struct Defaults;

impl Controller for Defaults {
    fn name(&self) -> &'static str {
        "namespace-defaults"
    }

    fn keys(&mut self, _api: &Api, object: &Arc<Object>, gone: bool) -> Vec<String> {
        let (namespace, name) = object.names();
        let key = &object.key;
        if key.starts_with("core/namespaces/") {
            return if gone || object.facts.deleting {
                Vec::new()
            } else {
                vec![name.to_owned()]
            };
        }
        if key.starts_with("core/secrets/") {
            return if gone {
                Vec::new()
            } else {
                vec![key.to_string()]
            };
        }
        let ours = key.starts_with("core/serviceaccounts/") && name == "default" || name == ROOT_CA;
        if ours {
            vec![namespace.to_owned()]
        } else {
            Vec::new()
        }
    }

    fn reconcile<'a>(&'a mut self, api: &'a Arc<Api>, key: &'a str) -> Reconciled<'a> {
        Box::pin(async move {
            if key.starts_with("core/secrets/") {
                return token_secret(api, key).await.map(|()| None);
            }
            fill(api, key).await.map(|()| None)
        })
    }
}

async fn fill(api: &Arc<Api>, namespace: &str) -> Result<(), Status> {
    let namespaces = api.builtin("", "namespaces")?;
    let there = namespaces.cache.get(&namespaces.key("", namespace));
    if there.is_none_or(|object| object.facts.deleting) {
        return Ok(());
    }
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    ensure(api, "serviceaccounts", namespace, "default", account).await?;
    let data = json!({"ca.crt": api.authority.pem});
    let about = json!({"kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": ROOT_CA, "annotations": about}});
    ensure(api, "configmaps", namespace, ROOT_CA, map).await?;
    let kind = api.builtin("", "configmaps")?;
    let mut call = Call::internal(api, &kind, namespace, ROOT_CA, "root-ca-publisher");
    change(&mut call, &Demand::default(), |_, old| {
        let mut new = old.clone();
        new["data"] = data.clone();
        Ok(Made::plain(new))
    })
    .await?;
    Ok(())
}

async fn ensure(
    api: &Arc<Api>,
    plural: &str,
    namespace: &str,
    name: &str,
    value: Value,
) -> Result<(), Status> {
    let kind = api.builtin("", plural)?;
    if kind.cache.get(&kind.key(namespace, name)).is_some() {
        return Ok(());
    }
    let mut call = Call::internal(api, &kind, namespace, name, "serviceaccount-controller");
    let value = call.check_object(value, Vec::new())?;
    match create::create(&mut call, value).await {
        Err(status) if status.reason != "AlreadyExists" => Err(status),
        _ => Ok(()),
    }
}

/// Puts a token into a Secret that asks for one, and deletes it with its account.
async fn token_secret(api: &Arc<Api>, key: &str) -> Result<(), Status> {
    let kind = api.builtin("", "secrets")?;
    let Some(object) = kind.cache.get(key) else {
        return Ok(());
    };
    let secret = object.record.to_value();
    if object::text(&secret, "type") != TOKEN_TYPE || object.facts.deleting {
        return Ok(());
    }
    let (namespace, name) = object.names();
    let annotation = |name: &str| {
        secret["metadata"]["annotations"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let account = annotation(ACCOUNT);
    let accounts = api.builtin("", "serviceaccounts")?;
    let found = accounts.cache.get(&accounts.key(namespace, &account));
    let mut call = Call::internal(api, &kind, namespace, name, "tokens-controller");
    let Some(found) = found else {
        let known = annotation(ACCOUNT_UID);
        if !known.is_empty() {
            delete::delete(&mut call, &delete::Options::default()).await?;
        }
        return Ok(());
    };
    if secret["data"]["token"].is_string() {
        return Ok(());
    }
    let issuer = &api.authenticator.issuer;
    let now = clock::now().seconds;
    // As long-lived as its Secret: the year is a bound that the original lacks.
    let claims = json!({
        "aud": [issuer.audience], "exp": now + 365 * 86_400, "iat": now, "nbf": now, "iss": issuer.url,
        "jti": crate::random::uuid(), "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "kubernetes.io": {"namespace": namespace,
            "serviceaccount": {"name": account, "uid": &*found.facts.uid},
            "secret": {"name": name, "uid": &*object.facts.uid}},
    });
    let token = issuer.key.sign(&claims).map_err(|e| Status::internal(&e))?;
    let data = json!({"token": STANDARD.encode(token), "ca.crt": STANDARD.encode(&api.authority.pem),
        "namespace": STANDARD.encode(namespace)});
    change(&mut call, &Demand::default(), |_, old| {
        let mut new = old.clone();
        new["data"] = data.clone();
        new["metadata"]["annotations"][ACCOUNT_UID] = found.facts.uid.to_string().into();
        Ok(Made::plain(new))
    })
    .await?;
    Ok(())
}
