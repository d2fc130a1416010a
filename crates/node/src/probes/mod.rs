//! Probes of running containers. Each container has a task; a verdict that changes wakes the pod's worker.

pub(crate) mod grpc;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::Node;
use crate::decide::Verdicts;
use crate::handlers::{self, Place};
use crate::part::{self, Part};
use crate::seen::Seen;

/// What is known of one run of a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Health {
    pub started: bool,
    pub ready: bool,
    /// Why it has to go.
    failed: Option<String>,
}

type Known = Arc<Mutex<HashMap<String, Health>>>;

/// The probes of a pod; they end with it.
pub(crate) struct Probes {
    known: Known,
    tasks: HashMap<String, JoinHandle<()>>,
    wake: Arc<Notify>,
}

impl Drop for Probes {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

fn lock(known: &Known) -> MutexGuard<'_, HashMap<String, Health>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Probes {
    pub fn new(wake: Arc<Notify>) -> Probes {
        Probes {
            known: Known::default(),
            tasks: HashMap::new(),
            wake,
        }
    }

    /// Begins with what runs, ends with what does not.
    pub fn follow(&mut self, node: &Arc<Node>, pod: &Pod, parts: &[Part], seen: &Seen) {
        let running: HashSet<&str> = seen.running().map(|attempt| attempt.id()).collect();
        self.tasks.retain(|id, task| {
            let keep = running.contains(id.as_str());
            if !keep {
                task.abort();
            }
            keep
        });
        lock(&self.known).retain(|id, _| running.contains(id.as_str()));
        for attempt in seen.running() {
            if self.tasks.contains_key(attempt.id()) {
                continue;
            }
            let Some(part) = parts.iter().find(|part| part.name() == attempt.name()) else {
                continue;
            };
            let container = &part.container;
            let was_ready = was_ready(pod, attempt.id());
            let health = Health {
                started: container.startup_probe.is_none() || was_ready,
                ready: container.readiness_probe.is_none() || was_ready,
                failed: None,
            };
            lock(&self.known).insert(attempt.id().to_owned(), health.clone());
            let task = Task {
                node: node.clone(),
                pod: pod.clone(),
                place: Place {
                    container: container.clone(),
                    id: attempt.id().to_owned(),
                    ip: address(node, pod, seen),
                },
                known: self.known.clone(),
                wake: self.wake.clone(),
            };
            let handle = tokio::spawn(task.run(health.started));
            self.tasks.insert(attempt.id().to_owned(), handle);
        }
    }

    /// What is known of a run.
    pub fn health(&self, id: &str) -> Health {
        lock(&self.known).get(id).cloned().unwrap_or_default()
    }

    /// What they mean for the decision.
    pub fn verdicts(&self) -> Verdicts {
        let known = lock(&self.known);
        let failed = known
            .iter()
            .filter_map(|(id, health)| Some((id.clone(), health.failed.clone()?)));
        let starting = known.iter().filter(|(_, health)| !health.started);
        Verdicts {
            failed: failed.collect(),
            starting: starting.map(|(id, _)| id.clone()).collect(),
        }
    }
}

/// Whom probes connect to.
pub(crate) fn address(node: &Node, pod: &Pod, seen: &Seen) -> String {
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    match seen.ips.first() {
        Some(ip) if !host_network => ip.clone(),
        _ => node.options.address(),
    }
}

/// What the API was told of this very run before this process began.
fn was_ready(pod: &Pod, id: &str) -> bool {
    let status = pod.status.as_ref();
    let own = status.and_then(|status| status.container_statuses.as_ref());
    let sidecars = status.and_then(|status| status.init_container_statuses.as_ref());
    own.into_iter().chain(sidecars).flatten().any(|status| {
        status.ready
            && status
                .container_id
                .as_deref()
                .is_some_and(|full| full.ends_with(id))
    })
}

struct Task {
    node: Arc<Node>,
    pod: Pod,
    place: Place,
    known: Known,
    wake: Arc<Notify>,
}

impl Task {
    async fn run(self, started: bool) {
        let container: Container = self.place.container.clone();
        if let Some(probe) = container.startup_probe.as_ref().filter(|_| !started) {
            self.startup(probe).await;
        }
        tokio::join!(
            async {
                if let Some(probe) = &container.liveness_probe {
                    self.liveness(probe).await;
                }
            },
            async {
                if let Some(probe) = &container.readiness_probe {
                    self.readiness(probe).await;
                }
            }
        );
    }

    fn change(&self, change: impl FnOnce(&mut Health)) {
        let mut known = lock(&self.known);
        let Some(health) = known.get_mut(&self.place.id) else {
            return;
        };
        let before = health.clone();
        change(health);
        if *health != before {
            self.wake.notify_one();
        }
    }

    async fn once(&self, kind: &str, probe: &Probe) -> bool {
        match handlers::probe(&self.node, &self.place, probe).await {
            Ok(()) => true,
            Err(words) => {
                let message = format!("{kind} probe failed: {words}");
                let container = Some(self.place.container.name.as_str());
                self.node
                    .recorder
                    .warning(&self.pod, container, "Unhealthy", message);
                false
            }
        }
    }

    /// Until it succeeded once.
    async fn startup(&self, probe: &Probe) {
        pause(probe.initial_delay_seconds.unwrap_or(0)).await;
        let mut failures = 0;
        loop {
            if self.once("Startup", probe).await {
                self.change(|health| health.started = true);
                return;
            }
            failures += 1;
            if failures >= probe.failure_threshold.unwrap_or(3) {
                self.fail("startup");
                std::future::pending::<()>().await;
            }
            pause(probe.period_seconds.unwrap_or(10)).await;
        }
    }

    async fn liveness(&self, probe: &Probe) {
        pause(probe.initial_delay_seconds.unwrap_or(0)).await;
        let mut failures = 0;
        loop {
            match self.once("Liveness", probe).await {
                true => failures = 0,
                false => failures += 1,
            }
            if failures >= probe.failure_threshold.unwrap_or(3) {
                self.fail("liveness");
                return;
            }
            pause(probe.period_seconds.unwrap_or(10)).await;
        }
    }

    fn fail(&self, kind: &str) {
        let name = part::name(&self.pod);
        tracing::debug!(
            pod = name,
            container = self.place.container.name,
            kind,
            "a probe failed"
        );
        let words = format!(
            "Container {} failed {kind} probe, will be restarted",
            self.place.container.name
        );
        self.change(|health| health.failed = Some(words));
    }

    async fn readiness(&self, probe: &Probe) {
        pause(probe.initial_delay_seconds.unwrap_or(0)).await;
        let (mut good, mut bad) = (0, 0);
        loop {
            match self.once("Readiness", probe).await {
                true => (good, bad) = (good + 1, 0),
                false => (good, bad) = (0, bad + 1),
            }
            if good >= probe.success_threshold.unwrap_or(1) {
                self.change(|health| health.ready = true);
            }
            if bad >= probe.failure_threshold.unwrap_or(3) {
                self.change(|health| health.ready = false);
            }
            pause(probe.period_seconds.unwrap_or(10)).await;
        }
    }
}

async fn pause(seconds: i32) {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
