//! Tokens of service accounts: made on request, bound to objects, checked against those that exist now.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use wharf_kube_types::{FieldError, Path, Status, object};

use super::jwt::SigningKey;
use super::{AUTHENTICATED, Accepted, User};
use crate::api::Api;
use crate::call::Call;
use crate::clock;

const SECONDS_MIN: i64 = 600;
const SECONDS_DEFAULT: i64 = 3600;
const SECONDS_MAX: i64 = 1 << 32;

/// Makes and checks tokens.
#[derive(Debug)]
pub struct Issuer {
    /// `iss` of the tokens.
    pub url: String,
    /// Audience of tokens for this server.
    pub audience: String,
    /// The key.
    pub key: SigningKey,
}

impl Issuer {
    /// The claims of a token that is this issuer's and valid now by its dates.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, token: &str) -> Result<Value, String> {
        let claims = self.key.verify(token)?;
        if claims["iss"] != self.url.as_str() {
            return Err("the token is of another issuer".to_owned());
        }
        Ok(claims)
    }

    /// The discovery document.
    pub fn discovery(&self, base: &str) -> Value {
        json!({
            "issuer": self.url, "jwks_uri": format!("{base}/openid/v1/jwks"),
            "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}

fn exists(api: &Api, plural: &str, namespace: &str, bound: &Value) -> bool {
    let Ok(kind) = api.builtin("", plural) else {
        return false;
    };
    let name = bound["name"].as_str().unwrap_or_default();
    let Some(object) = kind.cache.get(&kind.key(namespace, name)) else {
        return false;
    };
    let value = object.record.to_value();
    let uid = bound["uid"].as_str().unwrap_or_default();
    uid.is_empty() || object::text(&value, "metadata.uid") == uid
}

/// The user of verified claims, if all that the token is bound to still exists.
///
/// # Errors
/// Why the token is not good any more.
pub fn accept(
    api: &Api,
    issuer: &Issuer,
    claims: &Value,
    audiences: &[String],
) -> Result<Accepted, String> {
    let now = clock::now().seconds;
    if claims["exp"].as_i64().is_none_or(|exp| exp <= now) {
        return Err("the token has expired".to_owned());
    }
    if claims["nbf"].as_i64().is_some_and(|nbf| nbf > now + 10) {
        return Err("the token is not valid yet".to_owned());
    }
    let own: Vec<String> = match &claims["aud"] {
        Value::String(one) => vec![one.clone()],
        many => many
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    };
    let default = [issuer.audience.clone()];
    let asked = if audiences.is_empty() {
        &default
    } else {
        audiences
    };
    let common: Vec<String> = own.into_iter().filter(|a| asked.contains(a)).collect();
    if common.is_empty() {
        return Err("the token is for another audience".to_owned());
    }
    let bound = &claims["kubernetes.io"];
    let namespace = bound["namespace"].as_str().unwrap_or_default();
    let account = &bound["serviceaccount"];
    if !exists(api, "serviceaccounts", namespace, account) {
        return Err("the service account is gone".to_owned());
    }
    for (field, plural, namespace) in [
        ("pod", "pods", namespace),
        ("secret", "secrets", namespace),
        ("node", "nodes", ""),
    ] {
        let object = &bound[field];
        // A pod's token names the node only for information.
        let informs = field == "node" && bound["pod"].is_object();
        if object.is_object() && !informs && !exists(api, plural, namespace, object) {
            return Err(format!("the {field} that the token is bound to is gone"));
        }
    }
    let user = user(namespace, account, bound, claims);
    Ok(Accepted {
        user: Arc::new(user),
        audiences: common,
    })
}

fn user(namespace: &str, account: &Value, bound: &Value, claims: &Value) -> User {
    let name = account["name"].as_str().unwrap_or_default();
    let mut extra = BTreeMap::new();
    let mut note = |key: &str, value: &Value| {
        if let Some(text) = value.as_str() {
            extra.insert(
                format!("authentication.kubernetes.io/{key}"),
                vec![text.to_owned()],
            );
        }
    };
    note("pod-name", &bound["pod"]["name"]);
    note("pod-uid", &bound["pod"]["uid"]);
    note("node-name", &bound["node"]["name"]);
    note("node-uid", &bound["node"]["uid"]);
    let id = claims["jti"]
        .as_str()
        .map(|jti| format!("JTI={jti}").into());
    note("credential-id", &id.unwrap_or_default());
    User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        uid: account["uid"].as_str().unwrap_or_default().to_owned(),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            AUTHENTICATED.to_owned(),
        ],
        extra,
    }
}

/// Answers a `TokenRequest` for the call's service account.
///
/// # Errors
/// The account is gone, or the request makes no sense.
pub async fn request(call: &Call, request: &Value) -> Result<Value, Status> {
    let api = &call.api;
    let account = crate::verbs::get::get(call).await?.to_value();
    let spec = &request["spec"];
    let seconds = object::int(spec, "expirationSeconds").unwrap_or(SECONDS_DEFAULT);
    check_seconds(call, seconds)?;
    let issuer = &api.authenticator.issuer;
    let mut audiences: Vec<Value> = object::list(spec, "audiences").to_vec();
    if audiences.is_empty() {
        audiences.push(issuer.audience.clone().into());
    }
    let mut bound = json!({
        "namespace": call.namespace,
        "serviceaccount": {"name": call.name, "uid": account["metadata"]["uid"]},
    });
    bind(call, &spec["boundObjectRef"], &mut bound).await?;
    let now = clock::now().seconds;
    let claims = json!({
        "aud": audiences, "exp": now + seconds, "iat": now, "iss": issuer.url, "jti": crate::random::uuid(),
        "kubernetes.io": bound, "nbf": now,
        "sub": format!("system:serviceaccount:{}:{}", call.namespace, call.name),
    });
    let token = issuer.key.sign(&claims).map_err(|e| Status::internal(&e))?;
    let expires = wharf_kube_types::time::Timestamp::from_seconds(now + seconds);
    let mut answer = request.clone();
    answer["metadata"] = json!({"name": call.name, "namespace": call.namespace, "creationTimestamp": clock::now_text()});
    answer["spec"]["audiences"] = audiences.into();
    answer["spec"]["expirationSeconds"] = seconds.into();
    answer["status"] = json!({"token": token, "expirationTimestamp": expires.to_seconds_text()});
    Ok(answer)
}

fn check_seconds(call: &Call, seconds: i64) -> Result<(), Status> {
    let path = Path::new("spec.expirationSeconds");
    let error = if seconds < SECONDS_MIN {
        FieldError::invalid(
            &path,
            seconds,
            "may not specify a duration less than 10 minutes",
        )
    } else if seconds > SECONDS_MAX {
        FieldError::invalid(
            &path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        )
    } else {
        return Ok(());
    };
    Err(Status::invalid(
        "authentication.k8s.io",
        "TokenRequest",
        &call.name,
        &[error],
    ))
}

/// Binds a token to a pod, secret or node.
async fn bind(call: &Call, wanted: &Value, bound: &mut Value) -> Result<(), Status> {
    if !wanted.is_object() {
        return Ok(());
    }
    let (field, plural, namespace) = match wanted["kind"].as_str().unwrap_or_default() {
        "Pod" => ("pod", "pods", call.namespace.as_str()),
        "Secret" => ("secret", "secrets", call.namespace.as_str()),
        "Node" => ("node", "nodes", ""),
        other => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {other}"
            )));
        }
    };
    let kind = call.api.builtin("", plural)?;
    let name = wanted["name"].as_str().unwrap_or_default();
    let record = call.api.read(&kind.key(namespace, name)).await?;
    let value = record
        .ok_or_else(|| Status::not_found(&kind.resource, name))?
        .to_value();
    let uid = object::text(&value, "metadata.uid");
    let asked = wanted["uid"].as_str().unwrap_or_default();
    if !asked.is_empty() && asked != uid {
        let cause = format!(
            "the UID in the bound object reference ({asked}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&kind.resource, name, &cause));
    }
    if field == "pod" {
        let own = match object::text(&value, "spec.serviceAccountName") {
            "" => "default",
            name => name,
        };
        if own != call.name {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                call.name
            )));
        }
        let node = object::text(&value, "spec.nodeName");
        if !node.is_empty() {
            bound["node"] = json!({"name": node});
        }
    }
    bound[field] = json!({"name": name, "uid": uid});
    Ok(())
}
