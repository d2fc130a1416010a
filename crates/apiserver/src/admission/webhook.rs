//! Admission webhooks: which are concerned by a request, what they are asked, and what becomes of their answers.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wharf_kube_types::selector::LabelSelector;
use wharf_kube_types::{Status, object, patch};

use super::{Attributes, Operation};
use crate::call::Call;
use crate::https;

const GROUP: &str = "admissionregistration.k8s.io";
const TIMEOUT_SECONDS: i64 = 10;

/// A webhook of a configuration.
struct Hook {
    name: String,
    value: Value,
}

/// The hooks of all configurations in the order of their names.
fn hooks(call: &Call, plural: &str) -> Result<Vec<Hook>, Status> {
    let kind = call.api.builtin(GROUP, plural)?;
    let mut out = Vec::new();
    for configuration in kind.cache.all("") {
        let value = configuration.record.to_value();
        for hook in object::list(&value, "webhooks") {
            out.push(Hook {
                name: object::text(hook, "name").to_owned(),
                value: hook.clone(),
            });
        }
    }
    Ok(out)
}

fn matches_rule(call: &Call, operation: Operation, rule: &Value) -> bool {
    let resource = &call.kind.resource;
    let any = |field: &str, wanted: &str| {
        object::list(rule, field)
            .iter()
            .any(|v| v == "*" || v == wanted)
    };
    let scope = match object::text(rule, "scope") {
        "Namespaced" => resource.namespaced,
        "Cluster" => !resource.namespaced,
        _ => true,
    };
    let wanted = object::list(rule, "resources")
        .iter()
        .filter_map(Value::as_str);
    let mut fits =
        wanted.map(
            |pattern| match (pattern.split_once('/'), call.subresource.as_str()) {
                (None, "") => pattern == "*" || pattern == resource.plural,
                (None, _) => false,
                (Some((plural, sub)), own) => {
                    let sub_fits = if own.is_empty() {
                        plural == "*" && sub == "*"
                    } else {
                        sub == "*" || sub == own
                    };
                    (plural == "*" || plural == resource.plural) && sub_fits
                }
            },
        );
    scope
        && any("operations", operation.word())
        && any("apiGroups", &resource.group)
        && any("apiVersions", &resource.version)
        && fits.any(|fits| fits)
}

fn concerns(call: &Call, what: &Attributes<'_>, hook: &Value) -> bool {
    let rules = object::list(hook, "rules");
    if !rules
        .iter()
        .any(|rule| matches_rule(call, what.operation, rule))
    {
        return false;
    }
    let selects = |field: &str, subject: &Value| match hook.get(field).filter(|s| !s.is_null()) {
        None => true,
        selector => LabelSelector::from_object(selector).is_ok_and(|s| s.matches(subject)),
    };
    let objects = [what.object.as_deref(), what.old];
    let mut objects = objects.into_iter().flatten();
    objects.any(|o| selects("objectSelector", o))
        && selects("namespaceSelector", &namespace_of(call, what))
}

/// The namespace that a selector looks at; a namespace looks at itself.
fn namespace_of(call: &Call, what: &Attributes<'_>) -> Value {
    if call.kind.resource.is("", "namespaces") {
        return what
            .object
            .as_deref()
            .or(what.old)
            .cloned()
            .unwrap_or_default();
    }
    let found = call
        .api
        .builtin("", "namespaces")
        .ok()
        .and_then(|kind| kind.cache.get(&kind.key("", &call.namespace)));
    found
        .map(|object| object.record.to_value())
        .unwrap_or_default()
}

fn review(call: &Call, what: &Attributes<'_>, uid: &str) -> Value {
    let resource = &call.kind.resource;
    let (api_version, kind) = (&resource.version, &resource.kind);
    let gvk = json!({"group": resource.group, "version": api_version, "kind": kind});
    let gvr = json!({"group": resource.group, "version": api_version, "resource": resource.plural});
    let mut request = json!({
        "uid": uid, "kind": gvk, "resource": gvr, "requestKind": gvk, "requestResource": gvr,
        "operation": what.operation.word(), "userInfo": call.user.to_value(), "name": call.name,
        "object": what.object.as_deref(), "oldObject": what.old, "dryRun": call.dry_run,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    });
    if !call.namespace.is_empty() {
        request["namespace"] = call.namespace.clone().into();
    }
    if !call.subresource.is_empty() {
        request["subResource"] = call.subresource.clone().into();
        request["requestSubResource"] = call.subresource.clone().into();
    }
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
}

