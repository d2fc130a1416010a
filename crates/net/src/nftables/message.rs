//! Transactions over tables, chains, sets, maps and their elements. All of a transaction happens, or none.

use std::borrow::Cow;

use super::expr::Rule;
use crate::netlink::{APPEND, Batch, CREATE, EXCLUSIVE, Failure, Socket, Writer};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
pub(super) const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
pub(super) const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;

/// `NFTA_LIST_ELEM`
pub(super) const LIST_ELEMENT: u16 = 1;
/// `NFTA_DATA_VALUE`
pub(super) const DATA_VALUE: u16 = 1;
/// `NFTA_DATA_VERDICT`
pub(super) const DATA_VERDICT: u16 = 2;
/// `NFTA_VERDICT_CODE`
pub(super) const VERDICT_CODE: u16 = 1;

/// `NFT_SET_*`
pub(crate) mod flags {
    /// Elements come in pairs, start and end.
    pub(crate) const INTERVAL: u32 = 4;
    /// Elements lead to data.
    pub(crate) const MAP: u32 = 8;
    /// Elements go by themselves after a while.
    pub(crate) const TIMEOUT: u32 = 0x10;
    /// Rules add elements.
    pub(crate) const FROM_PACKETS: u32 = 0x20;
}

/// Data types as `nft` numbers them; the kernel only hands them back, so that `nft list` shows elements right.
pub(crate) mod kinds {
    pub(crate) const IPV4: u32 = 7;
    pub(crate) const IPV6: u32 = 8;
    pub(crate) const PROTOCOL: u32 = 12;
    pub(crate) const PORT: u32 = 13;
    pub(crate) const INTERFACE: u32 = 41;
    /// A number in the machine's byte order.
    pub(crate) const NUMBER: u32 = 19;
    pub(crate) const VERDICT: u32 = 0xffff_ff00;

    /// The type of several in a row.
    pub(crate) fn row(parts: &[u32]) -> u32 {
        parts.iter().fold(0, |row, part| row << 6 | part)
    }
}

/// Where a base chain is hooked in.
#[derive(Clone, Copy)]
pub(crate) enum Hook {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A chain that packets enter by themselves.
pub(crate) struct BaseChain {
    pub(crate) name: &'static str,
    /// `nat` or `filter`.
    pub(crate) kind: &'static str,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
}

/// A set, or a map where `data` is there.
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) flags: u32,
    pub(crate) key_kind: u32,
    pub(crate) key_bytes: u32,
    /// Type and length of what a key leads to.
    pub(crate) data: Option<(u32, u32)>,
}

/// What a map's key leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ElementData {
    None,
    Value(Vec<u8>),
    Accept,
    Drop,
    /// Goes on in this chain.
    Goto(String),
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Element {
    pub(crate) set: Cow<'static, str>,
    pub(crate) key: Vec<u8>,
    pub(crate) data: ElementData,
    /// The end of an interval, itself not in it.
    pub(crate) end: bool,
}

/// Changes that the kernel makes together.
pub(crate) struct Transaction<'a> {
    family: u8,
    table: &'a str,
    pub(super) batch: Batch,
}

impl<'a> Transaction<'a> {
    /// About the table `table` of IPv4 and IPv6 together.
    pub(crate) fn inet(table: &'a str) -> Self {
        Transaction::new(1, table)
    }

    /// About the IPv4 table `table`.
    pub(crate) fn ipv4(table: &'a str) -> Self {
        Transaction::new(2, table)
    }

    fn new(family: u8, table: &'a str) -> Self {
        let mut batch = Batch::new();
        batch.push(BATCH_BEGIN, 0, "change nftables", |w| {
            w.raw(&[0, 0, 0, SUBSYSTEM as u8])
        });
        Transaction {
            family,
            table,
            batch,
        }
    }

