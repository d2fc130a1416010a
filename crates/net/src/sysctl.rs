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
