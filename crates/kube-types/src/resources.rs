//! Which resources exist: their names, kinds, verbs and schemas; the built-in ones from a table.

mod names;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::cel::Rules;
use crate::schema::Schema;
use crate::table::Column;

/// One resource of one version of one group.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The group; empty for the core group.
    pub group: String,
    /// The version, as `v1`.
    pub version: String,
    /// The name in paths, as `pods`.
    pub plural: String,
    /// The name for one, as `pod`.
    pub singular: String,
    /// The kind of its objects, as `Pod`.
    pub kind: String,
    /// The kind of its lists, as `PodList`.
    pub list_kind: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// What can be done with it.
    pub verbs: Vec<String>,
    /// Short names, as `po`.
    pub short_names: Vec<String>,
    /// Groups of resources it is in, as `all`.
    pub categories: Vec<String>,
    /// Its subresources.
    pub subresources: Vec<Subresource>,
    /// What its objects look like.
    pub schema: Schema,
    /// Whether it was made by a CustomResourceDefinition.
    pub custom: bool,
    /// The printer columns of a custom resource.
    pub columns: Vec<Column>,
    /// Where a custom resource keeps its scale.
    pub scale: Option<ScalePaths>,
    /// Fields of a custom resource that field selectors may name, with a leading dot as in its definition.
    pub selectable_fields: Vec<String>,
    /// The rules of a custom resource, if it has any.
    pub rules: Option<Arc<Rules>>,
    /// The schema of a custom resource as its definition states it.
    pub open_api: Option<Arc<Value>>,
}

/// A subresource, as `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// The last step of its path.
    pub name: String,
    /// The group of the kind it speaks.
    pub group: String,
    /// The version of the kind it speaks.
    pub version: String,
    /// The kind it speaks.
    pub kind: String,
    /// What can be done with it.
    pub verbs: Vec<String>,
}

/// Where a custom resource keeps its scale, as paths with a leading dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// The wanted number.
    pub spec_replicas: String,
    /// The number that is.
    pub status_replicas: String,
    /// The selector in its text form, if it has one.
    pub label_selector: Option<String>,
}

impl Resource {
    /// `group/version`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `plural.group`, as messages name it.
    pub fn qualified(&self) -> String {
        crate::status::qualified(&self.plural, &self.group)
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Whether the status is written through a subresource of its own only.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Whether it can be done to this resource.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// Whether it is this built-in resource, in any version.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        !self.custom && self.group == group && self.plural == plural
    }
}

/// All built-in resources, groups and versions in the order of preference.
pub fn builtin() -> &'static [Resource] {
    &BUILTIN
}

/// The built-in resource with this name.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    INDEX.get(&(group, version, plural)).copied()
}

/// The built-in resource whose objects are of this kind.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    KINDS.get(&(group, version, kind)).copied()
}

/// The resource that a built-in resource's objects are stored as: another version or group where there are several.
pub fn stored_as(resource: &Resource) -> (&str, &str) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("autoscaling", "horizontalpodautoscalers") if !resource.custom => ("autoscaling", "v2"),
        ("events.k8s.io", "events") if !resource.custom => ("", "v1"),
        _ => (&resource.group, &resource.version),
    }
}

/// Splits `group/version`; the core group is the empty one.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

static TEXT: &str = include_str!("table/resources.tsv");

static BUILTIN: LazyLock<Vec<Resource>> = LazyLock::new(read);

type Index = HashMap<(&'static str, &'static str, &'static str), &'static Resource>;

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    BUILTIN
        .iter()
        .map(|r| ((r.group.as_str(), r.version.as_str(), r.plural.as_str()), r))
        .collect()
});

static KINDS: LazyLock<Index> = LazyLock::new(|| {
    BUILTIN
        .iter()
        .map(|r| ((r.group.as_str(), r.version.as_str(), r.kind.as_str()), r))
        .collect()
});

