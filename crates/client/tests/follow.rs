//! Informers and electors against a server that does what servers do: forgets, breaks off, is quicker.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wharf_client::{
    Answer, Api, Deletion, Elector, Error, Event, Informer, Key, ListRequest, Object, Page, Patch,
    Query, Resource, Result, Target, Timing, WatchEvent, WatchKind, WatchRequest, WatchStream,
};

const MAPS: Resource = Resource::new("", "v1", "configmaps");

fn map(name: &str, version: u64, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"value": value},
        "metadata": {"name": name, "namespace": "a", "resourceVersion": version.to_string()}})
}

fn bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

fn expired() -> Error {
    Error::from_status(
        410,
        &json!({"code": 410, "reason": "Expired", "message": "too old resource version"}),
    )
}

/// Answers by what the test says: listings one after the other, and watches that the test feeds.
#[derive(Default)]
struct Script {
    listings: Mutex<VecDeque<(u64, Vec<Value>)>>,
    watches: Mutex<VecDeque<mpsc::Receiver<Result<WatchEvent>>>>,
    asked: Mutex<Vec<String>>,
    lease: Mutex<Option<Value>>,
    unreachable: Mutex<bool>,
}

impl Script {
    fn listing(&self, version: u64, items: &[Value]) {
        self.listings
            .lock()
            .unwrap()
            .push_back((version, items.to_vec()));
    }

    fn watch(&self) -> mpsc::Sender<Result<WatchEvent>> {
        let (sender, receiver) = mpsc::channel(16);
        self.watches.lock().unwrap().push_back(receiver);
        sender
    }

    fn check(&self) -> Result<()> {
        if *self.unreachable.lock().unwrap() {
            let source = std::io::Error::other("no route");
            let operation = "ask".to_owned();
            return Err(Error::Unreachable {
                operation,
                source: source.into(),
            });
        }
        Ok(())
    }

    fn write(&self, object: Value, expects: Option<&Value>) -> Result<Value> {
        self.check()?;
        let mut lease = self.lease.lock().unwrap();
        let current = lease
            .as_ref()
            .map(|lease| lease["metadata"]["resourceVersion"].clone());
        if current.as_ref() != expects {
            return Err(Error::from_status(409, &json!({"reason": "Conflict"})));
        }
        let number = current
            .and_then(|v| v.as_str()?.parse().ok())
            .unwrap_or(0_u64)
            + 1;
        let mut object = object;
        object["metadata"]["resourceVersion"] = json!(number.to_string());
        *lease = Some(object.clone());
        Ok(object)
    }
}

impl Api for Script {
    fn list(&self, request: ListRequest) -> Answer<'_, Page> {
        self.asked
            .lock()
            .unwrap()
            .push(format!("list {}", request.from));
        let next = self.listings.lock().unwrap().pop_front();
        Box::pin(async move {
            let Some((version, items)) = next else {
                return std::future::pending().await;
            };
            // Pages of two.
            let mut items = items;
            let rest = items.split_off(items.len().min(2));
            let next = if rest.is_empty() { "" } else { "more" };
            if !rest.is_empty() {
                self.listings.lock().unwrap().push_front((version, rest));
            }
            let items = items.iter().map(bytes).collect();
            Ok(Page {
                resource_version: version.to_string(),
                next: next.to_owned(),
                items,
            })
        })
    }

    fn watch(&self, request: WatchRequest) -> Answer<'_, WatchStream> {
        self.asked
            .lock()
            .unwrap()
            .push(format!("watch {}", request.resource_version));
        let next = self.watches.lock().unwrap().pop_front();
        Box::pin(async move {
            let Some(receiver) = next else {
                return std::future::pending().await;
            };
            let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
                receiver.recv().await.map(|event| (event, receiver))
            });
            Ok(stream.boxed() as WatchStream)
        })
    }

    fn get(&self, _: Target) -> Answer<'_, Value> {
        let found = self.lease.lock().unwrap().clone();
        Box::pin(async move {
            self.check()?;
            found.ok_or_else(|| Error::from_status(404, &json!({"reason": "NotFound"})))
        })
    }

    fn create(&self, target: Target, object: Value) -> Answer<'_, Value> {
        assert!(target.name.is_empty());
        let outcome = self.write(object, None);
        Box::pin(async move { outcome })
    }

    fn update(&self, _: Target, object: Value) -> Answer<'_, Value> {
        let version = object["metadata"]["resourceVersion"].clone();
        let outcome = self.write(object, Some(&version));
        Box::pin(async move { outcome })
    }

    fn patch(&self, _: Target, _: Patch) -> Answer<'_, Value> {
        unreachable!("nobody patches here")
    }

    fn delete(&self, _: Target, _: Deletion) -> Answer<'_, Value> {
        unreachable!("nobody deletes here")
    }
}

