//! Rows of all other kinds.

use serde_json::Value;

use super::{flag, labels, name_and_age, names_and_images, number, or, row};
use crate::object::{self, at, int, list, map, text};
use crate::time::{Timestamp, human_duration};

pub(super) fn cells(plural: &str, value: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let (name, age) = name_and_age(value, now);
    match plural {
        "podtemplates" => {
            let [names, images] = names_and_images(value, "template.spec.containers");
            row([
                name,
                names,
                images,
                labels(value, "template.metadata.labels"),
            ])
        }
        "namespaces" => row([name, text(value, "status.phase").into(), age]),
        "secrets" => row([
            name,
            text(value, "type").into(),
            map(value, "data").count().into(),
            age,
        ]),
        "configmaps" => {
            let entries = map(value, "data").count() + map(value, "binaryData").count();
            row([name, entries.into(), age])
        }
        "serviceaccounts" | "deviceclasses" | "resourceclaimtemplates" => row([name, age]),
        "persistentvolumes" | "persistentvolumeclaims" => volume(plural, value, name, age),
        "componentstatuses" => component(value, name),
        "resourcequotas" => quota(value, name, age),
        "rolebindings" | "clusterrolebindings" => binding(value, name, age),
        "certificatesigningrequests" => signing(value, name, age),
        "leases" => row([name, text(value, "spec.holderIdentity").into(), age]),
        "runtimeclasses" => row([name, text(value, "handler").into(), age]),
        "poddisruptionbudgets" => {
            let bound = |path: &str| match at(value, path) {
                Some(Value::String(text)) => text.as_str().into(),
                Some(other) => other.to_string().into(),
                None => "N/A".into(),
            };
            row([
                name,
                bound("spec.minAvailable"),
                bound("spec.maxUnavailable"),
                number(value, "status.disruptionsAllowed"),
                age,
            ])
        }
        "priorityclasses" => row([
            name,
            number(value, "value"),
            flag(value, "globalDefault", false),
            age,
            text(value, "preemptionPolicy").into(),
        ]),
        "controllerrevisions" => revision(value, name, age),
        _ => storage(plural, value, &name, &age).or_else(|| admission(plural, value, name, age)),
    }
}

fn modes(value: &Value, path: &str) -> String {
    let has = |mode: &str| list(value, path).iter().any(|m| m == mode);
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    short
        .iter()
        .filter(|(mode, _)| has(mode))
        .map(|(_, short)| *short)
        .collect::<Vec<_>>()
        .join(",")
}

