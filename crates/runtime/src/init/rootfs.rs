//! The root file system: attached, filled with mounts, made the root of everything.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, UnmountFlags};
use wharf_sys::mount::{Attributes, attribute, set_attributes};

use super::mounts::{self, Context};
use super::{Failure, Step, failed};
use crate::mount_options::{Options, propagation_of};
use crate::path;

/// Bounds of what a tmpfs takes over from the image below it.
const COPY_UP_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Attaches the root file system and opens it: from a detached mount, or the folder the configuration names.
///
/// `private`: in a mount namespace of its own, which is separated from the host's first.
pub fn attach(
    spec: &Spec,
    bundle: &Path,
    detached: Option<BorrowedFd<'_>>,
    private: bool,
) -> Step<OwnedFd> {
    let linux = spec.linux().as_ref();
    let wanted = linux
        .and_then(|linux| linux.rootfs_propagation().as_deref())
        .unwrap_or("rslave");
    let (kind, _) = propagation_of(wanted).ok_or_else(|| {
        Failure::new(format!(
            "rootfsPropagation {wanted:?} is not shared, slave, private or unbindable"
        ))
    })?;
    // Nothing mounted from here on may reach the host, unless sharing was asked for.
    let outside = if kind == crate::mount_options::propagation::SHARED {
        MountPropagationFlags::SHARED
    } else if kind == crate::mount_options::propagation::PRIVATE {
        MountPropagationFlags::PRIVATE
    } else {
        MountPropagationFlags::DOWNSTREAM
    };
    if private {
        rustix::mount::mount_change("/", outside | MountPropagationFlags::REC)
            .map_err(failed("separate the mounts from the host's"))?;
    }
    let place_path = if detached.is_some() {
        bundle.to_owned()
    } else {
        root_path(spec, bundle)
    };
    let what = format!("attach root file system {}", place_path.display());
    let copy;
    let tree = match detached {
        Some(tree) => tree,
        None => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            copy = rustix::mount::open_tree(CWD, place_path.as_path(), flags)
                .map_err(failed(&what))?;
            copy.as_fd()
        }
    };
    let place = rustix::fs::open(
        &place_path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed(&what))?;
    if private && outside == MountPropagationFlags::SHARED {
        // A shared parent would carry the root's mount to the host, and pivot_root refuses one.
        part_from_peers(place.as_fd()).map_err(failed(&what))?;
    }
    mounts::attach(tree, place.as_fd()).map_err(failed(&what))?;
    // pivot_root refuses a shared parent; the new root itself becomes private until the end.
    let private = Attributes {
        propagation: crate::mount_options::propagation::PRIVATE,
        ..Attributes::default()
    };
    set_attributes(tree, &private, false).map_err(failed(&what))?;
    tree.try_clone_to_owned().map_err(failed(what))
}

/// Where the configuration says that the root file system is.
pub fn root_path(spec: &Spec, bundle: &Path) -> PathBuf {
    let configured = spec.root().as_ref();
    bundle.join(configured.map_or(Path::new("rootfs"), |root| root.path().as_path()))
}

/// Makes the mount that a place lies on private.
fn part_from_peers(place: BorrowedFd<'_>) -> io::Result<()> {
    let id = rustix::fs::statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id;
    let id = id.to_string();
    let found = mount_table()?
        .into_iter()
        .find(|entry| entry.id == id)
        .ok_or_else(|| io::Error::other("its mount is not in /proc/self/mountinfo"))?;
    Ok(rustix::mount::mount_change(
        found.place,
        MountPropagationFlags::PRIVATE,
    )?)
}

/// A line of /proc/self/mountinfo.
struct MountEntry {
    id: String,
    place: PathBuf,
    kind: String,
}

fn mount_table() -> io::Result<Vec<MountEntry>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    let read = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        let mut fields = front.split(' ');
        Some(MountEntry {
            id: fields.next()?.to_owned(),
            place: PathBuf::from(unescape(fields.nth(3)?)),
            kind: back.split(' ').next()?.to_owned(),
        })
    };
    Ok(text.lines().filter_map(read).collect())
}

/// Blanks and backslashes are written as octal escapes (proc_pid_mountinfo(5)).
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

