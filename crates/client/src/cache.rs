//! A copy of some of the server's objects, shared by all who read it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use crate::{Key, Object};

/// Names under which objects are found besides their key: pods by their node, by their owner.
pub type Index<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// Objects by key. Readers get what was there at one moment; what they hold does not change.
pub struct Cache<K> {
    inner: RwLock<Inner<K>>,
    indexes: Vec<(&'static str, Index<K>)>,
}

struct Inner<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// Keys by index, then by the name in it.
    found: HashMap<(usize, String), BTreeSet<Key>>,
}

impl<K: Object> Cache<K> {
    /// An empty cache, found through in these ways besides.
    pub fn new(indexes: Vec<(&'static str, Index<K>)>) -> Cache<K> {
        Cache {
            inner: RwLock::new(Inner {
                objects: BTreeMap::new(),
                found: HashMap::new(),
            }),
            indexes,
        }
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().objects.get(key).cloned()
    }

    /// All objects, by key.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().objects.values().cloned().collect()
    }

    /// The objects of a namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let inner = self.read();
        let from = inner.objects.range(Key::new(namespace, "")..);
        from.take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// The objects that an index gives this name; none for an index that there is not.
    pub fn by(&self, index: &str, name: &str) -> Vec<Arc<K>> {
        let Some(at) = self.indexes.iter().position(|(known, _)| *known == index) else {
            return Vec::new();
        };
        let inner = self.read();
        let keys = inner.found.get(&(at, name.to_owned()));
        keys.into_iter()
            .flatten()
            .filter_map(|key| inner.objects.get(key).cloned())
            .collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.read().objects.keys().cloned().collect()
    }

    /// Puts an object in; returns the one that it replaces.
    pub(crate) fn put(&self, object: Arc<K>) -> Option<Arc<K>> {
        let key = object.key();
        let mut inner = self.write();
        let old = inner.objects.insert(key.clone(), object.clone());
        if let Some(old) = &old {
            self.unlist(&mut inner, &key, old);
        }
        for (at, (_, names)) in self.indexes.iter().enumerate() {
            for name in names(&object) {
                inner
                    .found
                    .entry((at, name))
                    .or_default()
                    .insert(key.clone());
            }
        }
        old
    }

    /// Takes an object out.
    pub(crate) fn take(&self, key: &Key) -> Option<Arc<K>> {
        let mut inner = self.write();
        let old = inner.objects.remove(key)?;
        self.unlist(&mut inner, key, &old);
        Some(old)
    }

    fn unlist(&self, inner: &mut Inner<K>, key: &Key, old: &K) {
        for (at, (_, names)) in self.indexes.iter().enumerate() {
            for name in names(old) {
                let place = (at, name);
                if let Some(keys) = inner.found.get_mut(&place) {
                    keys.remove(key);
                    if keys.is_empty() {
                        inner.found.remove(&place);
                    }
                }
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner<K>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Inner<K>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str, node: &str) -> Arc<Pod> {
        let pod = json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"nodeName": node, "containers": []}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<String> {
        pods.iter().map(|pod| pod.key().to_string()).collect()
    }

    #[test]
    fn indexes_follow_their_objects() {
        let node = |pod: &Pod| -> Vec<String> {
            let spec = pod.spec.as_ref();
            spec.and_then(|spec| spec.node_name.clone())
                .into_iter()
                .collect()
        };
        let cache = Cache::new(vec![("node", Box::new(node) as Index<Pod>)]);
        for (namespace, name, node) in
            [("a", "one", "n1"), ("b", "two", "n1"), ("a", "three", "n2")]
        {
            assert!(cache.put(pod(namespace, name, node)).is_none());
        }
        assert_eq!(names(&cache.by("node", "n1")), ["a/one", "b/two"]);
        assert_eq!(names(&cache.in_namespace("a")), ["a/one", "a/three"]);
        assert!(cache.put(pod("a", "one", "n2")).is_some(), "it moves");
        assert_eq!(names(&cache.by("node", "n1")), ["b/two"]);
        assert_eq!(names(&cache.by("node", "n2")), ["a/one", "a/three"]);
        assert!(cache.take(&Key::new("b", "two")).is_some());
        assert!(cache.by("node", "n1").is_empty());
        assert!(cache.by("zone", "n2").is_empty());
        assert_eq!(cache.len(), 2);
        assert!(cache.read().found.len() == 1, "empty names are forgotten");
    }
}
