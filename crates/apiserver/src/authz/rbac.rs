//! Roles and bindings, compiled to what each subject is granted.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use wharf_kube_types::field::go_quote;
use wharf_kube_types::object;

use super::{Ask, Decision};
use crate::authn::User;
use crate::cache::Cache;

/// A rule of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// Groups, or `*`.
    pub groups: Vec<String>,
    /// Resources with subresources after a slash, or `*`.
    pub resources: Vec<String>,
    /// Names; none for all.
    pub names: Vec<String>,
    /// Paths, where no resources are meant.
    pub paths: Vec<String>,
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    let list = object::list(value, field).iter();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == "*" || own == wanted)
}

impl Rule {
    /// Reads a `PolicyRule`.
    pub fn read(value: &Value) -> Self {
        Self {
            verbs: texts(value, "verbs"),
            groups: texts(value, "apiGroups"),
            resources: texts(value, "resources"),
            names: texts(value, "resourceNames"),
            paths: texts(value, "nonResourceURLs"),
        }
    }

    /// The rules of a role.
    pub fn all(role: &Value) -> Vec<Self> {
        object::list(role, "rules").iter().map(Self::read).collect()
    }

    /// Whether the rule answers a question with yes.
    pub fn allows(&self, ask: &Ask<'_>) -> bool {
        if !has(&self.verbs, ask.verb) {
            return false;
        }
        if ask.resource.is_empty() {
            return self.paths.iter().any(|path| match path.strip_suffix('*') {
                Some(start) => ask.path.starts_with(start),
                None => path == ask.path,
            });
        }
        has(&self.groups, ask.group)
            && self.resources.iter().any(|own| fits(own, ask))
            && (self.names.is_empty() || self.names.iter().any(|name| name == ask.name))
    }
}

fn fits(own: &str, ask: &Ask<'_>) -> bool {
    if own == "*" {
        return true;
    }
    match (own.split_once('/'), ask.subresource) {
        (None, "") => own == ask.resource,
        (Some(("*", sub)), asked) => !asked.is_empty() && sub == asked,
        (Some((resource, sub)), asked) => {
            resource == ask.resource && !asked.is_empty() && (sub == asked || sub == "*")
        }
        (None, _) => false,
    }
}

/// What a binding gives to its subjects.
#[derive(Debug)]
pub struct Grant {
    /// The rules of the role.
    pub rules: Arc<[Rule]>,
    /// Only in this namespace; everywhere if empty.
    pub namespace: String,
    /// The binding and its role, in words.
    pub source: String,
}

/// What each subject is granted.
#[derive(Debug, Default)]
pub struct Grants {
    users: HashMap<String, Vec<Arc<Grant>>>,
    groups: HashMap<String, Vec<Arc<Grant>>>,
}

impl Grants {
    /// Reads roles, cluster roles, role bindings and cluster role bindings.
    pub fn read(caches: &[Arc<Cache>; 4]) -> Self {
        let [roles, cluster_roles, bindings, cluster_bindings] = caches;
        let mut rules: HashMap<(String, String), Arc<[Rule]>> = HashMap::new();
        for cache in [roles, cluster_roles] {
            for object in cache.all("") {
                let (namespace, name) = object.names();
                let role = Rule::all(&object.record.to_value());
                rules.insert((namespace.to_owned(), name.to_owned()), role.into());
            }
        }
        let mut grants = Self::default();
        for (cache, word) in [
            (cluster_bindings, "ClusterRoleBinding"),
            (bindings, "RoleBinding"),
        ] {
            for object in cache.all("") {
                let (namespace, name) = object.names();
                let shown = match namespace {
                    "" => go_quote(name),
                    namespace => go_quote(&format!("{name}/{namespace}")),
                };
                grants.bind(
                    &object.record.to_value(),
                    namespace,
                    &format!("{word} {shown}"),
                    &rules,
                );
            }
        }
        grants
    }

    fn bind(
        &mut self,
        binding: &Value,
        namespace: &str,
        shown: &str,
        rules: &HashMap<(String, String), Arc<[Rule]>>,
    ) {
        let kind = object::text(binding, "roleRef.kind");
        let name = object::text(binding, "roleRef.name");
        let home = if kind == "Role" { namespace } else { "" };
        let Some(rules) = rules.get(&(home.to_owned(), name.to_owned())) else {
            return;
        };
        let grant = Arc::new(Grant {
            rules: rules.clone(),
            namespace: namespace.to_owned(),
            source: format!("{shown} of {kind} {}", go_quote(name)),
        });
        for subject in object::list(binding, "subjects") {
            let name = object::text(subject, "name");
            let (map, name) = match object::text(subject, "kind") {
                "User" => (&mut self.users, name.to_owned()),
                "Group" => (&mut self.groups, name.to_owned()),
                "ServiceAccount" => {
                    let home = match object::text(subject, "namespace") {
                        "" => namespace,
                        own => own,
                    };
                    (
                        &mut self.users,
                        format!("system:serviceaccount:{home}:{name}"),
                    )
                }
                _ => continue,
            };
            map.entry(name).or_default().push(grant.clone());
        }
    }

