//! A small encoder of nftables requests: what `nft` would send, without `nft`.

mod chain;
mod choose;
mod expr;
mod message;

pub(crate) use chain::ClientSet;
pub(crate) use choose::Pool;
pub(crate) use expr::{
    Address, Field, IFNAME_BYTES, Key, Rule, ct_state, ct_status, interface_name,
};
pub(crate) use message::{
    BaseChain, Element, ElementData, Hook, Set, Transaction, flags, kinds, make_table,
};
