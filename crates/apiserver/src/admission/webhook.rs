//! Admission webhooks: which are concerned by a request, what they are asked, and what becomes of their answers.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wharf_kube_types::{Status, object, patch};

use super::matching::{Subject, conditions_hold, matches_rule, selected};
use super::{Attributes, Operation};
use crate::call::Call;
use crate::https;

pub(super) const GROUP: &str = "admissionregistration.k8s.io";
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

/// Whether a hook is to be asked.
///
/// # Errors
/// Its conditions can't be evaluated, and it may not be passed by.
fn concerns(call: &Call, what: &Attributes<'_>, hook: &Hook) -> Result<bool, Status> {
    let rules = object::list(&hook.value, "rules");
    let named = rules
        .iter()
        .any(|rule| matches_rule(call, what.operation, rule));
    if !named || !selected(call, what, &hook.value) {
        return Ok(false);
    }
    let conditions = object::list(&hook.value, "matchConditions");
    if conditions.is_empty() {
        return Ok(true);
    }
    let mut review = review(call, what, "");
    let subject = Subject::of(call, what, review["request"].take());
    match conditions_hold(conditions, call, &subject) {
        Ok(hold) => Ok(hold),
        Err(_) if object::text(&hook.value, "failurePolicy") == "Ignore" => Ok(false),
        Err(why) => {
            let resource = &call.kind.resource;
            let why = format!("webhook {:?}: matchConditions: {why}", hook.name);
            Err(Status::forbidden(
                &resource.group,
                &resource.plural,
                &call.name,
                &why,
            ))
        }
    }
}

/// The options of a request, by their kind.
fn options(call: &Call, operation: Operation) -> Value {
    let kind = match operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut out = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if call.dry_run {
        out["dryRun"] = json!(["All"]);
    }
    let manager = call.query.get("fieldManager");
    if !manager.is_empty() && operation != Operation::Delete {
        out["fieldManager"] = manager.into();
    }
    out
}

