//! APIServices: those of the server's own groups are kept there, others are looked at; and what extension servers need
//! to know of this one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use wharf_kube_types::{Status, object};

use super::list_mut;
use super::queue::{Controller, Reconciled};
use crate::aggregation::{Remote, availability};
use crate::api::Api;
use crate::call::Call;
use crate::clock;
use crate::object::Object;
use crate::registry::Kind;
use crate::verbs::update::{Demand, Made, change};
use crate::verbs::{create, delete};

const GROUP: &str = "apiregistration.k8s.io";
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const CLUSTER: &str = "extension-apiserver-authentication";
/// What a server outside says of itself is heard of by asking only.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Key of all that this server has for itself.
const OWN: &str = "/own";

/// Follows APIServices.
#[derive(Default)]
pub struct ApiServices {
    /// Of services that one names: the names of the APIServices.
    services: HashMap<String, Vec<String>>,
}

impl Controller for ApiServices {
    fn name(&self) -> &'static str {
        "apiservice"
    }

    fn keys(&mut self, _api: &Api, object: &Arc<Object>, _gone: bool) -> Vec<String> {
        let (namespace, name) = object.names();
        let key = &*object.key;
        if key.starts_with("apiextensions.k8s.io/") {
            return vec![OWN.to_owned()];
        }
        if key.starts_with("core/configmaps/") {
            let ours = namespace == "kube-system" && name == CLUSTER;
            return if ours {
                vec![OWN.to_owned()]
            } else {
                Vec::new()
            };
        }
        if key.starts_with("core/services/") {
            let place = format!("{namespace}/{name}");
            if place == "default/kubernetes" {
                // It is there before anything else: a new cluster has no other object that wakes this.
                return vec![OWN.to_owned()];
            }
            return self.services.get(&place).cloned().unwrap_or_default();
        }
        if key.starts_with("discovery.k8s.io/") {
            let service = object.label("kubernetes.io/service-name");
            let place = format!("{namespace}/{}", service.unwrap_or_default());
            return self.services.get(&place).cloned().unwrap_or_default();
        }
        vec![name.to_owned(), OWN.to_owned()]
    }

    fn reconcile<'a>(&'a mut self, api: &'a Arc<Api>, key: &'a str) -> Reconciled<'a> {
        Box::pin(async move {
            if key == OWN {
                publish(api).await?;
                return own(api).await.map(|()| None);
            }
            self.one(api, key).await
        })
    }
}

impl ApiServices {
    async fn one(&mut self, api: &Arc<Api>, name: &str) -> Result<Option<Duration>, Status> {
        let kind = api.builtin(GROUP, "apiservices")?;
        for names in self.services.values_mut() {
            names.retain(|known| known != name);
        }
        self.services.retain(|_, names| !names.is_empty());
        let (version, group) = name.split_once('.').unwrap_or((name, ""));
        let Some(object) = kind.cache.get(&kind.key("", name)) else {
            api.aggregated.set(group, version, None);
            return Ok(None);
        };
        let value = object.record.to_value();
        if value["spec"]["service"].is_null() {
            api.aggregated.set(group, version, None);
            let words = "Local APIServices are always available";
            return tell(api, &kind, &value, "True", "Local", words)
                .await
                .map(|()| None);
        }
        let spec = &value["spec"];
        let place = format!(
            "{}/{}",
            object::text(spec, "service.namespace"),
            object::text(spec, "service.name")
        );
        let known = self.services.entry(place).or_default();
        known.push(name.to_owned());
        match availability::look(api, spec).await {
            Ok(remote) => {
                keep(api, remote);
                tell(api, &kind, &value, "True", "Passed", "all checks passed").await?;
                Ok(Some(LOOK_EVERY))
            }
            Err(fault) => {
                let all = api.aggregated.all();
                let mut known = all.iter();
                let known = known.find(|r| r.group == group && r.version == version);
                keep(
                    api,
                    Remote {
                        group: group.to_owned(),
                        version: version.to_owned(),
                        spec: spec.clone(),
                        available: false,
                        resources: known.map(|r| r.resources.clone()).unwrap_or_default(),
                        has_openapi: false,
                        openapi_v2: Arc::default(),
                    },
                );
                tell(api, &kind, &value, "False", fault.reason, &fault.message).await?;
                let asked = fault.reason == "FailedDiscoveryCheck";
                Ok(asked.then_some(LOOK_AGAIN))
            }
        }
    }
}

