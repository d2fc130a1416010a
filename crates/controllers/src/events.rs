//! Events: what controllers tell people of their objects. Written in the background, alike ones counted instead of
//! written again, floods dammed, with client-go's numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wharf_client::{Key, Patch};

use crate::work::Task;
use crate::writes::{Kind, Writes};

/// All is well.
pub(crate) const NORMAL: &str = "Normal";
/// Something a person may want to see to.
pub(crate) const WARNING: &str = "Warning";

/// Events that wait to be written; what comes while there are so many is lost.
const WAITING_MAX: usize = 4096;
/// Objects and events that are remembered.
const REMEMBERED_MAX: usize = 4096;
/// Different messages of one reason within the window, from which on they are told as one.
const ALIKE_MAX: usize = 10;
const ALIKE_WINDOW: Duration = Duration::from_secs(600);
/// Events of one object at once, and seconds until one more may come.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// Hands out recorders.
pub(crate) struct Source(mpsc::Sender<Told>);

/// Records in the name of one component. Never waits.
#[derive(Clone)]
pub(crate) struct Recorder {
    component: &'static str,
    sender: mpsc::Sender<Told>,
}

struct Told {
    component: &'static str,
    about: ObjectReference,
    kind: &'static str,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// A way to record, and the task that writes.
pub(crate) fn channel(writes: Writes) -> (Source, Task) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Source(sender), Box::pin(write_all(writes, receiver)))
}

impl Source {
    pub(crate) fn recorder(&self, component: &'static str) -> Recorder {
        Recorder {
            component,
            sender: self.0.clone(),
        }
    }
}

impl Recorder {
    /// Tells something of an object.
    pub(crate) fn event<K: Kind>(
        &self,
        object: &K,
        kind: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let meta = object.meta();
        let about = ObjectReference {
            api_version: Some(K::API_VERSION.to_owned()),
            kind: Some(K::KIND.to_owned()),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            resource_version: meta.resource_version.clone(),
            uid: meta.uid.clone(),
            field_path: None,
        };
        self.event_of(about, kind, reason, message);
    }

    /// Tells something of what a reference names.
    pub(crate) fn event_of(
        &self,
        about: ObjectReference,
        kind: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let told = Told {
            component: self.component,
            about,
            kind,
            reason,
            message: message.into(),
            at: Timestamp::now(),
        };
        // Events are for people; losing one when there are thousands is better than waiting.
        let _ = self.sender.try_send(told);
    }
}

async fn write_all(writes: Writes, mut receiver: mpsc::Receiver<Told>) {
    let mut memory = Memory::default();
    while let Some(told) = receiver.recv().await {
        let Some(wanted) = memory.take(told, Instant::now()) else {
            continue;
        };
        let written = match &wanted.seen {
            Some(seen) => count(&writes, &wanted.event, seen).await,
            None => writes.create(&wanted.event).await,
        };
        let written = match written {
            // It lived its hour.
            Err(error) if wanted.seen.is_some() && error.is_not_found() => {
                writes.create(&wanted.event).await
            }
            written => written,
        };
        match written {
            Ok(event) => memory.wrote(wanted.place, &event),
            Err(error) => tracing::debug!(error = error.chain(), "an event is lost"),
        }
    }
}

async fn count(writes: &Writes, event: &Event, seen: &Seen) -> Result<Event, crate::writes::Error> {
    let change = json!({
        "count": seen.count + 1,
        "lastTimestamp": event.last_timestamp,
        "message": event.message,
    });
    writes.patch(&seen.key, Patch::Merge(change)).await
}

/// What was told before.
#[derive(Default)]
struct Memory {
    written: BTreeMap<String, Seen>,
    alike: BTreeMap<String, Alike>,
    buckets: BTreeMap<String, Bucket>,
}

#[derive(Clone)]
struct Seen {
    key: Key,
    count: i32,
    first: Option<Time>,
}

struct Alike {
    messages: BTreeSet<String>,
    last: Instant,
}

struct Bucket {
    left: f64,
    at: Instant,
}

struct Wanted {
    event: Event,
    /// Where it is remembered.
    place: String,
    /// As it was written before.
    seen: Option<Seen>,
}

impl Memory {
    /// What is to be written for something told; nothing where there is a flood.
    fn take(&mut self, told: Told, now: Instant) -> Option<Wanted> {
        self.forget_much();
        let object = format!(
            "{}/{:?}/{:?}/{:?}/{:?}",
            told.component, told.about.kind, told.about.namespace, told.about.name, told.about.uid
        );
        let group = format!("{object}/{}/{}", told.kind, told.reason);
        let (place, message) = self.gather(group, told.message.clone(), now);
        let bucket = self.buckets.entry(object).or_insert(Bucket {
            left: BURST,
            at: now,
        });
        if !bucket.take(now) {
            return None;
        }
        let seen = self.written.get(&place).cloned();
        let event = event(told, message, seen.as_ref());
        Some(Wanted { event, place, seen })
    }

