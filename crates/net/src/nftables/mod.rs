//! A small encoder of nftables requests: what `nft` would send, without `nft`.

mod expr;
mod message;

pub(crate) use expr::{
    Address, Field, IFNAME_BYTES, Key, Rule, ct_state, ct_status, interface_name,
};
pub(crate) use message::{
    BaseChain, Element, ElementData, Hook, Set, Transaction, flags, kinds, make_table,
};
