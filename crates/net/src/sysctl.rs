//! Kernel settings of the calling thread's network namespace, below /proc/sys.

use std::io;
use std::path::Path;

use crate::{Error, Result};

/// Sets `key` (with slashes), unless it has that value already: /proc/sys may be read-only.
pub(crate) fn set(key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(key);
    let write = || -> io::Result<()> {
        if std::fs::read_to_string(&path)?.trim() != value {
            std::fs::write(&path, value)?;
        }
        Ok(())
    };
    write().map_err(|source| Error::Kernel {
        operation: format!("set {} to {value}", path.display()),
        source,
    })
}

/// Sets `key` where the kernel has it (IPv6 may be absent altogether).
pub(crate) fn set_if_present(key: &str, value: &str) -> Result<()> {
    match set(key, value) {
        Err(Error::Kernel { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Turns on the forwarding of IPv6. The kernel takes a machine that forwards for a router, which listens to no
/// other router: links that do so far (`accept_ra` 1) are told to go on (2), or the host would lose its default
/// route minutes later.
pub(crate) fn forward_ipv6() -> Result<()> {
    let conf = "/proc/sys/net/ipv6/conf";
    let forwards = std::fs::read_to_string(format!("{conf}/all/forwarding"));
    if forwards.is_ok_and(|text| text.trim() == "1") {
        return Ok(());
    }
    let links = std::fs::read_dir(conf).map_err(|source| Error::Kernel {
        operation: format!("list {conf}"),
        source,
    })?;
    for link in links.flatten() {
        let listens = std::fs::read_to_string(link.path().join("accept_ra"));
        if let (Ok("1"), Some(name)) =
            (listens.as_deref().map(str::trim), link.file_name().to_str())
        {
            set(&format!("net/ipv6/conf/{name}/accept_ra"), "2")?;
        }
    }
    set("net/ipv6/conf/all/forwarding", "1")
}

/// Whether the kernel has IPv6.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// First and last port that the kernel chooses from by itself.
pub(crate) fn ephemeral_ports() -> (u16, u16) {
    let read = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let parse = |text: String| {
        let mut numbers = text.split_whitespace().map(str::parse::<u16>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    read.and_then(parse)
        .filter(|(first, last)| *first > 0 && first <= last)
        .unwrap_or((49153, 65535))
}
