//! What is in the table whatever services there are.

use std::borrow::Cow;

use super::ServiceOptions;
use crate::nftables::{
    Address, BaseChain, Element, ElementData, Field, Hook, Key, Rule, Set, Transaction, ct_status,
    flags, kinds,
};
use crate::ruleset::interval;

pub(super) const FRONTS4: &str = "fronts4";
pub(super) const FRONTS6: &str = "fronts6";
pub(super) const NODE4: &str = "node4";
pub(super) const NODE6: &str = "node6";
pub(super) const CLUSTER4: &str = "cluster4";
pub(super) const CLUSTER6: &str = "cluster6";
pub(super) const ENDPOINTS4: &str = "endpoints4";
pub(super) const ENDPOINTS6: &str = "endpoints6";
pub(super) const PLACES: &str = "places";
pub(super) const ITSELF4: &str = "itself4";
pub(super) const ITSELF6: &str = "itself6";
pub(super) const PODS4: &str = "pods4";
pub(super) const PODS6: &str = "pods6";
pub(super) const REJECT: &str = "reject";

/// Before published ports.
const DSTNAT: i32 = -105;
/// Before the masquerading of bridges.
const SRCNAT: i32 = 90;
const TCP: u8 = 6;

const FRONT4_KEY: Key<'static> = &[Field::Destination4, Field::Protocol, Field::DestinationPort];
const FRONT6_KEY: Key<'static> = &[Field::Destination6, Field::Protocol, Field::DestinationPort];
const NODE_KEY: Key<'static> = &[Field::Protocol, Field::DestinationPort];
const SENT4_KEY: Key<'static> = &[
    Field::OriginalDestination4,
    Field::Protocol,
    Field::OriginalDestinationPort,
];
const SENT6_KEY: Key<'static> = &[
    Field::OriginalDestination6,
    Field::Protocol,
    Field::OriginalDestinationPort,
];

/// Sets, maps, chains and rules. `is_seen_on_bridges`: packets between ports of a bridge pass the rules, too.
pub(super) fn install(
    transaction: &mut Transaction<'_>,
    options: &ServiceOptions,
    is_seen_on_bridges: bool,
) {
    for set in sets() {
        transaction.add_set(&set);
    }
    transaction.add_plain_chain(REJECT, "services without endpoints");
    transaction.add_rule(REJECT, &Rule::new().with(Field::Protocol, &[TCP]).reset());
    transaction.add_rule(REJECT, &Rule::new().unreachable());
    let chains = [
        ("prerouting", Hook::Prerouting, DSTNAT, lead()),
        ("output", Hook::Output, DSTNAT, lead()),
        (
            "postrouting",
            Hook::Postrouting,
            SRCNAT,
            postrouting(is_seen_on_bridges),
        ),
    ];
    for (name, hook, priority, rules) in chains {
        transaction.add_chain(&BaseChain {
            name,
            kind: "nat",
            hook,
            priority,
        });
        for rule in rules {
            transaction.add_rule(name, &rule);
        }
    }
    for pods in &options.pods {
        let set = if pods.address.is_ipv4() { PODS4 } else { PODS6 };
        for element in interval(set, *pods) {
            transaction.add_element(&element, format!("name the pods' range {pods}"));
        }
    }
}

fn lead() -> Vec<Rule> {
    vec![
        Rule::ipv4().verdict_of(FRONT4_KEY, FRONTS4),
        Rule::ipv6().verdict_of(FRONT6_KEY, FRONTS6),
        Rule::ipv4()
            .destination_is_local()
            .verdict_of(NODE_KEY, NODE4),
        Rule::ipv6()
            .destination_is_local()
            .verdict_of(NODE_KEY, NODE6),
    ]
}

fn postrouting(is_seen_on_bridges: bool) -> Vec<Rule> {
    let led4 = || Rule::ipv4().status(ct_status::DNAT);
    let led6 = || Rule::ipv6().status(ct_status::DNAT);
    let from_pod4 = || led4().among(&[Field::Source4], PODS4);
    let from_pod6 = || led6().among(&[Field::Source6], PODS6);
    let pod_to_pod4 = from_pod4().among(&[Field::Destination4], PODS4);
    let pod_to_pod6 = from_pod6().among(&[Field::Destination6], PODS6);
    let between_pods = if is_seen_on_bridges {
        [
            pod_to_pod4.keep_source(Address::V4),
            pod_to_pod6.keep_source(Address::V6),
        ]
    } else {
        // The answer would go from port to port of a bridge, past the translation.
        [pod_to_pod4.masquerade(), pod_to_pod6.masquerade()]
    };
    let mut rules = vec![
        Rule::new().asked_masquerade().masquerade(),
        led4()
            .among(&[Field::Source4, Field::Destination4], ITSELF4)
            .masquerade(),
        led6()
            .among(&[Field::Source6, Field::Destination6], ITSELF6)
            .masquerade(),
        led4()
            .outside(&[Field::Source4], PODS4)
            .among(SENT4_KEY, CLUSTER4)
            .masquerade(),
        led6()
            .outside(&[Field::Source6], PODS6)
            .among(SENT6_KEY, CLUSTER6)
            .masquerade(),
    ];
    rules.extend(between_pods);
    rules
}

fn sets() -> Vec<Set> {
    let mut all = family(kinds::IPV4, 4, Names::V4);
    all.extend(family(kinds::IPV6, 16, Names::V6));
    all.push(Set {
        name: PLACES,
        flags: 0,
        key_kind: kinds::row(&[kinds::NUMBER, kinds::NUMBER]),
        key_bytes: 8,
        data: Some((kinds::VERDICT, 0)),
    });
    all
}

enum Names {
    V4,
    V6,
}

fn family(address: u32, bytes: u32, names: Names) -> Vec<Set> {
    let [fronts, node, cluster, endpoints, itself, pods] = match names {
        Names::V4 => [FRONTS4, NODE4, CLUSTER4, ENDPOINTS4, ITSELF4, PODS4],
        Names::V6 => [FRONTS6, NODE6, CLUSTER6, ENDPOINTS6, ITSELF6, PODS6],
    };
    let set = |name, key: &[u32], key_bytes, data| Set {
        name,
        flags: 0,
        key_kind: kinds::row(key),
        key_bytes,
        data,
    };
    let verdict = Some((kinds::VERDICT, 0));
    let front = [address, kinds::PROTOCOL, kinds::PORT];
    let backend = Some((kinds::row(&[address, kinds::PORT]), bytes + 4));
    vec![
        set(fronts, &front, bytes + 8, verdict),
        set(node, &front[1..], 8, verdict),
        set(cluster, &front, bytes + 8, None),
        set(endpoints, &[kinds::NUMBER, kinds::NUMBER], 8, backend),
        set(itself, &[address, address], 2 * bytes, None),
        Set {
            flags: flags::INTERVAL,
            ..set(pods, &[address], bytes, None)
        },
    ]
}

/// An element without data.
pub(super) fn plain(set: impl Into<Cow<'static, str>>, key: Vec<u8>) -> Element {
    Element {
        set: set.into(),
        key,
        data: ElementData::None,
        end: false,
    }
}
