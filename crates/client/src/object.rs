//! Objects that can be kept in a cache.

use std::fmt;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

/// Namespace and name: which object of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Empty for what is in no namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// A key of its parts.
    pub fn new(namespace: &str, name: &str) -> Key {
        Key {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// An object with metadata: every kind of k8s-openapi.
pub trait Object: DeserializeOwned + Send + Sync + 'static {
    /// Its metadata.
    fn meta(&self) -> &ObjectMeta;

    /// Which one it is.
    fn key(&self) -> Key {
        let meta = self.meta();
        Key {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    /// The version of it.
    fn resource_version(&self) -> &str {
        self.meta().resource_version.as_deref().unwrap_or_default()
    }
}

impl<T: Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static> Object for T {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
}