/// Asks a hook. An error is a hook that can't be reached or answers nonsense.
async fn ask(call: &Call, what: &Attributes<'_>, hook: &Hook) -> Result<Value, String> {
    let seconds = object::int(&hook.value, "timeoutSeconds")
        .unwrap_or(TIMEOUT_SECONDS)
        .clamp(1, 30);
    let uid = crate::random::uuid();
    let review = review(call, what, &uid);
    let client = &hook.value["clientConfig"];
    let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(10));
    let answer = tokio::time::timeout(limit, https::post(&call.api, client, &review))
        .await
        .map_err(|_| "context deadline exceeded".to_owned())??;
    let response = answer["response"].clone();
    if response["uid"] != uid.as_str() {
        return Err(format!(
            "expected response.uid={uid:?}, got {}",
            response["uid"]
        ));
    }
    Ok(response)
}

/// The answer, or nothing where a hook fails that may be ignored.
async fn judge(
    call: &mut Call,
    what: &Attributes<'_>,
    hook: &Hook,
) -> Result<Option<Value>, Status> {
    let response = match ask(call, what, hook).await {
        Ok(response) => response,
        Err(why) if object::text(&hook.value, "failurePolicy") == "Ignore" => {
            tracing::warn!(webhook = hook.name, %why, "failed, and is ignored");
            return Ok(None);
        }
        Err(why) => {
            return Err(Status::internal(&format!(
                "failed calling webhook {:?}: {why}",
                hook.name
            )));
        }
    };
    for warning in object::list(&response, "warnings") {
        call.warnings.extend(warning.as_str().map(str::to_owned));
    }
    if response["allowed"] == true {
        return Ok(Some(response));
    }
    let message = match (
        object::text(&response, "status.message"),
        object::text(&response, "status.reason"),
    ) {
        ("", "") => " without explanation".to_owned(),
        ("", reason) => format!(": {reason}"),
        (message, _) => format!(": {message}"),
    };
    let mut status = Status::forbidden("", "", "", "");
    status.message = format!(
        "admission webhook {:?} denied the request{message}",
        hook.name
    );
    status.details = json!({});
    if let Some(code) = object::int(&response, "status.code").and_then(|c| u16::try_from(c).ok())
        && (400..600).contains(&code)
    {
        status.code = code;
    }
    Err(status)
}

fn is_own(call: &Call) -> bool {
    call.kind.resource.group == GROUP
}

/// Lets webhooks change the object, one after another; those that wish are asked again after others changed it.
///
/// # Errors
/// Who refused it.
pub async fn mutate(call: &mut Call, what: &mut Attributes<'_>) -> Result<(), Status> {
    if is_own(call) {
        return Ok(());
    }
    let hooks = hooks(call, "mutatingwebhookconfigurations")?;
    if hooks.is_empty() {
        return Ok(());
    }
    let mut changed_after = Vec::new();
    for (index, hook) in hooks.iter().enumerate() {
        if concerns(call, what, &hook.value) && one(call, what, hook).await? {
            changed_after = (0..index).collect();
        }
    }
    for index in changed_after {
        let hook = &hooks[index];
        if object::text(&hook.value, "reinvocationPolicy") == "IfNeeded"
            && concerns(call, what, &hook.value)
        {
            one(call, what, hook).await?;
        }
    }
    Ok(())
}

async fn one(call: &mut Call, what: &mut Attributes<'_>, hook: &Hook) -> Result<bool, Status> {
    let Some(response) = judge(call, what, hook).await? else {
        return Ok(false);
    };
    let Some(text) = response["patch"].as_str() else {
        return Ok(false);
    };
    let fail = |why: String| Status::internal(&format!("webhook {:?}: {why}", hook.name));
    let bytes = STANDARD.decode(text).map_err(|e| fail(e.to_string()))?;
    let change: Value = serde_json::from_slice(&bytes).map_err(|e| fail(e.to_string()))?;
    let Some(value) = what.object.as_deref_mut() else {
        return Ok(false);
    };
    let before = value.clone();
    patch::json_patch(value, &change).map_err(|e| fail(e.to_string()))?;
    // What a webhook makes is read as what a client sends.
    wharf_kube_types::schema::read(&call.kind.resource, value).map_err(fail)?;
    Ok(*value != before)
}

/// Lets webhooks refuse the object: all at once.
///
/// # Errors
/// Who refused it.
pub async fn validate(call: &mut Call, what: &mut Attributes<'_>) -> Result<(), Status> {
    if is_own(call) {
        return Ok(());
    }
    let hooks: Vec<Hook> = hooks(call, "validatingwebhookconfigurations")?
        .into_iter()
        .filter(|hook| concerns(call, what, &hook.value))
        .collect();
    if hooks.is_empty() {
        return Ok(());
    }
    let shared = &*what;
    let asked = hooks.iter().map(|hook| {
        let mut call = call.clone();
        async move {
            call.warnings.clear();
            let judged = judge(&mut call, shared, hook).await;
            (judged, call.warnings)
        }
    });
    let mut refused = None;
    for (judged, warnings) in futures_util::future::join_all(asked).await {
        call.warnings.extend(warnings);
        if let Err(status) = judged {
            refused.get_or_insert(status);
        }
    }
    refused.map_or(Ok(()), Err)
}
