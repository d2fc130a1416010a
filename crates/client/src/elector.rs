//! Campaigning for a Lease (coordination.k8s.io/v1): one of several processes leads, and knows when it does no more.
//!
//! Clocks of different machines need not agree: a lease counts as held for its duration since *this* process saw it
//! change last.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::api::{Api, Error, Resource, Result, Target};

const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases");

/// How long a lead lasts without being renewed, and how hard it is tried to keep.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Others wait this long after the leader's last word.
    pub lease: Duration,
    /// The leader gives up after trying so long to renew; shorter than `lease`.
    pub renew: Duration,
    /// Between attempts; shorter than `renew`.
    pub retry: Duration,
}

impl Default for Timing {
    /// What Kubernetes' own components use.
    fn default() -> Timing {
        Timing {
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// A candidate.
pub struct Elector {
    api: Arc<dyn Api>,
    target: Target,
    identity: String,
    timing: Timing,
    seen: Option<Sighting>,
}

/// A lease as it was seen last, and since when it has been so.
struct Sighting {
    version: String,
    since: Instant,
}

/// The lead, as long as [`Leadership::lost`] does not return. Dropping it gives the lead back.
#[derive(Debug)]
pub struct Leadership {
    lost: watch::Receiver<bool>,
    resign: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Leadership {
    /// Waits for the end of the lead: whoever leads must stop acting at once.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        let _ = lost.wait_for(|lost| *lost).await;
    }

    /// Gives the lead back, so that another need not wait for the lease to run out.
    pub async fn resign(mut self) {
        self.resign.send_replace(true);
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.resign.send_replace(true);
    }
}

impl Elector {
    /// A candidate for the lease `name` in `namespace`. The identity must be nobody else's.
    pub fn new(
        api: Arc<dyn Api>,
        namespace: &str,
        name: &str,
        identity: &str,
        timing: Timing,
    ) -> Elector {
        Elector {
            api,
            target: Target::new(LEASES, namespace, name),
            identity: identity.to_owned(),
            timing,
            seen: None,
        }
    }

    /// Waits until this one leads.
    pub async fn campaign(mut self) -> Leadership {
        loop {
            match self.attempt().await {
                Ok(true) => return self.lead(),
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "the lease can't be had for now"),
            }
            tokio::time::sleep(self.timing.retry).await;
        }
    }

    fn lead(self) -> Leadership {
        let (tell, lost) = watch::channel(false);
        let (resign, resigned) = watch::channel(false);
        let task = tokio::spawn(self.keep(tell, resigned));
        Leadership {
            lost,
            resign,
            task: Some(task),
        }
    }

    /// Renews until that fails for too long, or it resigns.
    async fn keep(mut self, lost: watch::Sender<bool>, mut resigned: watch::Receiver<bool>) {
        let mut renewed = Instant::now();
        loop {
            let resigns = async { resigned.wait_for(|resigned| *resigned).await.is_ok() };
            // Also when nobody can resign any more: then nobody leads either.
            if tokio::time::timeout(self.timing.retry, resigns)
                .await
                .is_ok()
            {
                lost.send_replace(true);
                return self.release().await;
            }
            let deadline = renewed + self.timing.renew;
            let began = Instant::now();
            match tokio::time::timeout_at(deadline, self.attempt()).await {
                Ok(Ok(true)) => renewed = began,
                // Somebody else has it.
                Ok(Ok(false)) => break,
                Ok(Err(error)) if Instant::now() < deadline => {
                    tracing::debug!(%error, "the lease can't be renewed for now");
                }
                Ok(Err(_)) | Err(_) => break,
            }
        }
        lost.send_replace(true);
    }

    /// Takes or renews the lease if that is allowed; says whether this one holds it now.
    async fn attempt(&mut self) -> Result<bool> {
        let now = Timestamp::now();
        let lease = match self.api.get(self.target.clone()).await {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => {
                let lease = self.lease(&json!({}), now);
                let place = Target {
                    name: String::new(),
                    ..self.target.clone()
                };
                return won(self.api.create(place, lease).await);
            }
            Err(error) => return Err(error),
        };
        if !self.may_take(&lease) {
            return Ok(false);
        }
        let wanted = self.lease(&lease, now);
        won(self.api.update(self.target.clone(), wanted).await)
    }

    /// Whether the lease is ours, nobody's, or has run out.
    fn may_take(&mut self, lease: &Value) -> bool {
        let version = lease["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        if self
            .seen
            .as_ref()
            .is_none_or(|seen| seen.version != version)
        {
            self.seen = Some(Sighting {
                version: version.to_owned(),
                since: Instant::now(),
            });
        }
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let seconds = lease["spec"]["leaseDurationSeconds"].as_u64();
        let lasts = seconds.map_or(self.timing.lease, Duration::from_secs);
        self.seen
            .as_ref()
            .is_some_and(|seen| seen.since.elapsed() > lasts)
    }

    /// The lease as this one would hold it.
    fn lease(&self, old: &Value, now: Timestamp) -> Value {
        let now = format!("{now:.6}");
        let spec = &old["spec"];
        let was_mine = spec["holderIdentity"] == self.identity.as_str();
        let transitions = spec["leaseTransitions"].as_i64().unwrap_or(0);
        let taken_over = !was_mine && !old["metadata"].is_null();
        let mut metadata = match &old["metadata"] {
            Value::Null => json!({}),
            metadata => metadata.clone(),
        };
        metadata["name"] = json!(self.target.name);
        metadata["namespace"] = json!(self.target.namespace);
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self.timing.lease.as_secs().max(1),
                "acquireTime": if was_mine { spec["acquireTime"].clone() } else { json!(now) },
                "renewTime": now,
                "leaseTransitions": transitions + i64::from(taken_over),
            },
        })
    }

    async fn release(&self) {
        let release = async {
            let mut lease = self.api.get(self.target.clone()).await?;
            if lease["spec"]["holderIdentity"] == self.identity.as_str() {
                lease["spec"]["holderIdentity"] = json!("");
                lease["spec"]["leaseDurationSeconds"] = json!(1);
                self.api.update(self.target.clone(), lease).await?;
            }
            Ok::<(), Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(self.timing.retry, release).await {
            tracing::debug!(%error, "the lease is not given back: it runs out");
        }
    }
}

/// Losing against somebody who was quicker is no error.
fn won(outcome: Result<Value>) -> Result<bool> {
    match outcome {
        Ok(_) => Ok(true),
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}
