//! Chains that other chains lead to, and sets that packets fill: what comes and goes with a service.

use super::message::{NEWCHAIN, NEWSET, Transaction, flags, kinds};
use crate::netlink::CREATE;

const DELCHAIN: u16 = 5;
const DELRULE: u16 = 8;
const DELSET: u16 = 11;

/// Addresses of clients, filled by packets and forgotten by time.
pub(crate) struct ClientSet {
    pub(crate) name: String,
    pub(crate) is_ipv6: bool,
    /// How long a client stays after its last connection.
    pub(crate) timeout_ms: u64,
    /// Most clients; when it is full, others are served all the same and not remembered.
    pub(crate) clients_max: u32,
}

impl Transaction<'_> {
    /// A chain that only other chains lead to. `comment` is what `nft list` shows with it.
    pub(crate) fn add_plain_chain(&mut self, name: &str, comment: &str) {
        self.push(
            NEWCHAIN,
            CREATE,
            format!("make the nftables chain {name} of {comment}"),
            |w, table| {
                w.text(1, table);
                w.text(3, name);
                w.bytes(12, &user_comment(comment));
            },
        );
    }

    /// Removes the chain, which nothing leads to any more.
    pub(crate) fn delete_chain(&mut self, name: &str) {
        let operation = format!("remove the nftables chain {name}");
        self.push(DELCHAIN, 0, operation, |w, table| {
            w.text(1, table);
            w.text(3, name);
        });
    }

    /// Removes every rule of a chain.
    pub(crate) fn clear_chain(&mut self, name: &str) {
        let operation = format!("remove the rules of the nftables chain {name}");
        self.push(DELRULE, 0, operation, |w, table| {
            w.text(1, table);
            w.text(2, name);
        });
    }

    pub(crate) fn add_client_set(&mut self, set: &ClientSet) {
        let number = self.batch.len() as u32;
        let (address, bytes) = if set.is_ipv6 {
            (kinds::IPV6, 16)
        } else {
            (kinds::IPV4, 4)
        };
        let operation = format!("make the nftables set {}", set.name);
        self.push(NEWSET, CREATE, operation, |w, table| {
            w.text(1, table);
            w.text(2, &set.name);
            w.be32(3, flags::TIMEOUT | flags::FROM_PACKETS);
            w.be32(4, address);
            w.be32(5, bytes);
            w.nest(9, |w| w.be32(1, set.clients_max));
            w.be32(10, number);
            w.bytes(11, &set.timeout_ms.to_be_bytes());
        });
    }

    /// Removes a set or map that no rule looks at any more.
    pub(crate) fn delete_set(&mut self, name: &str) {
        let operation = format!("remove the nftables map {name}");
        self.push(DELSET, 0, operation, |w, table| {
            w.text(1, table);
            w.text(2, name);
        });
    }
}

/// Type 0, length, text with its zero: how `nft` keeps comments in user data, which holds 256 bytes at most.
fn user_comment(comment: &str) -> Vec<u8> {
    const COMMENT_BYTES_MAX: usize = 128;
    let mut end = comment.len().min(COMMENT_BYTES_MAX - 1);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = vec![0, end as u8 + 1];
    bytes.extend_from_slice(&comment.as_bytes()[..end]);
    bytes.push(0);
    bytes
}