    /// Many different messages of one reason become one event.
    fn gather(&mut self, group: String, message: String, now: Instant) -> (String, String) {
        let alike = self.alike.entry(group.clone()).or_insert_with(|| Alike {
            messages: BTreeSet::new(),
            last: now,
        });
        if now.duration_since(alike.last) > ALIKE_WINDOW {
            alike.messages.clear();
        }
        alike.last = now;
        alike.messages.insert(message.clone());
        if alike.messages.len() < ALIKE_MAX {
            return (format!("{group}/{message}"), message);
        }
        // Enough of them to know: more need no room.
        alike.messages.pop_first();
        alike.messages.insert(message.clone());
        (group, format!("(combined from similar events): {message}"))
    }

    fn wrote(&mut self, place: String, event: &Event) {
        let meta = &event.metadata;
        let seen = Seen {
            key: Key::new(
                meta.namespace.as_deref().unwrap_or_default(),
                meta.name.as_deref().unwrap_or_default(),
            ),
            count: event.count.unwrap_or(1),
            first: event.first_timestamp.clone(),
        };
        self.written.insert(place, seen);
    }

    fn forget_much(&mut self) {
        if self.written.len() > REMEMBERED_MAX {
            self.written.clear();
        }
        if self.alike.len() > REMEMBERED_MAX {
            self.alike.clear();
        }
        if self.buckets.len() > REMEMBERED_MAX {
            self.buckets.clear();
        }
    }
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let waited = now.duration_since(self.at).as_secs_f64();
        self.left = (self.left + waited / REFILL_SECONDS).min(BURST);
        self.at = now;
        let is_open = self.left >= 1.0;
        if is_open {
            self.left -= 1.0;
        }
        is_open
    }
}

fn event(told: Told, message: String, seen: Option<&Seen>) -> Event {
    let name = told.about.name.clone().unwrap_or_default();
    let namespace = match &told.about.namespace {
        Some(namespace) if !namespace.is_empty() => namespace.clone(),
        _ => "default".to_owned(),
    };
    let at = Time(told.at);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", told.at.as_nanosecond())),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        involved_object: told.about,
        type_: Some(told.kind.to_owned()),
        reason: Some(told.reason.to_owned()),
        message: Some(message),
        count: Some(seen.map_or(1, |seen| seen.count + 1)),
        first_timestamp: seen
            .and_then(|seen| seen.first.clone())
            .or(Some(at.clone())),
        last_timestamp: Some(at),
        source: Some(EventSource {
            component: Some(told.component.to_owned()),
            host: None,
        }),
        reporting_component: Some(told.component.to_owned()),
        reporting_instance: Some(String::new()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(message: &str) -> Told {
        Told {
            component: "test",
            about: ObjectReference {
                name: Some("web".to_owned()),
                namespace: Some("default".to_owned()),
                ..ObjectReference::default()
            },
            kind: NORMAL,
            reason: "Tested",
            message: message.to_owned(),
            at: Timestamp::now(),
        }
    }

    #[test]
    fn the_same_is_counted() {
        let mut memory = Memory::default();
        let first = memory.take(told("a"), Instant::now()).unwrap();
        assert!(first.seen.is_none());
        memory.wrote(first.place, &first.event);
        let second = memory.take(told("a"), Instant::now()).unwrap();
        assert_eq!(second.seen.unwrap().count, 1);
        assert_eq!(second.event.count, Some(2));
        assert_eq!(second.event.first_timestamp, first.event.first_timestamp);
        assert!(
            memory
                .take(told("b"), Instant::now())
                .unwrap()
                .seen
                .is_none()
        );
    }

    #[test]
    fn many_are_told_as_one_and_a_flood_is_dammed() {
        let mut memory = Memory::default();
        let now = Instant::now();
        let mut places = BTreeSet::new();
        let mut last = String::new();
        for n in 0..25 {
            let wanted = memory.take(told(&format!("made {n}")), now).unwrap();
            places.insert(wanted.place.clone());
            last = wanted.event.message.clone().unwrap();
            memory.wrote(wanted.place, &wanted.event);
        }
        assert_eq!(places.len(), 10, "nine alone, the rest as one");
        assert_eq!(last, "(combined from similar events): made 24");
        assert!(memory.take(told("one more"), now).is_none());
        let later = now + Duration::from_secs(301);
        assert!(memory.take(told("one more"), later).is_some());
    }
}
