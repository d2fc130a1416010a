//! The mounts of a configuration, each prepared as a detached tree and then attached to a place that was resolved
//! inside the root file system.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};
use wharf_sys::mount::{Attributes, attribute, set_attributes};

use super::{Failure, Step, failed, kernel_places};
use crate::mount_options::Options;
use crate::path;

/// What mounting needs to know.
#[derive(Debug)]
pub struct Context<'a> {
    /// The container's root, attached.
    pub root: BorrowedFd<'a>,
    /// The same by the path that the host has for it.
    pub root_path: &'a Path,
    /// Relative sources start here.
    pub bundle: &'a Path,
    /// Folders of the container's control group: controller and path (`""`: version 2).
    pub cgroup_paths: &'a [(String, PathBuf)],
    /// The cgroup namespace is the container's own.
    pub cgroup_private: bool,
    /// SELinux label of new file systems (`linux.mountLabel`).
    pub label: Option<&'a str>,
}

/// Makes one mount. What comes back is to be made read-only once all mounts and devices are there: they may lie on it.
///
/// `source`: of a bind mount, where the creator opened it already.
pub fn mount(
    context: &Context<'_>,
    mount: &Mount,
    source: Option<BorrowedFd<'_>>,
) -> Step<Option<OwnedFd>> {
    let destination = destination_of(context, mount);
    let mut options = Options::parse(mount.options().as_deref().unwrap_or_default());
    let kind = mount.typ().as_deref().unwrap_or_default();
    let what = || {
        format!(
            "mount {} to {}",
            source_of(mount).display(),
            destination.display()
        )
    };
    if kind == "tmpfs" && !options.data.iter().any(|(key, _)| key == "mode") {
        // It looks as the folder did that it covers.
        if let Some(mode) = mode_of(context.root, destination) {
            options
                .data
                .push(("mode".into(), Some(format!("{mode:o}"))));
        }
    }
    let later = kind == "tmpfs" && options.set & attribute::RDONLY != 0;
    if later {
        options.set &= !attribute::RDONLY;
    }
    let tree = match kind {
        _ if options.bind.is_some() || kind == "bind" => {
            return bind(context, mount, source, &options).map(|()| None);
        }
        "cgroup" | "cgroup2" => {
            return super::rootfs::mount_cgroups(context, destination, &options).map(|()| None);
        }
        _ => {
            if let Some(label) = context.label.filter(|_| takes_label(kind)) {
                options.data.push(("context".into(), Some(label.into())));
            }
            new_file_system(kind, mount, &options).map_err(failed(what()))?
        }
    };
    if matches!(kind, "proc" | "sysfs") {
        kernel_places::check_folder(context.root, kind, destination)?;
    }
    let place = path::make_folder(context.root, destination).map_err(failed(what()))?;
    kernel_places::check_cover(context.root, place.as_fd(), tree.as_fd(), destination)?;
    let seed = options
        .copy_up
        .then(|| super::rootfs::CopyUp::read(context.root, destination))
        .transpose()?;
    attach(tree.as_fd(), place.as_fd()).map_err(failed(what()))?;
    finish(tree.as_fd(), &options).map_err(failed(what()))?;
    if let Some(seed) = seed {
        seed.write(tree.as_fd())?;
    }
    Ok(later.then_some(tree))
}

fn mode_of(root: BorrowedFd<'_>, folder: &Path) -> Option<u32> {
    let folder = path::open(root, folder, OFlags::PATH | OFlags::DIRECTORY).ok()?;
    let stat = rustix::fs::statat(&folder, "", rustix::fs::AtFlags::EMPTY_PATH).ok()?;
    Some(stat.st_mode & 0o7777)
}

