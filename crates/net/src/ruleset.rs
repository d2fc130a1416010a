//! The nftables table of one instance: fixed rules over sets and maps. Everything that changes later is an
//! element, so that a change costs the same whatever the number of networks and ports.
//!
//! ```text
//! guard        (prerouting, raw)   from our bridges to 127.0.0.0/8: drop, although route_localnet is on
//! prerouting   (dstnat)            (address, protocol, port) → target; then, for addresses of this machine,
//!                                  (protocol, port) → target. Not from internal networks nor from those
//!                                  whose endpoints may not see each other: the published socket serves these
//! output       (dstnat)            the same for this machine's own connections, except to [::1]
//! forward      (filter)            established and translated: accept; within a bridge: as its network
//!                                  says; internal ones: drop; between bridges: drop; outwards: accept;
//!                                  inwards, not published: drop
//! postrouting  (srcnat)            translated from one of our networks to one of ours, or from 127.0.0.0/8:
//!                                  masquerade (the answer must come back through here); from a network to
//!                                  the outside: masquerade
//! ```
//!
//! All of it holds with and without `net.bridge.bridge-nf-call-iptables`, which sends packets between ports of
//! one bridge through these chains, too. Then a packet translated to an endpoint of the bridge it came from
//! stays on the bridge: postrouting sees no input interface, and isolated ports never get it.
//!
//! A drop in another table (ufw's, or a Docker daemon's `FORWARD` policy) still drops: in nftables every
//! table's verdict counts, and accepting here can't overrule it.

use std::net::IpAddr;

use crate::nftables::{
    Address, BaseChain, Element, ElementData, Field, Hook, IFNAME_BYTES, Key, Rule, Set,
    Transaction, ct_state, ct_status, flags, interface_name, kinds,
};
use crate::subnet::Subnet;
use crate::{BridgeConfig, PortMapping, Protocol};

const BRIDGES: &str = "bridges";
const INTERNAL: &str = "internal";
const WITHIN: &str = "within";
const SERVED: &str = "served";
const SUBNETS4: &str = "subnets4";
const SUBNETS6: &str = "subnets6";
const MASQUERADED4: &str = "masqueraded4";
const MASQUERADED6: &str = "masqueraded6";
const ANY4: &str = "any4";
const ANY6: &str = "any6";
const HOST4: &str = "host4";
const HOST6: &str = "host6";

const ANY_KEY: Key<'static> = &[Field::Protocol, Field::DestinationPort];
const HOST4_KEY: Key<'static> = &[Field::Destination4, Field::Protocol, Field::DestinationPort];
const HOST6_KEY: Key<'static> = &[Field::Destination6, Field::Protocol, Field::DestinationPort];
const LOOPBACK6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

const RAW: i32 = -300;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

/// Adds every chain, set and rule of a fresh table to the transaction.
pub(crate) fn install(transaction: &mut Transaction<'_>) {
    for set in sets() {
        transaction.add_set(&set);
    }
    let chains = [
        ("guard", "filter", Hook::Prerouting, RAW, guard()),
        ("prerouting", "nat", Hook::Prerouting, DSTNAT, prerouting()),
        ("output", "nat", Hook::Output, DSTNAT, output()),
        ("forward", "filter", Hook::Forward, FILTER, forward()),
        (
            "postrouting",
            "nat",
            Hook::Postrouting,
            SRCNAT,
            postrouting(),
        ),
    ];
    for (name, kind, hook, priority, rules) in chains {
        transaction.add_chain(&BaseChain {
            name,
            kind,
            hook,
            priority,
        });
        for rule in rules {
            transaction.add_rule(name, &rule);
        }
    }
}

