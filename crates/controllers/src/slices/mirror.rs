//! EndpointSlices for Endpoints that somebody else writes: those of Services without a selector.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use wharf_client::{Key, Queue};

use super::plan::{Frame, Group};
use super::{HEADLESS, MANAGED_BY, SERVICE_NAME, existing, feed_slices, write};
use crate::context::Context;
use crate::freshness::{Freshness, PATIENCE};
use crate::ownership::reference;
use crate::work::{Outcome, Task, feed_own, work};

const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Addresses of one subset that are mirrored.
const ADDRESSES_MAX: usize = 1000;

/// The work of the controller.
pub(crate) fn mirroring(context: Arc<Context>) -> Task {
    let queue: Queue<Key> = Queue::default();
    feed_own(&context.informers.services, &queue);
    feed_own(&context.informers.endpoints, &queue);
    feed_slices(&context, &queue, CONTROLLER);
    let freshness = Arc::new(Freshness::default());
    let workers = context.options.workers;
    work(
        "endpointslice-mirroring-controller",
        queue,
        workers,
        move |key| {
            let (context, freshness) = (context.clone(), freshness.clone());
            async move { sync(&context, &freshness, key).await }
        },
    )
}

async fn sync(context: &Context, freshness: &Freshness, key: Key) -> Outcome {
    let slices = context.informers.endpoint_slices.cache();
    if !freshness.is_shown(&key, &slices) {
        return Ok(Some(PATIENCE));
    }
    let service = context.informers.services.cache().get(&key);
    let has_selector = service.as_ref().is_none_or(|service| {
        let spec = service.spec.as_ref();
        spec.and_then(|spec| spec.selector.as_ref())
            .is_some_and(|pairs| !pairs.is_empty())
    });
    let endpoints = context.informers.endpoints.cache().get(&key);
    let endpoints = endpoints.filter(|endpoints| !has_selector && is_mirrored(endpoints));
    let existing = existing(&slices, &key, CONTROLLER);
    let Some(endpoints) = endpoints else {
        for slice in existing {
            match context.writes.delete(&*slice).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => freshness.deleted(&key, &*slice),
            }
        }
        return Ok(None);
    };
    write(
        context,
        freshness,
        &key,
        groups(&endpoints),
        &existing,
        &frame(&endpoints),
    )
    .await
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skips = meta.labels.as_ref().and_then(|all| all.get(SKIP));
    let leads = meta
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(LEADER));
    meta.deletion_timestamp.is_none() && skips.is_none_or(|skip| skip != "true") && !leads
}

fn frame(endpoints: &Endpoints) -> Frame {
    let meta = &endpoints.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.remove(APPLIED);
    Frame {
        namespace: meta.namespace.clone().unwrap_or_default(),
        prefix: format!("{name}-"),
        labels,
        annotations: Some(annotations).filter(|all| !all.is_empty()),
        owner: reference(endpoints),
    }
}

/// What the mirror should hold.
pub(super) fn groups(endpoints: &Endpoints) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports(subset);
        let ready = subset.addresses.iter().flatten().map(|one| (one, true));
        let unready = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|one| (one, false));
        for (address, ready) in ready.chain(unready).take(ADDRESSES_MAX) {
            let family = match address.ip.parse() {
                Ok(IpAddr::V4(_)) => "IPv4",
                Ok(IpAddr::V6(_)) => "IPv6",
                Err(_) => continue,
            };
            let endpoint = endpoint(address, ready);
            let same = |group: &&mut Group| group.address_type == family && group.ports == ports;
            match groups.iter_mut().find(same) {
                Some(group) => group.endpoints.push(endpoint),
                None => groups.push(Group {
                    address_type: family.to_owned(),
                    ports: ports.clone(),
                    endpoints: vec![endpoint],
                }),
            }
        }
    }
    groups
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        app_protocol: port.app_protocol.clone(),
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
    });
    ports.collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}