/// Kernel file systems have their own labels.
fn takes_label(kind: &str) -> bool {
    !matches!(kind, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2")
}

/// Some callers name the place as the host sees it.
fn destination_of<'a>(context: &Context<'_>, mount: &'a Mount) -> &'a Path {
    let whole = mount.destination();
    whole.strip_prefix(context.root_path).unwrap_or(whole)
}

fn source_of(mount: &Mount) -> &Path {
    mount
        .source()
        .as_deref()
        .or_else(|| mount.typ().as_deref().map(Path::new))
        .unwrap_or(Path::new("none"))
}

/// A new instance of a file system, detached.
pub fn new_file_system(kind: &str, mount: &Mount, options: &Options) -> std::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if let Some(source) = mount.source() {
        rustix::mount::fsconfig_set_string(context.as_fd(), "source", source.as_path())?;
    }
    for (key, value) in &options.data {
        match value {
            Some(value) => {
                rustix::mount::fsconfig_set_string(context.as_fd(), key.as_str(), value.as_str())?
            }
            None => rustix::mount::fsconfig_set_flag(context.as_fd(), key.as_str())?,
        }
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let flags = MountAttrFlags::from_bits_retain(
        u32::try_from(options.set & !attribute::IDMAP).unwrap_or(0),
    );
    Ok(rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        flags,
    )?)
}

/// A part of the host's tree, or of the container's, at another place.
fn bind(
    context: &Context<'_>,
    mount: &Mount,
    opened: Option<BorrowedFd<'_>>,
    options: &Options,
) -> Step {
    let destination = destination_of(context, mount);
    let source = mount.source().as_deref().ok_or_else(|| {
        Failure::new(format!(
            "the bind mount to {} has no source",
            destination.display()
        ))
    })?;
    let source = context.bundle.join(source);
    let what = || format!("bind {} to {}", source.display(), destination.display());
    let own;
    let tree = match opened {
        Some(tree) => tree,
        None => {
            let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            if options.bind == Some(true) {
                flags |= OpenTreeFlags::AT_RECURSIVE;
            }
            own = rustix::mount::open_tree(CWD, source.as_path(), flags).map_err(failed(what()))?;
            own.as_fd()
        }
    };
    let folder = path::is_folder(tree).map_err(failed(what()))?;
    let place = match folder {
        true => path::make_folder(context.root, destination),
        false => path::make_file(context.root, destination),
    };
    let place = place.map_err(failed(what()))?;
    kernel_places::check_cover(context.root, place.as_fd(), tree, destination)?;
    if options.set | options.clear != 0 {
        set_attributes(tree, &whole(options.set, options.clear), false).map_err(failed(what()))?;
    }
    attach(tree, place.as_fd()).map_err(failed(what()))?;
    finish(tree, options).map_err(failed(what()))
}

/// Puts a detached tree to a place.
pub fn attach(tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> std::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, "", place, "", flags)?)
}

/// A copy of the mount (not of the files) that `place` lies on, detached.
pub fn copy_of(place: BorrowedFd<'_>, recursive: bool) -> std::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(place, "", flags)?)
}

/// Attributes for all below, and propagation: after attaching, since a detached tree has no peers.
fn finish(tree: BorrowedFd<'_>, options: &Options) -> std::io::Result<()> {
    if options.set_recursive | options.clear_recursive != 0 {
        set_attributes(
            tree,
            &whole(options.set_recursive, options.clear_recursive),
            true,
        )?;
    }
    for &(propagation, recursive) in &options.propagation {
        set_attributes(
            tree,
            &Attributes {
                propagation,
                ..Attributes::default()
            },
            recursive,
        )?;
    }
    Ok(())
}

/// The access-time bits are one field, which the kernel lets nobody clear in part.
fn whole(set: u64, clear: u64) -> Attributes<'static> {
    let touches_atime = (set | clear) & attribute::ATIME != 0;
    Attributes {
        set,
        clear: clear | if touches_atime { attribute::ATIME } else { 0 },
        ..Attributes::default()
    }
}

/// A tmpfs, detached.
pub fn tmpfs(options: &[(&str, &str)], attributes: u64) -> std::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let flags = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
    Ok(rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        flags,
    )?)
}

/// The host's /dev/null, checked to be what it says: it is put over files that must not be read (CVE-2025-31133).
pub fn host_null() -> Step<OwnedFd> {
    let what = "open /dev/null of the host";
    let null = rustix::fs::open(
        "/dev/null",
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed(what))?;
    let stat = rustix::fs::fstat(&null).map_err(failed(what))?;
    let is_device = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device();
    if !is_device
        || (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        ) != (1, 3)
    {
        return Err(Failure::new(
            "/dev/null of the host is not the null device (1:3); nothing can be masked with it",
        ));
    }
    Ok(null)
}