fn read() -> Vec<Resource> {
    let mut resources: Vec<Resource> = Vec::new();
    for line in TEXT.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[
            group,
            version,
            plural,
            sub,
            kind_group,
            kind_version,
            kind,
            namespaced,
            verbs,
        ] = fields.as_slice()
        else {
            continue;
        };
        let verbs: Vec<String> = verbs.split(',').map(str::to_owned).collect();
        if sub.is_empty() {
            resources.push(resource(
                group,
                version,
                plural,
                kind,
                namespaced == "true",
                verbs,
            ));
            continue;
        }
        let parent = resources
            .iter_mut()
            .rfind(|r| r.group == group && r.version == version && r.plural == plural);
        if let Some(parent) = parent {
            parent.subresources.push(Subresource {
                name: sub.to_owned(),
                group: kind_group.to_owned(),
                version: kind_version.to_owned(),
                kind: kind.to_owned(),
                verbs,
            });
        }
    }
    // autoscaling/v2 is preferred to v1.
    resources.sort_by_key(|r| {
        (
            names::group_rank(&r.group),
            std::cmp::Reverse(r.version.clone()),
        )
    });
    resources
}

fn resource(
    group: &str,
    version: &str,
    plural: &str,
    kind: &str,
    namespaced: bool,
    verbs: Vec<String>,
) -> Resource {
    let (short_names, categories) = names::of(group, plural);
    let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        namespaced,
        verbs,
        short_names: own(short_names),
        categories: own(categories),
        subresources: Vec::new(),
        schema: Schema::builtin(&definition(group, version, kind)).unwrap_or_else(Schema::any),
        custom: false,
        columns: Vec::new(),
        scale: None,
        selectable_fields: Vec::new(),
        rules: None,
        open_api: None,
    }
}

/// The full name of a built-in kind's definition.
pub fn definition(group: &str, version: &str, kind: &str) -> String {
    match group {
        "" => format!("io.k8s.api.core.{version}.{kind}"),
        "rbac.authorization.k8s.io" => format!("io.k8s.api.rbac.{version}.{kind}"),
        "apiextensions.k8s.io" => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}.{kind}")
        }
        "apiregistration.k8s.io" => {
            format!("io.k8s.kube-aggregator.pkg.apis.apiregistration.{version}.{kind}")
        }
        "meta.k8s.io" => format!("io.k8s.apimachinery.pkg.apis.meta.{version}.{kind}"),
        group => {
            let package = group.split('.').next().unwrap_or(group);
            format!("io.k8s.api.{package}.{version}.{kind}")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_kind_has_its_schema() {
        for resource in builtin() {
            assert_eq!(
                resource.schema.name,
                resource.kind,
                "{}",
                resource.qualified()
            );
            assert!(
                resource.schema.properties.contains_key("metadata"),
                "{}",
                resource.kind
            );
        }
        assert!(builtin().len() > 60, "{}", builtin().len());
    }

    #[test]
    fn resources_are_found_by_name_and_by_kind() {
        let pods = find("", "v1", "pods").unwrap();
        assert_eq!(
            (pods.kind.as_str(), pods.singular.as_str(), pods.namespaced),
            ("Pod", "pod", true)
        );
        assert_eq!(pods.short_names, ["po"]);
        assert_eq!(pods.subresource("eviction").unwrap().group, "policy");
        assert_eq!(pods.subresource("exec").unwrap().verbs, ["create", "get"]);
        assert_eq!(
            by_kind("apps", "v1", "Deployment").unwrap().plural,
            "deployments"
        );
        let scale = find("apps", "v1", "deployments")
            .unwrap()
            .subresource("scale")
            .unwrap();
        assert_eq!(
            (scale.group.as_str(), scale.kind.as_str()),
            ("autoscaling", "Scale")
        );
        let v2 = builtin()
            .iter()
            .position(|r| r.group == "autoscaling" && r.version == "v2");
        let v1 = builtin()
            .iter()
            .position(|r| r.group == "autoscaling" && r.version == "v1");
        assert!(v2 < v1);
    }
}
