//! Disruption budgets, autoscalers, priority and runtime classes, leases, quotas and limits.

use serde_json::Value;

use super::faults::{Faults, label_selector};
use super::workload::{at_most_all, int_or_percent};
use super::{names, pod};
use crate::field::{FieldError, Path};
use crate::object::{at, flag, int, list, map, text};
use crate::quantity::Quantity;

/// A PodDisruptionBudget.
pub fn disruption_budget(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    if at(spec, "minAvailable").is_some() && at(spec, "maxUnavailable").is_some() {
        out.invalid(
            &path,
            spec.clone(),
            "minAvailable and maxUnavailable cannot be both set",
        );
    }
    for field in ["minAvailable", "maxUnavailable"] {
        if let Some(value) = at(spec, field) {
            int_or_percent(value, &path.field(field), out);
            at_most_all(value, &path.field(field), out);
        }
    }
    label_selector(&spec["selector"], &path.field("selector"), out);
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    out.optional_one_of(
        &path.field("unhealthyPodEvictionPolicy"),
        &spec["unhealthyPodEvictionPolicy"],
        &policies,
    );
}

/// A HorizontalPodAutoscaler of either version.
pub fn autoscaler(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let (least, most) = (
        int(spec, "minReplicas"),
        int(spec, "maxReplicas").unwrap_or_default(),
    );
    if let Some(least) = least.filter(|n| *n < 1) {
        out.invalid(
            &path.field("minReplicas"),
            least,
            "must be greater than or equal to 1",
        );
    }
    if most < 1 {
        out.invalid(&path.field("maxReplicas"), most, "must be greater than 0");
    }
    if least.is_some_and(|least| most < least) {
        out.invalid(
            &path.field("maxReplicas"),
            most,
            "must be greater than or equal to `minReplicas`",
        );
    }
    let here = path.field("scaleTargetRef");
    for field in ["kind", "name"] {
        out.required_rule(
            &here.field(field),
            text(&spec["scaleTargetRef"], field),
            names::path_segment,
        );
    }
    let place = path.field("metrics");
    for (index, metric) in list(spec, "metrics").iter().enumerate() {
        self::metric(metric, &place.index(index), out);
    }
    let here = path.field("behavior");
    for field in ["scaleUp", "scaleDown"] {
        if let Some(rules) = spec["behavior"].get(field).filter(|r| !r.is_null()) {
            scaling(rules, &here.field(field), out);
        }
    }
}

fn metric(metric: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    const KINDS: [&str; 5] = [
        "ContainerResource",
        "External",
        "Object",
        "Pods",
        "Resource",
    ];
    const FIELDS: [&str; 5] = [
        "containerResource",
        "external",
        "object",
        "pods",
        "resource",
    ];
    let kind = text(metric, "type");
    if kind.is_empty() {
        return out.required(&path.field("type"), "must specify a metric source type");
    }
    let Some(which) = KINDS.iter().position(|k| *k == kind) else {
        return out.not_supported(&path.field("type"), kind, &KINDS);
    };
    for field in FIELDS
        .iter()
        .filter(|f| **f != FIELDS[which] && at(metric, f).is_some())
    {
        out.forbidden(
            &path.field(field),
            "must populate the given metric source only",
        );
    }
    let here = path.field(FIELDS[which]);
    let Some(source) = at(metric, FIELDS[which]) else {
        return out.required(
            &here,
            "must populate information for the given metric source",
        );
    };
    let target = here.field("target");
    let sort = text(source, "target.type");
    if sort.is_empty() {
        out.required(&target.field("type"), "must specify a metric target type");
    } else if !matches!(sort, "Utilization" | "Value" | "AverageValue") {
        out.invalid(
            &target.field("type"),
            sort,
            "must be either Utilization, Value, or AverageValue",
        );
    }
    for field in ["value", "averageValue"] {
        let amount = source["target"]
            .get(field)
            .and_then(|v| Quantity::from_value(v).ok());
        if let Some(amount) = amount.filter(|a| !a.sign().is_gt()) {
            out.invalid(&target.field(field), amount.to_string(), "must be positive");
        }
    }
    if let Some(percent) = int(source, "target.averageUtilization").filter(|p| *p < 1) {
        out.invalid(
            &target.field("averageUtilization"),
            percent,
            "must be greater than 0",
        );
    }
    named_metric(FIELDS[which], source, &here, out);
}

