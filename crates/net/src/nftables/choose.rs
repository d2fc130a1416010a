//! Rules that choose one of several endpoints, remember the choice, refuse, and mark.

use super::expr::{Address, Compare, FIRST_REGISTER, Field, RESULT_REGISTER, Rule};

/// Bit of the packet's mark that asks for masquerading at the end. The same as kube-proxy's.
const MASQUERADE_MARK: u32 = 0x4000;
/// Where pool and place stand, behind the longest address.
const PLACE: u32 = FIRST_REGISTER + 4;

/// Endpoints to choose from.
#[derive(Clone, Copy)]
pub(crate) struct Pool<'a> {
    pub(crate) family: Address,
    /// First part of its keys in a map of `(pool, place)`.
    pub(crate) number: u32,
    pub(crate) endpoints: u32,
    /// The only endpoint, where there is one only.
    pub(crate) only: Option<(&'a [u8], u16)>,
}

fn source(family: Address) -> Field {
    match family {
        Address::V4 => Field::Source4,
        Address::V6 => Field::Source6,
    }
}

impl Rule {
    /// A place of the pool at random, looked up in a map.
    fn draw(self, pool: &Pool<'_>, map: &str, result: u32) -> Self {
        const RANDOM: u32 = 1;
        self.immediate(PLACE, &pool.number.to_ne_bytes())
            .push("numgen", |w| {
                w.be32(1, PLACE + 1);
                w.be32(2, pool.endpoints);
                w.be32(3, RANDOM);
            })
            .push("lookup", |w| {
                w.text(1, map);
                w.be32(2, PLACE);
                w.be32(3, result);
            })
    }

    /// Leads to an endpoint drawn at random; `map`: `(pool, place) → (address, port)`.
    pub(crate) fn lead_to_any(self, pool: &Pool<'_>, map: &str) -> Self {
        match pool.only {
            Some((address, port)) => self.lead_to(pool.family, address, port),
            None => self
                .draw(pool, map, RESULT_REGISTER)
                .translate(1, pool.family, true),
        }
    }

    /// Goes on in a chain drawn at random; `map`: `(pool, place) → chain`.
    pub(crate) fn go_to_any(self, pool: &Pool<'_>, map: &str) -> Self {
        const VERDICT: u32 = 0;
        self.draw(pool, map, VERDICT)
    }

    /// Leads to this endpoint.
    pub(crate) fn lead_to(self, family: Address, address: &[u8], port: u16) -> Self {
        self.immediate(RESULT_REGISTER, address)
            .immediate(
                RESULT_REGISTER + source(family).registers(),
                &port.to_be_bytes(),
            )
            .translate(1, family, true)
    }

    /// Puts the client into a set, or renews its stay; goes on to the next rule if the set is full.
    pub(crate) fn remember_client(self, family: Address, set: &str) -> Self {
        const UPDATE: u32 = 1;
        self.load(source(family), FIRST_REGISTER)
            .push("dynset", |w| {
                w.text(1, set);
                w.be32(3, UPDATE);
                w.be32(4, FIRST_REGISTER);
            })
    }

    /// Keeps the source as it is, so that no rule of another table changes it.
    pub(crate) fn keep_source(self, family: Address) -> Self {
        self.load(source(family), RESULT_REGISTER)
            .translate(0, family, false)
    }

    fn set_mark(self, keep: u32, add: u32) -> Self {
        const MARK: u32 = 3;
        let rule = self.push("meta", |w| {
            w.be32(1, FIRST_REGISTER);
            w.be32(2, MARK);
        });
        let rule = rule.push("bitwise", |w| {
            w.be32(1, FIRST_REGISTER);
            w.be32(2, FIRST_REGISTER);
            w.be32(3, 4);
            w.nest(4, |w| w.bytes(1, &keep.to_ne_bytes()));
            w.nest(5, |w| w.bytes(1, &add.to_ne_bytes()));
        });
        rule.push("meta", |w| {
            w.be32(2, MARK);
            w.be32(3, FIRST_REGISTER);
        })
    }

    /// Asks for masquerading at the end.
    pub(crate) fn ask_masquerade(self) -> Self {
        self.set_mark(!MASQUERADE_MARK, MASQUERADE_MARK)
    }

    /// Only packets for which it was asked; the mark is taken off.
    pub(crate) fn asked_masquerade(self) -> Self {
        const MARK: u32 = 3;
        let rule = self.push("meta", |w| {
            w.be32(1, FIRST_REGISTER);
            w.be32(2, MARK);
        });
        rule.masked(&MASQUERADE_MARK.to_ne_bytes())
            .compare(Compare::NotEqual, &[0; 4])
            .set_mark(!MASQUERADE_MARK, 0)
    }

    /// The source is an address of this machine.
    pub(crate) fn source_is_local(self) -> Self {
        const SOURCE: u32 = 1;
        const ADDRESS_TYPE: u32 = 3;
        const LOCAL: u32 = 2;
        let rule = self.push("fib", |w| {
            w.be32(1, FIRST_REGISTER);
            w.be32(2, ADDRESS_TYPE);
            w.be32(3, SOURCE);
        });
        rule.compare(Compare::Equal, &LOCAL.to_ne_bytes())
    }

    /// Address within a range, given as its first address and the mask.
    pub(crate) fn within(self, field: Field, first: &[u8], mask: &[u8]) -> Self {
        self.load(field, FIRST_REGISTER)
            .masked(mask)
            .compare(Compare::Equal, first)
    }

    /// Answers "nobody listens there" in TCP's way.
    pub(crate) fn reset(self) -> Self {
        self.push("reject", |w| {
            w.be32(1, 1);
            w.u8(2, 0);
        })
    }

    /// Answers "nobody listens there" by ICMP of the packet's family.
    pub(crate) fn unreachable(self) -> Self {
        const PORT_UNREACHABLE: u8 = 1;
        self.push("reject", |w| {
            w.be32(1, 2);
            w.u8(2, PORT_UNREACHABLE);
        })
    }
}
