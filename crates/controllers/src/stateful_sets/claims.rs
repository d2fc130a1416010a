//! The claims of a set's pods: made before the pod, kept or given up with it.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use wharf_client::{Key, Object};

use super::identity;
use super::plan::View;
use crate::context::Context;
use crate::events::{NORMAL, Recorder, WARNING};
use crate::ownership::reference;
use crate::writes::Error;

/// The claims of an ordinal: volume, and name of the claim.
pub(super) fn names(set: &StatefulSet, ordinal: i32) -> Vec<(String, String)> {
    let pod = identity::pod_name(set, ordinal);
    let templates = set.spec.volume_claim_templates.iter().flatten();
    templates
        .filter_map(|template| template.metadata.name.clone())
        .map(|volume| (volume.clone(), format!("{volume}-{pod}")))
        .collect()
}

/// What the policy says: (when the set is deleted, when it is scaled down).
fn gives_up(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
    let is = |word: Option<&String>| word.is_some_and(|word| word == "Delete");
    (
        is(policy.and_then(|policy| policy.when_deleted.as_ref())),
        is(policy.and_then(|policy| policy.when_scaled.as_ref())),
    )
}

/// Makes the claims of an ordinal that are not there.
pub(super) async fn create(
    context: &Context,
    recorder: &Recorder,
    set: &StatefulSet,
    ordinal: i32,
) -> Result<(), Error> {
    let namespace = set.key().namespace;
    let pod = identity::pod_name(set, ordinal);
    let templates = set.spec.volume_claim_templates.iter().flatten();
    for (template, (_, name)) in templates.zip(names(set, ordinal)) {
        let there = context
            .informers
            .claims
            .cache()
            .get(&Key::new(&namespace, &name));
        if let Some(there) = there {
            // It goes with the pod of this name that went before; the next pod gets a new one.
            if there.metadata.deletion_timestamp.is_some() || is_of_another(context, &there, &pod) {
                let words = format!("wait for the end of claim {name}");
                return Err(Error::NotYet(words));
            }
            continue;
        }
        let claim = draft(set, template, &name);
        let of = set.metadata.name.as_deref().unwrap_or_default();
        match context.writes.create(&claim).await {
            Ok(_) => {
                let message = format!("create Claim {name} Pod {pod} in StatefulSet {of} success");
                recorder.event(set, NORMAL, "SuccessfulCreate", message);
            }
            Err(error) if error.already_exists() => {}
            Err(error) => {
                let words = error.message();
                let message = format!(
                    "create Claim {name} for Pod {pod} in StatefulSet {of} failed error: {words}"
                );
                recorder.event(set, WARNING, "FailedCreate", message);
                return Err(error);
            }
        }
    }
    Ok(())
}

fn draft(set: &StatefulSet, template: &PersistentVolumeClaim, name: &str) -> PersistentVolumeClaim {
    let mut claim = template.clone();
    claim.status = None;
    claim.metadata.name = Some(name.to_owned());
    claim.metadata.namespace = set.metadata.namespace.clone();
    let labels = claim.metadata.labels.get_or_insert_default();
    labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
    if gives_up(set).0 {
        claim.metadata.owner_references = Some(vec![reference(set)]);
    }
    claim
}

/// Whether a claim belongs to a pod of this name that is not there any more.
fn is_of_another(context: &Context, claim: &PersistentVolumeClaim, pod: &str) -> bool {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let live = context
        .informers
        .pods
        .cache()
        .get(&Key::new(namespace, pod));
    let live = live.and_then(|pod| pod.metadata.uid.clone());
    let owners = claim.metadata.owner_references.iter().flatten();
    let mut pods = owners.filter(|owner| owner.kind == "Pod" && owner.name == pod);
    pods.any(|owner| Some(&owner.uid) != live.as_ref())
}

/// Has the claims owned by whom they end with, before that one ends.
pub(super) async fn keep_owners(context: &Context, view: &View<'_>) -> Result<(), Error> {
    let namespace = view.set.key().namespace;
    if view
        .set
        .spec
        .persistent_volume_claim_retention_policy
        .is_none()
    {
        return Ok(());
    }
    for pod in view.pods {
        let ordinal = identity::ordinal(view.set, pod).unwrap_or_default();
        for (_, name) in names(view.set, ordinal) {
            let key = Key::new(&namespace, &name);
            let Some(claim) = context.informers.claims.cache().get(&key) else {
                continue;
            };
            let wanted = owners(view, &claim, pod);
            if claim.metadata.owner_references.clone().unwrap_or_default() == wanted {
                continue;
            }
            let mut changed = (*claim).clone();
            changed.metadata.owner_references = (!wanted.is_empty()).then_some(wanted);
            context.writes.update(&changed).await?;
        }
    }
    Ok(())
}

/// The owners that a claim should have; those of others are left alone.
fn owners(view: &View<'_>, claim: &PersistentVolumeClaim, pod: &Pod) -> Vec<OwnerReference> {
    let (with_set, when_scaled) = gives_up(view.set);
    let is_surplus = !view.is_in_range(pod);
    let of_set = reference(view.set);
    let of_pod = reference(pod);
    let all = claim.metadata.owner_references.iter().flatten();
    let mut owners: Vec<OwnerReference> = all
        .filter(|owner| owner.uid != of_set.uid && owner.name != of_pod.name)
        .cloned()
        .collect();
    if is_surplus && when_scaled {
        owners.push(of_pod);
    } else if with_set {
        owners.push(of_set);
    }
    owners
}
