//! What happened: the latest events are kept for who asks late, new ones go to who listens.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Mutex;

use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::index::{Entry, lock};
use crate::{Engine, Event, Labels};

const KEPT_MAX: usize = 1_000;
/// Events a slow listener may be behind before it loses some.
const BEHIND_MAX: usize = 4_096;

/// Kind of the events of pods and their containers.
pub const POD_KIND: &str = "pod-container";

/// The bus of an engine.
#[derive(Debug)]
pub(crate) struct Bus {
    kept: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
}

impl Bus {
    pub fn new() -> Bus {
        Bus {
            kept: Mutex::default(),
            sender: broadcast::Sender::new(BEHIND_MAX),
        }
    }

    /// Tells everybody.
    pub fn publish(&self, event: Event) {
        // Under the lock, so that who subscribes meanwhile gets it once: from the list or from the channel.
        let mut kept = lock(&self.kept);
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // Nobody listening is fine.
        let _ = self.sender.send(event);
    }

    /// Kept events from `since_ns` on (none without it), then new ones up to `until_ns`.
    pub fn stream(
        &self,
        since_ns: Option<i64>,
        until_ns: Option<i64>,
    ) -> Pin<Box<dyn Stream<Item = Event> + Send>> {
        let (past, receiver) = {
            let kept = lock(&self.kept);
            let wanted = |event: &&Event| since_ns.is_some_and(|since| event.time_ns >= since);
            let past: Vec<Event> = kept.iter().filter(wanted).cloned().collect();
            (past, self.sender.subscribe())
        };
        let new = stream::unfold(receiver, |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(event) => return Some((event, receiver)),
                    // Too slow: what was lost is lost, the rest goes on.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        match until_ns {
            None => Box::pin(stream::iter(past).chain(new)),
            Some(until_ns) => {
                let left_ns = until_ns.saturating_sub(now_ns()).max(0);
                let end =
                    tokio::time::sleep(std::time::Duration::from_nanos(left_ns.unsigned_abs()));
                let in_time =
                    move |event: &Event| futures_util::future::ready(event.time_ns <= until_ns);
                // The past is told whole, whatever the time is now.
                let new = new.take_until(end);
                Box::pin(stream::iter(past).chain(new).take_while(in_time))
            }
        }
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

impl Engine {
    /// An event of a container, with the attributes every one of them has: image, name, labels.
    pub(crate) fn container_event(&self, entry: &Entry, action: &str, further: &[(&str, String)]) {
        let kind;
        let attributes = {
            let record = entry.record();
            let mut attributes: Labels = record.spec.labels.clone();
            kind = match &record.spec.pod {
                Some(pod) => {
                    attributes.insert("sandbox".into(), pod.sandbox.clone());
                    POD_KIND
                }
                None => "container",
            };
            attributes.insert("image".into(), record.spec.image.clone());
            attributes.insert("name".into(), record.name.clone());
            attributes.extend(
                further
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), value.clone())),
            );
            attributes
        };
        self.emit(kind, action, &entry.id, attributes);
    }

    /// Any event, now.
    pub(crate) fn emit(&self, kind: &str, action: &str, id: &str, attributes: Labels) {
        self.publish(Event {
            kind: kind.into(),
            action: action.into(),
            id: id.into(),
            attributes,
            time_ns: now_ns(),
        });
    }
}
