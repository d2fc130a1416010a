//! Doors for fuzzers: what reads bytes from outside, called with nothing but bytes. Nothing is made, run or mounted.

use crate::cli::parse_config;
use crate::mount_options::Options;

/// Reads a configuration and works out what follows from it alone.
pub fn config(bytes: &[u8]) {
    let Some(spec) = parse_config(bytes) else {
        return;
    };
    let linux = spec.linux().as_ref();
    if let Some(seccomp) = linux.and_then(|linux| linux.seccomp().as_ref()) {
        let _ = crate::seccomp::compile(seccomp);
        let _ = crate::seccomp::flags(seccomp);
    }
    if let Some(resources) = linux.and_then(|linux| linux.resources().as_ref()) {
        let _ = crate::device_rules::enforceable(resources);
    }
    for mount in spec.mounts().iter().flatten() {
        let _ = Options::parse(mount.options().as_deref().unwrap_or_default());
    }
    let _ = crate::cgroup_path(&spec, "id");
    let _ = crate::state_json("id", "created", 1, std::path::Path::new("/"), &spec);
}

/// Reads mount options, one a line.
pub fn mount_options(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<String> = text.lines().map(str::to_owned).collect();
    let _ = Options::parse(&words);
}
