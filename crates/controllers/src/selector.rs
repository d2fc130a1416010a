//! Label selectors of typed objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Labels as objects have them.
pub(crate) type Labels = BTreeMap<String, String>;

/// Whether a selector selects these labels. One without requirements selects everything.
pub(crate) fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let equal = selector.match_labels.iter().flatten();
    let others = selector.match_expressions.iter().flatten();
    equal
        .into_iter()
        .all(|(key, value)| label(labels, key) == Some(value))
        && others.into_iter().all(|one| requirement(one, labels))
}

/// Whether labels have all of these pairs; no pairs select nothing, as in a Service or a ReplicationController.
pub(crate) fn selects_map(pairs: Option<&Labels>, labels: Option<&Labels>) -> bool {
    let Some(pairs) = pairs.filter(|pairs| !pairs.is_empty()) else {
        return false;
    };
    pairs
        .iter()
        .all(|(key, value)| label(labels, key) == Some(value))
}

/// A selector without any requirement: workloads don't act on one, so that they don't take every pod there is.
pub(crate) fn is_empty(selector: &LabelSelector) -> bool {
    let pairs = selector
        .match_labels
        .as_ref()
        .is_none_or(BTreeMap::is_empty);
    pairs
        && selector
            .match_expressions
            .as_ref()
            .is_none_or(Vec::is_empty)
}

fn label<'a>(labels: Option<&'a Labels>, key: &str) -> Option<&'a String> {
    labels.and_then(|labels| labels.get(key))
}

fn requirement(one: &LabelSelectorRequirement, labels: Option<&Labels>) -> bool {
    let value = label(labels, &one.key);
    let listed = || {
        let values = one.values.iter().flatten();
        value.is_some_and(|value| values.into_iter().any(|v| v == value))
    };
    match one.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(selector: serde_json::Value, labels: serde_json::Value) -> bool {
        let selector: LabelSelector = serde_json::from_value(selector).unwrap();
        let labels: Labels = serde_json::from_value(labels).unwrap();
        selects(&selector, Some(&labels))
    }

    #[test]
    fn selectors_select() {
        let both = json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["2"]}]});
        assert!(check(both.clone(), json!({"a": "1"})));
        assert!(check(both.clone(), json!({"a": "1", "b": "3"})));
        assert!(!check(both.clone(), json!({"a": "1", "b": "2"})));
        assert!(!check(both, json!({"b": "3"})));
        let there = json!({"matchExpressions": [{"key": "b", "operator": "Exists"}, {"key": "c", "operator": "DoesNotExist"}]});
        assert!(check(there.clone(), json!({"b": ""})));
        assert!(!check(there, json!({"b": "", "c": ""})));
        assert!(check(json!({}), json!({})));
        assert!(!selects_map(None, Some(&Labels::new())));
    }
}
