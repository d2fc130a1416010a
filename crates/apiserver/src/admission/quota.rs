//! ResourceQuota: what objects use, and the refusal of what a namespace has no room for.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;
use wharf_kube_types::quantity::{Notation, Quantity};
use wharf_kube_types::{Status, object};

use super::{Attributes, Operation};
use crate::api::Api;
use crate::call::Call;
use crate::registry::Kind;
use crate::verbs::update::{Demand, Made, change};

/// Amounts by the names that quotas use.
pub type Usage = BTreeMap<String, Quantity>;

fn one() -> Quantity {
    Quantity::from_integer(1, Notation::DecimalSi)
}

fn add(usage: &mut Usage, name: &str, amount: Quantity) {
    let sum = usage.get(name).copied().unwrap_or(Quantity::ZERO) + amount;
    usage.insert(name.to_owned(), sum);
}

/// What an object uses.
pub fn of(kind: &Kind, value: &Value) -> Usage {
    let resource = &kind.resource;
    let mut usage = Usage::new();
    let counted = match resource.group.as_str() {
        "" => format!("count/{}", resource.plural),
        group => format!("count/{}.{group}", resource.plural),
    };
    let finished = matches!(object::text(value, "status.phase"), "Succeeded" | "Failed");
    add(&mut usage, &counted, one());
    if !resource.group.is_empty() || resource.custom {
        return usage;
    }
    match resource.plural.as_str() {
        "pods" if !finished => {
            add(&mut usage, "pods", one());
            pod(value, &mut usage);
        }
        "services" => {
            add(&mut usage, "services", one());
            let ports = object::list(value, "spec.ports").len();
            let ports = Quantity::from_integer(
                i64::try_from(ports).unwrap_or(i64::MAX),
                Notation::DecimalSi,
            );
            match object::text(value, "spec.type") {
                "NodePort" => add(&mut usage, "services.nodeports", ports),
                "LoadBalancer" => {
                    add(&mut usage, "services.loadbalancers", one());
                    add(&mut usage, "services.nodeports", ports);
                }
                _ => {}
            }
        }
        "persistentvolumeclaims" => {
            add(&mut usage, "persistentvolumeclaims", one());
            let asked = object::at(value, "spec.resources.requests.storage");
            if let Some(amount) = asked.and_then(|v| Quantity::from_value(v).ok()) {
                add(&mut usage, "requests.storage", amount);
                let class = object::text(value, "spec.storageClassName");
                if !class.is_empty() {
                    let of_class = format!("{class}.storageclass.storage.k8s.io");
                    add(&mut usage, &format!("{of_class}/requests.storage"), amount);
                    add(
                        &mut usage,
                        &format!("{of_class}/persistentvolumeclaims"),
                        one(),
                    );
                }
            }
        }
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => {
            add(&mut usage, &resource.plural, one());
        }
        _ => {}
    }
    usage
}

/// Sums of the containers; of those that run before them the greatest counts, if it is more.
fn pod(value: &Value, usage: &mut Usage) {
    for (field, prefix) in [("requests", "requests."), ("limits", "limits.")] {
        let mut sums = Usage::new();
        let mut most = Usage::new();
        for container in object::list(value, "spec.containers") {
            for (name, amount) in amounts(container, field) {
                add(&mut sums, &name, amount);
            }
        }
        for container in object::list(value, "spec.initContainers") {
            let stays = container["restartPolicy"] == "Always";
            for (name, amount) in amounts(container, field) {
                if stays {
                    add(&mut sums, &name, amount);
                } else {
                    let known = most.entry(name).or_insert(Quantity::ZERO);
                    *known = (*known).max(amount);
                }
            }
        }
        for (name, amount) in most {
            let sum = sums.entry(name).or_insert(Quantity::ZERO);
            *sum = (*sum).max(amount);
        }
        for (name, amount) in sums {
            if field == "requests"
                && matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
            {
                add(usage, &name, amount);
            }
            add(usage, &format!("{prefix}{name}"), amount);
        }
    }
}