pub(super) fn review(call: &Call, what: &Attributes<'_>, uid: &str) -> Value {
    let resource = &call.kind.resource;
    let (api_version, kind) = (&resource.version, &resource.kind);
    let gvk = match resource.subresource(&call.subresource) {
        Some(sub) if !sub.version.is_empty() => {
            json!({"group": sub.group, "version": sub.version, "kind": sub.kind})
        }
        _ => json!({"group": resource.group, "version": api_version, "kind": kind}),
    };
    let gvr = json!({"group": resource.group, "version": api_version, "resource": resource.plural});
    let mut request = json!({
        "uid": uid, "kind": gvk, "resource": gvr, "requestKind": gvk, "requestResource": gvr,
        "operation": what.operation.word(), "userInfo": call.user.to_value(), "name": call.name,
        "object": what.object.as_deref(), "oldObject": what.old, "dryRun": call.dry_run,
        "options": options(call, what.operation),
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
async fn ask(
    call: &Call,
    what: &Attributes<'_>,
    hook: &Hook,
    mutates: bool,
) -> Result<Value, String> {
    let seconds = object::int(&hook.value, "timeoutSeconds")
        .unwrap_or(TIMEOUT_SECONDS)
        .clamp(1, 30);
    let uid = crate::random::uuid();
    let review = review(call, what, &uid);
    let client = &hook.value["clientConfig"];
    let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(10));
    let asked = https::post_within(&call.api, client, &review, limit).await;
    let mut answer = asked.map_err(|why| format!("failed to call webhook: {why}"))?;
    verify(&mut answer, &uid, mutates)
        .map_err(|why| format!("received invalid webhook response: {why}"))
}

/// The response of an answer that is one.
fn verify(answer: &mut Value, uid: &str, mutates: bool) -> Result<Value, String> {
    let response = answer["response"].take();
    if !response.is_object() {
        return Err("webhook response was absent".to_owned());
    }
    let gvk = |api_version: &str, kind: &str| format!("{api_version}, Kind={kind}");
    let is = gvk(
        object::text(answer, "apiVersion"),
        object::text(answer, "kind"),
    );
    let should = gvk("admission.k8s.io/v1", "AdmissionReview");
    if is != should {
        return Err(format!("expected webhook response of {should}, got {is}"));
    }
    let own = object::text(&response, "uid");
    if own != uid {
        return Err(format!("expected response.uid={uid:?}, got {own:?}"));
    }
    let patched = !object::text(&response, "patch").is_empty();
    match (patched && mutates, response["patchType"].as_str()) {
        (true, None) => {
            Err("webhook returned response.patch but not response.patchType".to_owned())
        }
        (true, Some(kind)) if kind != "JSONPatch" => Err(format!(
            "webhook returned invalid response.patchType of {kind:?}"
        )),
        _ => Ok(response),
    }
}

/// The answer, or nothing where a hook fails that may be ignored.
async fn judge(
    call: &mut Call,
    what: &Attributes<'_>,
    hook: &Hook,
    mutates: bool,
) -> Result<Option<Value>, Status> {
    let effects = object::text(&hook.value, "sideEffects");
    if call.dry_run && !matches!(effects, "None" | "NoneOnDryRun") {
        return Err(Status::bad_request(format!(
            "admission webhook {:?} does not support dry run",
            hook.name
        )));
    }
    let response = match ask(call, what, hook, mutates).await {
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
    Err(denial(hook, &response))
}

/// The refusal that a webhook's answer is.
fn denial(hook: &Hook, response: &Value) -> Status {
    let message = match (
        object::text(response, "status.message"),
        object::text(response, "status.reason"),
    ) {
        ("", "") => " without explanation".to_owned(),
        ("", reason) => format!(": {reason}"),
        (message, _) => format!(": {message}"),
    };
    let mut status = Status::bad_request(format!(
        "admission webhook {:?} denied the request{message}",
        hook.name
    ));
    let reason = object::text(response, "status.reason");
    let known = REASONS.iter().find(|known| **known == reason);
    status.reason = known.copied().unwrap_or_default();
    if response["status"]["details"].is_object() {
        status.details = response["status"]["details"].clone();
    }
    if let Some(code) = object::int(response, "status.code").and_then(|c| u16::try_from(c).ok())
        && (400..600).contains(&code)
    {
        status.code = code;
    }
    status
}

/// Reasons that a webhook may give for a refusal.
const REASONS: [&str; 17] = [
    "Unauthorized",
    "Forbidden",
    "NotFound",
    "AlreadyExists",
    "Conflict",
    "Gone",
    "Invalid",
    "ServerTimeout",
    "Timeout",
    "TooManyRequests",
    "BadRequest",
    "MethodNotAllowed",
    "NotAcceptable",
    "RequestEntityTooLarge",
    "UnsupportedMediaType",
    "InternalError",
    "ServiceUnavailable",
];

pub(super) fn is_own(call: &Call) -> bool {
    call.kind.resource.group == GROUP
}

/// Lets webhooks change the object, one after another; those that wish are asked again after others changed it.
/// True if it was changed.
///
/// # Errors
/// Who refused it.
pub async fn mutate(call: &mut Call, what: &mut Attributes<'_>) -> Result<bool, Status> {
    if is_own(call) {
        return Ok(false);
    }
    let hooks = hooks(call, "mutatingwebhookconfigurations")?;
    let mut changed_after = Vec::new();
    let mut changed = false;
    for (index, hook) in hooks.iter().enumerate() {
        if concerns(call, what, hook)? && one(call, what, hook).await? {
            changed_after = (0..index).collect();
            changed = true;
        }
    }
    for index in changed_after {
        let hook = &hooks[index];
        if object::text(&hook.value, "reinvocationPolicy") == "IfNeeded"
            && concerns(call, what, hook)?
        {
            one(call, what, hook).await?;
        }
    }
    Ok(changed)
}

/// What an object is known by.
pub(super) const IDENTITY: [(&str, &str); 5] = [
    ("apiVersion", "version"),
    ("kind", "kind"),
    ("metadata.name", "name"),
    ("metadata.namespace", "namespace"),
    ("metadata.uid", "uid"),
];

async fn one(call: &mut Call, what: &mut Attributes<'_>, hook: &Hook) -> Result<bool, Status> {
    let Some(response) = judge(call, what, hook, true).await? else {
        return Ok(false);
    };
    let Some(text) = response["patch"].as_str().filter(|text| !text.is_empty()) else {
        return Ok(false);
    };
    let fail =
        |why: String| Status::internal(&format!("failed calling webhook {:?}: {why}", hook.name));
    let bytes = STANDARD.decode(text).map_err(|e| fail(e.to_string()))?;
    let change: Value = serde_json::from_slice(&bytes).map_err(|e| fail(e.to_string()))?;
    let Some(value) = what.object.as_deref_mut() else {
        return Ok(false);
    };
    let before = value.clone();
    patch::json_patch(value, &change).map_err(|e| fail(e.to_string()))?;
    for (path, what) in IDENTITY {
        if object::at(&before, path) != object::at(value, path) {
            return Err(fail(format!("it may not change the object's {what}")));
        }
    }
    if what.operation != Operation::Connect {
        // What a webhook makes is read as what a client sends.
        wharf_kube_types::schema::read(&call.kind.resource, value).map_err(fail)?;
    }
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
    let mut concerned = Vec::new();
    for hook in hooks(call, "validatingwebhookconfigurations")? {
        if concerns(call, what, &hook)? {
            concerned.push(hook);
        }
    }
    let hooks = concerned;
    if hooks.is_empty() {
        return Ok(());
    }
    let shared = &*what;
    let asked = hooks.iter().map(|hook| {
        let mut call = call.clone();
        async move {
            call.warnings.clear();
            let judged = judge(&mut call, shared, hook, false).await;
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

#[cfg(test)]
mod tests;
