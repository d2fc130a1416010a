//! Mappings of a user namespace (user_namespaces(7)), by root or by an ordinary user.

use std::fs;
use std::process::{Command, Stdio};

use oci_spec::runtime::LinuxIdMapping;

use crate::error::{Error, Result};

/// Writes the mappings of the namespace that `pid` is in.
pub fn write(pid: i32, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<()> {
    if crate::has_root() {
        write_file(pid, "uid_map", &lines(uids))?;
        return write_file(pid, "gid_map", &lines(gids));
    }
    let own = rustix::process::geteuid().as_raw();
    if is_only(uids, own) {
        write_file(pid, "uid_map", &lines(uids))?;
    } else {
        by_program("newuidmap", pid, uids)?;
    }
    if is_only(gids, rustix::process::getegid().as_raw()) {
        // Else a user could drop a group that keeps it from something.
        write_file(pid, "setgroups", "deny")?;
        write_file(pid, "gid_map", &lines(gids))
    } else {
        by_program("newgidmap", pid, gids)
    }
}

/// An ordinary user may map itself, and nobody else.
fn is_only(mappings: &[LinuxIdMapping], own: u32) -> bool {
    matches!(mappings, [one] if one.size() == 1 && one.host_id() == own)
}

/// The system's program, which knows what /etc/subuid and /etc/subgid give to the user.
fn by_program(program: &str, pid: i32, mappings: &[LinuxIdMapping]) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string()).stdin(Stdio::null());
    for mapping in mappings {
        command.args([
            mapping.container_id().to_string(),
            mapping.host_id().to_string(),
            mapping.size().to_string(),
        ]);
    }
    let output = command.output().map_err(Error::system(format!(
        "run {program} (package uidmap), which maps IDs for an ordinary user"
    )))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Config(format!(
        "{program} refuses the mappings: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

fn write_file(pid: i32, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    fs::write(&path, text).map_err(Error::system(format!("write {path}")))
}

fn lines(mappings: &[LinuxIdMapping]) -> String {
    mappings
        .iter()
        .map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size()))
        .collect()
}