fn volume(plural: &str, value: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    let deleted = at(value, "metadata.deletionTimestamp").is_some();
    let phase = if deleted {
        "Terminating"
    } else {
        text(value, "status.phase")
    };
    let annotated =
        value["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    let class: Value = annotated
        .unwrap_or_else(|| text(value, "spec.storageClassName"))
        .into();
    let attributes = or(value, "spec.volumeAttributesClassName", "<unset>");
    let mode = or(value, "spec.volumeMode", "<unset>");
    if plural == "persistentvolumes" {
        let claim = match at(value, "spec.claimRef") {
            Some(claim) => format!("{}/{}", text(claim, "namespace"), text(claim, "name")),
            None => String::new(),
        };
        return row([
            name,
            or(&value["spec"], "capacity.storage", "0"),
            modes(value, "spec.accessModes").into(),
            text(value, "spec.persistentVolumeReclaimPolicy").into(),
            phase.into(),
            claim.into(),
            class,
            attributes,
            text(value, "status.reason").into(),
            age,
            mode,
        ]);
    }
    let bound = text(value, "spec.volumeName");
    let (capacity, access) = if bound.is_empty() {
        (String::new(), String::new())
    } else {
        let capacity = value["status"]["capacity"]["storage"]
            .as_str()
            .unwrap_or("0");
        (capacity.to_owned(), modes(value, "status.accessModes"))
    };
    row([
        name,
        phase.into(),
        bound.into(),
        capacity.into(),
        access.into(),
        class,
        attributes,
        age,
        mode,
    ])
}

fn component(value: &Value, name: Value) -> Option<Vec<Value>> {
    let healthy = list(value, "conditions")
        .iter()
        .find(|c| c["type"] == "Healthy");
    let status = match healthy.map(|c| text(c, "status")) {
        Some("True") => "Healthy",
        Some("False") => "Unhealthy",
        _ => "Unknown",
    };
    let part = |field: &str| healthy.map_or("", |c| text(c, field)).into();
    row([name, status.into(), part("message"), part("error")])
}

fn quota(value: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    let mut hard: Vec<&String> = map(value, "status.hard")
        .map(|(resource, _)| resource)
        .collect();
    hard.sort();
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for resource in hard {
        let amount = |list: &str| value["status"][list][resource].as_str().unwrap_or("0");
        let shown = format!("{resource}: {}/{}", amount("used"), amount("hard"));
        if resource.starts_with("limits.") {
            limits.push(shown)
        } else {
            requests.push(shown)
        }
    }
    row([
        name,
        requests.join(", ").into(),
        limits.join(", ").into(),
        age,
    ])
}

fn binding(value: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    let role = format!(
        "{}/{}",
        text(value, "roleRef.kind"),
        text(value, "roleRef.name")
    );
    let subjects = |kind: &str| {
        let found = list(value, "subjects")
            .iter()
            .filter(|s| s["kind"] == kind)
            .map(|s| match kind {
                "ServiceAccount" => format!("{}/{}", text(s, "namespace"), text(s, "name")),
                _ => text(s, "name").to_owned(),
            });
        Value::from(found.collect::<Vec<_>>().join(", "))
    };
    row([
        name,
        role.into(),
        age,
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ])
}

fn signing(value: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    let has = |kind: &str| {
        list(value, "status.conditions")
            .iter()
            .any(|c| c["type"] == kind)
    };
    let mut status = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !text(value, "status.certificate").is_empty() {
        status.push_str(",Issued");
    }
    let wanted = int(value, "spec.expirationSeconds").map_or("<none>".to_owned(), human_duration);
    row([
        name,
        age,
        or(value, "spec.signerName", "<none>"),
        text(value, "spec.username").into(),
        wanted.into(),
        status.into(),
    ])
}

fn revision(value: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    let owner = list(value, "metadata.ownerReferences")
        .iter()
        .find(|o| object::flag(o, "controller"));
    let owner = owner.map_or("<none>".to_owned(), |owner| {
        let (group, _) = crate::resources::split_api_version(text(owner, "apiVersion"));
        let kind = crate::status::qualified(&text(owner, "kind").to_lowercase(), group);
        format!("{kind}/{}", text(owner, "name"))
    });
    row([name, owner.into(), number(value, "revision"), age])
}

fn storage(plural: &str, value: &Value, name: &Value, age: &Value) -> Option<Vec<Value>> {
    let (name, age) = (name.clone(), age.clone());
    match plural {
        "storageclasses" => {
            let marks = [
                "storageclass.kubernetes.io/is-default-class",
                "storageclass.beta.kubernetes.io/is-default-class",
            ];
            let default = marks
                .iter()
                .any(|m| value["metadata"]["annotations"][*m] == "true");
            let name = if default {
                format!("{} (default)", object::name(value)).into()
            } else {
                name
            };
            row([
                name,
                text(value, "provisioner").into(),
                or(value, "reclaimPolicy", "Delete"),
                or(value, "volumeBindingMode", "Immediate"),
                flag(value, "allowVolumeExpansion", false),
                age,
            ])
        }
        "volumeattributesclasses" => row([name, text(value, "driverName").into(), age]),
        "volumeattachments" => row([
            name,
            text(value, "spec.attacher").into(),
            text(value, "spec.source.persistentVolumeName").into(),
            text(value, "spec.nodeName").into(),
            flag(value, "status.attached", false),
            age,
        ]),
        "csinodes" => row([name, list(value, "spec.drivers").len().into(), age]),
        "csidrivers" => driver(value, name, age),
        "csistoragecapacities" => row([
            name,
            text(value, "storageClassName").into(),
            or(value, "capacity", "<unset>"),
        ]),
        "resourceclaims" => row([name, claim_state(value).into(), age]),
        "resourceslices" => row([
            name,
            text(value, "spec.nodeName").into(),
            text(value, "spec.driver").into(),
            text(value, "spec.pool.name").into(),
            age,
        ]),
        _ => None,
    }
}

fn driver(value: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    let joined = |path: &str, field: &str| {
        let items = list(value, path)
            .iter()
            .map(|v| if field.is_empty() { v } else { &v[field] });
        items
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(",")
    };
    let tokens = match at(value, "spec.tokenRequests") {
        Some(_) => joined("spec.tokenRequests", "audience"),
        None => "<unset>".to_owned(),
    };
    let modes = match joined("spec.volumeLifecycleModes", "") {
        modes if modes.is_empty() => "<none>".to_owned(),
        modes => modes,
    };
    let spec = &value["spec"];
    row([
        name,
        flag(spec, "attachRequired", true),
        flag(spec, "podInfoOnMount", false),
        flag(spec, "storageCapacity", false),
        tokens.into(),
        flag(spec, "requiresRepublish", false),
        modes.into(),
        age,
    ])
}

fn claim_state(claim: &Value) -> String {
    let mut states = Vec::new();
    let deleted = at(claim, "metadata.deletionTimestamp").is_some();
    if deleted {
        states.push("deleted");
    }
    if at(claim, "status.allocation").is_some() {
        states.push("allocated");
        if !list(claim, "status.reservedFor").is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    states.join(",")
}

fn admission(plural: &str, value: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    match plural {
        "mutatingwebhookconfigurations" | "validatingwebhookconfigurations" => {
            row([name, list(value, "webhooks").len().into(), age])
        }
        "validatingadmissionpolicies" | "mutatingadmissionpolicies" => {
            let rules = if plural.starts_with('v') {
                "spec.validations"
            } else {
                "spec.mutations"
            };
            let kind = at(value, "spec.paramKind").map_or("<unset>".to_owned(), |k| {
                format!("{}/{}", text(k, "apiVersion"), text(k, "kind"))
            });
            row([name, list(value, rules).len().into(), kind.into(), age])
        }
        "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings" => {
            let parameter = match (
                text(value, "spec.paramRef.name"),
                text(value, "spec.paramRef.namespace"),
            ) {
                ("", _) => "<unset>".to_owned(),
                (name, "") => format!("*/{name}"),
                (name, namespace) => format!("{namespace}/{name}"),
            };
            row([
                name,
                text(value, "spec.policyName").into(),
                parameter.into(),
                age,
            ])
        }
        "flowschemas" => {
            let dangling = list(value, "status.conditions")
                .iter()
                .find(|c| c["type"] == "Dangling");
            row([
                name,
                text(value, "spec.priorityLevelConfiguration.name").into(),
                number(value, "spec.matchingPrecedence"),
                or(value, "spec.distinguisherMethod.type", "<none>"),
                age,
                dangling.map_or("?".into(), |c| c["status"].clone()),
            ])
        }
        "prioritylevelconfigurations" => {
            let part = |path: &str| at(value, path).cloned().unwrap_or_else(|| "<none>".into());
            let queuing =
                |field: &str| part(&format!("spec.limited.limitResponse.queuing.{field}"));
            row([
                name,
                text(value, "spec.type").into(),
                part("spec.limited.nominalConcurrencyShares"),
                queuing("queues"),
                queuing("handSize"),
                queuing("queueLengthLimit"),
                age,
            ])
        }
        "apiservices" => api_service(value, name, age),
        _ => None,
    }
}

fn api_service(value: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    let service = match at(value, "spec.service") {
        Some(service) => format!("{}/{}", text(service, "namespace"), text(service, "name")),
        None => "Local".to_owned(),
    };
    let condition = list(value, "status.conditions")
        .iter()
        .find(|c| c["type"] == "Available");
    let available = match condition {
        Some(c) if c["status"] == "True" => "True".to_owned(),
        Some(c) => format!("{} ({})", text(c, "status"), text(c, "reason")),
        None => "Unknown".to_owned(),
    };
    row([name, service.into(), available.into(), age])
}
