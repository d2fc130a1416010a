//! Every node gets a range of its own out of the cluster's, which its pods get their addresses from.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use wharf_client::{Key, Patch, Queue};

use crate::context::Context;
use crate::events::{Recorder, WARNING};
use crate::work::{Task, feed_own, work};

/// The work of the controller. One worker: two nodes must not choose at once.
pub(crate) fn node_ranges(context: Arc<Context>) -> Task {
    let queue = Queue::default();
    feed_own(&context.informers.nodes, &queue);
    let recorder = context.recorder("cidrAllocator");
    // Given, and maybe not in the cache yet.
    let given: Arc<Mutex<HashMap<Key, String>>> = Arc::default();
    work("node-ipam-controller", queue, 1, move |key| {
        let (context, recorder, given) = (context.clone(), recorder.clone(), given.clone());
        async move {
            let lock = || given.lock().unwrap_or_else(PoisonError::into_inner);
            let chosen = choose(&context, &recorder, &key, &mut lock());
            if let Some(chosen) = chosen {
                write(&context, &key, &chosen).await?;
                lock().insert(key, chosen);
            }
            Ok(None)
        }
    })
}

/// A range for a node that has none.
fn choose(
    context: &Context,
    recorder: &Recorder,
    key: &Key,
    given: &mut HashMap<Key, String>,
) -> Option<String> {
    let nodes = context.informers.nodes.cache();
    let node = nodes.get(key)?;
    if range(&node).is_some() || node.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let cluster = parse(&context.options.cluster_cidr)?;
    let all = nodes.all();
    // What was given to a node that is gone is free again.
    given.retain(|key, _| nodes.get(key).is_some());
    let taken: HashSet<&str> = all
        .iter()
        .filter_map(|node| range(node))
        .chain(given.values().map(String::as_str))
        .collect();
    let chosen = first_free(cluster, context.options.node_mask_bits, &taken);
    if chosen.is_none() {
        let text = format!("Node {} status is now: CIDRNotAvailable", key.name);
        recorder.event(&*node, WARNING, "CIDRNotAvailable", text);
    }
    chosen
}

fn range(node: &Node) -> Option<&str> {
    let range = node.spec.as_ref()?.pod_cidr.as_deref();
    range.filter(|range| !range.is_empty())
}

async fn write(context: &Context, key: &Key, range: &str) -> Result<(), crate::writes::Error> {
    let change = json!({"spec": {"podCIDR": range, "podCIDRs": [range]}});
    let written = context
        .writes
        .patch::<Node>(key, Patch::Merge(change))
        .await;
    match written {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

fn parse(text: &str) -> Option<(u32, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let bits: u8 = bits.parse().ok().filter(|bits| *bits <= 32)?;
    Some((u32::from(address), bits))
}

/// The first range of so many bits that nobody has.
fn first_free((base, bits): (u32, u8), of: u8, taken: &HashSet<&str>) -> Option<String> {
    let count = 1u64 << of.checked_sub(bits)?;
    let size = 1u64 << 32u8.checked_sub(of)?;
    (0..count)
        .map(|at| u64::from(base) + at * size)
        .filter_map(|start| u32::try_from(start).ok())
        .map(|start| format!("{}/{of}", Ipv4Addr::from(start)))
        .find(|range| !taken.contains(range.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Cluster;

    #[test]
    fn the_first_free_range_is_taken_until_there_is_none() {
        let cluster = parse("10.42.0.0/22").unwrap();
        let find = |taken: &[&str]| first_free(cluster, 24, &taken.iter().copied().collect());
        assert_eq!(find(&[]).as_deref(), Some("10.42.0.0/24"));
        let two = ["10.42.0.0/24", "10.42.2.0/24"];
        assert_eq!(find(&two).as_deref(), Some("10.42.1.0/24"));
        let all = [
            "10.42.0.0/24",
            "10.42.1.0/24",
            "10.42.2.0/24",
            "10.42.3.0/24",
        ];
        assert_eq!(find(&all), None);
        assert_eq!(first_free(cluster, 16, &HashSet::new()), None);
    }

    #[tokio::test]
    async fn every_node_gets_a_range_of_its_own() {
        let cluster = Cluster::open().await;
        let _running = cluster.controllers();
        for name in ["a", "b", "c"] {
            cluster
                .create::<Node>(json!({"metadata": {"name": name}}))
                .await;
        }
        let nodes = cluster
            .until::<Node>("ranges", |all| {
                all.len() == 3 && all.iter().all(|node| range(node).is_some())
            })
            .await;
        let ranges: HashSet<&str> = nodes.iter().filter_map(|node| range(node)).collect();
        let expected = ["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24"];
        assert_eq!(ranges, expected.into());
    }
}
