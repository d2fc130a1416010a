//! ControllerRevisions: the templates that a StatefulSet or DaemonSet had, numbered.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};
use wharf_client::{Key, Patch};

use crate::context::Context;
use crate::fingerprint;
use crate::informers::{ORPHANS, OWNER};
use crate::ownership::{Claims, is_controlled_by, reference};
use crate::selector::selects;
use crate::writes::{Error, Kind, read, value};

/// On pods: which revision they are of. On revisions of DaemonSets: their hash.
pub(crate) const HASH: &str = "controller-revision-hash";

/// Two templates with one hash in a row are chance; so many are not.
const COLLISIONS_MAX: usize = 8;

/// The templates that an owner had and has.
pub(crate) struct History {
    /// By number.
    pub(crate) all: Vec<ControllerRevision>,
    /// That of the template of now.
    pub(crate) newest: ControllerRevision,
    /// How often a name was taken already.
    pub(crate) collisions: i32,
}

/// The name of a revision.
pub(crate) fn name(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

/// The hash in its labels.
pub(crate) fn hash(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(HASH))
        .map_or("", String::as_str)
}

/// The template that a revision holds.
pub(crate) fn template(revision: &ControllerRevision) -> Result<PodTemplateSpec, Error> {
    let mut template = revision.data.0["spec"]["template"].clone();
    if let Some(fields) = template.as_object_mut() {
        fields.remove("$patch");
    }
    read(template)
}

/// Reads the history and has the template of now in it, as the newest.
pub(crate) async fn settle<O: Kind>(
    context: &Context,
    owner: &O,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    collisions: i32,
) -> Result<History, Error> {
    let cache = context.informers.revisions.cache();
    let uid = owner.meta().uid.as_deref().unwrap_or_default();
    let mut candidates = cache.by(OWNER, uid);
    candidates.extend(cache.by(ORPHANS, &owner.key().namespace));
    let is_mine = |one: &ControllerRevision| selects(selector, one.metadata.labels.as_ref());
    let claims = Claims::new(&context.writes, owner);
    let mine = claims.claim(candidates, is_mine).await?;
    let mut all: Vec<_> = mine.iter().map(|one| (**one).clone()).collect();
    all.sort_by_key(|one| one.revision);
    let data = data(template)?;
    let next = all.last().and_then(|one| one.revision).unwrap_or(0) + 1;
    let known = all.iter().rposition(|one| one.data.0 == data);
    match known {
        Some(at) if at + 1 == all.len() => {
            let newest = all[at].clone();
            Ok(History {
                all,
                newest,
                collisions,
            })
        }
        // A rollback: the old one is the newest again.
        Some(at) => {
            let old = all.remove(at);
            let key = wharf_client::Object::key(&old);
            let patch = Patch::Merge(json!({"revision": next}));
            let newest: ControllerRevision = context.writes.patch(&key, patch).await?;
            all.push(newest.clone());
            Ok(History {
                all,
                newest,
                collisions,
            })
        }
        None => {
            let draft = draft(owner, template, data, next);
            let (newest, collisions) = create(context, owner, draft, collisions).await?;
            all.push(newest.clone());
            Ok(History {
                all,
                newest,
                collisions,
            })
        }
    }
}

/// What `kubectl rollout undo` applies as a strategic patch.
fn data(template: &PodTemplateSpec) -> Result<Value, Error> {
    let mut template = value(template)?;
    template["$patch"] = json!("replace");
    Ok(json!({"spec": {"template": template}}))
}

fn draft<O: Kind>(
    owner: &O,
    template: &PodTemplateSpec,
    data: Value,
    number: i64,
) -> ControllerRevision {
    let labels = template.metadata.as_ref().and_then(|m| m.labels.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            namespace: owner.meta().namespace.clone(),
            labels,
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![reference(owner)]),
            ..ObjectMeta::default()
        },
        data: RawExtension(data),
        revision: Some(number),
    }
}

async fn create<O: Kind>(
    context: &Context,
    owner: &O,
    mut draft: ControllerRevision,
    mut collisions: i32,
) -> Result<(ControllerRevision, i32), Error> {
    let of = owner.meta().name.as_deref().unwrap_or_default();
    for _ in 0..COLLISIONS_MAX {
        let hash = fingerprint::of(&draft.data.0, Some(collisions));
        let name = format!("{of}-{hash}");
        draft.metadata.name = Some(name.clone());
        let labels = draft.metadata.labels.get_or_insert_default();
        labels.insert(HASH.to_owned(), hash);
        match context.writes.create(&draft).await {
            Err(error) if error.already_exists() => {}
            outcome => return outcome.map(|made| (made, collisions)),
        }
        let key = Key::new(&owner.key().namespace, &name);
        let there: ControllerRevision = context.writes.get(&key).await?;
        let is_ours = is_controlled_by(&there.metadata, owner.meta());
        if is_ours && there.data.0 == draft.data.0 {
            return Ok((there, collisions));
        }
        collisions += 1;
    }
    Err(Error::NotYet(format!(
        "no free name for a revision of {of}"
    )))
}

/// Deletes the oldest revisions beyond the limit, but none that is in use.
pub(crate) async fn truncate(
    context: &Context,
    all: &[ControllerRevision],
    in_use: impl Fn(&ControllerRevision) -> bool,
    limit: Option<i32>,
) -> Result<(), Error> {
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or_default();
    let idle: Vec<_> = all.iter().filter(|one| !in_use(one)).collect();
    let surplus = idle.len().saturating_sub(limit);
    for revision in idle.into_iter().take(surplus) {
        match context.writes.delete(revision).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The revisions that pods say they are of.
pub(crate) fn of_pods<'a>(
    pods: impl IntoIterator<Item = &'a k8s_openapi::api::core::v1::Pod>,
) -> BTreeSet<String> {
    pods.into_iter()
        .filter_map(|pod| pod.metadata.labels.as_ref()?.get(HASH).cloned())
        .collect()
}
