//! Labels of security modules (runtime-spec, "apparmorProfile", "selinuxLabel"), which the exec takes on.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use oci_spec::runtime::Process;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Failure, Step, failed, kernel_settings};

/// Sets what the program is to be confined by. A confinement that can't be had is an error: the caller relies on it.
pub fn set(process: &Process) -> Step {
    let profile = process.apparmor_profile().as_deref().unwrap_or_default();
    if !matches!(profile, "" | "unconfined") {
        write(
            "attr/apparmor/exec",
            &format!("exec {profile}"),
            &format!("apply AppArmor profile {profile:?}"),
        )?;
    }
    let label = process.selinux_label().as_deref().unwrap_or_default();
    if !label.is_empty() {
        if !Path::new("/sys/fs/selinux/enforce").exists() && !is_known("selinuxfs") {
            return Err(Failure::new(format!(
                "apply SELinux label {label:?}: this kernel has no SELinux"
            )));
        }
        write(
            "attr/exec",
            label,
            &format!("apply SELinux label {label:?}"),
        )?;
    }
    Ok(())
}

/// Whether the kernel has a file system of this name.
fn is_known(kind: &str) -> bool {
    let text = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    text.lines()
        .any(|line| line.split_whitespace().next_back() == Some(kind))
}

/// Through a procfs of our own: what the container has mounted on its own could take the label away unseen
/// (CVE-2019-16884, CVE-2025-52881).
fn write(file: &str, text: &str, what: &str) -> Step {
    let proc = kernel_settings::private_proc().map_err(failed(what))?;
    let path = format!("{}/{file}", std::process::id());
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat2(&proc, path.as_str(), flags, Mode::empty(), resolve) {
        Err(Errno::NOENT) => {
            return Err(Failure::new(format!(
                "{what}: this kernel does not have that security module"
            )));
        }
        other => other.map_err(failed(what))?,
    };
    File::from(file)
        .write_all(text.as_bytes())
        .map_err(failed(what))
}
