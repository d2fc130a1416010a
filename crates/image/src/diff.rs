//! The difference a layer makes: an overlay folder as a layer's tar, and as a list of changed paths.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::{io, io_with};
use crate::mountpoints::Mountpoints;
use crate::tar::{Entry, Kind, TarWriter};
use crate::unpack::{Unpacked, show};
use crate::{Change, ChangeKind, Result, whiteout, xattr};

/// Writes a layer folder (an upper folder, or an unpacked layer) as a tar with OCI whiteouts. The order is by name,
/// times are cut to seconds: the same folder gives the same bytes, now and when it is pushed later.
pub(crate) fn write_layer<W: Write>(
    tree: BorrowedFd<'_>,
    mountpoints: Mountpoints<'_>,
    output: W,
) -> Result<(Unpacked, W)> {
    let mut walk = LayerWriter {
        tree,
        mountpoints,
        tar: TarWriter::new(output),
        linked: HashMap::new(),
        buffer: vec![0; 256 * 1024],
        done: Unpacked::default(),
    };
    let mut todo: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let mut folders = walk.write_folder(&path)?;
        folders.reverse();
        todo.append(&mut folders);
    }
    Ok((walk.done, walk.tar.finish()?))
}

struct LayerWriter<'a, W> {
    tree: BorrowedFd<'a>,
    mountpoints: Mountpoints<'a>,
    tar: TarWriter<W>,
    /// Device and inode of files with several names → the first name.
    linked: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    done: Unpacked,
}

impl<W: Write> LayerWriter<'_, W> {
    /// Writes a folder and everything in it but its folders, whose paths are returned in order.
    fn write_folder(&mut self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let folder =
            open_exactly(self.tree, path).map_err(io_with(|| format!("open {}", show(path))))?;
        if !path.is_empty() {
            let stat =
                rustix::fs::fstat(&folder).map_err(io_with(|| format!("stat {}", show(path))))?;
            let mut entry = entry_of(Kind::Folder, [path, b"/"].concat(), &stat);
            entry.xattrs = xattr::read(&folder)?;
            self.begin(&entry)?;
            if whiteout::is_opaque(&folder)? {
                self.whiteout(&join(path, whiteout::OPAQUE))?;
            }
        }
        let mut folders = Vec::new();
        for name in sorted_names(&folder)? {
            let stat = match rustix::fs::statat(&folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            {
                Ok(stat) => stat,
                // A running container removed it meanwhile.
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(io_with(|| format!("stat {}", show(&name)))(e)),
            };
            let full = join(path, &name);
            if self.mountpoints.hide(&folder, &name, &full, &stat)? {
                continue;
            }
            if whiteout::is_whiteout(&stat) {
                self.whiteout(&join(path, &[whiteout::PREFIX, &name].concat()))?;
            } else if name.starts_with(whiteout::PREFIX) {
                // It would delete something in every image made of it.
                tracing::warn!(path = %show(&full), "a file named like a whiteout is left out of the layer");
            } else if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                folders.push(full);
            } else {
                self.write_other(&folder, &name, full, &stat)?;
            }
        }
        Ok(folders)
    }

    fn write_other(
        &mut self,
        folder: &OwnedFd,
        name: &[u8],
        path: Vec<u8>,
        stat: &Stat,
    ) -> Result<()> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::Char,
            FileType::BlockDevice => Kind::Block,
            FileType::Fifo => Kind::Fifo,
            // A socket is of no use without its process, and tar has no word for it.
            _ => return Ok(()),
        };
        let mut entry = entry_of(kind, path, stat);
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                entry.kind = Kind::HardLink;
                entry.link = first.clone();
                entry.size_bytes = 0;
                return self.begin(&entry);
            }
            self.linked
                .insert((stat.st_dev, stat.st_ino), entry.path.clone());
        }
        match kind {
            Kind::File => return self.write_file(folder, name, entry),
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new());
                entry.link = target
                    .map_err(io_with(|| format!("read link {}", show(name))))?
                    .into_bytes();
            }
            _ => {}
        }
        self.begin(&entry)
    }

    fn write_file(&mut self, folder: &OwnedFd, name: &[u8], mut entry: Entry) -> Result<()> {
        // NONBLOCK: between the look and the opening a container may put a fifo there.
        let flags = OFlags::RDONLY
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOATIME
            | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::LOOP) => return Ok(()),
            Err(e) => return Err(io_with(|| format!("open {}", show(&entry.path)))(e)),
        };
        entry.xattrs = xattr::read(&fd)?;
        self.begin(&entry)?;
        let mut file = std::fs::File::from(fd);
        let mut left = entry.size_bytes;
        while left > 0 {
            match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => {
                    self.tar.data(&self.buffer[..count])?;
                    left = left.saturating_sub(count as u64);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(io_with(|| format!("read {}", show(&entry.path)))(e)),
            }
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        self.begin(&Entry::new(Kind::File, path.to_vec()))
    }

    fn begin(&mut self, entry: &Entry) -> Result<()> {
        self.done.entries += 1;
        self.done.size_bytes += if entry.kind == Kind::File {
            entry.size_bytes
        } else {
            0
        };
        self.tar.begin(entry)
    }
}