    pub(super) fn push(
        &mut self,
        message: u16,
        flags: u16,
        operation: impl Into<Cow<'static, str>>,
        body: impl FnOnce(&mut Writer<'_>, &str),
    ) {
        let (family, table) = (self.family, self.table);
        self.batch
            .push(SUBSYSTEM << 8 | message, flags, operation, |w| {
                w.raw(&[family, 0, 0, 0]);
                body(w, table);
            });
    }

    /// Starts the table, which must not exist yet.
    pub(crate) fn create_table(&mut self) {
        self.add_table(CREATE | EXCLUSIVE);
    }

    /// Removes what the table held and starts it anew. Dearer than it looks: the kernel waits for every reader
    /// of what was removed, at the latest when the socket is closed.
    pub(crate) fn replace_table(&mut self) {
        self.add_table(CREATE);
        self.remove_table();
        self.add_table(CREATE);
    }

    /// Removes the table, which must exist.
    pub(crate) fn remove_table(&mut self) {
        let operation = format!("remove the nftables table {}", self.table);
        self.push(DELTABLE, 0, operation, |w, table| w.text(1, table));
    }

    fn add_table(&mut self, flags: u16) {
        let operation = format!("make the nftables table {}", self.table);
        self.push(NEWTABLE, flags, operation, |w, table| w.text(1, table));
    }

    pub(crate) fn add_chain(&mut self, chain: &BaseChain) {
        self.push(
            NEWCHAIN,
            CREATE,
            format!("make the nftables chain {}", chain.name),
            |w, table| {
                w.text(1, table);
                w.text(3, chain.name);
                w.nest(4, |w| {
                    w.be32(1, chain.hook as u32);
                    w.be32(2, chain.priority as u32);
                });
                w.be32(5, 1); // policy: accept
                w.text(7, chain.kind);
            },
        );
    }

    pub(crate) fn add_rule(&mut self, chain: &str, rule: &Rule) {
        self.push(
            NEWRULE,
            CREATE | APPEND,
            format!("add a rule to the nftables chain {chain}"),
            |w, table| {
                w.text(1, table);
                w.text(2, chain);
                w.nest(4, |w| w.raw(rule.expressions()));
            },
        );
    }

    pub(crate) fn add_set(&mut self, set: &Set) {
        let number = self.batch.len() as u32;
        self.push(
            NEWSET,
            CREATE,
            format!("make the nftables set {}", set.name),
            |w, table| {
                w.text(1, table);
                w.text(2, set.name);
                w.be32(
                    3,
                    set.flags | if set.data.is_some() { flags::MAP } else { 0 },
                );
                w.be32(4, set.key_kind);
                w.be32(5, set.key_bytes);
                if let Some((kind, bytes)) = set.data {
                    w.be32(6, kind);
                    w.be32(7, bytes);
                }
                w.be32(10, number);
            },
        );
    }

    pub(crate) fn add_element(&mut self, element: &Element, why: impl Into<Cow<'static, str>>) {
        self.push(NEWSETELEM, CREATE, why, |w, table| element.write(w, table));
    }

    pub(crate) fn delete_element(&mut self, element: &Element, why: impl Into<Cow<'static, str>>) {
        self.push(DELSETELEM, 0, why, |w, table| element.write(w, table));
    }

    /// Sends it off. On failure nothing of it has happened.
    pub(crate) fn commit(mut self, socket: &mut Socket) -> Result<(), Failure> {
        if self.batch.len() == 1 {
            return Ok(());
        }
        self.batch.push(BATCH_END, 0, "change nftables", |w| {
            w.raw(&[0, 0, 0, SUBSYSTEM as u8])
        });
        socket.send(&self.batch)
    }
}

/// Makes a table with what `fill` adds. One of that name that is there is replaced in the same transaction.
pub(crate) fn make_table<'a>(
    socket: &mut Socket,
    begin: impl Fn() -> Transaction<'a>,
    fill: impl Fn(&mut Transaction<'a>),
) -> Result<(), Failure> {
    let mut fresh = begin();
    fresh.create_table();
    fill(&mut fresh);
    match fresh.commit(socket) {
        Err(failure) if failure.is(rustix::io::Errno::EXIST) => {
            let mut again = begin();
            again.replace_table();
            fill(&mut again);
            again.commit(socket)
        }
        result => result,
    }
}

/// A verdict's content: go on in that chain.
pub(super) fn write_goto(w: &mut Writer<'_>, chain: &str) {
    const GOTO: i32 = -4;
    w.be32(VERDICT_CODE, GOTO as u32);
    w.text(2, chain);
}

impl Element {
    fn write(&self, w: &mut Writer<'_>, table: &str) {
        w.text(1, table);
        w.text(2, &self.set);
        w.nest(3, |w| {
            w.nest(LIST_ELEMENT, |w| {
                w.nest(1, |w| w.bytes(DATA_VALUE, &self.key));
                match &self.data {
                    ElementData::None => {}
                    ElementData::Value(value) => w.nest(2, |w| w.bytes(DATA_VALUE, value)),
                    ElementData::Accept => {
                        w.nest(2, |w| w.nest(DATA_VERDICT, |w| w.be32(VERDICT_CODE, 1)))
                    }
                    ElementData::Goto(chain) => {
                        w.nest(2, |w| w.nest(DATA_VERDICT, |w| write_goto(w, chain)))
                    }
                    ElementData::Drop => {
                        w.nest(2, |w| w.nest(DATA_VERDICT, |w| w.be32(VERDICT_CODE, 0)))
                    }
                }
                if self.end {
                    w.be32(3, 1);
                }
            });
        });
    }
}
