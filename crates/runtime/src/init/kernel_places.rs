//! The places of procfs and sysfs: what is mounted there must be what it is taken for. A link, or another file system, in
//! their place would lead masks, labels and kernel parameters astray (CVE-2019-16884, CVE-2019-19921, CVE-2023-27561,
//! CVE-2023-28642, CVE-2025-52881).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use super::{Failure, Step, failed};
use crate::path;

const PROC_MAGIC: u64 = 0x9fa0;

/// Files of procfs that may be covered: those that show figures of the whole machine, which lxcfs and its like replace.
const COVERABLE: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Refuses links on the way to where procfs or sysfs goes.
pub fn check_folder(root: BorrowedFd<'_>, kind: &str, destination: &Path) -> Step {
    match path::open_plain(root, destination, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error)
            if [Errno::LOOP, Errno::NOTDIR]
                .iter()
                .any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) =>
        {
            Err(Failure::new(format!(
                "filesystem {kind:?} must be mounted on ordinary directory: {}",
                destination.display()
            )))
        }
        Err(error) => Err(failed(format!("open {}", destination.display()))(error)),
    }
}

/// Refuses to put anything but a procfs to `/proc`, and anything at all inside it. `tree` is what is to be mounted.
pub fn check_cover(
    root: BorrowedFd<'_>,
    place: BorrowedFd<'_>,
    tree: BorrowedFd<'_>,
    destination: &Path,
) -> Step {
    let what = || format!("check {}", destination.display());
    if is_proc(place).map_err(failed(what()))? {
        // Wherever links led to: it lies on a procfs.
        let named = clean(destination);
        let whole_again = is_proc(tree).map_err(failed(what()))? && named == Path::new("/proc");
        if !whole_again && !COVERABLE.iter().any(|known| Path::new(known) == named) {
            return Err(Failure::new(format!(
                "{:?} cannot be mounted because it is inside /proc",
                destination.display().to_string()
            )));
        }
        return Ok(());
    }
    let proc = match path::open_place(root, Path::new("/proc")) {
        Ok(proc) => proc,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(what())(error)),
    };
    if same(place, proc.as_fd()).map_err(failed(what()))?
        && !is_proc(tree).map_err(failed(what()))?
    {
        return Err(Failure::new(format!(
            "{:?} cannot be mounted because it is not of type proc",
            destination.display().to_string()
        )));
    }
    Ok(())
}

/// The path without `.`, `..` and double slashes, as a caller means it.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

fn is_proc(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = rustix::fs::fstatfs(fd)?.f_type;
    Ok(u64::try_from(kind).ok() == Some(PROC_MAGIC))
}

fn same(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> io::Result<bool> {
    let of = |fd| rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH);
    let (a, b) = (of(a)?, of(b)?);
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_as_they_are_meant() {
        assert_eq!(
            clean(Path::new("/proc//../proc/./stat")),
            Path::new("/proc/stat")
        );
        assert_eq!(
            clean(Path::new("proc/self/../stat")),
            Path::new("/proc/stat")
        );
        assert_eq!(clean(Path::new("/../..")), Path::new("/"));
    }
}
