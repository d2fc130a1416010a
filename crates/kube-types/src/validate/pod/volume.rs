//! Volumes and where their contents come from.

use std::collections::HashMap;

use serde_json::Value;

use super::super::faults::{Faults, Seen, backsteps, descending};
use super::super::names;
use super::environment;
use crate::field::{FieldError, Path};
use crate::object::{at, int, list, text};
use crate::quantity::Quantity;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Fields that a file may show.
const FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Checks a pod's volumes and gives those that may be mounted, by name.
pub(super) fn volumes<'a>(
    spec: &'a Value,
    path: &Path<'_>,
    out: &mut Vec<FieldError>,
) -> HashMap<&'a str, &'a Value> {
    let mut seen = Seen::default();
    let mut found = HashMap::new();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let here = path.index(index);
        let before = out.len();
        let name = text(volume, "name");
        source(volume, &here, out);
        if name.is_empty() {
            out.required(&here.field("name"), "");
        } else {
            out.rule(&here.field("name"), name, names::dns1123_label);
        }
        if seen.has(name) {
            out.duplicate(&here.field("name"), name);
        }
        // Only a good volume may be mounted, as in the original: a mount of a bad one is told too.
        if out.len() == before {
            seen.twice(name);
            found.insert(name, volume);
        }
    }
    found
}

fn source(volume: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let mut found = 0;
    for (sort, value) in volume.as_object().into_iter().flatten() {
        if sort == "name" || value.is_null() {
            continue;
        }
        found += 1;
        let here = path.field(sort);
        if found > 1 {
            out.forbidden(&here, "may not specify more than 1 volume type");
            continue;
        }
        one(sort, value, &here, out);
    }
    if found == 0 {
        out.required(path, "must specify a volume type");
    }
}

fn one(sort: &str, value: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    match sort {
        "emptyDir" => {
            let limit = at(value, "sizeLimit").and_then(|l| Quantity::from_value(l).ok());
            if limit.is_some_and(|l| l.sign().is_lt()) {
                out.forbidden(
                    &path.field("sizeLimit"),
                    "SizeLimit field must be a valid resource quantity",
                );
            }
        }
        "hostPath" => host_path(value, path, out),
        "secret" => {
            if text(value, "secretName").is_empty() {
                out.required(&path.field("secretName"), "");
            }
            files(value, path, out);
        }
        "configMap" => {
            if text(value, "name").is_empty() {
                out.required(&path.field("name"), "");
            }
            files(value, path, out);
        }
        "downwardAPI" => downward(value, path, out),
        "projected" => projected(value, path, out),
        "persistentVolumeClaim" => {
            out.required_rule(
                &path.field("claimName"),
                text(value, "claimName"),
                names::dns1123_subdomain,
            );
        }
        "nfs" => {
            required(value, &["server", "path"], path, out);
            if !text(value, "path").is_empty() && !text(value, "path").starts_with('/') {
                out.invalid(
                    &path.field("path"),
                    text(value, "path"),
                    "must be an absolute path",
                );
            }
        }
        "iscsi" => required(value, &["targetPortal", "iqn"], path, out),
        "csi" | "ephemeral" | "image" => provided(sort, value, path, out),
        "gitRepo" => required(value, &["repository"], path, out),
        _ => {}
    }
}

/// Volumes that a driver, a claim or an image provides.
fn provided(sort: &str, value: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    match sort {
        "csi" => {
            let driver = text(value, "driver");
            if driver.is_empty() {
                out.required(&path.field("driver"), "");
            } else {
                out.rule(
                    &path.field("driver"),
                    &driver.to_lowercase(),
                    names::dns1123_subdomain,
                );
            }
        }
        "ephemeral" => {
            if at(value, "volumeClaimTemplate").is_none() {
                out.required(&path.field("volumeClaimTemplate"), "");
            } else {
                let place = path.field("volumeClaimTemplate");
                let claim = &value["volumeClaimTemplate"]["spec"];
                super::super::storage::claim_spec(claim, &place.field("spec"), out);
            }
        }
        "image" => {
            if text(value, "reference").is_empty() {
                out.required(&path.field("reference"), "");
            }
            let pulls = ["Always", "IfNotPresent", "Never"];
            out.optional_one_of(&path.field("pullPolicy"), &value["pullPolicy"], &pulls);
        }
        _ => {}
    }
}

