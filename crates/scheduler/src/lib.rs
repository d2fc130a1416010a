//! Pod to node: which node takes a pod, which is best, and why none does.
//!
//! - [`run`] follows the API (`follow`), feeds changes to the `core`, and writes what comes out (`write`, `events`).
//! - The `world` holds nodes and pods as numbers in arrays; the `tally` keeps sums of pods by node and by domain, so
//!   that a decision reads sums. Both change with events, never by looking at everything again.
//! - A decision (`decide`) prepares a `plan`, checks nodes until enough take the pod, and compares those (`score`).
//!   When none does, others may have to leave (`preempt`); else the pod waits in the `queue` for the event that can
//!   help (`hint`).
//! - [`explain`] says of every node why it does not take a pod, and of a pod where it stands.
//!
//! Decide, assume, go on; the binding is written meanwhile, and what the server does not take is undone.
//! Must not know the API server's inside.
#![forbid(unsafe_code)]

mod amounts;
mod core;
mod decide;
mod events;
mod explain;
mod follow;
mod hint;
mod node;
mod plan;
mod pod;
mod preempt;
mod queue;
mod refusal;
mod score;
mod selector;
mod symbol;
mod tally;
#[cfg(test)]
mod tests;
mod volumes;
mod workloads;
mod world;
mod write;

use std::sync::Arc;

use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wharf_client::Api;

pub use explain::{Explanation, NodeVerdict, Stand, explain};
pub use score::Weights;

use crate::core::{Change, Core};
use crate::follow::Senses;
use crate::write::Writer;

/// Decisions after which others get their turn on the thread.
const DECISIONS_AT_ONCE: usize = 16;

/// One way of choosing, for the pods that ask for it by `spec.schedulerName`.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The name.
    pub name: String,
    /// What counts how much.
    pub weights: Weights,
}

/// How the scheduler runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Pods that name none of these are left to others.
    pub profiles: Vec<Profile>,
    /// What stands in events as who wrote them.
    pub instance: String,
}

impl Default for Options {
    fn default() -> Options {
        let profile = Profile {
            name: "default-scheduler".to_owned(),
            weights: Weights::default(),
        };
        Options {
            profiles: vec![profile],
            instance: "default-scheduler".to_owned(),
        }
    }
}

/// Runs the scheduler until `stop`; what is under way then is given up: every step may be the last one.
pub async fn run(api: Arc<dyn Api>, options: Options, stop: CancellationToken) {
    let (sender, changes) = mpsc::unbounded_channel();
    let senses = Senses::start(&api, &sender);
    let (recorder, recording) = events::channel(api.clone(), &options.instance);
    let profiles = options.profiles.into_iter();
    let profiles = profiles.map(|one| (one.name, one.weights)).collect();
    let core = Core::new(profiles, seed());
    let writer = Writer::new(api, recorder, sender);
    let work = async {
        senses.synced().await;
        schedule(core, writer, changes).await;
    };
    tokio::select! {
        () = work => {}
        () = recording => {}
        () = stop.cancelled() => {}
    }
}

/// Where the lots among equal nodes begin: two schedulers need not choose alike.
fn seed() -> u64 {
    let now = jiff::Timestamp::now().as_nanosecond();
    u64::try_from(now & i128::from(u64::MAX)).unwrap_or(1)
}

async fn schedule(mut core: Core, writer: Writer, mut changes: UnboundedReceiver<Change>) {
    let mut decisions = 0;
    loop {
        while let Ok(change) = changes.try_recv() {
            core.apply(change, Instant::now());
        }
        if let Some(act) = core.step(Instant::now()) {
            writer.begin(act).await;
            decisions += 1;
            if decisions % DECISIONS_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
            continue;
        }
        let due = core.queue.due();
        let until = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = changes.recv() => match change {
                Some(change) => core.apply(change, Instant::now()),
                None => return,
            },
            () = until => {}
        }
    }
}
