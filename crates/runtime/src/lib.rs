//! An OCI bundle becomes a running process, and back (runtime-spec 1.2+).
//!
//! A library for the shim (in-process, descriptors handed over) and the `wharf runtime` command line with
//! runc's words, flags and exit codes. Must not know images, HTTP or any async runtime.
//!
//! Called only from single-threaded programs: a process is cloned here without exec.
#![forbid(unsafe_code)]

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};

pub mod cli;

/// What can go wrong between a bundle and its process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// To be refined: one variant for each failed operation.
    #[error("{0}")]
    Other(String),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

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
}

/// Clones, mounts, pivots and drops privileges up to the point before exec (runtime-spec "create").
/// A failed step leaves no mount, cgroup, file or process.
pub fn create(request: CreateRequest<'_>) -> Result<Created> {
    let _ = request;
    todo!()
}

impl Created {
    /// Lets init exec. Returns once exec has succeeded, or with the reason why it could not (command not
    /// found: exit code 127, not executable: 126, as [`Error`] says through [`Error::exit_code`]).
    pub fn start(&mut self) -> Result<()> {
        todo!()
    }
}

impl Error {
    /// Exit code that stands for this failure in Docker's convention (125, 126, 127).
    pub fn exit_code(&self) -> i32 {
        125
    }
}

/// A further process in a running container.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// Host PID of the container's init.
    pub init: i32,
    /// The container's configuration (namespaces, seccomp, cgroup path).
    pub spec: &'a Spec,
    /// The process to run.
    pub process: &'a Process,
    /// Its streams.
    pub stdio: Stdio<'a>,
    /// Descriptors 3.. that go on into the process.
    pub preserve_fds: u32,
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

/// Runs a process in the namespaces, cgroup and security context of a running container.
pub fn exec(request: ExecRequest<'_>) -> Result<Executed> {
    let _ = request;
    todo!()
}

/// A default configuration, as `wharf runtime spec` writes it.
pub fn default_spec() -> Spec {
    todo!()
}

/// Docker's default seccomp profile for a set of capabilities (names like `CAP_SYS_ADMIN`), on this
/// architecture and kernel.
pub fn default_seccomp(capabilities: &[String]) -> oci_spec::runtime::LinuxSeccomp {
    let _ = capabilities;
    todo!()
}

/// Where state is kept by the command line when `--root` is absent.
pub fn default_root() -> PathBuf {
    PathBuf::from("/run/wharf/runtime")
}
