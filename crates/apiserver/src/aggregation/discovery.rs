//! What other servers serve, in the documents that tell clients what there is.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wharf_kube_types::object;

use super::Remote;

fn group_value(group: &str) -> Value {
    json!({"name": group, "versions": [], "preferredVersion": null})
}

fn add_version(group: &mut Value, remote: &Remote) {
    let version = json!({
        "groupVersion": format!("{}/{}", remote.group, remote.version), "version": remote.version});
    let Some(versions) = group["versions"].as_array_mut() else {
        return;
    };
    if !versions.contains(&version) {
        versions.push(version);
    }
    if group["preferredVersion"].is_null() {
        group["preferredVersion"] = group["versions"][0].clone();
    }
}

/// Into `/apis`.
pub fn into_groups(list: &mut Value, remotes: &[Remote]) {
    let Some(groups) = list["groups"].as_array_mut() else {
        return;
    };
    for remote in remotes {
        let known = groups
            .iter()
            .position(|g| g["name"] == remote.group.as_str());
        let index = known.unwrap_or_else(|| {
            groups.push(group_value(&remote.group));
            groups.len() - 1
        });
        add_version(&mut groups[index], remote);
    }
}

/// Into `/apis/GROUP`, which is made if this server has none.
pub fn into_group(known: Option<Value>, name: &str, remotes: &[Remote]) -> Option<Value> {
    let mut group = known;
    for remote in remotes.iter().filter(|r| r.group == name) {
        let group = group.get_or_insert_with(|| {
            let mut value = group_value(name);
            value["kind"] = "APIGroup".into();
            value["apiVersion"] = "v1".into();
            value
        });
        add_version(group, remote);
    }
    group
}

fn response_kind(remote: &Remote, resource: &Value) -> Value {
    let or = |field: &str, own: &str| match object::text(resource, field) {
        "" => own.to_owned(),
        given => given.to_owned(),
    };
    json!({"group": or("group", &remote.group), "version": or("version", &remote.version),
        "kind": object::text(resource, "kind")})
}

/// A server's resources in the form of aggregated discovery.
fn resources(remote: &Remote) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    for resource in &remote.resources {
        let name = object::text(resource, "name");
        let (plural, sub) = name.split_once('/').unwrap_or((name, ""));
        if sub.is_empty() {
            let scope = match object::flag(resource, "namespaced") {
                true => "Namespaced",
                false => "Cluster",
            };
            let mut value = json!({"resource": plural, "responseKind": response_kind(remote, resource),
                "scope": scope, "singularResource": object::text(resource, "singularName"),
                "verbs": resource["verbs"]});
            for field in ["shortNames", "categories"] {
                if resource[field].is_array() {
                    value[field] = resource[field].clone();
                }
            }
            out.push(value);
        } else if let Some(parent) = out.iter_mut().find(|r| r["resource"] == plural) {
            let value = json!({"subresource": sub, "responseKind": response_kind(remote, resource),
                "verbs": resource["verbs"]});
            match parent["subresources"].as_array_mut() {
                Some(all) => all.push(value),
                None => parent["subresources"] = json!([value]),
            }
        }
    }
    out
}

/// Into the `APIGroupDiscoveryList` of `/apis`. Of a server that is away, the last that was known is told as stale.
pub fn into_aggregated(list: &mut Value, remotes: &[Remote]) {
    let Some(items) = list["items"].as_array_mut() else {
        return;
    };
    for remote in remotes {
        let freshness = if remote.available { "Current" } else { "Stale" };
        let version = json!({
            "version": remote.version, "freshness": freshness, "resources": resources(remote)});
        let mut known = items.iter_mut();
        match known.find(|g| g["metadata"]["name"] == remote.group.as_str()) {
            Some(group) => {
                if let Some(versions) = group["versions"].as_array_mut() {
                    versions.retain(|v| v["version"] != remote.version.as_str());
                    versions.push(version);
                }
            }
            None => {
                let meta = json!({"name": remote.group, "creationTimestamp": null});
                items.push(json!({"metadata": meta, "versions": [version]}));
            }
        }
    }
}

/// Into `/openapi/v3`.
pub fn into_openapi_index(index: &mut Value, remotes: &[Remote], changes: u64) {
    for remote in remotes.iter().filter(|r| r.has_openapi) {
        let path = format!("apis/{}/{}", remote.group, remote.version);
        let digest = hex::encode_upper(Sha256::digest(format!("{path} remote {changes}")));
        let url = format!("/openapi/v3/{path}?hash={digest}");
        index["paths"][path.as_str()] = json!({"serverRelativeURL": url});
    }
}

/// Into `/openapi/v2`; what is there stays.
pub fn into_openapi_v2(document: &mut Value, remotes: &[Remote]) {
    for remote in remotes {
        for part in ["paths", "definitions"] {
            let theirs = remote.openapi_v2[part].as_object();
            let Some(own) = document[part].as_object_mut() else {
                continue;
            };
            for (key, value) in theirs.into_iter().flatten() {
                own.entry(key.as_str()).or_insert_with(|| value.clone());
            }
        }
    }
}
