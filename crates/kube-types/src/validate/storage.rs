//! PersistentVolumes, their claims and classes.

use serde_json::Value;

use super::faults::{Faults, label_selector};
use super::{names, pod};
use crate::field::{FieldError, Path};
use crate::object::{at, carry, list, map, same, text};
use crate::quantity::Quantity;

const MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

/// A PersistentVolumeClaim.
pub fn claim(object: &Value, out: &mut Vec<FieldError>) {
    claim_spec(&object["spec"], &Path::new("spec"), out);
}

fn access_modes(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let place = path.field("accessModes");
    let modes = list(spec, "accessModes");
    for mode in modes
        .iter()
        .filter_map(Value::as_str)
        .filter(|m| !MODES.contains(m))
    {
        out.not_supported(&place, mode, &MODES);
    }
    if modes.len() > 1 && modes.iter().any(|m| m == "ReadWriteOncePod") {
        out.forbidden(
            &place,
            "may not use ReadWriteOncePod with other access modes",
        );
    }
}

/// What a claim asks for.
pub fn claim_spec(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if list(spec, "accessModes").is_empty() {
        out.required(
            &path.field("accessModes"),
            "at least 1 access mode is required",
        );
    }
    if let Some(selector) = at(spec, "selector") {
        label_selector(selector, &path.field("selector"), out);
    }
    access_modes(spec, path, out);
    let resources = path.field("resources");
    let storage = resources.key("storage");
    match at(spec, "resources.requests.storage").and_then(|s| Quantity::from_value(s).ok()) {
        None => out.required(&storage, ""),
        Some(amount) if !amount.sign().is_gt() => {
            out.invalid(&storage, amount.to_string(), "must be greater than zero");
        }
        Some(_) => {}
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let name = text(spec, field);
        if !name.is_empty() {
            out.rule(&path.field(field), name, names::dns1123_subdomain);
        }
    }
    out.optional_one_of(
        &path.field("volumeMode"),
        &spec["volumeMode"],
        &["Block", "Filesystem"],
    );
    for field in ["dataSource", "dataSourceRef"] {
        let Some(source) = at(spec, field) else {
            continue;
        };
        let here = path.field(field);
        for part in ["name", "kind"] {
            if text(source, part).is_empty() {
                out.required(&here.field(part), "");
            }
        }
        let group = text(source, "apiGroup");
        if group.is_empty() && text(source, "kind") != "PersistentVolumeClaim" {
            out.invalid(
                &here,
                text(source, "kind"),
                "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            );
        }
        if !group.is_empty() {
            out.rule(&here.field("apiGroup"), group, names::dns1123_subdomain);
        }
    }
}

/// What of a claim may change.
pub fn claim_update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    claim(new, out);
    let path = Path::new("spec");
    let mut kept = new["spec"].clone();
    let bound = text(new, "status.phase") == "Bound";
    if text(old, "spec.volumeName").is_empty() {
        carry(&mut kept, &old["spec"], "volumeName");
    }
    if at(old, "spec.storageClassName").is_none() {
        carry(&mut kept, &old["spec"], "storageClassName");
    }
    if bound {
        carry(
            &mut kept["resources"],
            &old["spec"]["resources"],
            "requests",
        );
        carry(&mut kept, &old["spec"], "volumeAttributesClassName");
    }
    if !same(Some(&kept), Some(&old["spec"])) {
        out.forbidden(
            &path,
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    let size = |value: &Value, at_path: &str| {
        at(value, at_path).and_then(|s| Quantity::from_value(s).ok())
    };
    let (now, was) = (
        size(new, "spec.resources.requests.storage"),
        size(old, "spec.resources.requests.storage"),
    );
    if let (Some(now), Some(was)) = (now, was) {
        let given = size(old, "status.capacity.storage");
        if now < was && given.is_none_or(|given| now <= given) {
            let resources = path.field("resources");
            let requests = resources.field("requests");
            out.forbidden(
                &requests.field("storage"),
                "field can not be less than status.capacity",
            );
        }
    }
}

/// A PersistentVolume.
pub fn volume(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    if list(spec, "accessModes").is_empty() {
        out.required(&path.field("accessModes"), "");
    }
    access_modes(spec, &path, out);
    let capacity = path.field("capacity");
    if map(spec, "capacity").next().is_none() {
        out.required(&capacity, "");
    } else if at(spec, "capacity.storage").is_none() || map(spec, "capacity").count() > 1 {
        out.put(FieldError::not_supported(
            &capacity,
            spec["capacity"].clone(),
            &["storage"],
        ));
    }
    for (name, amount) in map(spec, "capacity") {
        let here = capacity.key(name);
        if let Some(amount) = Quantity::from_value(amount)
            .ok()
            .filter(|a| !a.sign().is_gt())
        {
            out.invalid(&here, amount.to_string(), "must be greater than zero");
        }
    }
    let policies = ["Delete", "Recycle", "Retain"];
    out.optional_one_of(
        &path.field("persistentVolumeReclaimPolicy"),
        &spec["persistentVolumeReclaimPolicy"],
        &policies,
    );
    if let Some(affinity) = at(spec, "nodeAffinity") {
        let here = path.field("nodeAffinity");
        match at(affinity, "required") {
            Some(required) => pod::node_selector(required, &here.field("required"), out),
            None => out.required(
                &here.field("required"),
                "must specify required node constraints",
            ),
        }
    }
    volume_source(spec, &path, out);
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        out.rule(
            &path.field("storageClassName"),
            class,
            names::dns1123_subdomain,
        );
    }
    out.optional_one_of(
        &path.field("volumeMode"),
        &spec["volumeMode"],
        &["Block", "Filesystem"],
    );
}

/// Fields of a volume's specification that are no source.
const NO_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn volume_source(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let mut found = 0;
    for (sort, value) in spec.as_object().into_iter().flatten() {
        if NO_SOURCES.contains(&sort.as_str()) || value.is_null() {
            continue;
        }
        found += 1;
        let here = path.field(sort);
        if found > 1 {
            out.forbidden(&here, "may not specify more than 1 volume type");
            continue;
        }
        let required: &[&str] = match sort.as_str() {
            "hostPath" | "local" => &["path"],
            "nfs" => &["server", "path"],
            "csi" => &["driver", "volumeHandle"],
            "iscsi" => &["targetPortal", "iqn"],
            _ => &[],
        };
        for field in required.iter().filter(|f| text(value, f).is_empty()) {
            out.required(&here.field(field), "");
        }
        if sort == "local" && at(spec, "nodeAffinity").is_none() {
            out.required(
                &path.field("nodeAffinity"),
                "Local volume requires node affinity",
            );
        }
        if sort == "hostPath"
            && text(value, "path") == "/"
            && text(spec, "persistentVolumeReclaimPolicy") == "Recycle"
        {
            let place = path.field("persistentVolumeReclaimPolicy");
            out.forbidden(&place, "may not be 'recycle' for a hostPath mount of '/'");
        }
    }
    if found == 0 {
        out.required(path, "must specify a volume type");
    }
}

/// What of a PersistentVolume may change.
pub fn volume_update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    volume(new, out);
    let path = Path::new("spec");
    let sources = |object: &Value| {
        let mut spec = object["spec"].clone();
        if let Some(spec) = spec.as_object_mut() {
            spec.retain(|field, _| !NO_SOURCES.contains(&field.as_str()));
        }
        spec
    };
    if !same(Some(&sources(new)), Some(&sources(old))) {
        out.forbidden(
            &path.field("persistentvolumesource"),
            "spec.persistentvolumesource is immutable after creation",
        );
    }
    out.immutable(
        &path.field("volumeMode"),
        &new["spec"]["volumeMode"],
        &old["spec"]["volumeMode"],
    );
    if at(old, "spec.nodeAffinity").is_some() {
        out.immutable(
            &path.field("nodeAffinity"),
            &new["spec"]["nodeAffinity"],
            &old["spec"]["nodeAffinity"],
        );
    }
}