    /// Everything granted to a user, with the subject that it is granted to.
    pub fn of<'a>(
        &'a self,
        user: &'a User,
    ) -> impl Iterator<Item = (&'a Arc<Grant>, &'a str, &'a str)> {
        let own = self.users.get(&user.name).into_iter().flatten();
        let own = own.map(|grant| (grant, "User", user.name.as_str()));
        let groups = user.groups.iter().flat_map(|group| {
            let grants = self.groups.get(group).into_iter().flatten();
            grants.map(move |grant| (grant, "Group", group.as_str()))
        });
        own.chain(groups)
    }

    /// Answers a question.
    pub fn allows(&self, user: &User, ask: &Ask<'_>) -> Decision {
        for (grant, subject, name) in self.of(user) {
            let here = grant.namespace.is_empty()
                || grant.namespace == ask.namespace && !ask.resource.is_empty();
            if here && grant.rules.iter().any(|rule| rule.allows(ask)) {
                return Decision {
                    allowed: true,
                    reason: format!(
                        "RBAC: allowed by {} to {subject} {}",
                        grant.source,
                        go_quote(name)
                    ),
                };
            }
        }
        Decision::default()
    }

    /// Whether a user has all that a rule grants, in a namespace or everywhere.
    pub fn covers(&self, user: &User, namespace: &str, wanted: &Rule) -> bool {
        let own: Vec<&Rule> = self
            .of(user)
            .filter(|(grant, _, _)| {
                grant.namespace.is_empty() || grant.namespace == namespace && !namespace.is_empty()
            })
            .flat_map(|(grant, _, _)| grant.rules.iter())
            .collect();
        let any = |ask: &Ask<'_>| own.iter().any(|rule| rule.allows(ask));
        for verb in &wanted.verbs {
            for path in &wanted.paths {
                let ask = Ask {
                    verb,
                    path,
                    ..Ask::default()
                };
                if !any(&ask) {
                    return false;
                }
            }
            for group in &wanted.groups {
                for resource in &wanted.resources {
                    if !covers_names(&any, verb, group, resource, &wanted.names) {
                        return false;
                    }
                }
            }
        }
        true
    }
}

fn covers_names(
    any: &dyn Fn(&Ask<'_>) -> bool,
    verb: &str,
    group: &str,
    resource: &str,
    names: &[String],
) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let ask = |name: &str| {
        any(&Ask {
            verb,
            group,
            resource,
            subresource,
            name,
            ..Ask::default()
        })
    };
    if names.is_empty() {
        ask("")
    } else {
        names.iter().all(|name| ask(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(value: Value) -> Rule {
        Rule::read(&value)
    }

    #[test]
    fn rules_look_at_verb_group_resource_and_name() {
        let rule = rule(
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log", "*/scale"]}),
        );
        let check = |verb: &str, resource: &str, subresource: &str, expect: bool| {
            let ask = Ask {
                verb,
                resource,
                subresource,
                ..Ask::default()
            };
            assert_eq!(rule.allows(&ask), expect, "{verb} {resource}/{subresource}");
        };
        check("get", "pods", "", true);
        check("delete", "pods", "", false);
        check("get", "pods", "log", true);
        check("get", "pods", "exec", false);
        check("get", "secrets", "", false);
        check("get", "deployments", "scale", true);
    }

    #[test]
    fn a_user_can_give_only_what_it_has() {
        let mut grants = Grants::default();
        let own = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}));
        let grant = Grant {
            rules: vec![own.clone()].into(),
            namespace: "a".to_owned(),
            source: String::new(),
        };
        grants.users.insert("eve".to_owned(), vec![Arc::new(grant)]);
        let eve = User {
            name: "eve".to_owned(),
            ..User::default()
        };
        assert!(grants.covers(&eve, "a", &own));
        assert!(!grants.covers(&eve, "b", &own));
        assert!(!grants.covers(&eve, "", &own));
        assert!(!grants.covers(
            &eve,
            "a",
            &rule(json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}))
        ));
    }
}
