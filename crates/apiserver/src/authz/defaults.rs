//! The roles and bindings that every cluster has, from two tables.

use serde_json::{Map, Value, json};

const ROLES: &str = include_str!("roles.txt");
const BINDINGS: &str = include_str!("bindings.txt");
const GROUP: &str = "rbac.authorization.k8s.io";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to";

fn meta(name: &str) -> Value {
    json!({
        "name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    })
}

fn list(text: &str) -> Value {
    let word = |word: &str| Value::from(if word == "-" { "" } else { word });
    text.trim().split(',').map(|w| word(w.trim())).collect()
}

fn rule(line: &str) -> Value {
    let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
    let mut out = Map::new();
    out.insert("verbs".to_owned(), list(parts[0]));
    match parts.as_slice() {
        [_, paths] => {
            out.insert("nonResourceURLs".to_owned(), list(paths));
        }
        [_, groups, resources, names @ ..] => {
            out.insert("apiGroups".to_owned(), list(groups));
            out.insert("resources".to_owned(), list(resources));
            if let Some(names) = names.first() {
                out.insert("resourceNames".to_owned(), list(names));
            }
        }
        _ => {}
    }
    out.into()
}

/// The default cluster roles.
pub fn cluster_roles() -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    for line in ROLES.lines() {
        if let Some(head) = line.strip_prefix("= ") {
            out.push(role(head));
        } else if let Some(role) = out.last_mut()
            && let Some(rules) = role["rules"].as_array_mut()
        {
            rules.push(rule(line));
        }
    }
    out
}

/// A role of a line: its name, `@x` if it gathers the roles for x, `>x` if it is one of them.
fn role(head: &str) -> Value {
    let mut words = head.split(' ');
    let name = words.next().unwrap_or_default();
    let mut role = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRole", "metadata": meta(name), "rules": [],
    });
    for word in words {
        if let Some(target) = word.strip_prefix('>') {
            role["metadata"]["labels"][format!("{AGGREGATE}-{target}")] = "true".into();
        }
        if let Some(target) = word.strip_prefix('@') {
            role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {format!("{AGGREGATE}-{target}"): "true"}}]});
        }
    }
    role
}

/// The default cluster role bindings.
pub fn cluster_role_bindings() -> Vec<Value> {
    BINDINGS.lines().filter_map(binding).collect()
}

fn binding(line: &str) -> Option<Value> {
    let mut words = line.split(' ');
    let (name, sort, who, role) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let subject = |who: &str| match sort {
        "account" => {
            let (namespace, name) = who.split_once('/').unwrap_or(("", who));
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
        "user" => json!({"apiGroup": GROUP, "kind": "User", "name": who}),
        _ => json!({"apiGroup": GROUP, "kind": "Group", "name": who}),
    };
    let mut binding = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRoleBinding", "metadata": meta(name),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
    });
    if sort != "none" {
        binding["subjects"] = who.split(',').map(subject).collect();
    }
    Some(binding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_whole() {
        let roles = cluster_roles();
        assert!(roles.len() > 30);
        for role in &roles {
            for rule in role["rules"].as_array().into_iter().flatten() {
                let targets = rule.get("resources").or(rule.get("nonResourceURLs"));
                assert!(targets.is_some(), "{}: {rule}", role["metadata"]["name"]);
            }
        }
        for binding in cluster_role_bindings() {
            let role = &binding["roleRef"]["name"];
            assert!(
                roles.iter().any(|r| r["metadata"]["name"] == *role),
                "{role}"
            );
        }
    }
}
