//! Cluster roles that gather the rules of others by their labels.

use std::sync::Arc;

use serde_json::Value;
use wharf_kube_types::object;
use wharf_kube_types::selector::LabelSelector;

use super::queue::{Controller, Reconciled};
use crate::api::Api;
use crate::call::Call;
use crate::object::Object;
use crate::verbs::update::{Demand, Made, change};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Keeps the gathered rules up to date.
pub struct Aggregation;

impl Controller for Aggregation {
    fn name(&self) -> &'static str {
        "clusterrole-aggregation"
    }

    /// Any role may be one that others gather: all are looked at together.
    fn keys(&mut self, _api: &Api, _object: &Arc<Object>, _gone: bool) -> Vec<String> {
        vec![String::new()]
    }

    fn reconcile<'a>(&'a mut self, api: &'a Arc<Api>, _key: &'a str) -> Reconciled<'a> {
        Box::pin(async move {
            let kind = api.builtin(GROUP, "clusterroles")?;
            let roles: Vec<Value> = kind
                .cache
                .all("")
                .iter()
                .map(|o| o.record.to_value())
                .collect();
            let mut again = false;
            for role in &roles {
                let selectors = object::list(role, "aggregationRule.clusterRoleSelectors");
                if selectors.is_empty() {
                    continue;
                }
                let rules = gathered(role, selectors, &roles);
                if object::list(role, "rules") == rules.as_slice() {
                    continue;
                }
                let name = object::name(role);
                let mut call = Call::internal(api, &kind, "", name, "clusterrole-aggregation");
                change(&mut call, &Demand::default(), |_, old| {
                    let mut new = old.clone();
                    new["rules"] = rules.clone().into();
                    Ok(Made::plain(new))
                })
                .await?;
                again = true;
            }
            // Gathered rules may themselves be gathered: the changes made here come back as events.
            let _ = again;
            Ok(None)
        })
    }
}

fn gathered(role: &Value, selectors: &[Value], roles: &[Value]) -> Vec<Value> {
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        let Ok(selector) = LabelSelector::from_object(Some(selector)) else {
            continue;
        };
        for other in roles {
            if object::name(other) == object::name(role) || !selector.matches(other) {
                continue;
            }
            for rule in object::list(other, "rules") {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}
