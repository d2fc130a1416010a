//! Rules as rows of expressions over registers.
//!
//! Registers are the sixteen 4-byte ones; a key of several fields is loaded into neighbouring registers.

use super::message::{DATA_VALUE, DATA_VERDICT, LIST_ELEMENT, VERDICT_CODE, write_goto};
use crate::netlink::Writer;

/// Length of an interface's name as a key, padded with zeros.
pub(crate) const IFNAME_BYTES: u32 = 16;
/// `NFT_REG32_00`
pub(super) const FIRST_REGISTER: u32 = 8;
/// Where what a map leads to is put: behind the longest key.
pub(super) const RESULT_REGISTER: u32 = FIRST_REGISTER + 8;

/// Bits of `ct state`.
pub(crate) mod ct_state {
    pub(crate) const ESTABLISHED: u32 = 2;
    pub(crate) const RELATED: u32 = 4;
}

/// Bits of `ct status`.
pub(crate) mod ct_status {
    /// Its destination was translated.
    pub(crate) const DNAT: u32 = 0x20;
}

/// A field of a packet, or something known about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// Family: 2 or 10.
    Family,
    /// Transport protocol's number.
    Protocol,
    InputInterface,
    OutputInterface,
    Source4,
    Destination4,
    Source6,
    Destination6,
    SourcePort,
    DestinationPort,
    /// What the connection's first packet was sent to, before any translation.
    OriginalDestination4,
    OriginalDestination6,
    OriginalDestinationPort,
}

impl Field {
    /// Registers it fills.
    pub(super) fn registers(self) -> u32 {
        match self {
            Field::InputInterface
            | Field::OutputInterface
            | Field::Source6
            | Field::Destination6
            | Field::OriginalDestination6 => 4,
            _ => 1,
        }
    }
}

/// Kinds of comparison.
#[derive(Clone, Copy)]
pub(super) enum Compare {
    Equal = 0,
    NotEqual = 1,
}

/// What a map key is made of, in order.
pub(crate) type Key<'a> = &'a [Field];

/// Which family a translation is of.
#[derive(Clone, Copy)]
pub(crate) enum Address {
    V4,
    V6,
}

/// An interface's name as a key.
pub(crate) fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(IFNAME_BYTES as usize, 0);
    bytes
}

/// A rule under construction: a packet goes on from one expression to the next as long as they hold.
#[derive(Default)]
pub(crate) struct Rule {
    bytes: Vec<u8>,
}

impl Rule {
    pub(crate) fn new() -> Self {
        Rule::default()
    }

    /// For IPv4 packets only (needed before looking at IPv4 fields in a table of both families).
    pub(crate) fn ipv4() -> Self {
        Rule::new().with(Field::Family, &[2])
    }

    /// For IPv6 packets only.
    pub(crate) fn ipv6() -> Self {
        Rule::new().with(Field::Family, &[10])
    }

    /// As they are sent: two rules are the same if these are.
    pub(crate) fn bytes(&self) -> &Vec<u8> {
        &self.bytes
    }

