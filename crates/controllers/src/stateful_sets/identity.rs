//! Which pod of a set a pod is: its name, its ordinal, its labels, and what it is made of.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, Volume};

use super::claims;
use super::plan::Version;
use crate::history::HASH;
use crate::pods;
use crate::selector::Labels;

const NAME: &str = "statefulset.kubernetes.io/pod-name";
const INDEX: &str = "apps.kubernetes.io/pod-index";

/// The set and the number in the name of a pod.
pub(super) fn parent(name: &str) -> Option<(&str, i32)> {
    let (set, number) = name.rsplit_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| number.parse().ok())?
        .map(|number| (set, number))
}

/// The ordinal of a pod, if its name is one of this set's.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (of, ordinal) = parent(pod.metadata.name.as_deref()?)?;
    (Some(of) == set.metadata.name.as_deref()).then_some(ordinal)
}

/// The name of the pod with an ordinal.
pub(super) fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!(
        "{}-{ordinal}",
        set.metadata.name.as_deref().unwrap_or_default()
    )
}

/// The revision that a pod is of.
pub(super) fn revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(HASH))
        .map_or("", String::as_str)
}

/// The labels that every pod of a set has besides those of the template.
pub(super) fn labels(set: &StatefulSet, pod: &Pod) -> Labels {
    let ordinal = ordinal(set, pod).unwrap_or_default();
    Labels::from([
        (NAME.to_owned(), pod_name(set, ordinal)),
        (INDEX.to_owned(), ordinal.to_string()),
    ])
}

/// Whether a pod has them.
pub(super) fn is_labelled(set: &StatefulSet, pod: &Pod) -> bool {
    let has = pod.metadata.labels.as_ref();
    let wanted = labels(set, pod);
    wanted
        .iter()
        .all(|(key, value)| has.and_then(|has| has.get(key)) == Some(value))
}

/// A pod of a version of the set.
pub(super) fn pod(set: &StatefulSet, version: &Version, ordinal: i32) -> Pod {
    let mut pod = pods::from_template(set, &version.template);
    pod.metadata.name = Some(pod_name(set, ordinal));
    let own = labels(set, &pod);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.extend(own);
    labels.insert(HASH.to_owned(), version.name.clone());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(pod_name(set, ordinal));
    spec.subdomain = set
        .spec
        .service_name
        .clone()
        .filter(|name| !name.is_empty());
    let claimed: Vec<Volume> = claims::names(set, ordinal)
        .into_iter()
        .map(|(volume, claim)| Volume {
            name: volume,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim,
                read_only: None,
            }),
            ..Volume::default()
        })
        .collect();
    let volumes = spec.volumes.get_or_insert_default();
    // A claim takes the place of a volume of the same name.
    volumes.retain(|volume| claimed.iter().all(|claim| claim.name != volume.name));
    volumes.extend(claimed);
    if volumes.is_empty() {
        spec.volumes = None;
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_set_and_the_number() {
        assert_eq!(parent("web-0-12"), Some(("web-0", 12)));
        assert_eq!(parent("web"), None);
        assert_eq!(parent("web-x"), None);
        assert_eq!(parent("web-"), None);
        assert_eq!(parent("web-99999999999"), None);
    }
}
