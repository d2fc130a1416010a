//! Endpoints: the older form of what EndpointSlices say, in one object a Service, of its first address family.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use wharf_client::{Key, Queue};

use crate::context::Context;
use crate::freshness::{Freshness, PATIENCE};
use crate::pod_state;
use crate::selector::Labels;
use crate::slices::{
    HEADLESS, address, families, feed_pods, hostname, is_headless, ports, publishes_unready,
    selected, target,
};
use crate::work::{Outcome, Task, feed_own, work};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses of one object.
const ADDRESSES_MAX: usize = 1000;

/// The work of the controller.
pub(crate) fn endpoints(context: Arc<Context>) -> Task {
    let queue = Queue::default();
    feed_own(&context.informers.services, &queue);
    feed_own(&context.informers.endpoints, &queue);
    feed_pods(&context, &queue);
    let freshness = Arc::new(Freshness::default());
    let workers = context.options.workers;
    work("endpoints-controller", queue, workers, move |key| {
        let (context, freshness) = (context.clone(), freshness.clone());
        async move { sync(&context, &freshness, key).await }
    })
}

async fn sync(context: &Context, freshness: &Freshness, key: Key) -> Outcome {
    let cache = context.informers.endpoints.cache();
    if !freshness.is_shown(&key, &cache) {
        return Ok(Some(PATIENCE));
    }
    let old = cache.get(&key);
    let Some(service) = context.informers.services.cache().get(&key) else {
        // Only what was made here: others' Endpoints are theirs.
        let own = old.filter(|old| label(old, MANAGED_BY) == Some(CONTROLLER));
        if let Some(own) = own {
            match context.writes.delete(&*own).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => freshness.deleted(&key, &*own),
            }
        }
        return Ok(None);
    };
    let Some(pods) = selected(context, &service) else {
        return Ok(None);
    };
    let wanted = wanted(&service, &pods, old.as_deref());
    let written = match old {
        Some(old) if *old == wanted => return Ok(None),
        Some(_) => context.writes.update(&wanted).await,
        None => context.writes.create(&wanted).await,
    };
    match written {
        Ok(made) => freshness.wrote(&key, &made),
        Err(error) if error.namespace_is_terminating() => {}
        Err(error) => return Err(error),
    }
    Ok(None)
}

fn label<'a>(endpoints: &'a Endpoints, name: &str) -> Option<&'a str> {
    let labels = endpoints.metadata.labels.as_ref()?;
    labels.get(name).map(String::as_str)
}

fn wanted(service: &Service, pods: &[Arc<Pod>], old: Option<&Endpoints>) -> Endpoints {
    let mut labels: Labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let mut meta = match old {
        Some(old) => old.metadata.clone(),
        None => ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
    };
    meta.labels = Some(labels);
    let (subsets, is_cut) = subsets(service, pods);
    let mut annotations = meta.annotations.take().unwrap_or_default();
    annotations.remove(OVER_CAPACITY);
    if is_cut {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    meta.annotations = Some(annotations).filter(|all| !all.is_empty());
    Endpoints {
        metadata: meta,
        subsets: Some(subsets).filter(|all| !all.is_empty()),
    }
}

type Port = (String, i32, String, Option<String>);

/// Ports that have the same addresses are one subset. Tells besides whether there were too many addresses.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let family = families(service, pods).swap_remove(0);
    let publishes = publishes_unready(service);
    let mut found: Vec<(bool, &Arc<Pod>, String)> = pods
        .iter()
        .filter(|pod| !pod_state::is_terminal(pod) && (publishes || !pod_state::is_deleted(pod)))
        .filter_map(|pod| {
            Some((
                publishes || pod_state::is_ready(pod),
                pod,
                address(pod, &family)?,
            ))
        })
        .collect();
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.2.cmp(&b.2)));
    let is_cut = found.len() > ADDRESSES_MAX;
    found.truncate(ADDRESSES_MAX);
    let mut by_port: BTreeMap<Option<Port>, BTreeSet<usize>> = BTreeMap::new();
    for (at, (_, pod, _)) in found.iter().enumerate() {
        for port in ports(service, pod) {
            let name = port.name.unwrap_or_default();
            let protocol = port.protocol.unwrap_or_default();
            let port = (
                name,
                port.port.unwrap_or_default(),
                protocol,
                port.app_protocol,
            );
            by_port.entry(Some(port)).or_default().insert(at);
        }
        // A headless Service needs no ports.
        if service
            .spec
            .as_ref()
            .is_none_or(|spec| spec.ports.as_ref().is_none_or(Vec::is_empty))
        {
            by_port.entry(None).or_default().insert(at);
        }
    }
    let mut by_addresses: BTreeMap<BTreeSet<usize>, Vec<Port>> = BTreeMap::new();
    for (port, addresses) in by_port {
        by_addresses.entry(addresses).or_default().extend(port);
    }
    let one = |(addresses, ports): (BTreeSet<usize>, Vec<Port>)| {
        let (ready, unready): (Vec<_>, Vec<_>) = addresses
            .into_iter()
            .map(|at| &found[at])
            .partition(|one| one.0);
        let list = |all: Vec<&(bool, &Arc<Pod>, String)>| {
            let all = all
                .into_iter()
                .map(|(_, pod, ip)| endpoint(service, pod, ip));
            Some(all.collect::<Vec<_>>()).filter(|all| !all.is_empty())
        };
        EndpointSubset {
            addresses: list(ready),
            not_ready_addresses: list(unready),
            ports: Some(ports.into_iter().map(port).collect::<Vec<_>>()).filter(|p| !p.is_empty()),
        }
    };
    (by_addresses.into_iter().map(one).collect(), is_cut)
}

fn port((name, port, protocol, app_protocol): Port) -> EndpointPort {
    EndpointPort {
        app_protocol,
        name: Some(name).filter(|name| !name.is_empty()),
        port,
        protocol: Some(protocol),
    }
}

fn endpoint(service: &Service, pod: &Pod, ip: &str) -> EndpointAddress {
    EndpointAddress {
        hostname: hostname(service, pod),
        ip: ip.to_owned(),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target_ref: Some(target(pod)),
    }
}
