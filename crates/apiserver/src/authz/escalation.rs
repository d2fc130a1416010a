//! Nobody gives rights that they don't have: checks on writing roles and bindings.

use serde_json::Value;
use wharf_kube_types::{Status, object};

use super::Ask;
use super::rbac::Rule;
use crate::authn::MASTERS;
use crate::call::Call;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses a role or binding that gives more than its author has.
///
/// # Errors
/// 403 with what is missing.
pub fn check(call: &Call, value: &Value, old: Option<&Value>) -> Result<(), Status> {
    let resource = &call.kind.resource;
    if resource.group != GROUP || call.user.is_in(MASTERS) {
        return Ok(());
    }
    match resource.plural.as_str() {
        "roles" | "clusterroles" => {
            if old.is_some_and(|old| {
                old.get("rules") == value.get("rules")
                    && old.get("aggregationRule") == value.get("aggregationRule")
            }) {
                return Ok(());
            }
            let mut rules = Rule::all(value);
            if value
                .get("aggregationRule")
                .is_some_and(|rule| !rule.is_null())
            {
                rules.push(everything());
            }
            demand(
                call,
                &rules,
                "escalate",
                &resource.plural,
                object::name(value),
            )
        }
        "rolebindings" | "clusterrolebindings" => {
            if old.is_some_and(|old| old.get("subjects") == value.get("subjects")) {
                return Ok(());
            }
            binding(call, value)
        }
        _ => Ok(()),
    }
}

fn everything() -> Rule {
    let all = || vec!["*".to_owned()];
    Rule {
        verbs: all(),
        groups: all(),
        resources: all(),
        ..Rule::default()
    }
}

fn binding(call: &Call, value: &Value) -> Result<(), Status> {
    let name = object::text(value, "roleRef.name");
    let plural = match object::text(value, "roleRef.kind") {
        "Role" => "roles",
        _ => "clusterroles",
    };
    let kind = call.api.builtin(GROUP, plural)?;
    let role = kind.cache.get(&kind.key(&call.namespace, name));
    let rules = match role {
        Some(role) => Rule::all(&role.record.to_value()),
        // Of a role that does not exist nobody knows what it will give.
        None => vec![everything()],
    };
    let found = kind.cache.get(&kind.key(&call.namespace, name)).is_some();
    demand(call, &rules, "bind", plural, name).map_err(|status| match found {
        true => status,
        false => Status::not_found(&kind.resource, name),
    })
}

fn demand(call: &Call, rules: &[Rule], verb: &str, plural: &str, name: &str) -> Result<(), Status> {
    let ask = Ask {
        verb,
        group: GROUP,
        resource: plural,
        namespace: &call.namespace,
        name,
        ..Ask::default()
    };
    let authorizer = &call.api.authorizer;
    if authorizer.allows(&call.api, &call.user, &ask).allowed {
        return Ok(());
    }
    let grants = authorizer.grants();
    let missing: Vec<String> = rules
        .iter()
        .filter(|rule| !grants.covers(&call.user, &call.namespace, rule))
        .map(shown)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let why = format!(
        "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        call.user.name,
        call.user.groups,
        missing.join("\n")
    );
    let resource = &call.kind.resource;
    Err(Status::forbidden(
        &resource.group,
        &resource.plural,
        &call.name,
        &why,
    ))
}

fn shown(rule: &Rule) -> String {
    if rule.paths.is_empty() {
        format!(
            "{{APIGroups:{:?}, Resources:{:?}, Verbs:{:?}}}",
            rule.groups, rule.resources, rule.verbs
        )
    } else {
        format!(
            "{{NonResourceURLs:{:?}, Verbs:{:?}}}",
            rule.paths, rule.verbs
        )
    }
}
