//! Which addresses of a range are given out.
//!
//! Addresses are given in ascending order and start over at the end, so that one that was released is the
//! last to be used again: what neighbours and connection tracking remember of it has faded by then.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::subnet::{Subnet, number};
use crate::{Error, Result};

/// The addresses of one range.
#[derive(Debug)]
pub(crate) struct Pool {
    subnet: Subnet,
    first: u128,
    last: u128,
    next: u128,
    used: BTreeSet<u128>,
}

impl Pool {
    /// Gives out addresses of `range` (by default the whole subnet). Network and broadcast address are never
    /// given out.
    pub(crate) fn new(subnet: Subnet, range: Option<Subnet>) -> Pool {
        let range = range.unwrap_or(subnet);
        let mut first = range.first().max(subnet.first());
        let mut last = range.last().min(subnet.last());
        // A /31 or /32 has neither network nor broadcast address (RFC 3021).
        if subnet.last() - subnet.first() > 1 {
            first = first.max(subnet.first() + 1);
            if subnet.address.is_ipv4() {
                last = last.min(subnet.last() - 1);
            }
        }
        Pool {
            subnet,
            first,
            last,
            next: first,
            used: BTreeSet::new(),
        }
    }

    /// The next free address.
    pub(crate) fn take(&mut self) -> Result<IpAddr> {
        let free = self
            .free_from(self.next, self.last)
            .or_else(|| self.free_from(self.first, self.last));
        let free = free.ok_or_else(|| Error::PoolExhausted(self.subnet.to_string()))?;
        self.used.insert(free);
        self.next = if free >= self.last {
            self.first
        } else {
            free + 1
        };
        Ok(self.subnet.at(free))
    }

    /// Walks over the run of used addresses that starts at `from`.
    fn free_from(&self, from: u128, to: u128) -> Option<u128> {
        if from > to {
            return None;
        }
        let mut candidate = from;
        for used in self.used.range(from..=to) {
            if *used != candidate {
                break;
            }
            candidate = candidate.checked_add(1)?;
        }
        (candidate <= to).then_some(candidate)
    }

    /// Takes a certain address, which may lie outside the narrower range but not outside the subnet.
    pub(crate) fn take_fixed(&mut self, address: IpAddr) -> Result<()> {
        if !self.subnet.contains(address) {
            let words = format!(
                "invalid address {address}: it does not belong to the network's subnet {}",
                self.subnet
            );
            return Err(Error::AddressUnavailable(words));
        }
        if !self.used.insert(number(address)) {
            return Err(Error::AddressUnavailable(format!(
                "Address already in use: {address}"
            )));
        }
        Ok(())
    }

    pub(crate) fn is_taken(&self, address: IpAddr) -> bool {
        self.used.contains(&number(address))
    }

    pub(crate) fn release(&mut self, address: IpAddr) {
        if self.subnet.contains(address) {
            self.used.remove(&number(address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(subnet: &str, range: Option<&str>) -> Pool {
        Pool::new(subnet.parse().unwrap(), range.map(|r| r.parse().unwrap()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ascending_after_the_gateway_and_a_released_one_comes_last() {
        let mut pool = pool("10.0.0.0/29", None);
        pool.take_fixed(ip("10.0.0.1")).unwrap();
        assert_eq!(pool.take().unwrap(), ip("10.0.0.2"));
        assert_eq!(pool.take().unwrap(), ip("10.0.0.3"));
        pool.release(ip("10.0.0.2"));
        for expected in ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"] {
            assert_eq!(pool.take().unwrap(), ip(expected));
        }
        let error = pool.take().unwrap_err();
        assert!(
            matches!(&error, Error::PoolExhausted(s) if s == "10.0.0.0/29"),
            "{error}"
        );
        pool.release(ip("10.0.0.5"));
        assert_eq!(pool.take().unwrap(), ip("10.0.0.5"));
    }

    #[test]
    fn a_fixed_address_is_given_once_and_only_within_the_subnet() {
        let mut pool = pool("10.0.0.0/24", Some("10.0.0.128/25"));
        assert_eq!(pool.take().unwrap(), ip("10.0.0.128"));
        pool.take_fixed(ip("10.0.0.5")).unwrap();
        assert!(matches!(
            pool.take_fixed(ip("10.0.0.5")),
            Err(Error::AddressUnavailable(_))
        ));
        assert!(matches!(
            pool.take_fixed(ip("10.0.1.5")),
            Err(Error::AddressUnavailable(_))
        ));
        pool.take_fixed(ip("10.0.0.129")).unwrap();
        assert_eq!(pool.take().unwrap(), ip("10.0.0.130"));
    }

    #[test]
    fn tiny_and_huge_ranges() {
        let mut two = pool("10.0.0.0/31", None);
        assert_eq!(
            [two.take().unwrap(), two.take().unwrap()],
            [ip("10.0.0.0"), ip("10.0.0.1")]
        );
        let mut one = pool("10.0.0.7/32", None);
        assert_eq!(one.take().unwrap(), ip("10.0.0.7"));
        assert!(one.take().is_err());
        let mut six = pool("::/0", None);
        assert_eq!(six.take().unwrap(), ip("::1"));
        let mut last = pool(
            "ffff::/16",
            Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"),
        );
        assert_eq!(
            last.take().unwrap(),
            ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
        );
        assert!(last.take().is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_address_is_given_twice(steps in proptest::collection::vec((0u8..3, 0u8..16), 0..200)) {
            let mut pool = pool("10.0.0.0/28", None);
            let mut held = BTreeSet::new();
            for (step, n) in steps {
                let fixed = IpAddr::from([10, 0, 0, n]);
                match step {
                    0 => if let Ok(address) = pool.take() {
                        assert!(held.insert(address));
                    } else {
                        assert!(held.len() >= 14);
                    },
                    1 => assert_eq!(pool.take_fixed(fixed).is_ok(), held.insert(fixed)),
                    _ => { pool.release(fixed); held.remove(&fixed); }
                }
            }
        }
    }
}