fn sets() -> Vec<Set> {
    let plain = |name, key_kind, key_bytes, flags| Set {
        name,
        flags,
        key_kind,
        key_bytes,
        data: None,
    };
    let targets = |name, key: &[u32], key_bytes, address, address_bytes: u32| Set {
        name,
        flags: 0,
        key_kind: kinds::row(key),
        key_bytes,
        data: Some((kinds::row(&[address, kinds::PORT]), address_bytes + 4)),
    };
    let pair = kinds::row(&[kinds::INTERFACE, kinds::INTERFACE]);
    vec![
        plain(BRIDGES, kinds::INTERFACE, IFNAME_BYTES, 0),
        plain(INTERNAL, kinds::INTERFACE, IFNAME_BYTES, 0),
        Set {
            data: Some((kinds::VERDICT, 0)),
            ..plain(WITHIN, pair, 2 * IFNAME_BYTES, 0)
        },
        plain(SERVED, kinds::INTERFACE, IFNAME_BYTES, 0),
        plain(SUBNETS4, kinds::IPV4, 4, flags::INTERVAL),
        plain(SUBNETS6, kinds::IPV6, 16, flags::INTERVAL),
        plain(MASQUERADED4, kinds::IPV4, 4, flags::INTERVAL),
        plain(MASQUERADED6, kinds::IPV6, 16, flags::INTERVAL),
        targets(ANY4, &[kinds::PROTOCOL, kinds::PORT], 8, kinds::IPV4, 4),
        targets(ANY6, &[kinds::PROTOCOL, kinds::PORT], 8, kinds::IPV6, 16),
        targets(
            HOST4,
            &[kinds::IPV4, kinds::PROTOCOL, kinds::PORT],
            12,
            kinds::IPV4,
            4,
        ),
        targets(
            HOST6,
            &[kinds::IPV6, kinds::PROTOCOL, kinds::PORT],
            24,
            kinds::IPV6,
            16,
        ),
    ]
}

const FROM: Key<'static> = &[Field::InputInterface];
const TO: Key<'static> = &[Field::OutputInterface];

fn guard() -> Vec<Rule> {
    // route_localnet lets a bridge's packets reach 127.0.0.0/8. Translated answers don't carry such an address
    // before connection tracking has seen them, and that comes after this chain.
    [Field::Destination4, Field::Source4]
        .map(|field| {
            Rule::new()
                .among(FROM, BRIDGES)
                .with(Field::Family, &[2])
                .with_loopback4(field)
                .drop()
        })
        .into()
}

fn prerouting() -> Vec<Rule> {
    vec![
        Rule::new().among(FROM, SERVED).leave(),
        Rule::ipv4().dnat_by(HOST4_KEY, HOST4, Address::V4),
        Rule::ipv4()
            .destination_is_local()
            .dnat_by(ANY_KEY, ANY4, Address::V4),
        Rule::ipv6().dnat_by(HOST6_KEY, HOST6, Address::V6),
        Rule::ipv6()
            .destination_is_local()
            .dnat_by(ANY_KEY, ANY6, Address::V6),
    ]
}

fn output() -> Vec<Rule> {
    // IPv6 has no route_localnet: what goes to [::1] is served by whoever holds the published socket.
    let ipv6 = || Rule::ipv6().unless(Field::Destination6, &LOOPBACK6);
    vec![
        Rule::ipv4().dnat_by(HOST4_KEY, HOST4, Address::V4),
        Rule::ipv4()
            .destination_is_local()
            .dnat_by(ANY_KEY, ANY4, Address::V4),
        ipv6().dnat_by(HOST6_KEY, HOST6, Address::V6),
        ipv6()
            .destination_is_local()
            .dnat_by(ANY_KEY, ANY6, Address::V6),
    ]
}

fn forward() -> Vec<Rule> {
    let going_on = ct_state::ESTABLISHED | ct_state::RELATED;
    vec![
        Rule::new().among(TO, BRIDGES).state(going_on).accept(),
        Rule::new().among(FROM, BRIDGES).state(going_on).accept(),
        Rule::new()
            .among(TO, BRIDGES)
            .status(ct_status::DNAT)
            .accept(),
        Rule::new().verdict_of(&[Field::InputInterface, Field::OutputInterface], WITHIN),
        Rule::new().among(FROM, INTERNAL).drop(),
        Rule::new().among(TO, BRIDGES).drop(),
        Rule::new().among(FROM, BRIDGES).accept(),
    ]
}

