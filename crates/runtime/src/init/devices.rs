//! Device nodes and links below /dev (runtime-spec, "Default Devices").

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use super::{Step, failed, mounts};
use crate::path;

/// Name, major and minor number of the devices that every container has.
const DEFAULT: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Whether /dev is the container's own: a /dev bound from elsewhere stays as it is.
pub fn wanted(spec: &Spec) -> bool {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    !mounts.iter().any(|mount| {
        mount.destination() == Path::new("/dev") && mount.typ().as_deref() == Some("bind")
    })
}

/// Makes the nodes. `bound`: this process may not make device nodes (a user namespace), so the host's are bound.
pub fn make(root: BorrowedFd<'_>, spec: &Spec, bound: bool) -> Step {
    let dev = path::make_folder(root, Path::new("/dev")).map_err(failed("open /dev"))?;
    for &(name, major, minor) in DEFAULT {
        let node = Node {
            path: PathBuf::from("/dev").join(name),
            kind: FileType::CharacterDevice,
            major,
            minor,
            mode: 0o666,
            owner: (0, 0),
        };
        node.make_in(root, dev.as_fd(), Path::new(name), bound)?;
    }
    for &(name, target) in LINKS {
        link(dev.as_fd(), name, target)?;
    }
    if Path::new("/proc/kcore").exists() {
        link(dev.as_fd(), "core", "/proc/kcore")?;
    }
    let listed = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.devices().as_ref());
    for device in listed.into_iter().flatten() {
        if device.path() == Path::new("/dev/ptmx") {
            // A link to the container's own devpts, made above; a node would lead to the host's.
            continue;
        }
        let node = Node::of(device);
        let (parent, name) = path::make_parent(root, &node.path)
            .map_err(failed(format!("make device {}", node.path.display())))?;
        node.make_in(root, parent.as_fd(), Path::new(name), bound)?;
    }
    Ok(())
}

fn link(dev: BorrowedFd<'_>, name: &str, target: &str) -> Step {
    match rustix::fs::symlinkat(target, dev, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(failed(format!("link /dev/{name} to {target}"))(error)),
    }
}

struct Node {
    path: PathBuf,
    kind: FileType,
    major: u32,
    minor: u32,
    mode: u32,
    owner: (u32, u32),
}

impl Node {
    fn of(device: &LinuxDevice) -> Node {
        let kind = match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::P => FileType::Fifo,
            _ => FileType::CharacterDevice,
        };
        Node {
            path: device.path().clone(),
            kind,
            major: u32::try_from(device.major()).unwrap_or(0),
            minor: u32::try_from(device.minor()).unwrap_or(0),
            mode: device.file_mode().unwrap_or(0o666),
            owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
        }
    }

    fn make_in(
        &self,
        root: BorrowedFd<'_>,
        folder: BorrowedFd<'_>,
        name: &Path,
        bound: bool,
    ) -> Step {
        let what = || format!("make device {}", self.path.display());
        if bound && self.kind != FileType::Fifo {
            return self.bind(root).map_err(failed(what()));
        }
        let mode = Mode::from_raw_mode(self.mode);
        match rustix::fs::mknodat(
            folder,
            name,
            self.kind,
            mode,
            rustix::fs::makedev(self.major, self.minor),
        ) {
            Ok(()) => self.own(folder, name, mode).map_err(failed(what())),
            // Listed twice, or there already: it must then be the same device.
            Err(Errno::EXIST) => self.check_same(folder, name).map_err(failed(what())),
            Err(error) => Err(failed(what())(error)),
        }
    }

    fn own(&self, folder: BorrowedFd<'_>, name: &Path, mode: Mode) -> io::Result<()> {
        // Just made by us in a folder nobody else can reach yet; the link flag guards against surprises all the same.
        if self.owner != (0, 0) {
            let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
            rustix::fs::chownat(
                folder,
                name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
        }
        // mknod's mode passes through the umask, which is 0 here.
        let _ = mode;
        Ok(())
    }

    fn check_same(&self, folder: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let number = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        if FileType::from_raw_mode(stat.st_mode) == self.kind && number == (self.major, self.minor)
        {
            Ok(())
        } else {
            Err(io::Error::other("another file is in its place"))
        }
    }

    fn bind(&self, root: BorrowedFd<'_>) -> io::Result<()> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(CWD, self.path.as_path(), flags)?;
        let place = path::make_file(root, &self.path)?;
        mounts::attach(tree.as_fd(), place.as_fd())
    }
}

/// Opens the container's own pts folder, checked to be a devpts: a fake one could hand out other terminals.
pub fn open_pts(root: BorrowedFd<'_>) -> io::Result<std::os::fd::OwnedFd> {
    const DEVPTS_MAGIC: u64 = 0x1cd1;
    let pts = path::open(
        root,
        Path::new("/dev/pts"),
        OFlags::PATH | OFlags::DIRECTORY,
    )?;
    let kind = rustix::fs::fstatfs(&pts)?.f_type;
    if u64::try_from(kind).ok() != Some(DEVPTS_MAGIC) {
        return Err(io::Error::other("/dev/pts is not a devpts file system"));
    }
    Ok(pts)
}
