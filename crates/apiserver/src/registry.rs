//! The resources that are served now: built-in ones, and those that CustomResourceDefinitions made.

use std::collections::HashMap;
use std::sync::Arc;

use wharf_kube_types::Resource;
use wharf_kube_types::resources::{builtin, stored_as};

use crate::cache::{Cache, Caches};
use crate::present::Definition;

/// Resources without objects of their own: requests whose answer is computed.
const VIRTUAL: [&str; 8] = [
    "selfsubjectreviews",
    "bindings",
    "componentstatuses",
    "localsubjectaccessreviews",
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
    "subjectaccessreviews",
    "tokenreviews",
];

/// A served resource of one version.
#[derive(Debug)]
pub struct Kind {
    /// Names, verbs and schema.
    pub resource: Arc<Resource>,
    /// The version that its objects are stored in.
    pub stored: String,
    /// The first two steps of its objects' keys.
    pub prefix: String,
    /// Its objects.
    pub cache: Arc<Cache>,
    /// Warning for clients of a deprecated version.
    pub deprecated: Option<String>,
    /// A definition that is being deleted accepts no new objects.
    pub terminating: bool,
    /// The definition of custom objects.
    pub definition: Option<Arc<Definition>>,
}

/// A custom resource that is to be served.
#[derive(Debug)]
pub struct Custom {
    /// Names, verbs and schema.
    pub resource: Resource,
    /// The version that its objects are stored in.
    pub storage: String,
    /// Warning for clients of a deprecated version.
    pub deprecated: Option<String>,
    /// Its definition is being deleted.
    pub terminating: bool,
    /// Its definition.
    pub definition: Arc<Definition>,
}

impl Kind {
    /// The key of an object in the store.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.resource.namespaced {
            format!("{}/{namespace}/{name}", self.prefix)
        } else {
            format!("{}/{name}", self.prefix)
        }
    }

    /// The beginning of the keys of a namespace's objects; of all for the empty namespace.
    pub fn range(&self, namespace: &str) -> String {
        if self.resource.namespaced && !namespace.is_empty() {
            format!("{}/{namespace}/", self.prefix)
        } else {
            format!("{}/", self.prefix)
        }
    }

    /// `apiVersion` of its objects on the wire.
    pub fn api_version(&self) -> String {
        self.resource.api_version()
    }

    /// Whether objects are stored as they are on the wire.
    pub fn is_stored_version(&self) -> bool {
        self.stored == self.api_version()
    }

    /// Whether stored bytes are what is sent.
    pub fn is_plain(&self) -> bool {
        match &self.definition {
            Some(definition) => definition.is_simple(),
            None => self.is_stored_version(),
        }
    }

    /// Whether the bytes of a presented object are what is sent.
    pub fn sends_bytes(&self) -> bool {
        self.resource.custom || self.is_stored_version()
    }

    /// Whether it has objects in the store.
    pub fn is_stored(&self) -> bool {
        self.resource.custom || !VIRTUAL.contains(&self.resource.plural.as_str())
    }
}

/// All served resources.
#[derive(Debug, Default)]
pub struct Registry {
    kinds: HashMap<(String, String, String), Arc<Kind>>,
    /// In the order of discovery.
    pub order: Vec<Arc<Kind>>,
    /// Counts the changes of the registry.
    pub generation: u64,
}

/// The first two steps of keys of a resource's objects.
pub fn prefix(group: &str, plural: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("{group}/{plural}")
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

impl Registry {
    /// The built-in resources, then custom ones.
    pub fn new(caches: &Caches, custom: Vec<Custom>, generation: u64) -> Self {
        let mut registry = Self {
            generation,
            ..Self::default()
        };
        for resource in builtin() {
            let (group, version) = stored_as(resource);
            let prefix = prefix(group, &resource.plural);
            let kind = Kind {
                resource: Arc::new(resource.clone()),
                stored: api_version(group, version),
                cache: caches.of(&prefix),
                prefix,
                deprecated: None,
                terminating: false,
                definition: None,
            };
            registry.add(kind);
        }
        for custom in custom {
            let resource = custom.resource;
            let prefix = prefix(&resource.group, &resource.plural);
            let kind = Kind {
                stored: api_version(&resource.group, &custom.storage),
                cache: caches.of(&prefix),
                prefix,
                resource: Arc::new(resource),
                deprecated: custom.deprecated,
                terminating: custom.terminating,
                definition: Some(custom.definition),
            };
            registry.add(kind);
        }
        registry
    }

    fn add(&mut self, kind: Kind) {
        let resource = &kind.resource;
        if kind.is_stored_version() {
            kind.cache.describe(resource.clone());
        }
        let key = (
            resource.group.clone(),
            resource.version.clone(),
            resource.plural.clone(),
        );
        let kind = Arc::new(kind);
        // A definition can't take a built-in resource's place.
        if let std::collections::hash_map::Entry::Vacant(place) = self.kinds.entry(key) {
            place.insert(kind.clone());
            self.order.push(kind);
        }
    }

    /// The resource with this name.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        let key = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.kinds.get(&key)
    }

    /// The resource with this name in any version, the preferred one first.
    pub fn any_version(&self, group: &str, plural: &str) -> Option<&Arc<Kind>> {
        let mut all = self.order.iter();
        all.find(|kind| kind.resource.group == group && kind.resource.plural == plural)
    }

    /// The resource whose objects are of this kind.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        let (group, version) = wharf_kube_types::resources::split_api_version(api_version);
        let mut all = self.order.iter();
        all.find(|k| {
            k.resource.group == group && k.resource.version == version && k.resource.kind == kind
        })
    }

    /// Group and version pairs in the order of discovery, each once.
    pub fn group_versions(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        for kind in &self.order {
            let pair = (kind.resource.group.clone(), kind.resource.version.clone());
            if !all.contains(&pair) {
                all.push(pair);
            }
        }
        all
    }

    /// Resources of a group and version.
    pub fn of(&self, group: &str, version: &str) -> Vec<Arc<Kind>> {
        let all = self.order.iter();
        all.filter(|k| k.resource.group == group && k.resource.version == version)
            .cloned()
            .collect()
    }

    /// The resource that the object of a key is of.
    pub fn of_key(&self, key: &str) -> Option<Arc<Kind>> {
        let second = key.match_indices('/').nth(1)?.0;
        let mut all = self.order.iter();
        all.find(|k| k.prefix == key[..second] && k.is_stored_version())
            .cloned()
    }

    /// One kind for each stored resource that holds objects of its own.
    pub fn stored(&self) -> Vec<Arc<Kind>> {
        let all = self.order.iter();
        all.filter(|kind| kind.is_stored() && kind.is_stored_version())
            .cloned()
            .collect()
    }
}
