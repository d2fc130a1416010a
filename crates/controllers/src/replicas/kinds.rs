//! What the two kinds call the same things.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition,
    ReplicationControllerSpec, ReplicationControllerStatus,
};
use std::sync::Arc;
use wharf_client::Informer;

use super::Replicated;
use super::status::{Condition, Status};
use crate::context::Context;
use crate::informers::Informers;
use crate::selector::{Labels, is_empty, selects, selects_map};
use crate::work::Task;

/// Keeps the pods of ReplicaSets.
pub(crate) fn replica_set(context: Arc<Context>) -> Task {
    super::start::<ReplicaSet>(context)
}

/// Keeps the pods of ReplicationControllers.
pub(crate) fn replication_controller(context: Arc<Context>) -> Task {
    super::start::<ReplicationController>(context)
}

/// Zero is left out, as in the original's JSON.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

impl Replicated for ReplicaSet {
    const COMPONENT: &'static str = "replicaset-controller";

    fn informer(informers: &Informers) -> &Informer<Self> {
        &informers.replica_sets
    }

    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    fn selects(&self, labels: Option<&Labels>) -> bool {
        !is_empty(&self.spec.selector) && selects(&self.spec.selector, labels)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.template.as_ref()
    }

    fn status(&self) -> Status {
        let status = self.status.clone().unwrap_or_default();
        Status {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: status.terminating_replicas,
            observed_generation: status.observed_generation,
            conditions: status
                .conditions
                .into_iter()
                .flatten()
                .map(|one| Condition {
                    type_: one.type_.unwrap_or_default(),
                    status: one.status.unwrap_or_default(),
                    reason: one.reason,
                    message: one.message,
                    last_transition_time: one.last_transition_time,
                })
                .collect(),
        }
    }

    fn set_status(&mut self, status: Status) {
        let conditions = status
            .conditions
            .into_iter()
            .map(|one| ReplicaSetCondition {
                type_: Some(one.type_),
                status: Some(one.status),
                reason: one.reason,
                message: one.message,
                last_transition_time: one.last_transition_time,
            });
        let conditions: Vec<_> = conditions.collect();
        self.status = Some(ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: some(status.fully_labeled),
            ready_replicas: some(status.ready),
            available_replicas: some(status.available),
            terminating_replicas: status.terminating,
            observed_generation: status.observed_generation,
            conditions: (!conditions.is_empty()).then_some(conditions),
        });
    }
}

impl Replicated for ReplicationController {
    const COMPONENT: &'static str = "replication-controller";

    fn informer(informers: &Informers) -> &Informer<Self> {
        &informers.replication_controllers
    }

    fn replicas(&self) -> i32 {
        let spec = self.spec.as_ref();
        spec.map_or(0, |spec| spec.replicas.unwrap_or(1))
    }

    fn min_ready_seconds(&self) -> i32 {
        let spec = self.spec.as_ref();
        spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn selects(&self, labels: Option<&Labels>) -> bool {
        let spec = self.spec.as_ref();
        selects_map(spec.and_then(|spec| spec.selector.as_ref()), labels)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec
            .as_ref()
            .and_then(|spec: &ReplicationControllerSpec| spec.template.as_ref())
    }

    fn status(&self) -> Status {
        let status = self.status.clone().unwrap_or_default();
        Status {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: None,
            observed_generation: status.observed_generation,
            conditions: status
                .conditions
                .into_iter()
                .flatten()
                .map(|one| Condition {
                    type_: one.type_,
                    status: one.status,
                    reason: one.reason,
                    message: one.message,
                    last_transition_time: one.last_transition_time,
                })
                .collect(),
        }
    }

    fn set_status(&mut self, status: Status) {
        let conditions = status
            .conditions
            .into_iter()
            .map(|one| ReplicationControllerCondition {
                type_: one.type_,
                status: one.status,
                reason: one.reason,
                message: one.message,
                last_transition_time: one.last_transition_time,
            });
        let conditions: Vec<_> = conditions.collect();
        self.status = Some(ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: some(status.fully_labeled),
            ready_replicas: some(status.ready),
            available_replicas: some(status.available),
            observed_generation: status.observed_generation,
            conditions: (!conditions.is_empty()).then_some(conditions),
        });
    }
}
