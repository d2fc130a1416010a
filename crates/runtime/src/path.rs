//! Paths inside a root file system that nobody trusts: every look-up goes through openat2 and stays below the root,
//! whatever links the image holds (CVE-2021-30465, CVE-2019-19921).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Links followed in one path before it is taken for a loop, as the kernel counts them.
const LINKS_MAX: usize = 40;

/// Opens a path as a process whose root is `root` would see it. Links are followed, but never out, and never the
/// magic ones of procfs.
pub fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(
        root,
        relative(path),
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?)
}

/// Opens a path that holds no link at all.
pub fn open_plain(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    Ok(rustix::fs::openat2(
        root,
        relative(path),
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?)
}

/// Opens a path for use as a place: `O_PATH`.
pub fn open_place(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    open(root, path, OFlags::PATH)
}

/// Makes a folder with all those above it (mode 0755), as far as they are missing, and opens it.
pub fn make_folder(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    match open(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_missing(root, path),
        other => other,
    }
}

/// Makes an empty file, with the folders above it, where nothing is yet, and opens it as a place.
pub fn make_file(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    match open_place(root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    make_file_below(root, path, LINKS_MAX)?;
    open_place(root, path)
}

/// Makes a file where a path leads to nothing; a last name that is a link is followed by hand, below the root.
fn make_file_below(root: BorrowedFd<'_>, path: &Path, links_left: usize) -> io::Result<()> {
    let (parent, name) = split(path)?;
    let folder = make_folder(root, parent)?;
    if let Ok(Some(target)) = link_target(&folder, Path::new(name)) {
        let links_left = links_left.checked_sub(1).ok_or(Errno::LOOP)?;
        // The parent may have been reached by links too: `..` of the target starts where they led.
        let next = match target.is_absolute() {
            true => target,
            false => inside(root, &folder)?.join(target),
        };
        return match open_place(root, &next) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_file_below(root, &next, links_left)
            }
            other => other.map(drop),
        };
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o755)) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Where an open folder lies below the root, as the kernel tells.
fn inside(root: BorrowedFd<'_>, folder: &OwnedFd) -> io::Result<PathBuf> {
    let place = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}"));
    let (root, folder) = (place(root.as_raw_fd())?, place(folder.as_raw_fd())?);
    let below = folder.strip_prefix(&root).map_err(io::Error::other)?;
    Ok(Path::new("/").join(below))
}

/// Opens the folder that holds a path, making it where it is missing, and returns it with the path's last name.
pub fn make_parent<'a>(root: BorrowedFd<'_>, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
    let (parent, name) = split(path)?;
    Ok((make_folder(root, parent)?, name))
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(Errno::INVAL.into()),
    }
}

/// Walks component by component, making what is missing. A link on the way is resolved by hand, below the root.
fn make_missing(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let mut pending: Vec<PathBuf> = components(path);
    let mut done = PathBuf::new();
    let mut links = 0;
    while let Some(component) = pending.pop() {
        if component.as_os_str() == ".." {
            done.pop();
            continue;
        }
        let here = open(root, &done, OFlags::PATH | OFlags::DIRECTORY)?;
        match rustix::fs::mkdirat(&here, &component, Mode::from_raw_mode(0o755)) {
            Ok(()) => done.push(component),
            Err(Errno::EXIST | Errno::ROFS) => match link_target(&here, &component)? {
                None => done.push(component),
                Some(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::LOOP.into());
                    }
                    if target.is_absolute() {
                        done = PathBuf::new();
                    }
                    pending.extend(components(&target));
                }
            },
            Err(error) => return Err(error.into()),
        }
    }
    open(root, &done, OFlags::PATH | OFlags::DIRECTORY)
}

/// Where a link leads; `None`: not a link.
fn link_target(folder: &OwnedFd, name: &Path) -> io::Result<Option<PathBuf>> {
    match rustix::fs::readlinkat(folder, name, Vec::new()) {
        Ok(target) => {
            use std::os::unix::ffi::OsStringExt;
            Ok(Some(PathBuf::from(std::ffi::OsString::from_vec(
                target.into_bytes(),
            ))))
        }
        Err(Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Components in reverse, so that the next one is popped; `.` and `/` left out.
fn components(path: &Path) -> Vec<PathBuf> {
    let keep = |component: Component<'_>| match component {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        _ => None,
    };
    path.components().rev().filter_map(keep).collect()
}

fn relative(path: &Path) -> &Path {
    let inside = path.strip_prefix("/").unwrap_or(path);
    if inside.as_os_str().is_empty() {
        Path::new(".")
    } else {
        inside
    }
}

/// Whether `fd` is a folder.
pub fn is_folder(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let folder = tempfile::tempdir().unwrap();
        let fd = rustix::fs::open(
            folder.path(),
            OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
        )
        .unwrap();
        (folder, fd)
    }

    #[test]
    fn links_of_the_image_stay_inside() {
        let (folder, fd) = root();
        fs::create_dir(folder.path().join("etc")).unwrap();
        fs::write(folder.path().join("etc/passwd"), "inside").unwrap();
        symlink("/etc", folder.path().join("absolute")).unwrap();
        symlink("../../../../etc", folder.path().join("climbing")).unwrap();
        for link in ["absolute", "climbing"] {
            let file = open(
                fd.as_fd(),
                &Path::new("/").join(link).join("passwd"),
                OFlags::RDONLY,
            )
            .unwrap();
            assert_eq!(
                std::io::read_to_string(fs::File::from(file)).unwrap(),
                "inside"
            );
        }
    }

    #[test]
    fn missing_folders_are_made_where_a_link_leads_inside() {
        let (folder, fd) = root();
        symlink("/run", folder.path().join("var")).unwrap();
        symlink("../../../../../outside", folder.path().join("up")).unwrap();
        make_folder(fd.as_fd(), Path::new("/var/lib/x")).unwrap();
        assert!(folder.path().join("run/lib/x").is_dir());
        make_folder(fd.as_fd(), Path::new("/up/x")).unwrap();
        assert!(folder.path().join("outside/x").is_dir());
        make_file(fd.as_fd(), Path::new("/a/b/file")).unwrap();
        assert!(folder.path().join("a/b/file").is_file());
        assert!(!folder.path().parent().unwrap().join("outside").exists());
    }

    #[test]
    fn a_file_is_made_where_a_dangling_link_leads() {
        let (folder, fd) = root();
        fs::create_dir(folder.path().join("etc")).unwrap();
        symlink("../run/resolve/file", folder.path().join("etc/relative")).unwrap();
        symlink("/a/b/file", folder.path().join("etc/absolute")).unwrap();
        symlink("/etc/absolute", folder.path().join("twice")).unwrap();
        symlink("../../../../../../outside", folder.path().join("up")).unwrap();
        for link in ["/etc/relative", "/twice", "/up"] {
            make_file(fd.as_fd(), Path::new(link)).unwrap();
        }
        for file in ["run/resolve/file", "a/b/file", "outside"] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
        assert!(!folder.path().parent().unwrap().join("outside").exists());
    }

    #[test]
    fn loops_end() {
        let (folder, fd) = root();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert!(make_folder(fd.as_fd(), Path::new("/a/x")).is_err());
        assert!(make_file(fd.as_fd(), Path::new("/a")).is_err());
    }
}
