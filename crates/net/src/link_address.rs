//! Hardware addresses derived from IPv4 ones, and names for links.

use std::net::Ipv4Addr;

/// `02:42:` and the IPv4 address: locally administered, and the same whenever the address is the same, so that
/// what neighbours remember of it stays right.
pub(crate) fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

/// A name for the host's end of a pair, such as `veth3f9c01a`.
pub(crate) fn random_name() -> crate::Result<String> {
    let mut bytes = [0u8; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(
        |errno| crate::Error::Kernel {
            operation: "draw a name for a link".into(),
            source: errno.into(),
        },
    )?;
    Ok(format!(
        "veth{:07x}",
        u32::from_ne_bytes(bytes) & 0x0fff_ffff
    ))
}