fn named_metric(field: &str, source: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let target = path.field("target");
    let has = |name: &str| source["target"].get(name).is_some_and(|v| !v.is_null());
    match field {
        "resource" | "containerResource" => {
            if text(source, "name").is_empty() {
                out.required(&path.field("name"), "must specify a resource name");
            }
            if field == "containerResource" && text(source, "container").is_empty() {
                out.required(&path.field("container"), "must specify a container");
            }
            if !has("averageUtilization") && !has("averageValue") {
                let detail = "must set either a target raw value or a target utilization";
                out.required(&target.field("averageUtilization"), detail);
            }
            if has("averageUtilization") && has("averageValue") {
                let detail = "may not set both a target raw value and a target utilization";
                out.forbidden(&target.field("averageValue"), detail);
            }
        }
        _ => {
            let metric = path.field("metric");
            let name = text(source, "metric.name");
            if name.is_empty() {
                out.required(&metric.field("name"), "must specify a metric name");
            } else {
                out.rule(&metric.field("name"), name, names::path_segment);
            }
            if field == "pods" && !has("averageValue") {
                out.required(
                    &target.field("averageValue"),
                    "must specify a positive target averageValue",
                );
            } else if field != "pods" && !has("value") && !has("averageValue") {
                let detail = "must set either a target value for metric or a per-pod target";
                out.required(&target.field("averageValue"), detail);
            }
        }
    }
}

fn scaling(rules: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let place = path.field("stabilizationWindowSeconds");
    match int(rules, "stabilizationWindowSeconds") {
        Some(seconds) if seconds < 0 => {
            out.invalid(&place, seconds, "must be greater than or equal to zero")
        }
        Some(seconds) if seconds > 3_600 => {
            out.invalid(&place, seconds, "must be less than or equal to 3600");
        }
        _ => {}
    }
    out.optional_one_of(
        &path.field("selectPolicy"),
        &rules["selectPolicy"],
        &["Disabled", "Max", "Min"],
    );
    let place = path.field("policies");
    if list(rules, "policies").is_empty() {
        out.required(&place, "must specify at least one Policy");
    }
    for (index, policy) in list(rules, "policies").iter().enumerate() {
        let here = place.index(index);
        let kind = text(policy, "type");
        if !matches!(kind, "Percent" | "Pods") {
            out.not_supported(&here.field("type"), kind, &["Percent", "Pods"]);
        }
        for field in ["value", "periodSeconds"] {
            if let Some(number) = int(policy, field).filter(|n| *n <= 0) {
                out.invalid(&here.field(field), number, "must be greater than zero");
            }
        }
        if let Some(seconds) = int(policy, "periodSeconds").filter(|s| *s > 1_800) {
            out.invalid(
                &here.field("periodSeconds"),
                seconds,
                "must be less than or equal to 1800",
            );
        }
    }
}

/// A PriorityClass.
pub fn priority_class(object: &Value, out: &mut Vec<FieldError>) {
    let (name, value) = (
        crate::object::name(object),
        int(object, "value").unwrap_or_default(),
    );
    let known = match name {
        "system-cluster-critical" => Some(2_000_000_000),
        "system-node-critical" => Some(2_000_001_000),
        _ => None,
    };
    if name.starts_with("system-") {
        let why = match known {
            None => Some(format!("{name} is not a known system priority class")),
            Some(known) if known != value => {
                Some(format!("value of {name} PriorityClass must be {known}"))
            }
            Some(_) if flag(object, "globalDefault") => Some(format!(
                "globalDefault of {name} PriorityClass must be false"
            )),
            Some(_) => None,
        };
        if let Some(why) = why {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            );
            let root = Path::new("metadata");
            out.forbidden(&root.field("name"), &detail);
        }
    } else if value > 1_000_000_000 {
        out.forbidden(
            &Path::new("value"),
            "maximum allowed value of a user defined priority is 1000000000",
        );
    }
    let policies = ["PreemptLowerPriority", "Never"];
    out.optional_one_of(
        &Path::new("preemptionPolicy"),
        &object["preemptionPolicy"],
        &policies,
    );
}

/// What of a PriorityClass may change.
pub fn priority_class_update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    if int(new, "value") != int(old, "value") {
        out.forbidden(&Path::new("value"), "may not be changed in an update.");
    }
    let place = Path::new("preemptionPolicy");
    out.immutable(&place, &new["preemptionPolicy"], &old["preemptionPolicy"]);
}

/// A RuntimeClass.
pub fn runtime_class(object: &Value, out: &mut Vec<FieldError>) {
    out.rule(
        &Path::new("handler"),
        text(object, "handler"),
        names::dns1123_label,
    );
    let root = Path::new("overhead");
    pod::amounts(
        &object["overhead"]["podFixed"],
        &root.field("podFixed"),
        out,
    );
}

/// A Lease.
pub fn lease(object: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("spec");
    if let Some(seconds) = int(object, "spec.leaseDurationSeconds").filter(|s| *s <= 0) {
        out.invalid(
            &root.field("leaseDurationSeconds"),
            seconds,
            "must be greater than 0",
        );
    }
    out.not_negative(
        &root.field("leaseTransitions"),
        &object["spec"]["leaseTransitions"],
    );
    if at(object, "spec.preferredHolder").is_some() && text(object, "spec.strategy").is_empty() {
        out.forbidden(
            &root.field("preferredHolder"),
            "may only be specified if `strategy` is defined",
        );
    }
}