fn required(value: &Value, fields: &[&str], path: &Path<'_>, out: &mut Vec<FieldError>) {
    for field in fields.iter().filter(|f| text(value, f).is_empty()) {
        out.required(&path.field(field), "");
    }
}

fn host_path(value: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let place = text(value, "path");
    if place.is_empty() {
        return out.required(&path.field("path"), "");
    }
    backsteps(place, &path.field("path"), out);
    const SORTS: [&str; 8] = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    out.optional_one_of(&path.field("type"), &value["type"], &SORTS);
}

fn mode(value: &Value, field: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if let Some(mode) = int(value, field).filter(|m| !(0..=0o777).contains(m)) {
        out.invalid(&path.field(field), mode, MODE);
    }
}

fn files(value: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    mode(value, "defaultMode", path, out);
    items(value, path, out);
}

fn items(value: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let place = path.field("items");
    for (index, item) in list(value, "items").iter().enumerate() {
        let here = place.index(index);
        required(item, &["key", "path"], &here, out);
        file_path(text(item, "path"), &here.field("path"), out);
        mode(item, "mode", &here, out);
    }
}

fn file_path(place: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    descending(place, path, out);
    if place.starts_with("..") && !place.starts_with("../") && place != ".." {
        out.invalid(path, place, "must not start with '..'");
    }
}

fn downward(value: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    mode(value, "defaultMode", path, out);
    for file in list(value, "items") {
        let here = path;
        required(file, &["path"], here, out);
        file_path(text(file, "path"), &here.field("path"), out);
        match (at(file, "fieldRef"), at(file, "resourceFieldRef")) {
            (Some(field), resource) => {
                let known_whole = matches!(
                    text(field, "fieldPath"),
                    "metadata.labels" | "metadata.annotations"
                );
                if !known_whole {
                    environment::field(field, &FIELDS, &here.field("fieldRef"), out);
                }
                if resource.is_some() {
                    let detail =
                        "fieldRef and resourceFieldRef can not be specified simultaneously";
                    out.invalid(here, "resource", detail);
                }
            }
            (None, Some(resource)) => {
                environment::resource_field(resource, true, &here.field("resourceFieldRef"), out);
            }
            (None, None) => out.required(here, "one of fieldRef and resourceFieldRef is required"),
        }
        mode(file, "mode", here, out);
    }
}

fn projected(value: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    mode(value, "defaultMode", path, out);
    let place = path.field("sources");
    for (index, source) in list(value, "sources").iter().enumerate() {
        let here = place.index(index);
        let mut found = 0;
        for sort in [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ] {
            let Some(part) = at(source, sort) else {
                continue;
            };
            found += 1;
            let inner = here.field(sort);
            if found > 1 {
                out.forbidden(&inner, "may not specify more than 1 volume type per source");
                continue;
            }
            match sort {
                "secret" | "configMap" => {
                    required(part, &["name"], &inner, out);
                    items(part, &inner, out);
                }
                "downwardAPI" => downward(part, &inner, out),
                "serviceAccountToken" => token(part, &inner, out),
                _ => {}
            }
        }
        if found == 0 {
            out.required(&here, "must specify a volume type");
        }
    }
}

fn token(value: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let seconds = int(value, "expirationSeconds").unwrap_or_default();
    let place = path.field("expirationSeconds");
    if seconds < 600 {
        out.invalid(
            &place,
            seconds,
            "may not specify a duration less than 10 minutes",
        );
    }
    if seconds > 1 << 32 {
        out.invalid(
            &place,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    if text(value, "path").is_empty() {
        out.required(&path.field("path"), "");
    } else {
        file_path(text(value, "path"), &path.field("path"), out);
    }
}