fn amounts(container: &Value, field: &str) -> Vec<(String, Quantity)> {
    let read =
        |(name, value): (&String, &Value)| Some((name.clone(), Quantity::from_value(value).ok()?));
    object::map(container, &format!("resources.{field}"))
        .filter_map(read)
        .collect()
}

fn in_scope(scope: &str, pod: &Value) -> bool {
    let deadline = object::int(pod, "spec.activeDeadlineSeconds").is_some_and(|s| s >= 0);
    let best_effort = wharf_kube_types::strategy::quality_of_service(pod) == "BestEffort";
    match scope {
        "Terminating" => deadline,
        "NotTerminating" => !deadline,
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        "PriorityClass" => !object::text(pod, "spec.priorityClassName").is_empty(),
        _ => false,
    }
}

/// Whether a quota with this spec is about an object.
fn concerns(spec: &Value, kind: &Kind, value: &Value) -> bool {
    let scopes = object::list(spec, "scopes");
    let terms = object::list(spec, "scopeSelector.matchExpressions");
    if scopes.is_empty() && terms.is_empty() {
        return true;
    }
    if !kind.resource.is("", "pods") {
        return false;
    }
    let term = |term: &Value| {
        let scope = object::text(term, "scopeName");
        let class = object::text(value, "spec.priorityClassName");
        let listed = object::list(term, "values").iter().any(|v| v == class);
        match object::text(term, "operator") {
            "Exists" => in_scope(scope, value),
            "DoesNotExist" => !in_scope(scope, value),
            "In" => scope == "PriorityClass" && listed,
            "NotIn" => scope == "PriorityClass" && !listed,
            _ => false,
        }
    };
    scopes
        .iter()
        .all(|s| in_scope(s.as_str().unwrap_or_default(), value))
        && terms.iter().all(term)
}

/// What a namespace uses of these names, counted from the caches.
pub fn usage(api: &Arc<Api>, namespace: &str, names: &[&String], spec: &Value) -> Usage {
    let mut sums: Usage = names
        .iter()
        .map(|name| ((*name).clone(), Quantity::ZERO))
        .collect();
    for kind in api.registry().stored() {
        if !kind.resource.namespaced || !may_use(&kind, names) {
            continue;
        }
        for object in kind.cache.all(&kind.range(namespace)) {
            let value = object.record.to_value();
            if !concerns(spec, &kind, &value) {
                continue;
            }
            for (name, amount) in of(&kind, &value) {
                if let Some(sum) = sums.get_mut(&name) {
                    *sum = *sum + amount;
                }
            }
        }
    }
    sums
}

/// Whether objects of a kind may use one of these names at all.
fn may_use(kind: &Kind, names: &[&String]) -> bool {
    let resource = &kind.resource;
    names.iter().any(|name| match name.strip_prefix("count/") {
        Some(counted) => counted == resource.qualified(),
        None => {
            resource.group.is_empty()
                && match resource.plural.as_str() {
                    "pods" => true,
                    "services" => name.starts_with("services"),
                    "persistentvolumeclaims" => {
                        name.contains("storage") || name.contains("persistentvolumeclaims")
                    }
                    plural => *name == plural,
                }
        }
    })
}