/// A ResourceQuota.
pub fn quota(object: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("spec");
    let hard = root.field("hard");
    for (name, amount) in map(object, "spec.hard") {
        let here = hard.key(name);
        quota_resource(name, &here, out);
        if let Some(amount) = Quantity::from_value(amount)
            .ok()
            .filter(|a| a.sign().is_lt())
        {
            out.invalid(
                &here,
                amount.to_string(),
                "must be greater than or equal to 0",
            );
        }
    }
    const SCOPES: [&str; 7] = [
        "Terminating",
        "NotTerminating",
        "BestEffort",
        "NotBestEffort",
        "PriorityClass",
        "CrossNamespacePodAffinity",
        "VolumeAttributesClass",
    ];
    let place = root.field("scopes");
    let scopes = list(object, "spec.scopes");
    let has = |scope: &str| scopes.iter().any(|s| s == scope);
    for _ in scopes
        .iter()
        .filter_map(Value::as_str)
        .filter(|s| !SCOPES.contains(s))
    {
        out.invalid(&place, scopes.to_vec(), "unsupported scope");
    }
    if has("BestEffort") && has("NotBestEffort") || has("Terminating") && has("NotTerminating") {
        out.invalid(&place, scopes.to_vec(), "conflicting scopes");
    }
}

fn quota_resource(name: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let faults = names::qualified_name(name);
    if !faults.is_empty() {
        return out.rule(path, name, names::qualified_name);
    }
    let known = [
        "cpu",
        "memory",
        "ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "persistentvolumeclaims",
        "configmaps",
        "services.nodeports",
        "services.loadbalancers",
    ];
    let prefixes = ["requests.", "limits.", "hugepages-", "count/"];
    if !name.contains('/')
        && !known.contains(&name)
        && !prefixes.iter().any(|p| name.starts_with(p))
    {
        out.invalid(path, name, "must be a standard resource for quota");
    }
}

/// What of a ResourceQuota may change.
pub fn quota_update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("spec");
    out.immutable(
        &root.field("scopes"),
        &new["spec"]["scopes"],
        &old["spec"]["scopes"],
    );
}

/// A LimitRange.
pub fn limit_range(object: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("spec");
    let place = root.field("limits");
    let mut seen = super::faults::Seen::default();
    for (index, limit) in list(object, "spec.limits").iter().enumerate() {
        let here = place.index(index);
        let kind = text(limit, "type");
        out.rule(&here.field("type"), kind, names::qualified_name);
        if seen.twice(kind) {
            out.duplicate(&here.field("type"), kind);
        }
        if kind == "Pod" {
            for field in ["default", "defaultRequest"] {
                if map(limit, field).next().is_some() {
                    out.forbidden(
                        &here.field(field),
                        "may not be specified when `type` is 'Pod'",
                    );
                }
            }
        }
        if kind == "PersistentVolumeClaim"
            && at(limit, "min.storage").is_none()
            && at(limit, "max.storage").is_none()
        {
            let detail =
                "either minimum or maximum storage value is required, but neither was provided";
            out.required(&here.field("limits"), detail);
        }
        bounds(limit, &here, out);
    }
}

/// Which of two bounds may not exceed which: their fields, where it is told, their names in the message, and whether the
/// lower one is shown.
type Bound = (
    &'static str,
    &'static str,
    &'static str,
    (&'static str, &'static str),
    bool,
);

const BOUNDS: [Bound; 6] = [
    ("min", "max", "min", ("min", "max"), true),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        ("min", "default request"),
        false,
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        ("default request", "max"),
        true,
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        ("default request", "default limit"),
        true,
    ),
    ("min", "default", "default", ("min", "default"), true),
    ("default", "max", "default", ("default", "max"), false),
];

/// Each resource's bounds must be in order: min, default request, default, max.
fn bounds(limit: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let fields = [
        "min",
        "defaultRequest",
        "default",
        "max",
        "maxLimitRequestRatio",
    ];
    let resources: std::collections::BTreeSet<&String> = fields
        .iter()
        .flat_map(|f| map(limit, f))
        .map(|(name, _)| name)
        .collect();
    for name in resources {
        pod::resource_name(name, &path.field("max").key(name), out);
        let amount = |field: &str| {
            limit[field]
                .get(name)
                .and_then(|v| Quantity::from_value(v).ok())
        };
        for (low, high, told_at, words, shows_low) in BOUNDS {
            let (Some(low), Some(high)) = (amount(low), amount(high)) else {
                continue;
            };
            if low > high {
                let detail = format!(
                    "{} value {low} is greater than {} value {high}",
                    words.0, words.1
                );
                let field = path.field(told_at);
                let shown = if shows_low { low } else { high };
                out.invalid(&field.key(name), shown.to_string(), detail);
            }
        }
        if let Some(ratio) =
            amount("maxLimitRequestRatio").filter(|r| *r < Quantity::from_millis(1_000))
        {
            let field = path.field("maxLimitRequestRatio");
            out.invalid(
                &field.key(name),
                ratio.to_string(),
                format!("ratio {ratio} is less than 1"),
            );
        }
    }
}
