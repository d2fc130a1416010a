//! Discovery and OpenAPI: which groups, versions and resources there are, in all the forms that clients ask for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wharf_kube_types::{Resource, openapi};

use crate::registry::{Kind, Registry};

/// Documents of one generation of the registry, made when first asked for.
#[derive(Debug, Default)]
pub struct Documents(Mutex<(u64, HashMap<String, Bytes>)>);

impl Documents {
    /// A document, from memory if it was made for this generation.
    pub fn get(&self, generation: u64, name: &str, make: impl FnOnce() -> Value) -> Bytes {
        self.get_bytes(generation, name, || make().to_string().into_bytes())
    }

    /// A document that isn't JSON, likewise.
    pub fn get_bytes(&self, generation: u64, name: &str, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut known = lock();
            if known.0 != generation {
                *known = (generation, HashMap::new());
            }
            if let Some(bytes) = known.1.get(name) {
                return bytes.clone();
            }
        }
        let bytes = Bytes::from(make());
        let mut known = lock();
        if known.0 == generation {
            known.1.insert(name.to_owned(), bytes.clone());
        }
        bytes
    }
}

fn group_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    }
}

fn group_names(registry: &Registry) -> Vec<(String, Vec<String>)> {
    let mut out: Vec<(String, Vec<String>)> = Vec::new();
    for (group, version) in registry.group_versions() {
        match out.iter_mut().find(|(known, _)| *known == group) {
            Some((_, versions)) => versions.push(version),
            None => out.push((group, vec![version])),
        }
    }
    out
}

/// `/api`.
pub fn core_versions(address: &str) -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]})
}

fn group_value(group: &str, versions: &[String]) -> Value {
    let version = |v: &String| json!({"groupVersion": group_version(group, v), "version": v});
    let all: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": group, "versions": all, "preferredVersion": all.first()})
}

/// `/apis`.
pub fn groups(registry: &Registry) -> Value {
    let all: Vec<Value> = group_names(registry)
        .iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| group_value(group, versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": all})
}

/// `/apis/GROUP`.
pub fn group(registry: &Registry, name: &str) -> Option<Value> {
    let names = group_names(registry);
    let (group, versions) = names.iter().find(|(group, _)| group == name)?;
    let mut value = group_value(group, versions);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

fn storage_hash(kind: &Kind) -> String {
    use base64::Engine as _;
    let digest = Sha256::digest(format!("{}/{}", kind.stored, kind.resource.kind));
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}

/// `/api/VERSION` and `/apis/GROUP/VERSION`.
pub fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let kinds = registry.of(group, version);
    if kinds.is_empty() {
        return None;
    }
    let mut all = Vec::new();
    for kind in &kinds {
        let resource = &kind.resource;
        let mut value = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": resource.verbs,
        });
        if !resource.short_names.is_empty() {
            value["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            value["categories"] = json!(resource.categories);
        }
        if kind.is_stored() {
            value["storageVersionHash"] = storage_hash(kind).into();
        }
        all.push(value);
        for sub in &resource.subresources {
            let mut value = json!({
                "name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
                "namespaced": resource.namespaced,
            });
            if (sub.group.as_str(), sub.version.as_str())
                != (resource.group.as_str(), resource.version.as_str())
                && !sub.version.is_empty()
                && !(sub.group.is_empty() && sub.kind == resource.kind)
            {
                if !sub.group.is_empty() {
                    value["group"] = sub.group.clone().into();
                }
                value["version"] = sub.version.clone().into();
            }
            value["kind"] = sub.kind.clone().into();
            value["verbs"] = json!(sub.verbs);
            all.push(value);
        }
    }
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group, version), "resources": all,
    }))
}

fn scope(resource: &Resource) -> &'static str {
    if resource.namespaced {
        "Namespaced"
    } else {
        "Cluster"
    }
}

fn aggregated_resource(resource: &Resource) -> Value {
    let mut value = json!({
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": scope(resource), "singularResource": resource.singular, "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        value["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        value["categories"] = json!(resource.categories);
    }
    let sub = |sub: &wharf_kube_types::resources::Subresource| {
        let version = if sub.version.is_empty() {
            &resource.version
        } else {
            &sub.version
        };
        json!({"subresource": sub.name, "verbs": sub.verbs,
            "responseKind": {"group": sub.group, "version": version, "kind": sub.kind}})
    };
    if !resource.subresources.is_empty() {
        value["subresources"] = resource.subresources.iter().map(sub).collect();
    }
    value
}

/// Everything at once: `APIGroupDiscoveryList` of the core group, or of all others.
pub fn aggregated(registry: &Registry, core: bool, version: &str) -> Value {
    let mut items = Vec::new();
    for (group, versions) in group_names(registry) {
        if group.is_empty() != core {
            continue;
        }
        let mut all = Vec::new();
        for version in &versions {
            let kinds = registry.of(&group, version);
            let resources: Vec<Value> = kinds
                .iter()
                .map(|k| aggregated_resource(&k.resource))
                .collect();
            all.push(json!({"version": version, "freshness": "Current", "resources": resources}));
        }
        let mut meta = json!({"creationTimestamp": null});
        if !group.is_empty() {
            meta["name"] = group.into();
        }
        items.push(json!({"metadata": meta, "versions": all}));
    }
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items})
}

fn all_resources(kinds: &[Arc<Kind>]) -> Vec<&Resource> {
    kinds.iter().map(|kind| &*kind.resource).collect()
}

/// `/openapi/v2`.
pub fn openapi_v2(registry: &Registry) -> Value {
    openapi::v2(&all_resources(&registry.order))
}

/// `/openapi/v3`: where the document of each group and version is.
pub fn openapi_v3_index(registry: &Registry) -> Value {
    let mut paths = serde_json::Map::new();
    for (group, version) in registry.group_versions() {
        let path = match group.as_str() {
            "" => format!("api/{version}"),
            group => format!("apis/{group}/{version}"),
        };
        // The document of custom kinds changes with their definitions, never within a generation.
        let custom = registry
            .of(&group, &version)
            .iter()
            .any(|k| k.resource.custom);
        let stamp = if custom { registry.generation } else { 0 };
        let digest = hex::encode_upper(Sha256::digest(format!("{path} {stamp}")));
        let url = format!("/openapi/v3/{path}?hash={digest}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// `/openapi/v3/apis/GROUP/VERSION`.
pub fn openapi_v3(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let kinds = registry.of(group, version);
    (!kinds.is_empty()).then(|| openapi::v3(group, version, &all_resources(&kinds)))
}
