//! A part of a volume as a mount of its own. The path is resolved by the kernel and never leaves the volume, whatever
//! links a container made there (CVE-2017-1002101); what was found is bound through its descriptor, so that nothing can
//! be exchanged between the look and the mount (CVE-2021-25741).

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

/// Binds `inside`, a path within the volume, to `place`. A folder is made where nothing is.
pub(super) fn bind(volume: &Path, inside: &str, place: &Path) -> io::Result<()> {
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !Path::new(inside).components().all(plain) {
        return Err(io::Error::other(format!(
            "{inside:?} is not a path within the volume"
        )));
    }
    let source = open(volume, inside)?;
    let is_dir = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&source)?.st_mode)
        == rustix::fs::FileType::Directory;
    // What an earlier start of the container left.
    while rustix::mount::unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    match is_dir {
        true => fs::create_dir_all(place)?,
        false => drop(fs::File::options().create(true).append(true).open(place)?),
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(source.as_fd(), "", flags)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(tree.as_fd(), "", rustix::fs::CWD, place, flags)?;
    Ok(())
}

fn open(volume: &Path, inside: &str) -> io::Result<OwnedFd> {
    let path = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(volume, path, Mode::empty())?;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&root, inside, path, Mode::empty(), within) {
        Err(rustix::io::Errno::NOENT) => make(root, inside),
        Err(rustix::io::Errno::XDEV | rustix::io::Errno::LOOP) => Err(io::Error::other(format!(
            "{inside:?} leads out of the volume"
        ))),
        other => Ok(other?),
    }
}

/// Makes folders one by one, each below a descriptor of the one before.
fn make(root: OwnedFd, inside: &str) -> io::Result<OwnedFd> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut at = root;
    for part in Path::new(inside).components() {
        let Component::Normal(name) = part else {
            continue;
        };
        match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o750)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = rustix::fs::openat2(
            &at,
            name,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            within,
        )?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_do_not_lead_out() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("v");
        fs::create_dir_all(volume.join("a/b")).unwrap();
        symlink("/etc", volume.join("out")).unwrap();
        symlink("../../..", volume.join("a/up")).unwrap();
        symlink("a/b", volume.join("in")).unwrap();
        for wrong in ["out", "out/passwd", "a/up", "a/up/etc"] {
            assert!(open(&volume, wrong).is_err(), "{wrong}");
        }
        assert!(open(&volume, "in").is_ok());
        assert!(open(&volume, "new/deep").is_ok() && volume.join("new/deep").is_dir());
        assert!(bind(&volume, "../v", &folder.path().join("x")).is_err());
    }
}
