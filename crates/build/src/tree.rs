//! What COPY reads: files below a context or an image, found, listed and hashed without ever leaving its root.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::pattern::{Ignore, Pattern};
use crate::{Error, io};

/// More files in one COPY are refused.
const ENTRIES_MAX: usize = 2_000_000;
/// Deeper folders are refused.
const DEPTH_MAX: usize = 1_000;

/// A folder whose insides are not to be trusted.
pub(crate) struct Tree {
    root: OwnedFd,
    /// Where the root is, to tell where links lead.
    location: PathBuf,
    ignore: Ignore,
    is_context: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File,
    Link(OsString),
    Fifo,
    Device { is_block: bool, number: u64 },
}

/// A file of a selection.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Below the selected path; empty: that itself.
    pub path: PathBuf,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified_s: i64,
    pub modified_ns: i64,
    pub inode: u64,
    /// Device and inode, where it has several names.
    pub shared: Option<(u64, u64)>,
}

/// Something that COPY takes: one file, or a folder with what is in it.
pub(crate) struct Selection {
    /// Last part of the path as written.
    pub name: OsString,
    /// As opened from the root.
    path: PathBuf,
    /// Folders come before what is in them.
    pub entries: Vec<Entry>,
    folder: Option<OwnedFd>,
}

impl Selection {
    pub fn is_folder(&self) -> bool {
        self.folder.is_some()
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

impl Tree {
    /// A build context.
    pub fn context(path: &Path, ignore: Ignore) -> Result<Tree, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(io(format!("open the build context {}", path.display())))?;
        Tree::new(root, ignore, true)
    }

    /// An image's files.
    pub fn image(root: OwnedFd) -> Result<Tree, Error> {
        Tree::new(root, Ignore::default(), false)
    }

    fn new(root: OwnedFd, ignore: Ignore, is_context: bool) -> Result<Tree, Error> {
        let location = location(&root)?;
        Ok(Tree {
            root,
            location,
            ignore,
            is_context,
        })
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        open_in(self.root.as_fd(), path, flags, ResolveFlags::IN_ROOT)
    }

    /// The text of a small file; `None`: absent.
    pub fn read_text(&self, path: &str, bytes_max: u64) -> Result<Option<String>, Error> {
        let fd = match self.open(
            Path::new(path),
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
        ) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(e) => return Err(io(format!("open {path}"))(e)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(io(format!("stat {path}")))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(Error::Invalid(format!("{path} is not a regular file")));
        }
        let mut bytes = Vec::new();
        let mut limited = File::from(fd).take(bytes_max + 1);
        limited
            .read_to_end(&mut bytes)
            .map_err(io(format!("read {path}")))?;
        if bytes.len() as u64 > bytes_max {
            return Err(Error::Invalid(format!(
                "{path} is larger than {bytes_max} bytes"
            )));
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The normal form of a source; one that leads above the root is refused.
    fn normal(&self, keyword: &str, source: &str) -> Result<String, Error> {
        let mut depth = 0usize;
        for part in source.split('/') {
            match part {
                "" | "." => {}
                // Paths of an image are absolute: above its root is its root.
                ".." if !self.is_context || source.starts_with('/') => {
                    depth = depth.saturating_sub(1)
                }
                ".." if depth == 0 => {
                    return Err(Error::Invalid(format!(
                        "{keyword} failed: forbidden path outside the build context: {source} ()"
                    )));
                }
                ".." => depth -= 1,
                _ => depth += 1,
            }
        }
        if source.contains('\0') {
            return Err(Error::Invalid(format!(
                "{keyword} failed: {source:?} contains a zero byte"
            )));
        }
        Ok(crate::pattern::clean(source))
    }

    fn missing(&self, keyword: &str, path: &str) -> Error {
        let hint = if self.is_context {
            "file not found in build context or excluded by .dockerignore: "
        } else {
            ""
        };
        Error::Invalid(format!(
            "{keyword} failed: {hint}stat {path}: file does not exist"
        ))
    }

    /// What a source stands for, wildcards included.
    pub fn select(&self, keyword: &str, source: &str) -> Result<Vec<Selection>, Error> {
        let path = self.normal(keyword, source)?;
        if !crate::pattern::has_wildcards(&path) {
            let path = unescape(&path);
            return Ok(vec![self.selection(keyword, &path, Path::new(&path))?]);
        }
        let pattern = Pattern::new(&path, false)
            .map_err(|message| Error::Invalid(format!("{keyword} failed: {message}")))?;
        let depth = path.matches('/').count();
        let everything = self.walk(&self.root, Path::new(""), depth + 1)?;
        let fitting = everything.iter().filter(|entry| {
            entry
                .path
                .as_os_str()
                .as_bytes()
                .iter()
                .filter(|b| **b == b'/')
                .count()
                == depth
                && pattern.matches(&entry.path.to_string_lossy())
        });
        fitting
            .map(|entry| self.selection(keyword, &shown(&entry.path), &entry.path))
            .collect()
    }

    fn selection(&self, keyword: &str, name: &str, path: &Path) -> Result<Selection, Error> {
        let fd = match self.open(path, OFlags::PATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(self.missing(keyword, name)),
            Err(Errno::LOOP | Errno::XDEV) => {
                return Err(Error::Invalid(format!(
                    "{keyword} failed: forbidden path outside the build context: {name} ()"
                )));
            }
            Err(e) => return Err(io(format!("{keyword} failed: open {name}"))(e)),
        };
        // Links were followed: what counts for `.dockerignore` is where they led.
        let real = location(&fd)?;
        let real = real
            .strip_prefix(&self.location)
            .unwrap_or(&real)
            .to_owned();
        let stat = rustix::fs::fstat(&fd).map_err(io(format!("stat {name}")))?;
        let excluded = !self.ignore.is_empty() && self.ignore.excludes(&real.to_string_lossy());
        let mut selection = Selection {
            name: path.file_name().unwrap_or_default().to_owned(),
            path: path.to_owned(),
            entries: Vec::new(),
            folder: None,
        };
        let top = entry(PathBuf::new(), &stat, || Ok(OsString::new()))?;
        let Some(top) = top.filter(|top| self.may_copy(top)) else {
            return Err(self.refused(keyword, name));
        };
        if top.kind == Kind::Folder {
            selection.entries = self.walk(&fd, &real, DEPTH_MAX)?;
            selection.folder = Some(fd);
        }
        if excluded && selection.entries.is_empty() {
            return Err(self.missing(keyword, name));
        }
        selection.entries.insert(0, top);
        if let Some(bad) = selection.entries.iter().find(|entry| !self.may_copy(entry)) {
            return Err(self.refused(keyword, &shown(&Path::new(name).join(&bad.path))));
        }
        Ok(selection)
    }

    /// A context has no business with devices; an image may have them.
    fn may_copy(&self, entry: &Entry) -> bool {
        !self.is_context || !matches!(entry.kind, Kind::Device { .. })
    }

    fn refused(&self, keyword: &str, name: &str) -> Error {
        Error::Invalid(format!(
            "{keyword} failed: {name} is a device or socket; only files, folders, links and pipes can be copied"
        ))
    }

    /// Everything below a folder that `.dockerignore` leaves, folders first, in order of names. `above`: its place
    /// below the root.
    fn walk(&self, folder: &OwnedFd, above: &Path, depth_max: usize) -> Result<Vec<Entry>, Error> {
        let mut found: Vec<Entry> = Vec::new();
        let mut excluded: Vec<bool> = Vec::new();
        let mut open = vec![(PathBuf::new(), 1)];
        while let Some((path, depth)) = open.pop() {
            let inner = children(folder, &path)?;
            for entry in inner.into_iter().rev() {
                let out = !self.ignore.is_empty()
                    && self
                        .ignore
                        .excludes(&above.join(&entry.path).to_string_lossy());
                if entry.kind == Kind::Folder && depth < depth_max {
                    open.push((entry.path.clone(), depth + 1));
                }
                if depth >= DEPTH_MAX || found.len() >= ENTRIES_MAX {
                    return Err(Error::Invalid(format!(
                        "too many or too deep files below {}: at most {ENTRIES_MAX} files and {DEPTH_MAX} levels are copied",
                        above.display()
                    )));
                }
                excluded.push(out);
                found.push(entry);
            }
        }
        Ok(without_excluded(found, &excluded))
    }

    /// Opens a file of a selection for reading.
    pub fn open_file(&self, selection: &Selection, entry: &Entry) -> Result<File, Error> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = match &selection.folder {
            None => self.open(&selection.path, flags),
            Some(folder) => {
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                open_in(folder.as_fd(), &entry.path, flags, resolve)
            }
        };
        let what = || selection.path.join(&entry.path).display().to_string();
        let fd = opened.map_err(|e| io(format!("open {}", what()))(e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| io(format!("stat {}", what()))(e))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(Error::Invalid(format!(
                "{} is no regular file any more",
                what()
            )));
        }
        Ok(File::from(fd))
    }

    /// Digest of a selection: names, kinds, modes, contents and (where they are kept) owners; not times.
    pub fn digest(&self, selection: &Selection, owners: bool) -> Result<String, Error> {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        for entry in &selection.entries {
            // A folder's own mode and name don't arrive, those of what is in it do.
            let is_top_folder = entry.path.as_os_str().is_empty() && entry.kind == Kind::Folder;
            part(entry.path.as_os_str().as_bytes());
            if !is_top_folder {
                part(&entry.mode.to_le_bytes());
                if owners {
                    part(&entry.uid.to_le_bytes());
                    part(&entry.gid.to_le_bytes());
                }
            }
            match &entry.kind {
                Kind::Folder => part(b"folder"),
                Kind::Fifo => part(b"fifo"),
                Kind::Link(target) => {
                    part(b"link");
                    part(target.as_bytes());
                }
                Kind::Device { is_block, number } => {
                    part(b"device");
                    part(&[u8::from(*is_block)]);
                    part(&number.to_le_bytes());
                }
                Kind::File => {
                    let file = self.open_file(selection, entry)?;
                    part(b"file");
                    for (name, value) in crate::place::xattrs(&file)? {
                        part(&name);
                        part(&value);
                    }
                    let what = || format!("read {}", selection.path.join(&entry.path).display());
                    part(&content_digest(file).map_err(|e| io(what())(e))?);
                }
            }
        }
        if !selection.is_folder() {
            part(selection.name.as_bytes());
        }
        Ok(hex::encode(hash.finalize()))
    }
}

fn content_digest(mut file: File) -> std::io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(&buffer[..count]),
        }
    }
}