/// A StorageClass.
pub fn class(object: &Value, out: &mut Vec<FieldError>) {
    let provisioner = text(object, "provisioner");
    out.required_rule(
        &Path::new("provisioner"),
        &provisioner.to_lowercase(),
        names::qualified_name,
    );
    let mut size = 0;
    for (key, value) in map(object, "parameters") {
        size += key.len() + value.as_str().map_or(0, str::len);
        if key.is_empty() {
            out.invalid(&Path::new("parameters"), "", "field can not be empty.");
        }
    }
    if size > 256 * 1024 {
        out.put(FieldError::too_long(&Path::new("parameters"), 256 * 1024));
    }
    if map(object, "parameters").count() > 512 {
        out.put(FieldError::too_long(
            &Path::new("Provisioner Parameters Length"),
            512,
        ));
    }
    let policies = ["Delete", "Retain"];
    out.optional_one_of(
        &Path::new("reclaimPolicy"),
        &object["reclaimPolicy"],
        &policies,
    );
    let modes = ["Immediate", "WaitForFirstConsumer"];
    out.optional_one_of(
        &Path::new("volumeBindingMode"),
        &object["volumeBindingMode"],
        &modes,
    );
    if at(object, "volumeBindingMode").is_none() {
        out.required(&Path::new("volumeBindingMode"), "");
    }
}

/// What of a StorageClass may change.
pub fn class_update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    if !same(new.get("parameters"), old.get("parameters")) {
        out.forbidden(
            &Path::new("parameters"),
            "updates to parameters are forbidden.",
        );
    }
    if new["provisioner"] != old["provisioner"] {
        out.forbidden(
            &Path::new("provisioner"),
            "updates to provisioner are forbidden.",
        );
    }
    if new["reclaimPolicy"] != old["reclaimPolicy"] {
        out.forbidden(
            &Path::new("reclaimPolicy"),
            "updates to reclaimPolicy are forbidden.",
        );
    }
    out.immutable(
        &Path::new("volumeBindingMode"),
        &new["volumeBindingMode"],
        &old["volumeBindingMode"],
    );
}

/// A CSIDriver.
pub fn driver(object: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("spec");
    for field in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
        if at(object, &format!("spec.{field}")).is_none() {
            out.required(&root.field(field), "");
        }
    }
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    out.optional_one_of(
        &root.field("fsGroupPolicy"),
        &object["spec"]["fsGroupPolicy"],
        &policies,
    );
    let modes = root.field("volumeLifecycleModes");
    for mode in list(object, "spec.volumeLifecycleModes")
        .iter()
        .filter_map(Value::as_str)
    {
        if !matches!(mode, "Persistent" | "Ephemeral") {
            out.not_supported(&modes, mode, &["Persistent", "Ephemeral"]);
        }
    }
}

/// A VolumeAttachment.
pub fn attachment(object: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("spec");
    out.required_rule(
        &root.field("attacher"),
        text(object, "spec.attacher"),
        names::dns1123_subdomain,
    );
    let source = root.field("source");
    let named = at(object, "spec.source.persistentVolumeName");
    match (named, at(object, "spec.source.inlineVolumeSpec")) {
        (None, None) => {
            out.required(
                &source,
                "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            );
        }
        (Some(_), Some(_)) => {
            out.forbidden(
                &source,
                "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            );
        }
        _ => {}
    }
    out.required_rule(
        &root.field("nodeName"),
        text(object, "spec.nodeName"),
        names::dns1123_subdomain,
    );
}
