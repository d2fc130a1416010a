//! Address ranges: parsing, containment, overlap, and the ranges that networks get when they name none.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address range, e.g. `172.17.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Subnet {
    /// Network address.
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

/// An address as a number, for arithmetic within its family.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Subnet {
    /// The range that holds `address`: its bits after the prefix are cleared, a prefix that is too long is cut.
    pub fn new(address: IpAddr, prefix: u8) -> Subnet {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let subnet = Subnet {
            address,
            prefix: prefix.min(bits),
        };
        Subnet {
            address: subnet.at(subnet.first()),
            prefix: subnet.prefix,
        }
    }

    fn bits(&self) -> u32 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Bits that tell addresses of the range apart.
    fn host_mask(&self) -> u128 {
        let host_bits = self.bits() - u32::from(self.prefix).min(self.bits());
        if host_bits == 128 {
            u128::MAX
        } else {
            (1 << host_bits) - 1
        }
    }

    /// First address as a number.
    pub(crate) fn first(&self) -> u128 {
        number(self.address) & !self.host_mask()
    }

    /// Last address as a number.
    pub(crate) fn last(&self) -> u128 {
        number(self.address) | self.host_mask()
    }

    /// The address of this family with that number.
    pub(crate) fn at(&self, number: u128) -> IpAddr {
        match self.address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }

    /// Whether the range holds this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && (self.first()..=self.last()).contains(&number(address))
    }

    /// Whether any address is in both.
    pub fn overlaps(&self, other: &Subnet) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.first() <= other.last()
            && other.first() <= self.last()
    }

    /// The ranges that networks without a declared one are given, in order: the ones Docker uses.
    pub(crate) fn defaults() -> impl Iterator<Item = Subnet> {
        let wide = (17..=31)
            .map(|n| Ipv4Addr::new(172, n, 0, 0))
            .map(|a| (a, 16));
        let narrow = (0..=15)
            .map(|n| Ipv4Addr::new(192, 168, n * 16, 0))
            .map(|a| (a, 20));
        wide.chain(narrow).map(|(address, prefix)| Subnet {
            address: IpAddr::V4(address),
            prefix,
        })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A text that isn't `ADDRESS/PREFIX`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct MalformedSubnet(String);

impl FromStr for Subnet {
    type Err = MalformedSubnet;

    /// Bits after the prefix are cleared: `10.1.2.3/8` is `10.0.0.0/8`.
    fn from_str(text: &str) -> Result<Subnet, MalformedSubnet> {
        let malformed = || MalformedSubnet(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let prefix: u8 = prefix.parse().map_err(|_| malformed())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix > longest {
            return Err(malformed());
        }
        Ok(Subnet::new(address, prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn texts() {
        assert_eq!(subnet("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(subnet("fd00:1::5/64").to_string(), "fd00:1::/64");
        assert_eq!(subnet("::/0").last(), u128::MAX);
        for bad in [
            "10.0.0.0",
            "10.0.0.0/33",
            "x/8",
            "10.0.0.0/-1",
            "::/129",
            "/8",
            "10.0.0.0/",
        ] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn overlap_is_containment_either_way() {
        let wide = subnet("172.16.0.0/12");
        let narrow = subnet("172.17.0.0/16");
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide));
        assert!(!narrow.overlaps(&subnet("172.18.0.0/16")));
        assert!(!subnet("0.0.0.0/0").overlaps(&subnet("::/0")));
        assert!(narrow.contains("172.17.255.255".parse().unwrap()));
        assert!(!narrow.contains("172.18.0.0".parse().unwrap()));
    }

    #[test]
    fn default_ranges_do_not_overlap_each_other() {
        let all: Vec<Subnet> = Subnet::defaults().collect();
        assert_eq!(all.len(), 31);
        assert_eq!(all[0].to_string(), "172.17.0.0/16");
        assert_eq!(all[30].to_string(), "192.168.240.0/20");
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| !a.overlaps(b)), "{a}");
        }
    }
}
