//! Where the shim's executable comes from (a sealed memfd, or a path in tests) and how it is started.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, SealFlags};

/// Name of the process, and of its program in `argv`.
pub(crate) const NAME: &str = "wharf-shim";
/// Stands in `argv` until the container's short ID is written over it: as long as one.
pub(crate) const PLACEHOLDER: &str = "------------";

/// `MFD_EXEC`, which says that the file is meant to be run where `vm.memfd_noexec` asks for a word on it.
const MFD_EXEC: u32 = 0x10;

static EXECUTABLE: OnceLock<Executable> = OnceLock::new();

#[derive(Debug)]
enum Executable {
    Sealed(OwnedFd),
    Path(PathBuf),
}

pub(crate) fn install(executable: &'static [u8]) -> io::Result<()> {
    if EXECUTABLE.get().is_none() {
        let _ = EXECUTABLE.set(Executable::Sealed(seal(executable)?));
    }
    Ok(())
}

pub(crate) fn install_path(path: PathBuf) {
    let _ = EXECUTABLE.set(Executable::Path(path));
}

/// Nobody can write to the copy any more, a container that reaches it through /proc included.
fn seal(executable: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(NAME, flags | MemfdFlags::from_bits_retain(MFD_EXEC))
        .or_else(|_| rustix::fs::memfd_create(NAME, flags))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(executable)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// Spawns a shim; returns the daemon's end of its socket once the shim has left the daemon's family.
///
/// The standard library spawns through posix_spawn here (no closure, no uid, no cwd), so that no code of a program
/// with many threads runs between fork and exec.
pub(crate) fn spawn() -> io::Result<UnixStream> {
    let program = executable()?;
    let (near, far) = UnixStream::pair()?;
    let mut child = Command::new(program)
        .arg0(NAME)
        .arg(PLACEHOLDER)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(far)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // The child forks the shim proper and ends at once.
    let status = child.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!(
            "the supervisor could not detach itself: {status}"
        )));
    }
    Ok(near)
}

fn executable() -> io::Result<PathBuf> {
    match EXECUTABLE.get() {
        Some(Executable::Sealed(fd)) => {
            Ok(PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())))
        }
        Some(Executable::Path(path)) => Ok(path.clone()),
        None => Err(io::Error::other(
            "no supervisor executable is installed in this program",
        )),
    }
}

/// Writes the executable to a file, whole or not at all, for containers to mount.
pub(crate) fn write_to(file: &Path) -> io::Result<()> {
    let unfinished = file.with_extension("new");
    std::fs::copy(executable()?, &unfinished)?;
    std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o555))?;
    std::fs::rename(&unfinished, file)
}