fn open_in(
    root: std::os::fd::BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    loop {
        // Again: a rename elsewhere in the file system made the kernel unsure.
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

fn location(fd: &OwnedFd) -> Result<PathBuf, Error> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .map_err(io("find out where a source is"))
}

/// A backslash protects the next character.
fn unescape(path: &str) -> String {
    let mut characters = path.chars();
    let mut plain = String::new();
    while let Some(c) = characters.next() {
        plain.push(if c == '\\' {
            characters.next().unwrap_or(c)
        } else {
            c
        });
    }
    plain
}

/// Leaves out what is excluded, but for folders above something that is not.
fn without_excluded(found: Vec<Entry>, excluded: &[bool]) -> Vec<Entry> {
    let mut needed: HashSet<PathBuf> = HashSet::new();
    // Only where something is excluded at all do the folders above the rest matter.
    if excluded.contains(&true) {
        for (kept, _) in found.iter().zip(excluded).filter(|(_, out)| !**out) {
            needed.extend(kept.path.ancestors().skip(1).map(Path::to_owned));
        }
    }
    let mut kept: Vec<Entry> = found
        .into_iter()
        .zip(excluded)
        .filter(|(entry, out)| !**out || needed.contains(&entry.path))
        .map(|(entry, _)| entry)
        .collect();
    kept.sort_by(|a, b| a.path.cmp(&b.path));
    kept
}

fn children(folder: &OwnedFd, path: &Path) -> Result<Vec<Entry>, Error> {
    let what = |verb: &str| format!("{verb} {}", path.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let inside = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let fd = open_in(folder.as_fd(), inside, flags, resolve).map_err(io(what("open")))?;
    let mut entries = Vec::new();
    for item in rustix::fs::Dir::read_from(&fd).map_err(io(what("list")))? {
        let item = item.map_err(io(what("list")))?;
        let name = item.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io(what("stat in")))?;
        let target = || {
            let target = rustix::fs::readlinkat(&fd, name, Vec::new())
                .map_err(io(what("read a link in")))?;
            Ok(OsString::from_vec(target.into_bytes()))
        };
        let name = std::ffi::OsStr::from_bytes(name.to_bytes());
        // Sockets mean nothing without their process.
        entries.extend(entry(path.join(name), &stat, target)?);
        if entries.len() > ENTRIES_MAX {
            return Err(Error::Invalid(format!(
                "too many files in {}",
                path.display()
            )));
        }
    }
    Ok(entries)
}

/// `None`: a socket.
fn entry(
    path: PathBuf,
    stat: &rustix::fs::Stat,
    target: impl FnOnce() -> Result<OsString, Error>,
) -> Result<Option<Entry>, Error> {
    let device = |is_block| Kind::Device {
        is_block,
        number: stat.st_rdev,
    };
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Folder,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Link(target()?),
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => device(false),
        FileType::BlockDevice => device(true),
        FileType::Socket | FileType::Unknown => return Ok(None),
    };
    let shared = kind != Kind::Folder && stat.st_nlink > 1;
    Ok(Some(Entry {
        path,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified_s: stat.st_mtime,
        modified_ns: stat.st_mtime_nsec as i64,
        inode: stat.st_ino,
        shared: shared.then_some((stat.st_dev, stat.st_ino)),
    }))
}