fn entry_of(kind: Kind, path: Vec<u8>, stat: &Stat) -> Entry {
    let mut entry = Entry::new(kind, path);
    entry.mode = if kind == Kind::Symlink {
        0o777
    } else {
        stat.st_mode & 0o7777
    };
    entry.uid = stat.st_uid;
    entry.gid = stat.st_gid;
    entry.mtime_s = stat.st_mtime;
    if kind == Kind::File {
        entry.size_bytes = stat.st_size as u64;
    }
    if matches!(kind, Kind::Char | Kind::Block) {
        entry.device = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
    }
    entry
}

pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        name.to_vec()
    } else {
        [folder, b"/", name].concat()
    }
}

/// A folder below `root` by a path that has no links in it.
pub(crate) fn open_exactly(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() {
        b".".as_slice()
    } else {
        path
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(
        root,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
}

pub(crate) fn sorted_names(folder: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(io("list a folder"))? {
        let entry = entry.map_err(io("list a folder"))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort();
    Ok(names)
}

/// What an upper folder changes in the tree below it, in order of paths.
pub(crate) fn changes(upper: BorrowedFd<'_>, mountpoints: Mountpoints<'_>) -> Result<Vec<Change>> {
    let lower = mountpoints.lower;
    let mut changes = Vec::new();
    let mut todo: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let folder = match open_exactly(upper, &path) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(io_with(|| format!("open {}", show(&path)))(e)),
        };
        let below = lower.and_then(|lower| open_exactly(lower, &path).ok());
        let names = sorted_names(&folder)?;
        if !path.is_empty() && whiteout::is_opaque(&folder)? {
            deleted_below_opaque(below.as_ref(), &names, &path, &mut changes)?;
        }
        for name in names {
            let Ok(stat) = rustix::fs::statat(&folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            else {
                continue;
            };
            let old = below.as_ref().and_then(|below| {
                rustix::fs::statat(below, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).ok()
            });
            let full = join(&path, &name);
            if mountpoints.hide(&folder, &name, &full, &stat)? {
                continue;
            }
            let kind = match (whiteout::is_whiteout(&stat), old) {
                (true, None) => continue,
                (true, Some(_)) => ChangeKind::Deleted,
                (false, None) => ChangeKind::Added,
                (false, Some(_)) => ChangeKind::Modified,
            };
            push_change(&mut changes, &full, kind);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                todo.push(full);
            }
        }
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(changes)
}

/// A folder made anew hides everything that was in the old one.
fn deleted_below_opaque(
    below: Option<&OwnedFd>,
    names: &[Vec<u8>],
    path: &[u8],
    changes: &mut Vec<Change>,
) -> Result<()> {
    let Some(below) = below else { return Ok(()) };
    for name in sorted_names(below)? {
        if names.binary_search(&name).is_err() {
            push_change(changes, &join(path, &name), ChangeKind::Deleted);
        }
    }
    Ok(())
}

fn push_change(changes: &mut Vec<Change>, path: &[u8], kind: ChangeKind) {
    use std::os::unix::ffi::OsStringExt;
    let path = std::ffi::OsString::from_vec([b"/", path].concat());
    changes.push(Change {
        path: path.into(),
        kind,
    });
}

/// Bytes on disk below a folder; hard links count once.
pub(crate) fn usage_bytes(tree: BorrowedFd<'_>) -> Result<u64> {
    let mut seen = std::collections::HashSet::new();
    let mut total_bytes = 0;
    let mut todo: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let Ok(folder) = open_exactly(tree, &path) else {
            continue;
        };
        for name in sorted_names(&folder)? {
            let Ok(stat) = rustix::fs::statat(&folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            else {
                continue;
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                todo.push(join(&path, &name));
            } else if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && (stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)))
            {
                total_bytes += (stat.st_blocks as u64 * 512).min(stat.st_size as u64);
            }
        }
    }
    Ok(total_bytes)
}

/// Writes a layer folder to anything that takes bytes, through a buffer.
pub(crate) fn write_layer_at(
    path: &std::path::Path,
    mountpoints: Mountpoints<'_>,
    output: &mut dyn Write,
) -> Result<Unpacked> {
    let tree = std::fs::File::open(path).map_err(crate::error::io_at("open", path))?;
    Ok(write_layer(
        tree.as_fd(),
        mountpoints,
        std::io::BufWriter::with_capacity(256 * 1024, output),
    )?
    .0)
}