fn listed(all: &[(String, Quantity)]) -> String {
    let one = |(name, amount): &(String, Quantity)| format!("{name}={amount}");
    all.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Refuses what a quota of the namespace has no room for, and notes what there is room for as used.
///
/// # Errors
/// 403 with what was asked for, used and allowed.
pub async fn check(call: &Call, what: &Attributes<'_>) -> Result<(), Status> {
    let kind = &call.kind;
    let (Some(value), true) = (what.object.as_deref(), call.subresource.is_empty()) else {
        return Ok(());
    };
    if !kind.resource.namespaced
        || what.operation == Operation::Delete
        || kind.resource.is("", "events")
    {
        return Ok(());
    }
    let quotas = call.api.builtin("", "resourcequotas")?;
    let found = quotas.cache.all(&quotas.range(&call.namespace));
    if found.is_empty() {
        return Ok(());
    }
    let mut more = of(kind, value);
    if let Some(old) = what.old {
        for (name, amount) in of(kind, old) {
            let left = more.get(&name).copied().unwrap_or(Quantity::ZERO) - amount;
            more.insert(name, left);
        }
    }
    for quota in found {
        let spec = quota.record.to_value()["spec"].clone();
        if concerns(&spec, kind, value) {
            let name = quota.names().1;
            if what.operation == Operation::Create {
                demand_requests(call, name, &spec, value)?;
            }
            charge(call, &quotas, name, &more).await?;
        }
    }
    Ok(())
}

/// Where compute is limited, every container says how much it wants.
fn demand_requests(call: &Call, quota: &str, spec: &Value, pod: &Value) -> Result<(), Status> {
    if !call.kind.resource.is("", "pods") {
        return Ok(());
    }
    let has = of(&call.kind, pod);
    let compute = [
        "cpu",
        "memory",
        "requests.cpu",
        "requests.memory",
        "limits.cpu",
        "limits.memory",
    ];
    let missing: Vec<&str> = object::map(spec, "hard")
        .map(|(name, _)| name.as_str())
        .filter(|name| compute.contains(name) && !has.contains_key(*name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let containers: Vec<&str> = object::list(pod, "spec.containers")
        .iter()
        .map(|c| object::text(c, "name"))
        .collect();
    let all: Vec<String> = missing
        .iter()
        .map(|name| format!("{name} for: {}", containers.join(",")))
        .collect();
    Err(refused(
        call,
        &format!("failed quota: {quota}: must specify {}", all.join("; ")),
    ))
}

fn refused(call: &Call, why: &str) -> Status {
    let resource = &call.kind.resource;
    Status::forbidden(&resource.group, &resource.plural, &call.name, why)
}

/// Boxed: a charge is itself a write, which has admission, and a future can't contain itself.
fn charge<'a>(
    call: &'a Call,
    quotas: &'a Arc<Kind>,
    name: &'a str,
    more: &'a Usage,
) -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>> {
    Box::pin(charge_now(call, quotas, name, more))
}

async fn charge_now(
    call: &Call,
    quotas: &Arc<Kind>,
    name: &str,
    more: &Usage,
) -> Result<(), Status> {
    let mut on_quota =
        Call::internal(&call.api, quotas, &call.namespace, name, "quota").on("status");
    on_quota.dry_run = call.dry_run;
    let charged = change(&mut on_quota, &Demand::default(), |_, old| {
        let mut new = old.clone();
        let (mut asked, mut has, mut limits) = (Vec::new(), Vec::new(), Vec::new());
        let names: Vec<&String> = object::map(old, "spec.hard")
            .map(|(name, _)| name)
            .collect();
        let counted = object::at(old, "status.used")
            .is_none()
            .then(|| usage(&call.api, &call.namespace, &names, &old["spec"]));
        for (resource, limit) in object::map(old, "spec.hard") {
            let Some(amount) = more.get(resource).copied().filter(|a| !a.is_zero()) else {
                continue;
            };
            let limit = Quantity::from_value(limit).unwrap_or(Quantity::ZERO);
            let used = match &counted {
                Some(counted) => counted.get(resource).copied().unwrap_or(Quantity::ZERO),
                None => Quantity::from_value(&old["status"]["used"][resource.as_str()])
                    .unwrap_or(Quantity::ZERO),
            };
            if amount.sign().is_gt() && used + amount > limit {
                asked.push((resource.clone(), amount));
                has.push((resource.clone(), used));
                limits.push((resource.clone(), limit));
            }
            let status = object::object_mut(&mut new, "status");
            let all = status
                .entry("used")
                .or_insert_with(|| serde_json::json!({}));
            all[resource.as_str()] = (used + amount).to_string().into();
        }
        if asked.is_empty() {
            return Ok(Made::plain(new));
        }
        Err(refused(
            call,
            &format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                listed(&asked),
                listed(&has),
                listed(&limits)
            ),
        ))
    })
    .await;
    match charged {
        // The quota went meanwhile.
        Err(status) if status.code == 404 => Ok(()),
        charged => charged.map(|_| ()),
    }
}
