//! Rules that choose one of several endpoints, remember the choice, refuse, and mark.

use super::expr::{Address, Compare, FIRST_REGISTER, Field, RESULT_REGISTER, Rule};

/// Bit of the packet's mark that asks for masquerading at the end. The same as kube-proxy's.
const MASQUERADE_MARK: u32 = 0x4000;
/// Where the number of a pool stands when what stands in the result registers is looked up with it.
const BEFORE_RESULT: u32 = RESULT_REGISTER - 1;
/// Where pool and place stand, behind the longest address.
const PLACE: u32 = FIRST_REGISTER + 4;

/// Endpoints to choose from.
#[derive(Clone, Copy)]
pub(crate) struct Pool<'a> {
    pub(crate) family: Address,
    /// First part of its keys in `map`.
    pub(crate) number: u32,
    pub(crate) endpoints: u32,
    /// `(pool, place) → (address, port)`
    pub(crate) map: &'a str,
    /// The only endpoint, where there is one only.
    pub(crate) only: Option<(&'a [u8], u16)>,
}

impl Pool<'_> {
    fn source(&self) -> Field {
        match self.family {
            Address::V4 => Field::Source4,
            Address::V6 => Field::Source6,
        }
    }

    /// Register of the port in a result.
    fn port_register(&self) -> u32 {
        RESULT_REGISTER + self.source().registers()
    }
}

impl Rule {
    fn draw(self, pool: &Pool<'_>) -> Self {
        if let Some((address, port)) = pool.only {
            return self
                .immediate(RESULT_REGISTER, address)
                .immediate(pool.port_register(), &port.to_be_bytes());
        }
        const RANDOM: u32 = 1;
        self.immediate(PLACE, &pool.number.to_ne_bytes())
            .push("numgen", |w| {
                w.be32(1, PLACE + 1);
                w.be32(2, pool.endpoints);
                w.be32(3, RANDOM);
            })
            .push("lookup", |w| {
                w.text(1, pool.map);
                w.be32(2, PLACE);
                w.be32(3, RESULT_REGISTER);
            })
    }

    /// Leads to an endpoint drawn at random.
    pub(crate) fn lead_to_any(self, pool: &Pool<'_>) -> Self {
        self.draw(pool).translate(1, pool.family, true)
    }

    fn learn(self, operation: u32, memory: &str) -> Self {
        self.push("dynset", |w| {
            w.text(1, memory);
            w.be32(3, operation);
            w.be32(4, FIRST_REGISTER);
            w.be32(5, RESULT_REGISTER);
        })
    }

    /// Leads to the endpoint that `memory` has for the client, if `(pool, address, port)` is in `live` still.
    pub(crate) fn lead_as_remembered(self, pool: &Pool<'_>, memory: &str, live: &str) -> Self {
        let rule = self
            .load(pool.source(), FIRST_REGISTER)
            .push("lookup", |w| {
                w.text(1, memory);
                w.be32(2, FIRST_REGISTER);
                w.be32(3, RESULT_REGISTER);
            })
            .immediate(BEFORE_RESULT, &pool.number.to_ne_bytes())
            .push("lookup", |w| {
                w.text(1, live);
                w.be32(2, BEFORE_RESULT);
            });
        rule.learn(UPDATE, memory).translate(1, pool.family, true)
    }

    /// Forgets what `memory` has for the client: an entry that is there is never changed, only made.
    pub(crate) fn forget_client(self, pool: &Pool<'_>, memory: &str) -> Self {
        let nowhere = vec![0; 4 * pool.source().registers() as usize];
        self.load(pool.source(), FIRST_REGISTER)
            .immediate(RESULT_REGISTER, &nowhere)
            .immediate(pool.port_register(), &[0; 4])
            .learn(DELETE, memory)
    }

    /// Leads to an endpoint drawn at random and remembers it; goes on to the next rule if memory is full.
    pub(crate) fn lead_and_remember(self, pool: &Pool<'_>, memory: &str) -> Self {
        self.load(pool.source(), FIRST_REGISTER)
            .draw(pool)
            .learn(UPDATE, memory)
            .translate(1, pool.family, true)
    }

    /// Keeps the source as it is, so that no rule of another table changes it.
    pub(crate) fn keep_source(self, family: Address) -> Self {
        let field = match family {
            Address::V4 => Field::Source4,
            Address::V6 => Field::Source6,
        };
        self.load(field, RESULT_REGISTER)
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

/// `NFT_DYNSET_OP_UPDATE`
const UPDATE: u32 = 1;
/// `NFT_DYNSET_OP_DELETE`
const DELETE: u32 = 2;
