//! Overlay mounts as detached trees, through the new mount API.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, open_tree, unmount,
};

use crate::error::{io, io_at};
use crate::{Error, Result};

/// `fsconfig` takes no longer strings.
const STRING_BYTES_MAX: usize = 255;
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

/// Folders of one overlay. Without `upper` it is read-only.
#[derive(Debug, Clone)]
pub(crate) struct Layers<'a> {
    /// Topmost first; at least one, at least two without `upper`.
    pub lower: &'a [PathBuf],
    /// Upper and work folder.
    pub upper: Option<(&'a Path, &'a Path)>,
}

/// A folder's name as the kernel gets it: the path, or where that is too long an open descriptor's.
struct Named {
    text: OsString,
    _open: Option<OwnedFd>,
}

fn name(path: &Path, always_short: bool) -> Result<Named> {
    if path.as_os_str().len() <= STRING_BYTES_MAX && !always_short {
        return Ok(Named {
            text: path.as_os_str().to_owned(),
            _open: None,
        });
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(io_at("open", path))?;
    Ok(Named {
        text: format!("/proc/self/fd/{}", fd.as_raw_fd()).into(),
        _open: Some(fd),
    })
}

/// Mounts; the result is attached nowhere yet.
pub(crate) fn mount_detached(layers: &Layers<'_>, scratch: &Path) -> Result<OwnedFd> {
    match mount_by_layer(layers) {
        Err(Refusal::Unknown) => mount_by_string(layers, scratch),
        Err(Refusal::Failed(e)) => Err(e),
        Ok(fd) => Ok(fd),
    }
}

enum Refusal {
    /// The kernel has no `lowerdir+` (before 6.7).
    Unknown,
    Failed(Error),
}

fn mount_by_layer(layers: &Layers<'_>) -> std::result::Result<OwnedFd, Refusal> {
    let failed = |operation: &'static str| move |e: Errno| Refusal::Failed(io(operation)(e));
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(failed("open the overlay file system"))?;
    // What a layer contains must not depend on the machine's module parameters: a renamed folder or a changed mode is
    // copied up in full, so that the upper folder alone is the difference.
    for option in ["index", "redirect_dir", "metacopy"] {
        // An older kernel lacks the option and then also what it switches off.
        let _ = fsconfig_set_string(&fs, option, "off");
    }
    fsconfig_set_string(&fs, "source", "overlay").map_err(failed("name the overlay"))?;
    let mut names = Vec::new();
    for path in layers.lower {
        let named = name(path, false).map_err(Refusal::Failed)?;
        match fsconfig_set_string(&fs, "lowerdir+", named.text.as_os_str()) {
            Ok(()) => names.push(named),
            Err(Errno::INVAL) if names.is_empty() && path.is_dir() => return Err(Refusal::Unknown),
            Err(e) => return Err(Refusal::Failed(explain(layers, e))),
        }
    }
    if let Some((upper, work)) = layers.upper {
        for (key, path) in [("upperdir", upper), ("workdir", work)] {
            let named = name(path, false).map_err(Refusal::Failed)?;
            let set = fsconfig_set_string(&fs, key, named.text.as_os_str());
            set.map_err(|e| Refusal::Failed(explain(layers, e)))?;
            names.push(named);
        }
    }
    fsconfig_create(&fs).map_err(|e| Refusal::Failed(explain(layers, e)))?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .map_err(failed("mount the overlay"))
}

/// For older kernels: one option string of at most a page, mounted for a moment on a folder of ours.
fn mount_by_string(layers: &Layers<'_>, scratch: &Path) -> Result<OwnedFd> {
    let mut names = Vec::new();
    let mut options: Vec<u8> = b"lowerdir=".to_vec();
    for (i, path) in layers.lower.iter().enumerate() {
        let named = name(path, true)?;
        if i > 0 {
            options.push(b':');
        }
        options.extend_from_slice(named.text.as_bytes());
        names.push(named);
    }
    if let Some((upper, work)) = layers.upper {
        for (key, path) in [(",upperdir=", upper), (",workdir=", work)] {
            let named = name(path, true)?;
            options.extend_from_slice(key.as_bytes());
            options.extend_from_slice(named.text.as_bytes());
            names.push(named);
        }
    }
    let point = tempfile::Builder::new()
        .prefix("mount-")
        .tempdir_in(scratch)
        .map_err(io_at("make folder in", scratch))?;
    let options = std::ffi::CString::new(OsString::from_vec(options).into_vec())
        .map_err(io("name overlay layers"))?;
    mount(
        "overlay",
        point.path(),
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .map_err(|e| explain(layers, e))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, point.path(), flags)
        .map_err(io("take the overlay off its mount point"));
    unmount(point.path(), UnmountFlags::DETACH).map_err(io_at("unmount", point.path()))?;
    tree
}

/// What a failed mount most likely means, in words that help.
fn explain(layers: &Layers<'_>, errno: Errno) -> Error {
    let path = layers
        .upper
        .map_or_else(|| layers.lower[0].as_path(), |(upper, _)| upper);
    let missing = layers.lower.iter().find(|path| !path.is_dir());
    if let Some(missing) = missing {
        return Error::LayerNotFound(missing.display().to_string());
    }
    if rustix::fs::statfs(path)
        .is_ok_and(|stat| stat.f_type as u64 & 0xffff_ffff == OVERLAYFS_MAGIC)
    {
        return Error::Unsupported(format!(
            "{} is on an overlay file system itself, which can't hold writable layers; choose a data root on ext4, xfs, \
             btrfs or tmpfs",
            path.display()
        ));
    }
    match errno {
        Errno::PERM | Errno::ACCESS => Error::Unsupported(format!(
            "the kernel refuses to mount an overlay on {} ({errno}); Wharf needs CAP_SYS_ADMIN for it",
            path.display()
        )),
        Errno::NODEV => Error::Unsupported(
            "the kernel has no overlay file system (modprobe overlay)".to_owned(),
        ),
        Errno::INVAL | Errno::OPNOTSUPP => Error::Unsupported(format!(
            "the file system of {} can't hold writable layers ({errno}): it lacks trusted extended attributes or file \
             types in folder listings; choose a data root on ext4, xfs, btrfs or tmpfs",
            path.display()
        )),
        e => io_at("mount the overlay of", path)(e),
    }
}

/// Tries out whether folders below `scratch` can carry an overlay at all.
pub(crate) fn probe(scratch: &Path) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("probe-")
        .tempdir_in(scratch)
        .map_err(io_at("make folder in", scratch))?;
    let path = |name: &str| folder.path().join(name);
    for name in ["lower", "upper", "work"] {
        std::fs::create_dir(path(name)).map_err(io_at("make folder", &path(name)))?;
    }
    let (lower, upper, work) = ([path("lower")], path("upper"), path("work"));
    mount_detached(
        &Layers {
            lower: &lower,
            upper: Some((&upper, &work)),
        },
        scratch,
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_mount_give_the_same_tree() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a", "b", "upper", "work"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::fs::write(path("a").join("x"), "top").unwrap();
        std::fs::write(path("b").join("x"), "below").unwrap();
        let (lower, upper, work) = ([path("a"), path("b")], path("upper"), path("work"));
        let layers = Layers {
            lower: &lower,
            upper: Some((&upper, &work)),
        };
        let read = |tree: &OwnedFd| {
            std::fs::read_to_string(format!("/proc/self/fd/{}/x", tree.as_raw_fd())).unwrap()
        };
        let by_layer = mount_detached(&layers, folder.path()).unwrap();
        assert_eq!(read(&by_layer), "top");
        drop(by_layer);
        let by_string = mount_by_string(&layers, folder.path()).unwrap();
        assert_eq!(read(&by_string), "top");
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !table.contains(&*folder.path().to_string_lossy()),
            "left in the mount table"
        );
    }

    #[test]
    fn long_paths_and_a_data_root_on_overlay() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(200)).join("e".repeat(200));
        std::fs::create_dir_all(&deep).unwrap();
        probe(&deep).unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["lower", "upper", "work"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        let (lower, upper, work) = ([path("lower")], path("upper"), path("work"));
        let tree = mount_detached(
            &Layers {
                lower: &lower,
                upper: Some((&upper, &work)),
            },
            folder.path(),
        )
        .unwrap();
        let inside = PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()));
        let error = probe(&inside).unwrap_err().to_string();
        assert!(error.contains("overlay file system itself"), "{error}");
    }
}