    pub(super) fn expressions(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn push(mut self, name: &str, data: impl FnOnce(&mut Writer<'_>)) -> Self {
        Writer::new(&mut self.bytes).nest(LIST_ELEMENT, |w| {
            w.text(1, name);
            w.nest(2, data);
        });
        self
    }

    fn meta(self, key: u32, register: u32) -> Self {
        self.push("meta", |w| {
            w.be32(1, register);
            w.be32(2, key);
        })
    }

    fn payload(self, base: u32, offset: u32, length: u32, register: u32) -> Self {
        self.push("payload", |w| {
            w.be32(1, register);
            w.be32(2, base);
            w.be32(3, offset);
            w.be32(4, length);
        })
    }

    pub(super) fn load(self, field: Field, register: u32) -> Self {
        const NETWORK: u32 = 1;
        const TRANSPORT: u32 = 2;
        match field {
            Field::Family => self.meta(15, register),
            Field::Protocol => self.meta(16, register),
            Field::InputInterface => self.meta(6, register),
            Field::OutputInterface => self.meta(7, register),
            Field::Source4 => self.payload(NETWORK, 12, 4, register),
            Field::Destination4 => self.payload(NETWORK, 16, 4, register),
            Field::Source6 => self.payload(NETWORK, 8, 16, register),
            Field::Destination6 => self.payload(NETWORK, 24, 16, register),
            Field::SourcePort => self.payload(TRANSPORT, 0, 2, register),
            Field::DestinationPort => self.payload(TRANSPORT, 2, 2, register),
            Field::OriginalDestination4 => self.original(20, register),
            Field::OriginalDestination6 => self.original(22, register),
            Field::OriginalDestinationPort => self.original(12, register),
        }
    }

    /// Of the tracked connection's first direction.
    fn original(self, key: u32, register: u32) -> Self {
        self.push("ct", |w| {
            w.be32(1, register);
            w.be32(2, key);
            w.u8(3, 0);
        })
    }

    fn load_row(mut self, key: Key<'_>) -> Self {
        let mut register = FIRST_REGISTER;
        for field in key {
            self = self.load(*field, register);
            register += field.registers();
        }
        self
    }

    pub(super) fn compare(self, how: Compare, value: &[u8]) -> Self {
        self.push("cmp", |w| {
            w.be32(1, FIRST_REGISTER);
            w.be32(2, how as u32);
            w.nest(3, |w| w.bytes(DATA_VALUE, value));
        })
    }

    pub(crate) fn with(self, field: Field, value: &[u8]) -> Self {
        self.load(field, FIRST_REGISTER)
            .compare(Compare::Equal, value)
    }

    pub(crate) fn unless(self, field: Field, value: &[u8]) -> Self {
        self.load(field, FIRST_REGISTER)
            .compare(Compare::NotEqual, value)
    }

    pub(super) fn masked(self, mask: &[u8]) -> Self {
        self.push("bitwise", |w| {
            w.be32(1, FIRST_REGISTER);
            w.be32(2, FIRST_REGISTER);
            w.be32(3, mask.len() as u32);
            w.nest(4, |w| w.bytes(DATA_VALUE, mask));
            w.nest(5, |w| w.bytes(DATA_VALUE, &vec![0; mask.len()]));
        })
    }

    /// Address within 127.0.0.0/8.
    pub(crate) fn with_loopback4(self, field: Field) -> Self {
        self.load(field, FIRST_REGISTER)
            .masked(&[255, 0, 0, 0])
            .compare(Compare::Equal, &[127, 0, 0, 0])
    }

    fn ct_has(self, key: u32, bits: u32) -> Self {
        let rule = self.push("ct", |w| {
            w.be32(1, FIRST_REGISTER);
            w.be32(2, key);
        });
        rule.masked(&bits.to_ne_bytes())
            .compare(Compare::NotEqual, &[0; 4])
    }

    /// Any of these `ct_state` bits.
    pub(crate) fn state(self, bits: u32) -> Self {
        self.ct_has(0, bits)
    }

    /// Any of these `ct_status` bits.
    pub(crate) fn status(self, bits: u32) -> Self {
        self.ct_has(2, bits)
    }

    /// The destination is an address of this machine.
    pub(crate) fn destination_is_local(self) -> Self {
        const DESTINATION: u32 = 2;
        const ADDRESS_TYPE: u32 = 3;
        const LOCAL: u32 = 2;
        let rule = self.push("fib", |w| {
            w.be32(1, FIRST_REGISTER);
            w.be32(2, ADDRESS_TYPE);
            w.be32(3, DESTINATION);
        });
        rule.compare(Compare::Equal, &LOCAL.to_ne_bytes())
    }

    fn look_up(self, key: Key<'_>, set: &str, more: impl FnOnce(&mut Writer<'_>)) -> Self {
        self.load_row(key).push("lookup", |w| {
            w.text(1, set);
            w.be32(2, FIRST_REGISTER);
            more(w);
        })
    }

    pub(crate) fn among(self, key: Key<'_>, set: &str) -> Self {
        self.look_up(key, set, |_| {})
    }

    pub(crate) fn outside(self, key: Key<'_>, set: &str) -> Self {
        self.look_up(key, set, |w| w.be32(5, 1))
    }

    /// Ends with the verdict that the map holds for the key; goes on where it holds none.
    pub(crate) fn verdict_of(self, key: Key<'_>, map: &str) -> Self {
        self.look_up(key, map, |w| w.be32(3, 0))
    }

    /// Translates the destination to the address and port that the map holds for the key.
    pub(crate) fn dnat_by(self, key: Key<'_>, map: &str, family: Address) -> Self {
        self.look_up(key, map, |w| w.be32(3, RESULT_REGISTER))
            .translate(1, family, true)
    }

    /// Translates the destination (`to_source`: the source) to this IPv4 address and port.
    pub(crate) fn translate4_to(self, to_source: bool, address: [u8; 4], port: u16) -> Self {
        let rule = self
            .immediate(RESULT_REGISTER, &address)
            .immediate(RESULT_REGISTER + 1, &port.to_be_bytes());
        rule.translate(u32::from(!to_source), Address::V4, true)
    }

    pub(super) fn immediate(self, register: u32, value: &[u8]) -> Self {
        self.push("immediate", |w| {
            w.be32(1, register);
            w.nest(2, |w| w.bytes(DATA_VALUE, value));
        })
    }

    pub(super) fn translate(self, kind: u32, family: Address, with_port: bool) -> Self {
        let (family, registers) = match family {
            Address::V4 => (2, 1),
            Address::V6 => (10, 4),
        };
        self.push("nat", |w| {
            w.be32(1, kind);
            w.be32(2, family);
            w.be32(3, RESULT_REGISTER);
            if with_port {
                w.be32(5, RESULT_REGISTER + registers);
            }
        })
    }

    pub(crate) fn masquerade(self) -> Self {
        self.push("masq", |_| {})
    }

    fn verdict(self, code: i32) -> Self {
        self.push("immediate", |w| {
            w.be32(1, 0);
            w.nest(2, |w| {
                w.nest(DATA_VERDICT, |w| w.be32(VERDICT_CODE, code as u32))
            });
        })
    }

    pub(crate) fn accept(self) -> Self {
        self.verdict(1)
    }

    pub(crate) fn drop(self) -> Self {
        self.verdict(0)
    }

    /// Goes on in another chain and does not come back.
    pub(crate) fn goto(self, chain: &str) -> Self {
        self.push("immediate", |w| {
            w.be32(1, 0);
            w.nest(2, |w| w.nest(DATA_VERDICT, |w| write_goto(w, chain)));
        })
    }

    /// Leaves the chain.
    pub(crate) fn leave(self) -> Self {
        self.verdict(-5)
    }
}
