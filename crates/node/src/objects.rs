//! ConfigMaps, Secrets and the Services of the cluster, as pods use them: followed one by one, as long as a pod of this
//! node uses them, since a node may read no others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use tokio::sync::Notify;
use wharf_client::{Api, Informer, Key, Object, Query, Resource};

const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps");
const SECRETS: Resource = Resource::new("", "v1", "secrets");
const SERVICES: Resource = Resource::new("", "v1", "services");

type Shared<K> = Mutex<HashMap<Key, Weak<Followed<K>>>>;

/// Shared by all pods of a node.
pub(crate) struct Objects {
    api: Arc<dyn Api>,
    maps: Shared<ConfigMap>,
    secrets: Shared<Secret>,
    services: Informer<Service>,
}

/// One object that is followed until nobody holds this any more.
pub(crate) struct Followed<K> {
    informer: Informer<K>,
    key: Key,
}

impl<K: Object> Followed<K> {
    /// The object as it is now, once it is known.
    async fn get(&self) -> Option<Arc<K>> {
        self.informer.synced().await;
        self.informer.cache().get(&self.key)
    }
}

/// What one pod uses. Its worker is woken when one of them changes.
pub(crate) struct Used {
    wake: Arc<Notify>,
    /// Tokens of the pod's account, by audience and life in seconds, and when each is to be made anew.
    pub tokens: HashMap<(String, i64), (String, jiff::Timestamp)>,
    maps: HashMap<Key, Arc<Followed<ConfigMap>>>,
    secrets: HashMap<Key, Arc<Followed<Secret>>>,
}

impl Used {
    pub fn new(wake: Arc<Notify>) -> Used {
        Used {
            wake,
            tokens: HashMap::new(),
            maps: HashMap::new(),
            secrets: HashMap::new(),
        }
    }

    pub async fn config_map(
        &mut self,
        objects: &Objects,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<ConfigMap>> {
        let key = Key::new(namespace, name);
        let followed = match self.maps.get(&key) {
            Some(followed) => followed.clone(),
            None => {
                let made = follow(&objects.api, &objects.maps, CONFIG_MAPS, &key, &self.wake);
                self.maps.insert(key, made.clone());
                made
            }
        };
        followed.get().await
    }

    pub async fn secret(
        &mut self,
        objects: &Objects,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Secret>> {
        let key = Key::new(namespace, name);
        let followed = match self.secrets.get(&key) {
            Some(followed) => followed.clone(),
            None => {
                let made = follow(&objects.api, &objects.secrets, SECRETS, &key, &self.wake);
                self.secrets.insert(key, made.clone());
                made
            }
        };
        followed.get().await
    }
}

fn follow<K: Object>(
    api: &Arc<dyn Api>,
    shared: &Shared<K>,
    resource: Resource,
    key: &Key,
    wake: &Arc<Notify>,
) -> Arc<Followed<K>> {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    shared.retain(|_, held| held.strong_count() > 0);
    let known = shared.get(key).and_then(Weak::upgrade);
    let followed = known.unwrap_or_else(|| {
        let query = Query {
            namespace: key.namespace.clone(),
            field_selector: format!("metadata.name={}", key.name),
            ..Query::all(resource)
        };
        let made = Arc::new(Followed {
            informer: Informer::start(api.clone(), query, Vec::new()),
            key: key.clone(),
        });
        shared.insert(key.clone(), Arc::downgrade(&made));
        made
    });
    let wake = Arc::downgrade(wake);
    followed.informer.listen(move |_| {
        if let Some(wake) = wake.upgrade() {
            wake.notify_one();
        }
    });
    followed
}

impl Objects {
    pub fn new(api: Arc<dyn Api>) -> Objects {
        let services = Informer::start(api.clone(), Query::all(SERVICES), Vec::new());
        Objects {
            api,
            maps: Mutex::default(),
            secrets: Mutex::default(),
            services,
        }
    }

    /// The Services that pods of a namespace are told of by their environment, the API's own included.
    pub async fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        self.services.synced().await;
        let cache = self.services.cache();
        let mut all = cache.in_namespace(namespace);
        if namespace != "default" {
            all.extend(cache.get(&Key::new("default", "kubernetes")));
        }
        all
    }
}
