//! What the image has at the place of a new volume goes into the volume: files with owner, mode, times and links.
//! The image is not trusted: it is read through its root, and nothing is written but below the volume's folder.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid,
};

use crate::Result;

/// Folders within each other: more are a trap.
const DEPTH_MAX: u32 = 256;

/// Copies `place` of the image whose root is `root` into an empty volume; one that holds anything stays as it is.
pub(crate) fn copy_up(root: &OwnedFd, place: &str, volume: &Path) -> Result<()> {
    copy(root.as_fd(), place, volume).map_err(|e| {
        crate::error_from::io(format!(
            "copy the image's {place} to volume {}",
            volume.display()
        ))(e)
    })
}

fn copy(root: BorrowedFd<'_>, place: &str, volume: &Path) -> io::Result<()> {
    if fs::read_dir(volume)?.next().is_some() {
        return Ok(());
    }
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = place.trim_start_matches('/');
    let source = match rustix::fs::openat2(root, inside, flags, Mode::empty(), resolve) {
        Ok(source) => source,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let target = rustix::fs::open(volume, flags, Mode::empty())?;
    copy_folder(source.as_fd(), target.as_fd(), 0)?;
    copy_facts(source.as_fd(), target.as_fd())
}

fn copy_folder(source: BorrowedFd<'_>, target: BorrowedFd<'_>, depth: u32) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("folders are too deep"));
    }
    for entry in Dir::read_from(source)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700))?;
                let from =
                    rustix::fs::openat(source, name, read | OFlags::DIRECTORY, Mode::empty())?;
                let to = rustix::fs::openat(target, name, read | OFlags::DIRECTORY, Mode::empty())?;
                copy_folder(from.as_fd(), to.as_fd(), depth + 1)?;
                copy_facts(from.as_fd(), to.as_fd())?;
            }
            FileType::RegularFile => {
                let mut from = File::from(rustix::fs::openat(source, name, read, Mode::empty())?);
                let write = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let mut to = File::from(rustix::fs::openat(
                    target,
                    name,
                    write,
                    Mode::from_raw_mode(0o600),
                )?);
                io::copy(&mut from, &mut to)?;
                copy_facts(from.as_fd(), to.as_fd())?;
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(source, name, Vec::new())?;
                rustix::fs::symlinkat(&link, target, name)?;
                own_entry(target, name, &stat)?;
            }
            // Devices, sockets and pipes of an image have no place in a volume but as nodes of the same kind.
            kind @ (FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice) => {
                rustix::fs::mknodat(
                    target,
                    name,
                    kind,
                    Mode::from_raw_mode(stat.st_mode & 0o7777),
                    stat.st_rdev,
                )?;
                own_entry(target, name, &stat)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn own_entry(
    folder: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    stat: &rustix::fs::Stat,
) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    Ok(rustix::fs::chownat(
        folder,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Owner, then mode (a change of owner takes set-user bits away), then times.
fn copy_facts(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = |seconds: i64, nanoseconds: i64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(stat.st_atime as i64, stat.st_atime_nsec as i64),
        last_modification: time(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
    };
    Ok(rustix::fs::futimens(to, &times)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn an_empty_volume_takes_over_the_images_files() {
        let image = tempfile::tempdir().unwrap();
        let data = image.path().join("data/deep");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("file"), "text").unwrap();
        fs::set_permissions(data.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("/etc/passwd", image.path().join("data/link")).unwrap();
        symlink("/data", image.path().join("alias")).unwrap();
        let root = rustix::fs::open(
            image.path(),
            OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
        )
        .unwrap();
        let volume = tempfile::tempdir().unwrap();
        copy_up(&root, "/alias", volume.path()).unwrap();
        assert_eq!(
            fs::read_to_string(volume.path().join("deep/file")).unwrap(),
            "text"
        );
        assert_eq!(
            fs::metadata(volume.path().join("deep/file"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o640
        );
        assert_eq!(
            fs::read_link(volume.path().join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        // Not empty any more: a second container changes nothing.
        fs::write(volume.path().join("deep/file"), "changed").unwrap();
        copy_up(&root, "/data", volume.path()).unwrap();
        assert_eq!(
            fs::read_to_string(volume.path().join("deep/file")).unwrap(),
            "changed"
        );
        copy_up(&root, "/missing", tempfile::tempdir().unwrap().path()).unwrap();
    }
}