/// Makes `root` the root directory; the old one goes.
pub fn pivot(root: BorrowedFd<'_>) -> Step {
    let what = "change the root directory";
    rustix::process::fchdir(root).map_err(failed(what))?;
    rustix::process::pivot_root(".", ".").map_err(failed(what))?;
    // The old root lies on top of the new one now. As a slave it takes nothing down on the host when it goes.
    rustix::mount::mount_change(
        ".",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .map_err(failed(what))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(failed(what))?;
    rustix::process::chdir("/").map_err(failed(what))
}

/// The same where pivot_root can't be (a root on ramfs): moves the tree to `/` and changes root.
pub fn move_root(root: BorrowedFd<'_>) -> Step {
    let what = "move the root directory";
    // The old root stays reachable below the new one. A full procfs or sysfs there would let a process mount another
    // one, without the masks of ours.
    hide_kernel_mounts(root).map_err(failed(what))?;
    rustix::process::fchdir(root).map_err(failed(what))?;
    rustix::mount::mount_move(".", "/").map_err(failed(what))?;
    rustix::process::chroot(".").map_err(failed(what))?;
    rustix::process::chdir("/").map_err(failed(what))
}

fn hide_kernel_mounts(root: BorrowedFd<'_>) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let inside = std::fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()))?;
    let outside = mount_table()?.into_iter().filter(|entry| {
        matches!(entry.kind.as_str(), "proc" | "sysfs") && !entry.place.starts_with(&inside)
    });
    // Innermost first; /proc itself is not needed any more.
    let mut places: Vec<PathBuf> = outside.map(|entry| entry.place).collect();
    places.sort_by(|a, b| b.cmp(a));
    for place in places {
        let change = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        match rustix::mount::mount_change(&place, change) {
            // Below one that has gone already.
            Err(Errno::INVAL | Errno::NOENT) => continue,
            other => other?,
        }
        match rustix::mount::unmount(&place, UnmountFlags::DETACH) {
            // Locked to what it lies on: covered instead.
            Err(Errno::INVAL | Errno::PERM) => {
                let empty = mounts::tmpfs(&[("nr_inodes", "1")], attribute::RDONLY)?;
                let place =
                    rustix::fs::open(&place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                mounts::attach(empty.as_fd(), place.as_fd())?;
            }
            other => other?,
        }
    }
    Ok(())
}

/// Makes `root` the root directory of this process alone, where the mounts are the host's.
pub fn change_root(root: BorrowedFd<'_>) -> Step {
    let what = "change the root directory";
    rustix::process::fchdir(root).map_err(failed(what))?;
    rustix::process::chroot(".").map_err(failed(what))?;
    rustix::process::chdir("/").map_err(failed(what))
}

/// Propagation and read-only state of the root, last of all mounts, after those mounts that had to wait.
pub fn finish(spec: &Spec, root: BorrowedFd<'_>, read_only: &[OwnedFd]) -> Step {
    let read_only_attributes = Attributes {
        set: attribute::RDONLY,
        ..Attributes::default()
    };
    for tree in read_only {
        set_attributes(tree.as_fd(), &read_only_attributes, false)
            .map_err(failed("make a mount read-only"))?;
    }
    let linux = spec.linux().as_ref();
    if let Some((kind, recursive)) = linux
        .and_then(|linux| linux.rootfs_propagation().as_deref())
        .and_then(propagation_of)
    {
        let attributes = Attributes {
            propagation: kind,
            ..Attributes::default()
        };
        set_attributes(root, &attributes, recursive)
            .map_err(failed("set the root's propagation"))?;
    }
    if spec
        .root()
        .as_ref()
        .and_then(|root| root.readonly())
        .unwrap_or(false)
    {
        set_attributes(root, &read_only_attributes, false)
            .map_err(failed("make the root read-only"))?;
    }
    Ok(())
}

/// The container's control group below `/sys/fs/cgroup`: the hierarchies of version 1 side by side, or version 2.
pub fn mount_cgroups(context: &Context<'_>, destination: &Path, options: &Options) -> Step {
    let what = || format!("mount control groups to {}", destination.display());
    let place = path::make_folder(context.root, destination).map_err(failed(what()))?;
    if let [(controller, folder)] = context.cgroup_paths
        && controller.is_empty()
    {
        return mount_unified(context, folder, place.as_fd(), options).map_err(failed(what()));
    }
    let tree = mounts::tmpfs(&[("mode", "755")], options.set & !attribute::RDONLY)
        .map_err(failed(what()))?;
    mounts::attach(tree.as_fd(), place.as_fd()).map_err(failed(what()))?;
    let mut done: Vec<PathBuf> = Vec::new();
    for (controller, folder) in context.cgroup_paths {
        let name = hierarchy_name(folder).unwrap_or_else(|| PathBuf::from(controller));
        if !done.contains(&name) {
            bind_hierarchy(tree.as_fd(), &name, folder, options).map_err(failed(what()))?;
            done.push(name.clone());
        }
        if name.as_os_str() != controller.as_str() && !controller.contains('=') {
            rustix::fs::symlinkat(name.as_path(), &tree, controller.as_str())
                .map_err(failed(what()))?;
        }
    }
    if options.set & attribute::RDONLY != 0 {
        let read_only = Attributes {
            set: attribute::RDONLY,
            ..Attributes::default()
        };
        set_attributes(tree.as_fd(), &read_only, false).map_err(failed(what()))?;
    }
    Ok(())
}

fn mount_unified(
    context: &Context<'_>,
    folder: &Path,
    place: BorrowedFd<'_>,
    options: &Options,
) -> io::Result<()> {
    let tree = if context.cgroup_private {
        let mount = oci_spec::runtime::MountBuilder::default()
            .destination("/")
            .source("cgroup")
            .build();
        let mount = mount.map_err(io::Error::other)?;
        mounts::new_file_system(
            "cgroup2",
            &mount,
            &Options {
                data: Vec::new(),
                ..options.clone()
            },
        )?
    } else {
        open_group(folder, options)?
    };
    mounts::attach(tree.as_fd(), place)
}

fn bind_hierarchy(
    tree: BorrowedFd<'_>,
    name: &Path,
    folder: &Path,
    options: &Options,
) -> io::Result<()> {
    rustix::fs::mkdirat(tree, name, Mode::from_raw_mode(0o755))?;
    let place = rustix::fs::openat(tree, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let group = open_group(folder, options)?;
    mounts::attach(group.as_fd(), place.as_fd())
}

fn open_group(folder: &Path, options: &Options) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let group = rustix::mount::open_tree(CWD, folder, flags)?;
    set_attributes(
        group.as_fd(),
        &Attributes {
            set: options.set,
            ..Attributes::default()
        },
        false,
    )?;
    Ok(group)
}

/// `cpu,cpuacct` of `/sys/fs/cgroup/cpu,cpuacct/docker/ID`.
fn hierarchy_name(folder: &Path) -> Option<PathBuf> {
    let inside = folder.strip_prefix("/sys/fs/cgroup").ok()?;
    inside
        .components()
        .next()
        .map(|name| PathBuf::from(name.as_os_str()))
}

/// What the image has at the place of a tmpfs (`tmpcopyup`): plain files and folders, one level of trust: none.
#[derive(Debug)]
pub struct CopyUp {
    entries: Vec<(PathBuf, u32, Option<Vec<u8>>)>,
}

impl CopyUp {
    /// Reads it before the tmpfs hides it.
    pub fn read(root: BorrowedFd<'_>, place: &Path) -> Step<CopyUp> {
        let what = format!("copy {} up", place.display());
        let mut copy = CopyUp {
            entries: Vec::new(),
        };
        let mut budget_bytes = COPY_UP_BYTES_MAX;
        let folder = match path::open(root, place, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(copy),
            Err(error) => return Err(failed(what)(error)),
        };
        copy.read_folder(folder.as_fd(), Path::new(""), &mut budget_bytes)
            .map_err(failed(what))?;
        Ok(copy)
    }

    fn read_folder(
        &mut self,
        folder: BorrowedFd<'_>,
        inside: &Path,
        budget_bytes: &mut u64,
    ) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let path = inside.join(name.to_string_lossy().as_ref());
            let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if kind.is_dir() {
                self.entries
                    .push((path.clone(), stat.st_mode & 0o7777, None));
                let below =
                    rustix::fs::openat(folder, name, flags | OFlags::DIRECTORY, Mode::empty())?;
                self.read_folder(below.as_fd(), &path, budget_bytes)?;
            } else if kind.is_file() {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                *budget_bytes = budget_bytes
                    .checked_sub(size)
                    .ok_or(io::ErrorKind::FileTooLarge)?;
                let mut bytes = Vec::new();
                let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
                file.take(size).read_to_end(&mut bytes)?;
                self.entries
                    .push((path, stat.st_mode & 0o7777, Some(bytes)));
            }
        }
        Ok(())
    }

    /// Writes it into the tmpfs.
    pub fn write(&self, tree: BorrowedFd<'_>) -> Step {
        for (path, mode, bytes) in &self.entries {
            self.write_entry(tree, path, Mode::from_raw_mode(*mode), bytes.as_deref())
                .map_err(failed(format!("copy {} up", path.display())))?;
        }
        Ok(())
    }

    fn write_entry(
        &self,
        tree: BorrowedFd<'_>,
        path: &Path,
        mode: Mode,
        bytes: Option<&[u8]>,
    ) -> io::Result<()> {
        match bytes {
            None => rustix::fs::mkdirat(tree, path, mode)?,
            Some(bytes) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                File::from(rustix::fs::openat(tree, path, flags, mode)?).write_all(bytes)?;
            }
        }
        Ok(())
    }
}