/// Remembers what was seen, if it is new.
fn keep(api: &Api, remote: Remote) {
    let all = api.aggregated.all();
    let same = |r: &Remote| {
        r.group == remote.group
            && r.version == remote.version
            && r.spec == remote.spec
            && r.available == remote.available
            && r.resources == remote.resources
            && r.has_openapi == remote.has_openapi
            && r.openapi_v2 == remote.openapi_v2
    };
    if !all.iter().any(same) {
        let (group, version) = (remote.group.clone(), remote.version.clone());
        api.aggregated.set(&group, &version, Some(remote));
    }
}

/// Writes the condition `Available`, if it says something new.
async fn tell(
    api: &Arc<Api>,
    kind: &Arc<Kind>,
    value: &Value,
    state: &str,
    reason: &str,
    message: &str,
) -> Result<(), Status> {
    let says = |c: &Value| {
        c["type"] == "Available"
            && c["status"] == state
            && c["reason"] == reason
            && c["message"] == message
    };
    if object::list(value, "status.conditions").iter().any(says) {
        return Ok(());
    }
    let mut call = Call::internal(api, kind, "", object::name(value), "apiservice").on("status");
    let changed = change(&mut call, &Demand::default(), |_, old| {
        let mut new = old.clone();
        let list = list_mut(object::object_mut(&mut new, "status"), "conditions");
        let mut since = clock::now_text();
        if let Some(old) = list.iter().find(|c| c["type"] == "Available")
            && old["status"] == state
        {
            object::text(old, "lastTransitionTime").clone_into(&mut since);
        }
        list.retain(|c| c["type"] != "Available");
        list.push(
            json!({"type": "Available", "status": state, "lastTransitionTime": since,
            "reason": reason, "message": message}),
        );
        Ok(Made::plain(new))
    })
    .await;
    match changed {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(()),
    }
}

/// Priorities of a built-in group, as the original registers them.
fn priority(group: &str) -> i64 {
    match group {
        "" => 18000,
        "apps" => 17800,
        "events.k8s.io" => 17750,
        "authentication.k8s.io" => 17700,
        "authorization.k8s.io" => 17600,
        "autoscaling" => 17500,
        "batch" => 17400,
        "certificates.k8s.io" => 17300,
        "networking.k8s.io" => 17200,
        "policy" => 17100,
        "rbac.authorization.k8s.io" => 17000,
        "storage.k8s.io" => 16800,
        "apiextensions.k8s.io" | "admissionregistration.k8s.io" => 16700,
        "scheduling.k8s.io" => 16600,
        "coordination.k8s.io" => 16500,
        "node.k8s.io" => 16300,
        "discovery.k8s.io" => 16200,
        "flowcontrol.apiserver.k8s.io" => 16100,
        "resource.k8s.io" => 15900,
        _ => 15000,
    }
}

fn version_priority(group: &str, version: &str) -> i64 {
    match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        (_, version) if version.contains("alpha") => 1,
        (_, version) if version.contains("beta") => 12,
        _ => 15,
    }
}

