//! Declared to actual: one controller a kind. Each reads the shared caches, decides, and writes what is missing.
//!
//! - [`run`] starts the informers ([`informers`]), then every controller of the table [`CONTROLLERS`].
//! - A controller is a queue of keys and a handler ([`work`]); handlers read [`context::Context`] and write through
//!   [`writes`]; what they just wrote and the caches don't show yet is remembered in [`expectations`].
//! - Nothing polls: the only timers are those that the specification has (back-off, `minReadySeconds`, deadlines).
//!
//! Must not know the API server's inside, nor nodes and containers.
#![forbid(unsafe_code)]
// The ground is laid before all that stands on it.
#![allow(dead_code)]

mod context;
mod deployments;
mod endpoints;
mod events;
mod expectations;
mod fingerprint;
mod freshness;
#[cfg(test)]
mod harness;
mod history;
mod informers;
mod node_ranges;
mod node_taints;
mod ownership;
mod percent;
mod pod_state;
mod pods;
mod replicas;
mod selector;
mod slices;
mod stateful_sets;
mod work;
mod writes;

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wharf_client::Api;

use crate::context::Context;
use crate::work::Task;

/// How controllers run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many keys of one controller are worked on at once.
    pub workers: usize,
    /// What nodes' pod ranges are cut from; empty: nodes get none.
    pub cluster_cidr: String,
    /// Bits of the range of one node.
    pub node_mask_bits: u8,
    /// Controllers that are not started, by name.
    pub disabled: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            workers: 8,
            cluster_cidr: "10.42.0.0/16".to_owned(),
            node_mask_bits: 24,
            disabled: Vec::new(),
        }
    }
}

/// Starts a controller: makes its queue, has it filled by the informers, and returns the work, which is not begun before
/// the caches are complete.
type Start = fn(Arc<Context>) -> Task;

/// Every controller by its name, as in the original's `--controllers`.
const CONTROLLERS: &[(&str, Start)] = &[
    ("deployment-controller", deployments::deployment),
    ("replicaset-controller", replicas::replica_set),
    (
        "replicationcontroller-controller",
        replicas::replication_controller,
    ),
    ("endpoints-controller", endpoints::endpoints),
    ("endpointslice-controller", slices::endpoint_slices),
    ("endpointslice-mirroring-controller", slices::mirroring),
    ("node-ipam-controller", node_ranges::node_ranges),
    ("node-lifecycle-controller", node_taints::node_taints),
    ("statefulset-controller", stateful_sets::stateful_set),
];

/// Runs the controllers until `stop`; what is under way then is given up at once: every step may be the last one.
pub async fn run(api: Arc<dyn Api>, options: Options, stop: CancellationToken) {
    let (context, events) = Context::new(api, options);
    let mut tasks = JoinSet::new();
    tasks.spawn(events);
    let all = async {
        context.informers.synced().await;
        for (name, start) in CONTROLLERS {
            if context.options.disabled.iter().any(|off| off == name) {
                continue;
            }
            tasks.spawn(start(context.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a controller ended");
            }
        }
    };
    tokio::select! {
        () = all => {}
        () = stop.cancelled() => {}
    }
}
