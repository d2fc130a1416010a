//! EndpointSlices: where the pods of a Service serve. A burst of changes is one write: keys wait while one is under way.

mod mirror;
mod plan;
mod pods;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use wharf_client::{Cache, Event, Key, Queue};

use crate::context::Context;
use crate::freshness::{Freshness, PATIENCE};
use crate::ownership::reference;
use crate::pod_state;
use crate::selector::{Labels, selects_map};
use crate::work::{Outcome, Task, feed, feed_own, work};
use crate::writes::Error;

pub(crate) use mirror::mirroring;
use plan::{Frame, Group};
pub(crate) use pods::{address, families, hostname, ports, publishes_unready, target};

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// On what belongs to a Service without an address of its own.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// The work of the controller.
pub(crate) fn endpoint_slices(context: Arc<Context>) -> Task {
    let queue = Queue::default();
    feed_own(&context.informers.services, &queue);
    feed_pods(&context, &queue);
    feed_slices(&context, &queue, CONTROLLER);
    feed_zones(&context, &queue);
    let freshness = Arc::new(Freshness::default());
    let workers = context.options.workers;
    work("endpointslice-controller", queue, workers, move |key| {
        let (context, freshness) = (context.clone(), freshness.clone());
        async move { sync(&context, &freshness, key).await }
    })
}

/// Services look again when a change of a pod can matter to them.
pub(crate) fn feed_pods(context: &Context, queue: &Queue<Key>) {
    let (services, queue) = (context.informers.services.cache(), queue.clone());
    context.informers.pods.listen(move |event| match event {
        Event::Applied {
            old: Some(old),
            new,
        } if looks_alike(old, new) => {}
        Event::Applied { old, new } => {
            for pod in old.iter().chain([new]) {
                services_of(&services, pod, &queue);
            }
        }
        Event::Deleted(pod) => services_of(&services, pod, &queue),
    });
}

/// Whether endpoints can't tell two versions of a pod apart.
fn looks_alike(old: &Pod, new: &Pod) -> bool {
    let addresses = |pod: &Pod| {
        let status = pod.status.as_ref();
        status.map(|status| (status.pod_ip.clone(), status.pod_ips.clone()))
    };
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    old.metadata.labels == new.metadata.labels
        && pod_state::is_deleted(old) == pod_state::is_deleted(new)
        && pod_state::is_terminal(old) == pod_state::is_terminal(new)
        && pod_state::is_ready(old) == pod_state::is_ready(new)
        && addresses(old) == addresses(new)
        && node(old) == node(new)
}

fn services_of(services: &Cache<Service>, pod: &Pod, queue: &Queue<Key>) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for service in services.in_namespace(namespace) {
        let pairs = service
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref());
        if selects_map(pairs, pod.metadata.labels.as_ref()) {
            queue.add(Key::new(
                namespace,
                service.metadata.name.as_deref().unwrap_or_default(),
            ));
        }
    }
}

fn feed_slices(context: &Context, queue: &Queue<Key>, controller: &'static str) {
    feed(&context.informers.endpoint_slices, queue, move |slice| {
        let of = service_of(slice).filter(|_| is_managed_by(slice, controller));
        of.into_iter().collect()
    });
}

/// A node that comes, goes or moves to another zone matters to the Services of its pods.
fn feed_zones(context: &Context, queue: &Queue<Key>) {
    let zone = |node: &Node| {
        node.metadata
            .labels
            .as_ref()
            .map(|l| l.get("topology.kubernetes.io/zone").cloned())
    };
    let (pods, services) = (
        context.informers.pods.cache(),
        context.informers.services.cache(),
    );
    let queue = queue.clone();
    context.informers.nodes.listen(move |event| {
        let node = match event {
            Event::Applied {
                old: Some(old),
                new,
            } if zone(old) == zone(new) => return,
            Event::Applied { new, .. } => new,
            Event::Deleted(old) => old,
        };
        let name = node.metadata.name.as_deref().unwrap_or_default();
        for pod in pods.by(crate::informers::NODE, name) {
            services_of(&services, &pod, &queue);
        }
    });
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    Some(Key::new(namespace, name))
}

fn is_managed_by(slice: &EndpointSlice, controller: &str) -> bool {
    let labels = slice.metadata.labels.as_ref();
    labels
        .and_then(|all| all.get(MANAGED_BY))
        .is_some_and(|by| by == controller)
}

async fn sync(context: &Context, freshness: &Freshness, key: Key) -> Outcome {
    let slices = context.informers.endpoint_slices.cache();
    if !freshness.is_shown(&key, &slices) {
        return Ok(Some(PATIENCE));
    }
    let service = context.informers.services.cache().get(&key);
    // Its slices end with a Service that is gone: it owns them.
    let Some(service) = service.filter(|one| one.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let Some(pods) = selected(context, &service) else {
        return Ok(None);
    };
    let existing = existing(&slices, &key, CONTROLLER);
    let wanted = pods::groups(&service, &pods, &context.informers.nodes.cache());
    write(
        context,
        freshness,
        &key,
        wanted,
        &existing,
        &frame(&service),
    )
    .await
}

/// The pods that a Service selects; nothing where it does not choose its endpoints.
pub(crate) fn selected(context: &Context, service: &Service) -> Option<Vec<Arc<Pod>>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let pairs = spec.selector.as_ref().filter(|pairs| !pairs.is_empty())?;
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let mut pods = context.informers.pods.cache().in_namespace(namespace);
    pods.retain(|pod| selects_map(Some(pairs), pod.metadata.labels.as_ref()));
    Some(pods)
}

fn existing(slices: &Cache<EndpointSlice>, key: &Key, controller: &str) -> Vec<Arc<EndpointSlice>> {
    let mut found = slices.in_namespace(&key.namespace);
    found.retain(|slice| {
        is_managed_by(slice, controller)
            && service_of(slice).as_ref() == Some(key)
            && slice.metadata.deletion_timestamp.is_none()
    });
    found
}

fn frame(service: &Service) -> Frame {
    let name = service.metadata.name.clone().unwrap_or_default();
    Frame {
        namespace: service.metadata.namespace.clone().unwrap_or_default(),
        prefix: format!("{name}-"),
        labels: labels(service, CONTROLLER),
        annotations: None,
        owner: reference(service),
    }
}

/// A Service's labels, and those that only slices have.
fn labels(service: &Service, controller: &str) -> Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    let name = service.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name);
    labels.insert(MANAGED_BY.to_owned(), controller.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

/// It has no address of its own.
pub(crate) fn is_headless(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

async fn write(
    context: &Context,
    freshness: &Freshness,
    key: &Key,
    wanted: Vec<Group>,
    existing: &[Arc<EndpointSlice>],
    frame: &Frame,
) -> Outcome {
    let plan = plan::plan(wanted, existing, frame);
    let created = async {
        for slice in &plan.create {
            match context.writes.create(slice).await {
                Ok(made) => freshness.wrote(key, &made),
                Err(error) if error.namespace_is_terminating() => {}
                Err(error) => return Err(error),
            }
        }
        Ok::<(), Error>(())
    };
    // What is new before what goes, so that nobody finds less than there is.
    created.await?;
    for slice in &plan.update {
        freshness.wrote(key, &context.writes.update(slice).await?);
    }
    for slice in &plan.delete {
        match context.writes.delete(&**slice).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => freshness.deleted(key, &**slice),
        }
    }
    Ok(None)
}
