//! An OCI bundle becomes a running process, and back (runtime-spec 1.2+).
//!
//! A library for the shim (in-process, descriptors handed over) and the `wharf runtime` command line with
//! runc's words, flags and exit codes. Must not know images, HTTP or any async runtime.
//!
//! Called only from single-threaded programs: a process is cloned here without exec.
#![forbid(unsafe_code)]

mod agent;
pub mod cli;
mod clocks;
mod create;
mod default_spec;
mod device_rules;
mod error;
mod exec;
mod hooks;
mod id_mappings;
mod init;
mod message;
mod mount_options;
mod namespaces;
mod net_devices;
mod path;
mod seccomp;
mod sources;
#[doc(hidden)]
pub mod untrusted;
mod userns_clone;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};

pub use create::{cgroup_path, create};
pub use default_spec::default_spec;
pub use error::{Error, Result};
pub use exec::exec;

/// Standard streams of the container's process.
#[derive(Debug)]
pub enum Stdio<'a> {
    /// The caller's own.
    Inherit,
    /// Three descriptors; `None` is /dev/null.
    Pipes {
        /// Read by the process.
        stdin: Option<BorrowedFd<'a>>,
        /// Written by the process.
        stdout: Option<BorrowedFd<'a>>,
        /// Written by the process.
        stderr: Option<BorrowedFd<'a>>,
    },
    /// A new pseudo terminal inside the container; its master comes back in [`Created::pty`].
    Pty,
}

/// Who lets a created container start.
#[derive(Debug, Default)]
pub enum Gate {
    /// The creator, by [`Created::start`].
    #[default]
    Channel,
    /// Whoever connects to this listening socket (of packets, SOCK_SEQPACKET).
    Socket(OwnedFd),
}

/// All that creating a container needs.
#[derive(Debug)]
pub struct CreateRequest<'a> {
    /// Unique name below the state root.
    pub id: &'a str,
    /// Folder that relative paths of the spec start from.
    pub bundle: &'a Path,
    /// The configuration, already parsed.
    pub spec: &'a Spec,
    /// Streams of the init process.
    pub stdio: Stdio<'a>,
    /// Root file system as a detached mount (fsmount/open_tree); `None`: `spec.root.path`.
    pub rootfs: Option<BorrowedFd<'a>>,
    /// Network namespace to join, in place of what the spec says.
    pub netns: Option<BorrowedFd<'a>>,
    /// Descriptors 3.. that go on into the process.
    pub preserve_fds: u32,
    /// Moves the root instead of pivoting, for a machine whose root is a ramfs.
    pub no_pivot: bool,
    /// Keeps the caller's session keyring, whose keys the container may then use.
    pub no_new_keyring: bool,
    /// Who starts it.
    pub gate: Gate,
}

impl CreateRequest<'_> {
    /// The state that hooks get (runtime-spec, "State").
    pub(crate) fn state(&self, status: &str, pid: i32, spec: &Spec) -> String {
        state_json(self.id, status, pid, self.bundle, spec)
    }
}

/// State of a container as the specification writes it.
pub(crate) fn state_json(id: &str, status: &str, pid: i32, bundle: &Path, spec: &Spec) -> String {
    let mut state = serde_json::json!({
        "ociVersion": spec.version(),
        "id": id,
        "status": status,
        "pid": pid,
        "bundle": bundle,
    });
    if let Some(annotations) = spec
        .annotations()
        .as_ref()
        .filter(|annotations| !annotations.is_empty())
    {
        state["annotations"] = serde_json::json!(annotations);
    }
    state.to_string()
}

/// A created container: its init waits, before exec, for [`Created::start`]. Dropping it kills and cleans up.
#[derive(Debug)]
pub struct Created {
    /// Host PID of init.
    pub pid: i32,
    /// Becomes readable when init ends.
    pub pidfd: OwnedFd,
    /// Master of the pseudo terminal, where asked for.
    pub pty: Option<OwnedFd>,
    /// The container's control group.
    pub cgroup: Box<dyn wharf_cgroup::Cgroup>,
    channel: Option<message::Channel>,
    started: bool,
}

/// A further process in a running container.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// Name of the container.
    pub id: &'a str,
    /// Host PID of the container's init.
    pub init: i32,
    /// The container's bundle, which a seccomp agent is told.
    pub bundle: &'a Path,
    /// The container's configuration (namespaces, seccomp, cgroup path).
    pub spec: &'a Spec,
    /// The process to run.
    pub process: &'a Process,
    /// Its streams.
    pub stdio: Stdio<'a>,
    /// Descriptors 3.. that go on into the process.
    pub preserve_fds: u32,
    /// Keeps the caller's session keyring in place of the container's.
    pub no_new_keyring: bool,
    /// Groups below the container's that it joins; none: the container's.
    pub groups_below: &'a [wharf_cgroup::Below],
}

/// A process started by [`exec`]; a child of the caller.
#[derive(Debug)]
pub struct Executed {
    /// Host PID.
    pub pid: i32,
    /// Becomes readable when it ends.
    pub pidfd: OwnedFd,
    /// Master of the pseudo terminal, where asked for.
    pub pty: Option<OwnedFd>,
}

/// Docker's default seccomp profile for a set of capabilities (names like `CAP_SYS_ADMIN`), on this
/// architecture and kernel.
pub fn default_seccomp(capabilities: &[String]) -> oci_spec::runtime::LinuxSeccomp {
    seccomp::default_profile(capabilities)
}

/// Where state is kept by the command line when `--root` is absent.
pub fn default_root() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) if !has_root() => PathBuf::from(folder).join("wharf/runtime"),
        _ => PathBuf::from("/run/wharf/runtime"),
    }
}

/// Whether this is root, and not an ordinary user.
pub(crate) fn has_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A failure of the control group in one line.
pub(crate) fn cgroup_words(error: &wharf_cgroup::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("join the control group: {error}: {cause}"),
        None => format!("join the control group: {error}"),
    }
}