/// An informer whose events come as lines.
fn follow(script: &Arc<Script>) -> (Informer<ConfigMap>, mpsc::UnboundedReceiver<String>) {
    let informer = Informer::start(script.clone(), Query::all(MAPS), Vec::new());
    let (tell, told) = mpsc::unbounded_channel();
    informer.listen(move |event: &Event<ConfigMap>| {
        let line = match event {
            Event::Applied { old: None, new } => format!("+{}", new.key()),
            Event::Applied { new, .. } => format!("~{}@{}", new.key(), new.resource_version()),
            Event::Deleted(old) => format!("-{}", old.key()),
        };
        let _ = tell.send(line);
    });
    (informer, told)
}

async fn lines(told: &mut mpsc::UnboundedReceiver<String>, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..count {
        lines.push(told.recv().await.unwrap());
    }
    lines
}

fn event(kind: WatchKind, object: &Value) -> Result<WatchEvent> {
    Ok(WatchEvent {
        kind,
        object: bytes(object),
    })
}

#[tokio::test(start_paused = true)]
async fn an_informer_lists_watches_and_resumes() {
    let script = Arc::new(Script::default());
    script.listing(
        7,
        &[map("one", 1, ""), map("two", 2, ""), map("three", 3, "")],
    );
    let (first, second) = (script.watch(), script.watch());
    let (informer, mut told) = follow(&script);
    informer.synced().await;
    assert_eq!(informer.cache().len(), 3);
    assert_eq!(lines(&mut told, 3).await, ["+a/one", "+a/two", "+a/three"]);

    first
        .send(event(WatchKind::Modified, &map("two", 8, "x")))
        .await
        .unwrap();
    first
        .send(event(WatchKind::Deleted, &map("one", 9, "")))
        .await
        .unwrap();
    let mark = json!({"metadata": {"resourceVersion": "20"}});
    first.send(event(WatchKind::Bookmark, &mark)).await.unwrap();
    drop(first);
    assert_eq!(lines(&mut told, 2).await, ["~a/two@8", "-a/one"]);
    second
        .send(event(WatchKind::Added, &map("four", 21, "")))
        .await
        .unwrap();
    assert_eq!(lines(&mut told, 1).await, ["+a/four"]);
    assert!(informer.cache().get(&Key::new("a", "one")).is_none());
    let asked = script.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        ["list ", "list more", "watch 7", "watch 20"],
        "a bookmark is as far as it got"
    );
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_past_is_listed_again() {
    let script = Arc::new(Script::default());
    script.listing(
        3,
        &[map("gone", 1, ""), map("kept", 2, ""), map("new", 3, "")],
    );
    let (first, _second) = (script.watch(), script.watch());
    let (informer, mut told) = follow(&script);
    informer.synced().await;
    lines(&mut told, 3).await;
    // What happened while nobody looked: one is gone, one is another, one is as it was.
    script.listing(90, &[map("kept", 2, ""), map("new", 80, "y")]);
    first.send(Err(expired())).await.unwrap();
    assert_eq!(lines(&mut told, 2).await, ["~a/new@80", "-a/gone"]);
    assert!(
        told.try_recv().is_err(),
        "what is as it was is not told again"
    );

    let late = Arc::new(Mutex::new(0));
    let count = late.clone();
    informer.listen(move |_| *count.lock().unwrap() += 1);
    assert_eq!(
        *late.lock().unwrap(),
        2,
        "who comes late hears of everything there is"
    );
}

fn candidate(script: &Arc<Script>, identity: &str) -> Elector {
    Elector::new(
        script.clone(),
        "kube-system",
        "controllers",
        identity,
        Timing::default(),
    )
}

fn holder(script: &Script) -> (Value, Value) {
    let lease = script.lease.lock().unwrap().clone().unwrap();
    (
        lease["spec"]["holderIdentity"].clone(),
        lease["spec"]["leaseTransitions"].clone(),
    )
}

#[tokio::test(start_paused = true)]
async fn one_leads_until_it_resigns() {
    let script = Arc::new(Script::default());
    let lead = candidate(&script, "one").campaign().await;
    let other = tokio::spawn(candidate(&script, "two").campaign());
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(
        !other.is_finished(),
        "a lease that is renewed does not run out"
    );
    assert_eq!(holder(&script), (json!("one"), json!(0)));
    lead.resign().await;
    let began = tokio::time::Instant::now();
    let _second = other.await.unwrap();
    assert!(
        began.elapsed() <= Duration::from_secs(2),
        "nobody waits for the lease to run out"
    );
    assert_eq!(holder(&script), (json!("two"), json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_can_not_renew_stops_before_others_start() {
    let script = Arc::new(Script::default());
    let lead = candidate(&script, "one").campaign().await;
    let began = tokio::time::Instant::now();
    *script.unreachable.lock().unwrap() = true;
    lead.lost().await;
    let lasted = began.elapsed();
    assert!(lasted <= Duration::from_secs(12), "{lasted:?}");

    *script.unreachable.lock().unwrap() = false;
    let _second = candidate(&script, "two").campaign().await;
    let taken = began.elapsed();
    assert!(
        taken >= Duration::from_secs(15),
        "the lease was waited for: {taken:?}"
    );
    assert_eq!(holder(&script), (json!("two"), json!(1)));
}
