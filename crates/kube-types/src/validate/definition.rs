//! CustomResourceDefinitions.

mod structural;

use serde_json::Value;

use super::admission::client_config;
use super::faults::{Faults, Seen};
use super::names;
use crate::field::{FieldError, Path};
use crate::object::{at, int, list, text};

/// A CustomResourceDefinition.
pub fn definition(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let root = Path::new("metadata");
    let (group, plural) = (text(spec, "group"), text(spec, "names.plural"));
    let required = format!("{plural}.{group}");
    if crate::object::name(object) != required {
        let detail = "must be spec.names.plural+\".\"+spec.group".to_string();
        out.invalid(&root.field("name"), crate::object::name(object), detail);
    }
    let place = path.field("group");
    let faults = names::dns1123_subdomain(group);
    if group.is_empty() {
        out.required(&place, "");
    } else if !faults.is_empty() {
        out.invalid(&place, group, faults.join(","));
    } else if !group.contains('.') {
        out.invalid(&place, group, "should be a domain with at least one dot");
    }
    out.one_of(
        &path.field("scope"),
        text(spec, "scope"),
        &["Cluster", "Namespaced"],
    );
    if spec["preserveUnknownFields"] == true {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        out.invalid(&path.field("preserveUnknownFields"), true, detail);
    }
    versions(spec, &path, out);
    kind_names(spec, &path.field("names"), out);
    conversion(spec, &path.field("conversion"), out);
    stored(object, out);
    approved(object, group, out);
}

/// Groups of the community are for what it approved.
fn approved(object: &Value, group: &str, out: &mut Vec<FieldError>) {
    const NAME: &str = "api-approved.kubernetes.io";
    let ends = |domain: &str| group == domain || group.ends_with(&format!(".{domain}"));
    if !ends("k8s.io") && !ends("kubernetes.io") {
        return;
    }
    let root = Path::new("metadata");
    let annotations = root.field("annotations");
    let path = annotations.key(NAME);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match object["metadata"]["annotations"][NAME].as_str() {
        None | Some("") => out.required(&path, &format!("protected groups must have approval annotation {NAME:?}, {see}")),
        Some(text) if text.starts_with("unapproved") => {}
        Some(text) if text.starts_with("https://") || text.starts_with("http://") => {}
        Some(text) => out.invalid(
            &path,
            text,
            format!("protected groups must have approval annotation {NAME:?} with either a URL or a reason starting with \"unapproved\", {see}"),
        ),
    }
}

fn versions(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let place = path.field("versions");
    let versions = list(spec, "versions");
    let mut seen = Seen::default();
    let mut twice = false;
    for (index, version) in versions.iter().enumerate() {
        let here = place.index(index);
        let name = text(version, "name");
        twice |= seen.twice(name);
        let faults = names::dns1035_label(name);
        if !faults.is_empty() {
            out.invalid(&here.field("name"), name, faults.join(","));
        }
        self::version(version, &here, out);
    }
    if twice {
        out.invalid(
            &place,
            versions.to_vec(),
            "must contain unique version names",
        );
    }
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        out.invalid(
            &place,
            versions.to_vec(),
            "must have exactly one version marked as storage version",
        );
    }
}

fn version(version: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let schema_path = path.field("schema");
    match at(version, "schema.openAPIV3Schema") {
        None => out.required(
            &schema_path.field("openAPIV3Schema"),
            "schemas are required",
        ),
        Some(schema) => structural::root(schema, &schema_path.field("openAPIV3Schema"), out),
    }
    let columns = path.field("additionalPrinterColumns");
    for (index, column) in list(version, "additionalPrinterColumns").iter().enumerate() {
        self::column(column, &columns.index(index), out);
    }
    if let Some(scale) = at(version, "subresources.scale") {
        let here = path.field("subresources");
        let bases = [
            ("specReplicasPath", &[".spec."][..]),
            ("statusReplicasPath", &[".status."]),
        ];
        for (field, allowed) in bases {
            let name = format!("scale.{field}");
            json_path(text(scale, field), allowed, true, &here.field(&name), out);
        }
        if let Some(selector) = scale["labelSelectorPath"].as_str() {
            json_path(
                selector,
                &[".spec.", ".status."],
                false,
                &here.field("scale.labelSelectorPath"),
                out,
            );
        }
    }
    selectable(version, &path.field("selectableFields"), out);
}

fn json_path(
    found: &str,
    bases: &[&str],
    needed: bool,
    path: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    if found.is_empty() {
        if needed {
            out.required(path, "");
        }
        return;
    }
    if !found.starts_with('.') {
        return out.invalid(path, found, "must be a simple json path starting with .");
    }
    if found.contains(['[', ']', '*', '(', ')']) {
        out.invalid(path, found, "must be a json path in the dot notation");
    }
    if !bases.iter().any(|base| found.starts_with(base)) {
        let words = match bases {
            [one] => one.trim_end_matches('.').to_owned(),
            _ => "either .spec or .status".to_owned(),
        };
        out.invalid(path, found, format!("should be a json path under {words}"));
    }
}

fn column(column: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = [
        "byte",
        "date",
        "date-time",
        "double",
        "float",
        "int32",
        "int64",
        "password",
    ];
    if text(column, "name").is_empty() {
        out.required(&path.field("name"), "");
    }
    let (kind, format) = (text(column, "type"), text(column, "format"));
    if kind.is_empty() {
        out.required(
            &path.field("type"),
            &format!("must be one of {}", TYPES.join(",")),
        );
    } else if !TYPES.contains(&kind) {
        out.invalid(
            &path.field("type"),
            kind,
            format!("must be one of {}", TYPES.join(",")),
        );
    }
    if !format.is_empty() && !FORMATS.contains(&format) {
        out.invalid(
            &path.field("format"),
            format,
            format!("must be one of {}", FORMATS.join(",")),
        );
    }
    let place = path.field("jsonPath");
    match text(column, "jsonPath") {
        "" => out.required(&path.field("JSONPath"), ""),
        found if !found.starts_with('.') => {
            out.invalid(&place, found, "must be a simple json path starting with .")
        }
        _ => {}
    }
    let _ = int(column, "priority");
}