fn postrouting() -> Vec<Rule> {
    let hairpin = |rule: Rule| rule.among(TO, BRIDGES).status(ct_status::DNAT).masquerade();
    vec![
        Rule::new()
            .among(TO, BRIDGES)
            .with(Field::Family, &[2])
            .with_loopback4(Field::Source4)
            .masquerade(),
        hairpin(Rule::ipv4().among(&[Field::Source4], SUBNETS4)),
        hairpin(Rule::ipv6().among(&[Field::Source6], SUBNETS6)),
        Rule::ipv4()
            .among(&[Field::Source4], MASQUERADED4)
            .outside(TO, BRIDGES)
            .masquerade(),
        Rule::ipv6()
            .among(&[Field::Source6], MASQUERADED6)
            .outside(TO, BRIDGES)
            .masquerade(),
    ]
}

/// What the sets hold for one network.
pub(crate) fn bridge_elements(config: &BridgeConfig) -> Vec<Element> {
    let name = interface_name(&config.bridge);
    let element = |set: &'static str, key: &[u8], data| Element {
        set: set.into(),
        key: key.to_vec(),
        data,
        end: false,
    };
    let mut elements = vec![element(BRIDGES, &name, ElementData::None)];
    let verdict = if config.inter_container {
        ElementData::Accept
    } else {
        ElementData::Drop
    };
    elements.push(element(
        WITHIN,
        &[name.clone(), name.clone()].concat(),
        verdict,
    ));
    if config.internal {
        elements.push(element(INTERNAL, &name, ElementData::None));
    }
    if config.internal || !config.inter_container {
        elements.push(element(SERVED, &name, ElementData::None));
    }
    elements.extend(interval(SUBNETS4, config.subnet));
    elements.extend(
        config
            .subnet6
            .iter()
            .flat_map(|(subnet, _)| interval(SUBNETS6, *subnet)),
    );
    if config.masquerade && !config.internal {
        elements.extend(interval(MASQUERADED4, config.subnet));
        elements.extend(
            config
                .subnet6
                .iter()
                .flat_map(|(subnet, _)| interval(MASQUERADED6, *subnet)),
        );
    }
    elements
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(crate) fn interval(set: &'static str, subnet: Subnet) -> Vec<Element> {
    let element = |number, end| Element {
        set: set.into(),
        key: octets(subnet.at(number)),
        data: ElementData::None,
        end,
    };
    let mut interval = vec![element(subnet.first(), false)];
    // A range up to the family's last address has no end behind it.
    let longest = if subnet.address.is_ipv4() {
        u128::from(u32::MAX)
    } else {
        u128::MAX
    };
    if subnet.last() < longest {
        interval.push(element(subnet.last() + 1, true));
    }
    interval
}

/// The number of a transport protocol (IANA).
pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// The element that leads a published port to its target; none where the families differ, which only whoever
/// holds the socket can bridge.
pub(crate) fn port_element(mapping: &PortMapping) -> Option<Element> {
    if mapping.host_ip.is_ipv4() != mapping.target_ip.is_ipv4() {
        return None;
    }
    let set = match (mapping.host_ip.is_unspecified(), mapping.host_ip.is_ipv4()) {
        (true, true) => ANY4,
        (true, false) => ANY6,
        (false, true) => HOST4,
        (false, false) => HOST6,
    };
    let mut key = Vec::with_capacity(24);
    if !mapping.host_ip.is_unspecified() {
        key.extend(octets(mapping.host_ip));
    }
    key.extend([protocol_number(mapping.protocol), 0, 0, 0]);
    key.extend(padded_port(mapping.host_port));
    let mut value = octets(mapping.target_ip);
    value.extend(padded_port(mapping.target_port));
    Some(Element {
        set: set.into(),
        key,
        data: ElementData::Value(value),
        end: false,
    })
}

pub(crate) fn padded_port(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}
