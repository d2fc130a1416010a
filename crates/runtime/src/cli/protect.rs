//! The runtime's program file, kept out of the container's reach (CVE-2019-5736).
//!
//! The hazard: `/proc/<pid>/exe` of a process that this program became inside a container, or an image whose program
//! is a link to `/proc/self/exe`, refers to the host's file, and root in the container may write to it once nothing
//! runs from it; every later container of the host would then start what was written. So before a process is made
//! that will enter a container, this program runs itself again from a clone of its file's mount that is read-only and
//! attached nowhere, which nobody can make writable again. A copy in sealed memory does the same where a mount cannot
//! be cloned; it costs time and memory by the program's size.

use std::ffi::CString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{CWD, MemfdFlags, SealFlags, StatVfsMountFlags};
use rustix::mount::OpenTreeFlags;
use wharf_sys::mount::{Attributes, attribute};

use super::{Failure, Outcome, failed};

const OWN_FILE: &str = "/proc/self/exe";
/// In the environment of the second run. Containers and hooks get environments of their own, so it ends here.
const MARKER: &str = "_WHARF_RUNTIME_PROTECTED";

/// Returns in a process whose program file cannot be written to; the first time, that is by a new exec.
pub fn own_program() -> Outcome<()> {
    if let Some(kind) = std::env::var_os(MARKER) {
        // The marker alone proves nothing: what it says is checked.
        let holds = match kind.to_str() {
            Some("mount") => on_read_only_mount(),
            Some("memory") => in_sealed_memory(),
            _ => false,
        };
        return if holds {
            Ok(())
        } else {
            Err(Failure::new(format!(
                "the program's own file is not protected although {MARKER} says so: unset it"
            )))
        };
    }
    let (file, kind) = match read_only_mount() {
        Ok(file) => (file, "mount"),
        Err(_) => (sealed_memory()?, "memory"),
    };
    let mut env: Vec<CString> = std::env::vars_os()
        .map(|(name, value)| {
            let mut entry = name.into_vec();
            entry.push(b'=');
            entry.extend(value.into_vec());
            text(entry)
        })
        .collect::<Outcome<_>>()?;
    env.push(text(format!("{MARKER}={kind}").into_bytes())?);
    let args: Vec<CString> = std::env::args_os()
        .map(|arg| text(arg.into_vec()))
        .collect::<Outcome<_>>()?;
    let error = wharf_sys::process::execve_file(file.as_fd(), &args, &env);
    Err(failed("run the protected copy of this program")(error))
}

fn text(bytes: Vec<u8>) -> Outcome<CString> {
    CString::new(bytes).map_err(|_| Failure::new("an argument holds a zero byte"))
}

fn read_only_mount() -> std::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, OWN_FILE, flags)?;
    let attributes = Attributes {
        set: attribute::RDONLY,
        ..Attributes::default()
    };
    wharf_sys::mount::set_attributes(tree.as_fd(), &attributes, false)?;
    Ok(tree)
}

fn on_read_only_mount() -> bool {
    rustix::fs::statvfs(OWN_FILE)
        .is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

const SEALS: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

fn sealed_memory() -> Outcome<OwnedFd> {
    let copy = || -> std::io::Result<OwnedFd> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create("wharf-runtime", flags)?;
        let mut memory = File::from(memory);
        std::io::copy(&mut File::open(OWN_FILE)?, &mut memory)?;
        memory.flush()?;
        memory.rewind()?;
        rustix::fs::fchmod(&memory, rustix::fs::Mode::from_raw_mode(0o500))?;
        rustix::fs::fcntl_add_seals(&memory, SEALS)?;
        Ok(memory.into())
    };
    copy().map_err(failed("copy this program into sealed memory"))
}

fn in_sealed_memory() -> bool {
    File::open(OWN_FILE).is_ok_and(|file| {
        rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SEALS))
    })
}