fn selectable(version: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let fields = list(version, "selectableFields");
    let mut seen = Seen::default();
    for (index, field) in fields.iter().enumerate() {
        let here = path.index(index);
        let place = here.field("jsonPath");
        let found = text(field, "jsonPath");
        let steps: Vec<&str> = found.split('.').skip(1).collect();
        if found.is_empty() {
            out.required(&place, "");
            continue;
        }
        if !found.starts_with('.') || steps.iter().any(|s| s.is_empty()) {
            out.invalid(
                &place,
                found,
                "is an invalid path: must be a simple path of fields",
            );
            continue;
        }
        if steps[0] == "metadata" {
            out.invalid(&place, found, "must not point to fields in metadata");
        }
        let mut schema = at(version, "schema.openAPIV3Schema");
        for step in &steps {
            schema = schema.and_then(|s| s["properties"].get(*step));
        }
        match schema {
            None => out.invalid(
                &place,
                found,
                format!("is an invalid path: does not refer to a valid field: {found}"),
            ),
            Some(schema) if !matches!(text(schema, "type"), "string" | "boolean" | "integer") => {
                let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
                out.invalid(&place, found, detail);
            }
            Some(_) => {}
        }
        if seen.twice(found) {
            out.duplicate(&place, found);
        }
    }
    if fields.len() > 8 {
        out.put(FieldError::too_many(path, fields.len(), 8));
    }
}

fn kind_names(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let found = &spec["names"];
    for (field, is_kind) in [
        ("plural", false),
        ("singular", false),
        ("kind", true),
        ("listKind", true),
    ] {
        let name = text(found, field);
        let here = path.field(field);
        if name.is_empty() {
            out.required(&here, "");
            continue;
        }
        let checked = if is_kind {
            name.to_lowercase()
        } else {
            name.to_owned()
        };
        let faults = names::dns1035_label(&checked);
        if !faults.is_empty() {
            let intro = if is_kind {
                "may have mixed case, but should otherwise match: "
            } else {
                ""
            };
            out.invalid(&here, name, format!("{intro}{}", faults.join(",")));
        }
    }
    if !text(found, "kind").is_empty() && text(found, "kind") == text(found, "listKind") {
        out.invalid(
            &path.field("listKind"),
            text(found, "listKind"),
            "kind and listKind may not be the same",
        );
    }
    for field in ["shortNames", "categories"] {
        let place = path.field(field);
        for (index, name) in list(found, field).iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            let faults = names::dns1035_label(name);
            if !faults.is_empty() {
                out.invalid(&place.index(index), name, faults.join(","));
            }
        }
    }
}

fn conversion(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let Some(found) = at(spec, "conversion") else {
        return;
    };
    let strategy = text(found, "strategy");
    out.one_of(&path.field("strategy"), strategy, &["None", "Webhook"]);
    let here = path.field("webhook");
    match (strategy, at(found, "webhook")) {
        ("Webhook", None) => out.required(
            &path.field("webhookClientConfig"),
            "required when strategy is set to Webhook",
        ),
        ("Webhook", Some(webhook)) => {
            client_config(&webhook["clientConfig"], &here.field("clientConfig"), out);
            let versions = list(webhook, "conversionReviewVersions");
            let place = path.field("conversionReviewVersions");
            if versions.is_empty() {
                out.required(&place, "");
            } else if !versions.iter().any(|v| v == "v1" || v == "v1beta1") {
                out.invalid(
                    &place,
                    versions.to_vec(),
                    "must include at least one of v1, v1beta1",
                );
            }
        }
        ("None", Some(_)) => {
            out.forbidden(
                &path.field("webhookClientConfig"),
                "should not be set when strategy is not set to Webhook",
            );
        }
        _ => {}
    }
}

fn stored(object: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("status");
    let place = root.field("storedVersions");
    let stored = list(object, "status.storedVersions");
    let versions = list(object, "spec.versions");
    if stored.is_empty() {
        return out.invalid(
            &place,
            stored.to_vec(),
            "must have at least one stored version",
        );
    }
    for version in versions.iter().filter(|v| v["storage"] == true) {
        if !stored.contains(&version["name"]) {
            let detail = format!("must have the storage version {}", text(version, "name"));
            out.invalid(&place, stored.to_vec(), detail);
        }
    }
    for (index, version) in stored.iter().enumerate() {
        if !versions.iter().any(|v| v["name"] == *version) {
            let name = version.as_str().unwrap_or_default();
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            out.invalid(&place.index(index), name, detail);
        }
    }
}

/// What of a definition may change once it is established.
pub fn update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    definition(new, out);
    let path = Path::new("spec");
    let names_path = path.field("names");
    out.immutable(
        &path.field("group"),
        &new["spec"]["group"],
        &old["spec"]["group"],
    );
    out.immutable(
        &names_path.field("plural"),
        &new["spec"]["names"]["plural"],
        &old["spec"]["names"]["plural"],
    );
    let established = list(old, "status.conditions")
        .iter()
        .any(|c| c["type"] == "Established" && c["status"] == "True");
    if established {
        out.immutable(
            &path.field("scope"),
            &new["spec"]["scope"],
            &old["spec"]["scope"],
        );
        out.immutable(
            &names_path.field("kind"),
            &new["spec"]["names"]["kind"],
            &old["spec"]["names"]["kind"],
        );
    }
}
