//! What COPY writes: into a mounted snapshot whose links must not lead out of it.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::tree::{Entry, Kind, Selection, Tree};
use crate::{Error, io};

/// As many links as the kernel follows.
const LINKS_MAX: usize = 40;

/// Name and value of an extended attribute.
pub(crate) type Attribute = (Vec<u8>, Vec<u8>);

/// User and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// Who owns copies, and their mode.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marks {
    /// `None`: as in the source.
    pub owner: Option<Owner>,
    /// `--chmod`.
    pub mode: Option<u32>,
}

/// A root file system to write into.
pub(crate) struct Root<'a> {
    root: BorrowedFd<'a>,
}

fn failed(path: &Path) -> impl Fn(Errno) -> Error + '_ {
    move |e| Error::Io {
        operation: format!("failed to copy files: write {}", path.display()),
        source: e.into(),
    }
}

impl<'a> Root<'a> {
    pub fn new(root: BorrowedFd<'a>) -> Root<'a> {
        Root { root }
    }

    pub fn fd(&self) -> BorrowedFd<'a> {
        self.root
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(
                self.root,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    fn open_folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Whether a folder is there, links followed.
    pub fn is_folder(&self, path: &Path) -> bool {
        self.open_folder(path).is_ok()
    }

    /// Opens a small file for reading.
    pub fn open_file(&self, path: &Path) -> Result<File, Errno> {
        self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .map(File::from)
    }

    /// A folder with all above it; those that are made get the owner and mode 0755. A link that leads nowhere gets
    /// its target made, inside the root.
    pub fn make_folders(&self, path: &Path, owner: Owner) -> Result<OwnedFd, Error> {
        let mut links = 0;
        let mut rest: VecDeque<OsString> = parts(path);
        let mut current = PathBuf::new();
        let mut folder = self.open_folder(&current).map_err(failed(path))?;
        while let Some(part) = rest.pop_front() {
            let next = current.join(&part);
            match self.open_folder(&next) {
                Ok(opened) => (folder, current) = (opened, next),
                Err(Errno::NOENT) => match read_link(&folder, &part).map_err(failed(path))? {
                    Some(target) => {
                        links += 1;
                        if links > LINKS_MAX {
                            return Err(failed(path)(Errno::LOOP));
                        }
                        if target.is_absolute() {
                            current = PathBuf::new();
                            folder = self.open_folder(&current).map_err(failed(path))?;
                        }
                        let mut ahead = parts(&target);
                        ahead.append(&mut rest);
                        rest = ahead;
                    }
                    None => {
                        make_folder(&folder, &part, owner).map_err(failed(path))?;
                        folder = self.open_folder(&next).map_err(failed(path))?;
                        current = next;
                    }
                },
                Err(e) => return Err(failed(path)(e)),
            }
        }
        Ok(folder)
    }

    /// Removes a file or folder; links on the way are not followed, absent is not an error.
    pub fn remove(&self, path: &Path) -> Result<(), Error> {
        let name = path.file_name().unwrap_or_default();
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let above = above.unwrap_or(Path::new("."));
        match rustix::fs::openat2(self.root, above, flags, Mode::empty(), resolve) {
            Ok(folder) => clear(&folder, name, false)
                .map(|_| ())
                .map_err(failed(path)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(e) => Err(failed(path)(e)),
        }
    }

    /// Copies a folder's contents into a folder, which is made if need be.
    pub fn copy_folder(
        &self,
        tree: &Tree,
        selection: &Selection,
        target: &Path,
        marks: Marks,
    ) -> Result<(), Error> {
        let folder = self.make_folders(target, marks.owner.unwrap_or_default())?;
        let mut copying = Copying {
            tree,
            selection,
            target,
            marks,
            folder: &folder,
            names: HashMap::new(),
        };
        for entry in selection
            .entries
            .iter()
            .filter(|entry| !entry.path.as_os_str().is_empty())
        {
            copying.entry(entry)?;
        }
        // Last: writing into a folder changes its time.
        for entry in selection
            .entries
            .iter()
            .rev()
            .filter(|entry| entry.kind == Kind::Folder)
        {
            if !entry.path.as_os_str().is_empty() {
                let opened = copying.inner(&entry.path).map_err(failed(target))?;
                set_times(&opened, entry).map_err(failed(target))?;
            }
        }
        Ok(())
    }

    /// Copies one file to a path; a link there is followed, inside the root.
    pub fn copy_file(
        &self,
        source: &mut dyn FnMut() -> Result<File, Error>,
        entry: &Entry,
        target: &Path,
        marks: Marks,
    ) -> Result<(), Error> {
        let mut target = target.to_owned();
        for _ in 0..LINKS_MAX {
            let name = target.file_name().map(OsStr::to_owned);
            let Some(name) = name else {
                return Err(failed(&target)(Errno::ISDIR));
            };
            let above = target.parent().unwrap_or(Path::new(""));
            let folder = self.make_folders(above, marks.owner.unwrap_or_default())?;
            match read_link(&folder, &name).map_err(failed(&target))? {
                Some(link) if link.is_absolute() => target = link,
                Some(link) => target = above.join(link),
                None => return put(&folder, &name, entry, marks, source, &target),
            }
        }
        Err(failed(&target)(Errno::LOOP))
    }
}

/// Names of a path; `..` stays, the kernel resolves it inside the root.
fn parts(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

/// Target of a link; `None`: no link, or nothing there.
fn read_link(folder: &OwnedFd, name: &OsStr) -> Result<Option<PathBuf>, Errno> {
    match rustix::fs::readlinkat(folder, name, Vec::new()) {
        Ok(target) => Ok(Some(PathBuf::from(OsStr::from_bytes(target.as_bytes())))),
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

fn make_folder(folder: &OwnedFd, name: &OsStr, owner: Owner) -> Result<(), Errno> {
    rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o755))?;
    rustix::fs::chmodat(folder, name, Mode::from_raw_mode(0o755), AtFlags::empty())?;
    set_owner(folder, name, owner)
}

fn set_owner(folder: &OwnedFd, name: &OsStr, owner: Owner) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::chownat(
        folder,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )
}

fn set_times(fd: impl AsFd, entry: &Entry) -> Result<(), Errno> {
    // Opened as a path only: reached again through its descriptor.
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    rustix::fs::utimensat(rustix::fs::CWD, path, &times(entry), AtFlags::empty())
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.modified_s,
        tv_nsec: entry.modified_ns,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Mode of a copy. Who changes the owner of a file takes its set-ID bits away, as the kernel does.
fn mode_of(entry: &Entry, marks: Marks) -> Mode {
    let kept = match (marks.owner, &entry.kind) {
        (Some(_), Kind::File) => entry.mode & 0o1777,
        _ => entry.mode,
    };
    Mode::from_raw_mode(marks.mode.unwrap_or(kept))
}

struct Copying<'a> {
    tree: &'a Tree,
    selection: &'a Selection,
    target: &'a Path,
    marks: Marks,
    folder: &'a OwnedFd,
    /// First copy of files that have several names.
    names: HashMap<(u64, u64), PathBuf>,
}

impl Copying<'_> {
    /// A folder made by this copy: no links on the way.
    fn inner(&self, path: &Path) -> Result<OwnedFd, Errno> {
        if path.as_os_str().is_empty() {
            return self.folder.try_clone().map_err(|_| Errno::MFILE);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        loop {
            match rustix::fs::openat2(self.folder, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        let shown = self.target.join(&entry.path);
        let above = entry.path.parent().unwrap_or(Path::new(""));
        let name = entry.path.file_name().unwrap_or_default();
        let folder = self.inner(above).map_err(failed(&shown))?;
        if let Some(first) = entry.shared.and_then(|shared| self.names.get(&shared)) {
            clear(&folder, name, false).map_err(failed(&shown))?;
            return rustix::fs::linkat(self.folder, first, &folder, name, AtFlags::empty())
                .map_err(failed(&shown));
        }
        let (tree, selection) = (self.tree, self.selection);
        let mut source = || tree.open_file(selection, entry);
        put(&folder, name, entry, self.marks, &mut source, &shown)?;
        if let Some(shared) = entry.shared {
            self.names.insert(shared, entry.path.clone());
        }
        Ok(())
    }
}

/// Removes what is in the way; a folder may stay for a folder. Says whether it stayed.
fn clear(folder: &OwnedFd, name: &OsStr, for_folder: bool) -> Result<bool, Errno> {
    let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(false),
        Err(e) => return Err(e),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return rustix::fs::unlinkat(folder, name, AtFlags::empty()).map(|()| false);
    }
    if for_folder {
        return Ok(true);
    }
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    path.push(name);
    // Follows no links below the folder.
    std::fs::remove_dir_all(&path)
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
        .map(|()| false)
}

fn put(
    folder: &OwnedFd,
    name: &OsStr,
    entry: &Entry,
    marks: Marks,
    source: &mut dyn FnMut() -> Result<File, Error>,
    shown: &Path,
) -> Result<(), Error> {
    let failed = failed(shown);
    let stays = clear(folder, name, entry.kind == Kind::Folder).map_err(&failed)?;
    let mode = mode_of(entry, marks);
    let owner = marks.owner.unwrap_or(Owner {
        uid: entry.uid,
        gid: entry.gid,
    });
    match &entry.kind {
        Kind::File => return put_file(folder, name, entry, (owner, mode), source, shown),
        Kind::Folder if stays => {}
        Kind::Folder => {
            rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o755)).map_err(&failed)?
        }
        Kind::Link(target) => {
            rustix::fs::symlinkat(target.as_os_str(), folder, name).map_err(&failed)?
        }
        Kind::Fifo => {
            rustix::fs::mknodat(folder, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
                .map_err(&failed)?
        }
        Kind::Device { is_block, number } => {
            let kind = if *is_block {
                FileType::BlockDevice
            } else {
                FileType::CharacterDevice
            };
            rustix::fs::mknodat(folder, name, kind, Mode::from_raw_mode(0o600), *number)
                .map_err(&failed)?
        }
    }
    set_owner(folder, name, owner).map_err(&failed)?;
    if !matches!(entry.kind, Kind::Link(_)) {
        // What was just made here is no link, and nothing else runs in this file system.
        rustix::fs::chmodat(folder, name, mode, AtFlags::empty()).map_err(&failed)?;
    }
    rustix::fs::utimensat(folder, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(&failed)
}

fn put_file(
    folder: &OwnedFd,
    name: &OsStr,
    entry: &Entry,
    (owner, mode): (Owner, Mode),
    source: &mut dyn FnMut() -> Result<File, Error>,
    shown: &Path,
) -> Result<(), Error> {
    let failed = failed(shown);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd =
        rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600)).map_err(&failed)?;
    let mut copy = File::from(fd);
    let mut source = source()?;
    std::io::copy(&mut source, &mut copy).map_err(io(format!(
        "failed to copy files: write {}",
        shown.display()
    )))?;
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::fchown(&copy, Some(uid), Some(gid)).map_err(&failed)?;
    rustix::fs::fchmod(&copy, mode).map_err(&failed)?;
    for (name, value) in xattrs(&source)? {
        match rustix::fs::fsetxattr(&copy, name.as_slice(), &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    rustix::fs::futimens(&copy, &times(entry)).map_err(&failed)
}

/// Capabilities of a file: the one attribute that COPY carries over.
pub(crate) fn xattrs(file: &File) -> Result<Vec<Attribute>, Error> {
    let name = b"security.capability";
    let mut value = [0u8; 64];
    match rustix::fs::fgetxattr(file, name.as_slice(), &mut value[..]) {
        Ok(count) => Ok(vec![(name.to_vec(), value[..count].to_vec())]),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(e) => Err(io("read a file's capabilities")(e)),
    }
}
