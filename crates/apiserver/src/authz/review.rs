//! Reviews: asking the server what someone may do.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wharf_kube_types::object;

use super::Ask;
use crate::api::Api;
use crate::authn::{AUTHENTICATED, MASTERS, User};

fn user_of(spec: &Value) -> User {
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let extra: BTreeMap<String, Vec<String>> = object::map(spec, "extra")
        .map(|(key, value)| (key.clone(), texts(value)))
        .collect();
    User {
        name: object::text(spec, "user").to_owned(),
        uid: object::text(spec, "uid").to_owned(),
        groups: texts(&spec["groups"]),
        extra,
    }
}

/// Answers a review about the asking user (`own`) or about the one that it names.
pub fn access(api: &Api, asking: &User, mut review: Value, own: bool) -> Value {
    let spec = review["spec"].clone();
    let user = if own { asking.clone() } else { user_of(&spec) };
    let resource = &spec["resourceAttributes"];
    let text = |field: &str| object::text(resource, field);
    let ask = if resource.is_object() {
        Ask {
            verb: text("verb"),
            group: text("group"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
            path: "",
        }
    } else {
        Ask {
            verb: object::text(&spec, "nonResourceAttributes.verb"),
            path: object::text(&spec, "nonResourceAttributes.path"),
            ..Ask::default()
        }
    };
    let decision = api.authorizer.allows(api, &user, &ask);
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    review["status"] = status;
    let mut meta = json!({"creationTimestamp": null});
    if let Some(namespace) = review["metadata"].get("namespace") {
        meta["namespace"] = namespace.clone();
    }
    review["metadata"] = meta;
    review
}

/// Answers a `SelfSubjectRulesReview`.
pub fn rules(api: &Api, user: &User, mut review: Value) -> Value {
    let namespace = object::text(&review, "spec.namespace").to_owned();
    let grants = api.authorizer.grants();
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for (grant, _, _) in grants.of(user) {
        if !grant.namespace.is_empty() && grant.namespace != namespace {
            continue;
        }
        for rule in grant.rules.iter() {
            if rule.paths.is_empty() {
                let mut one = json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources});
                if !rule.names.is_empty() {
                    one["resourceNames"] = json!(rule.names);
                }
                resources.push(one);
            } else {
                paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.paths}));
            }
        }
    }
    if user.is_in(MASTERS) {
        resources.insert(
            0,
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}),
        );
        paths.insert(0, json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    debug_assert!(user.is_in(AUTHENTICATED) || !user.name.is_empty());
    review["status"] =
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    review["metadata"] = json!({"creationTimestamp": null});
    review
}