/// Name and object of every APIService that stands for this server itself.
fn wanted(api: &Api) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    let mut add = |group: &str, version: &str, managed: &str, priorities: (i64, i64)| {
        let name = format!("{version}.{group}");
        let mut spec = json!({
            "version": version, "groupPriorityMinimum": priorities.0, "versionPriority": priorities.1});
        if !group.is_empty() {
            spec["group"] = group.into();
        }
        let meta = json!({"name": name, "labels": {MANAGED: managed}});
        let value = json!({"kind": "APIService", "apiVersion": "apiregistration.k8s.io/v1",
            "metadata": meta, "spec": spec});
        if !out.iter().any(|(known, _)| *known == name) {
            out.push((name, value));
        }
    };
    for resource in wharf_kube_types::resources::builtin() {
        let (group, version) = (resource.group.as_str(), resource.version.as_str());
        if group != GROUP {
            let priorities = (priority(group), version_priority(group, version));
            add(group, version, "onstart", priorities);
        }
    }
    let definitions = api
        .caches
        .of("apiextensions.k8s.io/customresourcedefinitions");
    for definition in definitions.all("") {
        let value = definition.record.to_value();
        let mut conditions = object::list(&value, "status.conditions").iter();
        if !conditions.any(|c| c["type"] == "Established" && c["status"] == "True") {
            continue;
        }
        let group = object::text(&value, "spec.group");
        let versions = object::list(&value, "spec.versions").iter();
        for version in versions.filter(|v| object::flag(v, "served")) {
            add(group, object::text(version, "name"), "true", (1000, 100));
        }
    }
    // The core group's name is `v1.`: the original writes it so.
    out
}

/// Keeps the APIServices of this server's own groups there, and takes away those of groups that went.
async fn own(api: &Arc<Api>) -> Result<(), Status> {
    let kind = api.builtin(GROUP, "apiservices")?;
    let wanted = wanted(api);
    for (name, value) in &wanted {
        if kind.cache.get(&kind.key("", name)).is_some() {
            continue;
        }
        let mut call = Call::internal(api, &kind, "", name, "apiservice");
        let value = call.check_object(value.clone(), Vec::new())?;
        match create::create(&mut call, value).await {
            Err(status) if status.reason != "AlreadyExists" => return Err(status),
            _ => {}
        }
    }
    for object in kind.cache.all("") {
        let name = object.names().1;
        let ours = object.label(MANAGED) == Some("true");
        if ours && !wanted.iter().any(|(known, _)| known == name) {
            let mut call = Call::internal(api, &kind, "", name, "apiservice");
            match delete::delete(&mut call, &delete::Options::default()).await {
                Err(status) if status.code != 404 => return Err(status),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Tells extension servers whose certificates they may believe, and who may read it.
async fn publish(api: &Arc<Api>) -> Result<(), Status> {
    let data = json!({
        "client-ca-file": api.authority.pem,
        "requestheader-client-ca-file": api.relay.front_authority(),
        "requestheader-allowed-names": "[\"front-proxy-client\"]",
        "requestheader-username-headers": "[\"X-Remote-User\"]",
        "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
        "requestheader-group-headers": "[\"X-Remote-Group\"]",
        "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
    });
    let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "data": data,
        "metadata": {"name": CLUSTER, "namespace": "kube-system"}});
    let kind = ensure(api, "", "configmaps", map).await?;
    let mut call = Call::internal(api, &kind, "kube-system", CLUSTER, "apiservice");
    change(&mut call, &Demand::default(), |_, old| {
        let mut new = old.clone();
        new["data"] = data.clone();
        Ok(Made::plain(new))
    })
    .await?;
    let role = json!({"kind": "Role", "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": {"name": "extension-apiserver-authentication-reader", "namespace": "kube-system",
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CLUSTER],
            "verbs": ["get", "list", "watch"]}]});
    ensure(api, "rbac.authorization.k8s.io", "roles", role).await?;
    Ok(())
}

async fn ensure(
    api: &Arc<Api>,
    group: &str,
    plural: &str,
    value: Value,
) -> Result<Arc<Kind>, Status> {
    let kind = api.builtin(group, plural)?;
    let name = object::name(&value).to_owned();
    if kind.cache.get(&kind.key("kube-system", &name)).is_some() {
        return Ok(kind);
    }
    let mut call = Call::internal(api, &kind, "kube-system", &name, "apiservice");
    let value = call.check_object(value, Vec::new())?;
    match create::create(&mut call, value).await {
        Err(status) if status.reason != "AlreadyExists" => Err(status),
        _ => Ok(kind),
    }
}
