//! What happens to pods and their containers, as a stream.

use futures_util::StreamExt;
use tonic::Status;
use wharf_engine::{Engine, Event, POD_KIND};

use super::Local;
use crate::{Answers, v1};

/// Attribute of an event: the sandbox it belongs to.
const SANDBOX: &str = "sandbox";

pub(super) fn now_ns() -> i64 {
    super::container_status::ns(jiff::Timestamp::now())
}

/// Tells of a sandbox what the engine tells of its containers.
pub(super) fn tell(engine: &Engine, action: &str, id: &str, sandbox: &str) {
    engine.publish(Event {
        kind: POD_KIND.to_owned(),
        action: action.to_owned(),
        id: id.to_owned(),
        attributes: [(SANDBOX.to_owned(), sandbox.to_owned())].into(),
        time_ns: now_ns(),
    });
}

fn kind(action: &str) -> Option<v1::ContainerEventType> {
    match action {
        "create" => Some(v1::ContainerEventType::ContainerCreatedEvent),
        "start" => Some(v1::ContainerEventType::ContainerStartedEvent),
        "die" => Some(v1::ContainerEventType::ContainerStoppedEvent),
        "destroy" => Some(v1::ContainerEventType::ContainerDeletedEvent),
        _ => None,
    }
}

impl Local {
    pub(super) async fn get_container_events(
        &self,
        _request: v1::GetEventsRequest,
    ) -> Result<Answers<v1::ContainerEventResponse>, Status> {
        let local = self.clone();
        let events = self.inner.engine.pod_events();
        Ok(Box::pin(events.filter_map(move |event| {
            let answer = local.answer(&event);
            std::future::ready(answer.map(Ok))
        })))
    }

    fn answer(&self, event: &Event) -> Option<v1::ContainerEventResponse> {
        let kind = kind(&event.action)?;
        let sandbox = event.attributes.get(SANDBOX)?;
        let pod = self.find_pod(sandbox).ok();
        let statuses = pod.as_ref().map(|pod| {
            let containers = self.containers_of(&pod.id);
            containers.iter().map(|c| self.status_of(c)).collect()
        });
        Some(v1::ContainerEventResponse {
            container_id: event.id.clone(),
            container_event_type: kind.into(),
            created_at: event.time_ns,
            pod_sandbox_status: pod.map(|pod| self.status_of_pod(&pod)),
            containers_statuses: statuses.unwrap_or_default(),
        })
    }
}
