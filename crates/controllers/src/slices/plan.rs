//! From what a Service's slices should hold and what they hold now to the fewest writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::selector::Labels;

/// Endpoints of one slice.
pub(crate) const ENDPOINTS_MAX: usize = 100;

/// Endpoints with the same ports and kind of address.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    /// `IPv4`, `IPv6`, `FQDN`.
    pub(crate) address_type: String,
    pub(crate) ports: Vec<EndpointPort>,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// What all slices of one owner have.
pub(crate) struct Frame {
    pub(crate) namespace: String,
    /// The slices' names begin so.
    pub(crate) prefix: String,
    pub(crate) labels: Labels,
    pub(crate) annotations: Option<Labels>,
    pub(crate) owner: OwnerReference,
}

/// Writes that bring what is there to what is wanted.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) create: Vec<EndpointSlice>,
    pub(crate) update: Vec<EndpointSlice>,
    pub(crate) delete: Vec<Arc<EndpointSlice>>,
}

/// Plans. Slices that hold what is wanted are not touched; what must be touched anyway takes in what is new.
pub(crate) fn plan(wanted: Vec<Group>, existing: &[Arc<EndpointSlice>], frame: &Frame) -> Plan {
    let mut plan = Plan::default();
    let mut left: Vec<Arc<EndpointSlice>> = existing.to_vec();
    for group in wanted {
        let is_of_group = |slice: &Arc<EndpointSlice>| {
            slice.address_type == group.address_type
                && slice.ports.as_deref().unwrap_or_default() == group.ports
        };
        let (own, others) = left.into_iter().partition(is_of_group);
        left = others;
        plan_group(group, own, frame, &mut plan);
    }
    plan.delete.extend(left);
    plan
}

/// Which endpoint it is, whatever its state.
fn identity(endpoint: &Endpoint) -> (Vec<String>, Option<String>) {
    let target = endpoint.target_ref.as_ref();
    (
        endpoint.addresses.clone(),
        target.and_then(|target| target.uid.clone()),
    )
}

struct Draft {
    slice: Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
    is_changed: bool,
}

fn plan_group(group: Group, own: Vec<Arc<EndpointSlice>>, frame: &Frame, plan: &mut Plan) {
    let mut missing: BTreeMap<_, Endpoint> = group
        .endpoints
        .iter()
        .map(|one| (identity(one), one.clone()))
        .collect();
    let mut drafts: Vec<Draft> = own
        .into_iter()
        .map(|slice| draft(slice, &mut missing, frame))
        .collect();
    place(
        missing.into_values().collect(),
        &group,
        &mut drafts,
        frame,
        plan,
    );
    let mut kept = drafts
        .iter()
        .filter(|one| !one.endpoints.is_empty())
        .count()
        + plan
            .create
            .iter()
            .filter(|new| {
                new.address_type == group.address_type && new.ports.as_ref() == Some(&group.ports)
            })
            .count();
    for draft in drafts {
        if draft.endpoints.is_empty() && kept > 0 {
            plan.delete.push(draft.slice);
            continue;
        }
        kept += 1;
        if draft.is_changed {
            let mut slice = (*draft.slice).clone();
            slice.endpoints = Some(draft.endpoints);
            slice.metadata.labels = Some(frame.labels.clone());
            slice.metadata.annotations = frame.annotations.clone();
            plan.update.push(slice);
        }
    }
    // Nothing to serve is told too: by an empty slice.
    if kept == 0 {
        plan.create.push(slice(&group, Vec::new(), frame));
    }
}

/// What stays of a slice; what it has is no longer missing.
fn draft(
    slice: Arc<EndpointSlice>,
    missing: &mut BTreeMap<(Vec<String>, Option<String>), Endpoint>,
    frame: &Frame,
) -> Draft {
    let before = slice.endpoints.as_deref().unwrap_or_default();
    let endpoints: Vec<Endpoint> = before
        .iter()
        .filter_map(|one| missing.remove(&identity(one)))
        .collect();
    let is_changed = endpoints != before
        || slice.metadata.labels.as_ref() != Some(&frame.labels)
        || slice
            .metadata
            .annotations
            .as_ref()
            .filter(|a| !a.is_empty())
            != frame.annotations.as_ref().filter(|a| !a.is_empty());
    Draft {
        slice,
        endpoints,
        is_changed,
    }
}

/// Finds room: first where there is a write anyway, then in the fullest slice that has room for all, then in new ones.
fn place(
    mut missing: Vec<Endpoint>,
    group: &Group,
    drafts: &mut [Draft],
    frame: &Frame,
    plan: &mut Plan,
) {
    let fill = |draft: &mut Draft, missing: &mut Vec<Endpoint>| {
        let room = ENDPOINTS_MAX.saturating_sub(draft.endpoints.len());
        let taken = missing.len().min(room);
        draft.endpoints.extend(missing.drain(..taken));
        draft.is_changed |= taken > 0;
    };
    for draft in drafts.iter_mut().filter(|draft| draft.is_changed) {
        fill(draft, &mut missing);
    }
    while missing.len() >= ENDPOINTS_MAX {
        let full = missing.drain(..ENDPOINTS_MAX).collect();
        plan.create.push(slice(group, full, frame));
    }
    if missing.is_empty() {
        return;
    }
    let fits = |draft: &&mut Draft| draft.endpoints.len() + missing.len() <= ENDPOINTS_MAX;
    match drafts
        .iter_mut()
        .filter(fits)
        .max_by_key(|draft| draft.endpoints.len())
    {
        Some(draft) => fill(draft, &mut missing),
        None => plan.create.push(slice(group, missing, frame)),
    }
}

fn slice(group: &Group, endpoints: Vec<Endpoint>, frame: &Frame) -> EndpointSlice {
    EndpointSlice {
        address_type: group.address_type.clone(),
        endpoints: Some(endpoints),
        ports: Some(group.ports.clone()),
        metadata: ObjectMeta {
            generate_name: Some(frame.prefix.clone()),
            namespace: Some(frame.namespace.clone()),
            labels: Some(frame.labels.clone()),
            annotations: frame.annotations.clone(),
            owner_references: Some(vec![frame.owner.clone()]),
            ..ObjectMeta::default()
        },
    }
}
