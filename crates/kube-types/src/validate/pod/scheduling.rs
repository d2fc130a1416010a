//! Where a pod may run: affinity, tolerations, spreading.

use serde_json::Value;

use super::super::faults::{Faults, label_selector};
use super::super::names;
use crate::field::{FieldError, Path};
use crate::object::{at, int, list, text};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn affinity(affinity: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if let Some(node) = at(affinity, "nodeAffinity") {
        let here = path.field("nodeAffinity");
        if let Some(selector) = at(node, REQUIRED) {
            node_selector(selector, &here.field(REQUIRED), out);
        }
        let place = here.field(PREFERRED);
        for (index, term) in list(node, PREFERRED).iter().enumerate() {
            let here = place.index(index);
            weight(term, &here, out);
            node_term(&term["preference"], &here.field("preference"), out);
        }
    }
    for sort in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = at(affinity, sort) else {
            continue;
        };
        let here = path.field(sort);
        let place = here.field(REQUIRED);
        for (index, term) in list(pods, REQUIRED).iter().enumerate() {
            pod_term(term, &place.index(index), out);
        }
        let place = here.field(PREFERRED);
        for (index, term) in list(pods, PREFERRED).iter().enumerate() {
            let here = place.index(index);
            weight(term, &here, out);
            pod_term(
                &term["podAffinityTerm"],
                &here.field("podAffinityTerm"),
                out,
            );
        }
    }
}

fn weight(term: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let weight = int(term, "weight").unwrap_or_default();
    if !(1..=100).contains(&weight) {
        out.invalid(&path.field("weight"), weight, "must be in the range 1-100");
    }
}

/// A selector of nodes: at least one term.
pub fn node_selector(selector: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let place = path.field("nodeSelectorTerms");
    let terms = list(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        return out.required(&place, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        node_term(term, &place.index(index), out);
    }
}

fn node_term(term: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let place = path.field("matchExpressions");
    for (index, expression) in list(term, "matchExpressions").iter().enumerate() {
        let here = place.index(index);
        operator(expression, &here, out);
        out.rule(
            &here.field("key"),
            text(expression, "key"),
            names::qualified_name,
        );
        let values = here.field("values");
        for (index, value) in list(expression, "values").iter().enumerate() {
            out.rule(
                &values.index(index),
                value.as_str().unwrap_or_default(),
                names::label_value,
            );
        }
    }
    let place = path.field("matchFields");
    for (index, field) in list(term, "matchFields").iter().enumerate() {
        let here = place.index(index);
        if !matches!(text(field, "operator"), "In" | "NotIn") {
            out.invalid(
                &here.field("operator"),
                text(field, "operator"),
                "not a valid selector operator",
            );
        } else if list(field, "values").len() != 1 {
            let detail =
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            out.required(&here.field("values"), detail);
        }
        if text(field, "key") != "metadata.name" {
            out.invalid(
                &here.field("key"),
                text(field, "key"),
                "not a valid field selector key",
            );
        }
    }
}

fn operator(expression: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let values = list(expression, "values").len();
    let place = path.field("values");
    match text(expression, "operator") {
        "In" | "NotIn" if values == 0 => {
            out.required(
                &place,
                "must be specified when `operator` is 'In' or 'NotIn'",
            );
        }
        "Exists" | "DoesNotExist" if values > 0 => {
            out.forbidden(
                &place,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
        }
        "Gt" | "Lt" if values != 1 => {
            out.required(
                &place,
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            );
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => out.invalid(
            &path.field("operator"),
            other,
            "not a valid selector operator",
        ),
    }
}

fn pod_term(term: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    label_selector(&term["labelSelector"], &path.field("labelSelector"), out);
    label_selector(
        &term["namespaceSelector"],
        &path.field("namespaceSelector"),
        out,
    );
    for namespace in list(term, "namespaces").iter().filter_map(Value::as_str) {
        out.rule(&path.field("namespace"), namespace, names::dns1123_label);
    }
    let key = text(term, "topologyKey");
    if key.is_empty() {
        out.required(&path.field("topologyKey"), "can not be empty");
    }
    out.rule(&path.field("topologyKey"), key, names::qualified_name);
}

pub(super) fn tolerations(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    for (index, toleration) in list(spec, "tolerations").iter().enumerate() {
        let here = path.index(index);
        let part = |field: &str| text(toleration, field);
        let (key, operator, value, effect) =
            (part("key"), part("operator"), part("value"), part("effect"));
        if !key.is_empty() {
            out.rule(&here.field("key"), key, names::qualified_name);
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            out.invalid(&here.field("operator"), operator, detail);
        }
        if int(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            out.invalid(&here.field("effect"), effect, detail);
        }
        let place = here.field("operator");
        match operator {
            "Equal" | "" => {
                let faults = names::label_value(value);
                if !faults.is_empty() {
                    out.invalid(&place, value, faults.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                out.invalid(
                    &place,
                    value,
                    "value must be empty when `operator` is 'Exists'",
                );
            }
            "Exists" => {}
            other => out.not_supported(&place, other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            taint_effect(effect, &here.field("effect"), out);
        }
    }
}

/// What a taint does.
pub fn taint_effect(effect: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    out.one_of(
        path,
        effect,
        &["NoSchedule", "PreferNoSchedule", "NoExecute"],
    );
}

pub(super) fn spread(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let all = list(spec, "topologySpreadConstraints");
    for (index, constraint) in all.iter().enumerate() {
        let here = path.index(index);
        let skew = int(constraint, "maxSkew").unwrap_or_default();
        if skew <= 0 {
            out.invalid(&here.field("maxSkew"), skew, "must be greater than zero");
        }
        let (key, action) = (
            text(constraint, "topologyKey"),
            text(constraint, "whenUnsatisfiable"),
        );
        if key.is_empty() {
            out.required(&here.field("topologyKey"), "can not be empty");
        }
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            out.not_supported(
                &here.field("whenUnsatisfiable"),
                action,
                &["DoNotSchedule", "ScheduleAnyway"],
            );
        }
        let pair = |c: &Value| {
            (
                text(c, "topologyKey").to_owned(),
                text(c, "whenUnsatisfiable").to_owned(),
            )
        };
        if all[index + 1..]
            .iter()
            .any(|other| pair(other) == pair(constraint))
        {
            let place = here.field("{topologyKey, whenUnsatisfiable}");
            out.duplicate(&place, format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = int(constraint, "minDomains") {
            let place = here.field("minDomains");
            if domains <= 0 {
                out.invalid(&place, domains, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                );
                out.invalid(&place, domains, detail);
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            out.optional_one_of(&here.field(field), &constraint[field], &["Honor", "Ignore"]);
        }
        label_selector(
            &constraint["labelSelector"],
            &here.field("labelSelector"),
            out,
        );
    }
}
