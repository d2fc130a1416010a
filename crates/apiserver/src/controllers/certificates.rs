//! Certificate signing requests: those of joining nodes are approved, and approved ones are signed.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wharf_kube_types::{Status, object};

use super::queue::{Controller, Reconciled};
use crate::api::Api;
use crate::authn::User;
use crate::authz::Ask;
use crate::call::Call;
use crate::clock;
use crate::object::Object;
use crate::verbs::update::{Demand, Made, change};

const GROUP: &str = "certificates.k8s.io";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LIFETIME_DEFAULT: Duration = Duration::from_secs(365 * 86_400);

/// Approves and signs.
pub struct Requests;

impl Controller for Requests {
    fn name(&self) -> &'static str {
        "certificate-signing"
    }

    fn keys(&mut self, _api: &Api, object: &Arc<Object>, gone: bool) -> Vec<String> {
        if gone {
            Vec::new()
        } else {
            vec![object.key.to_string()]
        }
    }

    fn reconcile<'a>(&'a mut self, api: &'a Arc<Api>, key: &'a str) -> Reconciled<'a> {
        Box::pin(async move { look(api, key).await.map(|()| None) })
    }
}

fn has(request: &Value, condition: &str) -> bool {
    let mut all = object::list(request, "status.conditions").iter();
    all.any(|c| c["type"] == condition)
}

async fn look(api: &Arc<Api>, key: &str) -> Result<(), Status> {
    let kind = api.builtin(GROUP, "certificatesigningrequests")?;
    let Some(object) = kind.cache.get(key) else {
        return Ok(());
    };
    let request = object.record.to_value();
    if has(&request, "Denied")
        || has(&request, "Failed")
        || !object::text(&request, "status.certificate").is_empty()
    {
        return Ok(());
    }
    let name = object.names().1;
    let call = Call::internal(api, &kind, "", name, "certificate-controller");
    if !has(&request, "Approved") {
        if joins(api, &request) {
            add_condition(
                call.on("approval"),
                "Approved",
                "AutoApproved",
                "Auto approving kubelet client certificate after SubjectAccessReview.",
            )
            .await?;
        }
        return Ok(());
    }
    let signer = object::text(&request, "spec.signerName");
    if ![CLIENT, KUBELET_CLIENT, KUBELET_SERVING].contains(&signer) {
        return Ok(());
    }
    match sign(api, &request) {
        Ok(pem) => {
            let mut call = call.on("status");
            change(&mut call, &Demand::default(), |_, old| {
                let mut new = old.clone();
                object::object_mut(&mut new, "status")
                    .insert("certificate".to_owned(), STANDARD.encode(&pem).into());
                Ok(Made::plain(new))
            })
            .await?;
        }
        Err(why) => {
            add_condition(call.on("status"), "Failed", "SignerValidationFailure", &why).await?
        }
    }
    Ok(())
}

/// A node that asks for its own client certificate, or a bootstrapper that may ask for one.
fn joins(api: &Api, request: &Value) -> bool {
    if object::text(request, "spec.signerName") != KUBELET_CLIENT {
        return false;
    }
    let texts = |path: &str| -> Vec<String> {
        let list = object::list(request, path).iter();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let user = User {
        name: object::text(request, "spec.username").to_owned(),
        groups: texts("spec.groups"),
        ..User::default()
    };
    let own = ["nodeclient", "selfnodeclient"];
    own.iter().any(|subresource| {
        let ask = Ask {
            verb: "create",
            group: GROUP,
            resource: "certificatesigningrequests",
            subresource,
            ..Ask::default()
        };
        api.authorizer.allows(api, &user, &ask).allowed
    })
}

fn sign(api: &Api, request: &Value) -> Result<String, String> {
    let text = object::text(request, "spec.request");
    let pem = STANDARD.decode(text).map_err(|e| e.to_string())?;
    let pem = String::from_utf8(pem).map_err(|e| e.to_string())?;
    let usages: Vec<&str> = object::list(request, "spec.usages")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let wants_server = usages.contains(&"server auth");
    let signer = object::text(request, "spec.signerName");
    if wants_server != (signer == KUBELET_SERVING) {
        return Err(format!("usages did not match those of the signer {signer}"));
    }
    let lifetime = object::int(request, "spec.expirationSeconds")
        .and_then(|s| u64::try_from(s).ok())
        .map_or(LIFETIME_DEFAULT, Duration::from_secs);
    api.authority
        .sign(&pem, &usages, lifetime)
        .map_err(|e| e.to_string())
}

async fn add_condition(
    mut call: Call,
    kind: &str,
    reason: &str,
    message: &str,
) -> Result<(), Status> {
    let now = clock::now_text();
    let condition = json!({"type": kind, "status": "True", "reason": reason, "message": message,
        "lastUpdateTime": now, "lastTransitionTime": now});
    change(&mut call, &Demand::default(), |_, old| {
        let mut new = old.clone();
        super::list_mut(object::object_mut(&mut new, "status"), "conditions")
            .push(condition.clone());
        Ok(Made::plain(new))
    })
    .await?;
    Ok(())
}
