//! Doors for fuzzers: what reads bytes from outside, called with nothing but bytes.

use crate::{hierarchy, systemd};

/// Reads the list of mounts.
pub fn mounts(bytes: &[u8]) {
    let _ = hierarchy::parse(&String::from_utf8_lossy(bytes));
}

/// Reads what comes over a bus.
pub fn bus_message(bytes: &[u8]) {
    systemd::read_message(bytes);
}

/// Reads the name of a unit, and the value of a property after a line break.
pub fn unit(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (path, value) = text.split_once('\n').unwrap_or((&text, ""));
    let _ = systemd::Unit::parse(path, "id");
    systemd::read_property("TimeoutStopSec", value);
}
