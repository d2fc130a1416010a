//! An API server in memory, without any of a server's rules: objects are what the test says.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wharf_client::{
    Answer, Api, Deletion, Error, ListRequest, Page, Patch, Query, Target, WatchEvent, WatchKind,
    WatchRequest, WatchStream,
};

type Sender = mpsc::UnboundedSender<wharf_client::Result<WatchEvent>>;

#[derive(Default)]
struct Inner {
    version: u64,
    objects: BTreeMap<(String, String, String), Value>,
    past: Vec<(u64, WatchKind, String, Value)>,
    watchers: Vec<(Query, Sender)>,
}

#[derive(Default)]
pub struct Memory(Mutex<Inner>);

fn names(object: &Value) -> (String, String) {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (text("namespace"), text("name"))
}

fn fits(query: &Query, plural: &str, object: &Value) -> bool {
    let (namespace, name) = names(object);
    let named = query.field_selector.strip_prefix("metadata.name=");
    query.resource.plural == plural
        && (query.namespace.is_empty() || query.namespace == namespace)
        && named.is_none_or(|wanted| wanted == name)
}

impl Inner {
    fn tell(&mut self, kind: WatchKind, plural: &str, object: &Value) {
        self.past
            .push((self.version, kind, plural.to_owned(), object.clone()));
        let event = || WatchEvent {
            kind,
            object: Bytes::from(object.to_string()),
        };
        self.watchers.retain(|(query, sender)| {
            !fits(query, plural, object) || sender.send(Ok(event())).is_ok()
        });
    }
}

impl Memory {
    /// Puts an object in, or in place of the one of that name.
    pub fn put(&self, plural: &str, mut object: Value) {
        let mut inner = self.0.lock().unwrap();
        inner.version += 1;
        object["metadata"]["resourceVersion"] = json!(inner.version.to_string());
        let (namespace, name) = names(&object);
        let key = (plural.to_owned(), namespace, name);
        let old = inner.objects.insert(key, object.clone());
        let kind = match old {
            Some(_) => WatchKind::Modified,
            None => WatchKind::Added,
        };
        inner.tell(kind, plural, &object);
    }

    pub fn remove(&self, plural: &str, namespace: &str, name: &str) {
        let mut inner = self.0.lock().unwrap();
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let mut object = inner.objects.remove(&key).unwrap();
        inner.version += 1;
        object["metadata"]["resourceVersion"] = json!(inner.version.to_string());
        inner.tell(WatchKind::Deleted, plural, &object);
    }

    pub fn find(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.0.lock().unwrap().objects.get(&key).cloned()
    }
}

fn refused(code: u16, message: &str) -> Error {
    Error::from_status(code, &json!({"code": code, "message": message}))
}

impl Api for Memory {
    fn list(&self, request: ListRequest) -> Answer<'_, Page> {
        let inner = self.0.lock().unwrap();
        let objects = inner.objects.iter();
        let fit = objects.filter(|((plural, _, _), object)| fits(&request.query, plural, object));
        let page = Page {
            resource_version: inner.version.to_string(),
            next: String::new(),
            items: fit
                .map(|(_, object)| Bytes::from(object.to_string()))
                .collect(),
        };
        Box::pin(async { Ok(page) })
    }

    fn watch(&self, request: WatchRequest) -> Answer<'_, WatchStream> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut inner = self.0.lock().unwrap();
        let since: u64 = request.resource_version.parse().unwrap();
        for (version, kind, plural, object) in &inner.past {
            if *version > since && fits(&request.query, plural, object) {
                let object = Bytes::from(object.to_string());
                let _ = sender.send(Ok(WatchEvent {
                    kind: *kind,
                    object,
                }));
            }
        }
        inner.watchers.push((request.query, sender));
        let stream = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        Box::pin(async { Ok(Box::pin(stream) as WatchStream) })
    }

    fn get(&self, target: Target) -> Answer<'_, Value> {
        let found = self.find(&target.resource.plural, &target.namespace, &target.name);
        Box::pin(async { found.ok_or_else(|| refused(404, "not found")) })
    }

    fn create(&self, target: Target, object: Value) -> Answer<'_, Value> {
        let (namespace, name) = names(&object);
        let known = self
            .find(&target.resource.plural, &namespace, &name)
            .is_some();
        if !known {
            self.put(&target.resource.plural, object.clone());
        }
        Box::pin(async move {
            match known {
                true => Err(refused(409, "already exists")),
                false => Ok(object),
            }
        })
    }

    fn update(&self, _: Target, _: Value) -> Answer<'_, Value> {
        Box::pin(async { Err(refused(405, "not allowed")) })
    }

    fn patch(&self, _: Target, _: Patch) -> Answer<'_, Value> {
        Box::pin(async { Err(refused(405, "not allowed")) })
    }

    fn delete(&self, _: Target, _: Deletion) -> Answer<'_, Value> {
        Box::pin(async { Err(refused(405, "not allowed")) })
    }
}

/// A service with one port `http`, 80 to 8080; `more` goes into its `spec`.
pub fn service(name: &str, address: &str, more: Value) -> Value {
    let mut spec = json!({
        "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": name}, "spec": spec})
}

/// Its endpoints at port 8080, all on this node.
pub fn slice(service: &str, addresses: &[std::net::IpAddr]) -> Value {
    let one = |address: &std::net::IpAddr| json!({"addresses": [address.to_string()], "nodeName": "one", "conditions": {"ready": true}});
    let endpoints: Vec<Value> = addresses.iter().map(one).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "namespace": "default", "name": format!("{service}-abc"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}
