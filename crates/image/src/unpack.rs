//! Unpacking a layer: a hostile tar stream becomes a folder that overlayfs can use, and nothing outside it changes.
//!
//! Every path is resolved by the kernel with the folder as its root (`openat2`, `RESOLVE_IN_ROOT`), so no order of
//! links, folders and files in the archive leads out. Names that say they lead out are refused besides.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::io_with;
use crate::tar::{Entry, Kind, TarReader};
use crate::whiteout::{self, Meaning};
use crate::{Error, Result, xattr};

/// Entries of one archive.
const ENTRIES_MAX: u64 = 4_000_000;
/// Files of one archive, holes counted.
const UNPACKED_BYTES_MAX: u64 = 256 << 30;
/// Up to here a stream may unpack to any multiple of its size.
const RATIO_FREE_BYTES: u64 = 1 << 30;
/// Beyond, to this multiple: gzip can't do more, and real layers stay far below.
const RATIO_MAX: u64 = 1100;
const PATH_BYTES_MAX: usize = 4095;
const NAME_BYTES_MAX: usize = 255;
/// Runs of zeros this long become holes.
const HOLE_BYTES: usize = 4096;

/// How an archive is unpacked.
#[derive(Debug, Clone, Default)]
pub struct UnpackOptions {
    /// `.wh.` names become overlayfs whiteouts (a layer); else they are names like others (a user's archive).
    pub whiteouts: bool,
    /// Device nodes are made; else they are an error.
    pub devices: bool,
    /// Where in the root the archive's own root is (`docker cp` into a folder of a container). Links of that folder are
    /// followed inside the root.
    pub below: std::path::PathBuf,
    /// Compressed bytes read so far, counted by whoever reads them: bounds how much may come out.
    pub compressed_bytes: Option<Arc<AtomicU64>>,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Sizes of all files.
    pub size_bytes: u64,
    /// Entries, the archive's root not counted.
    pub entries: u64,
}

/// Unpacks a tar stream into a folder, to the stream's very end. What was made before an error stays: the caller
/// throws the folder away.
pub fn unpack(
    archive: &mut dyn Read,
    root: BorrowedFd<'_>,
    options: &UnpackOptions,
) -> Result<Unpacked> {
    let mut reader = TarReader::new(archive);
    let mut unpacker = Unpacker::new(root, options);
    while let Some(entry) = reader.next_entry()? {
        unpacker.take(&entry, &mut reader)?;
    }
    unpacker.set_folder_times()?;
    let unpacked = unpacker.done;
    reader.drain()?;
    Ok(unpacked)
}

struct Unpacker<'a> {
    root: BorrowedFd<'a>,
    options: &'a UnpackOptions,
    /// The folder that the last entry was in. Forgotten whenever something is replaced.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Folders' times are set last: making entries inside changes them.
    folder_times: Vec<(Vec<u8>, Timestamps)>,
    below: Vec<u8>,
    buffer: Vec<u8>,
    done: Unpacked,
    /// Sizes announced by the entries so far, and data that really came.
    total_bytes: u64,
    written_bytes: u64,
}

type Source<'r, 'a> = TarReader<&'r mut (dyn Read + 'a)>;

impl<'a> Unpacker<'a> {
    fn new(root: BorrowedFd<'a>, options: &'a UnpackOptions) -> Unpacker<'a> {
        Unpacker {
            root,
            options,
            parent: None,
            folder_times: Vec::new(),
            below: clean(options.below.as_os_str().as_bytes()).unwrap_or_default(),
            buffer: vec![0; 256 * 1024],
            done: Unpacked::default(),
            total_bytes: 0,
            written_bytes: 0,
        }
    }

    fn take(&mut self, entry: &Entry, source: &mut Source<'_, '_>) -> Result<()> {
        let path = self
            .locate(&entry.path)
            .ok_or_else(|| refused(entry, "its path leaves the root"))?;
        if path == self.below {
            return if entry.kind == Kind::Folder {
                self.set_root(entry)
            } else {
                Err(refused(entry, "it has no name"))
            };
        }
        self.check_bounds(entry, &path)?;
        let (folder, name) = split(&path);
        if self.options.whiteouts {
            match whiteout::meaning(name) {
                Some(Meaning::Opaque) => return self.set_opaque(entry, folder),
                Some(Meaning::Hides(hidden)) => return self.hide(entry, folder, hidden),
                Some(Meaning::Ignored) => return Ok(()),
                Some(Meaning::Malformed) => {
                    return Err(refused(entry, "a whiteout without a name"));
                }
                None => {}
            }
        }
        self.enter(entry, folder)?;
        match entry.kind {
            Kind::File => self.make_file(entry, name, source),
            Kind::Folder => self.make_folder(entry, &path, name),
            Kind::Symlink => self.make_symlink(entry, folder, name),
            Kind::HardLink => self.make_hard_link(entry, name),
            Kind::Char | Kind::Block | Kind::Fifo => self.make_node(entry, name),
        }
    }

    /// A path of the archive as one of the root; `None`: it leaves the archive.
    fn locate(&self, path: &[u8]) -> Option<Vec<u8>> {
        let path = clean(path)?;
        Some(match (self.below.is_empty(), path.is_empty()) {
            (true, _) => path,
            (false, true) => self.below.clone(),
            (false, false) => [self.below.as_slice(), b"/", &path].concat(),
        })
    }

    fn check_bounds(&mut self, entry: &Entry, path: &[u8]) -> Result<()> {
        if path.len() > PATH_BYTES_MAX
            || path
                .split(|b| *b == b'/')
                .any(|name| name.len() > NAME_BYTES_MAX)
        {
            return Err(refused(entry, "its path is too long"));
        }
        self.done.entries += 1;
        if self.done.entries > ENTRIES_MAX {
            return Err(Error::Invalid(format!(
                "archive refused: more than {ENTRIES_MAX} entries"
            )));
        }
        self.total_bytes = self.total_bytes.saturating_add(entry.size_bytes);
        if self.total_bytes > UNPACKED_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "archive refused: unpacks to more than {UNPACKED_BYTES_MAX} bytes"
            )));
        }
        self.done.size_bytes += if entry.kind == Kind::File {
            entry.size_bytes
        } else {
            0
        };
        Ok(())
    }

    /// Asked between pieces of data, so that a bomb is noticed while it goes off.
    fn check_ratio(&self) -> Result<()> {
        let Some(counter) = &self.options.compressed_bytes else {
            return Ok(());
        };
        let unpacked_bytes = self.written_bytes;
        let compressed_bytes = counter.load(Ordering::Relaxed);
        if unpacked_bytes > RATIO_FREE_BYTES && unpacked_bytes / RATIO_MAX > compressed_bytes {
            return Err(Error::Invalid(format!(
                "archive refused: {compressed_bytes} compressed bytes unpack to more than {unpacked_bytes}"
            )));
        }
        Ok(())
    }

    /// Opens the folder that an entry belongs to, made where the archive left it out.
    fn enter(&mut self, entry: &Entry, folder: &[u8]) -> Result<()> {
        if self.parent.as_ref().is_some_and(|(path, _)| path == folder) {
            return Ok(());
        }
        let opened = match open_folder(self.root, folder) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.make_parents(entry, folder)?;
                open_folder(self.root, folder)
            }
            other => other,
        };
        let opened = opened.map_err(io_with(|| format!("open folder of {}", show(&entry.path))))?;
        self.parent = Some((folder.to_vec(), opened));
        Ok(())
    }

    fn make_parents(&mut self, entry: &Entry, folder: &[u8]) -> Result<()> {
        let ends = folder
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(i, _)| i)
            .chain([folder.len()]);
        for end in ends {
            let path = &folder[..end];
            match open_folder(self.root, path) {
                Ok(_) => continue,
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(e) => {
                    return Err(io_with(|| format!("open folder of {}", show(&entry.path)))(
                        e,
                    ));
                }
            }
            let (above, name) = split(path);
            let above = open_folder(self.root, above)
                .map_err(io_with(|| format!("open folder of {}", show(&entry.path))))?;
            let hidden = self.remove_whiteout(&above, name)?;
            rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)).map_err(|e| match e {
                Errno::EXIST => refused(entry, "it lies below something that is not a folder"),
                e => io_with(|| format!("make folder {}", show(path)))(e),
            })?;
            if hidden {
                let made = crate::diff::open_exactly(above.as_fd(), name)
                    .map_err(io_with(|| format!("open folder {}", show(path))))?;
                whiteout::set_opaque(&made)?;
            }
        }
        Ok(())
    }

    /// The current folder.
    fn here(&self) -> BorrowedFd<'_> {
        self.parent
            .as_ref()
            .map_or(self.root, |(_, folder)| folder.as_fd())
    }

    /// A whiteout of the same layer gives way to what comes later; says whether there was one.
    fn remove_whiteout(&self, folder: &OwnedFd, name: &[u8]) -> Result<bool> {
        let there = self.options.whiteouts
            && rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| whiteout::is_whiteout(&stat));
        if there {
            rustix::fs::unlinkat(folder, name, AtFlags::empty())
                .map_err(io_with(|| format!("replace {}", show(name))))?;
        }
        Ok(there)
    }

    /// Runs `make`; where something is in the way, removes that first. Says whether a whiteout was replaced.
    fn replacing<T>(
        &mut self,
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Result<(T, bool)> {
        match make(self.here()) {
            Ok(made) => return Ok((made, false)),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(io_with(|| format!("make {}", show(name)))(e)),
        }
        let stat = rustix::fs::statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW);
        let hidden = self.options.whiteouts && stat.is_ok_and(|stat| whiteout::is_whiteout(&stat));
        crate::discard::remove_at(self.here(), name)?;
        let made = make(self.here()).map_err(io_with(|| format!("make {}", show(name))))?;
        // The folder removed may have been the open one.
        if !hidden {
            let folder = self.parent.take();
            self.parent =
                folder.filter(|(_, fd)| rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_nlink > 0));
        }
        Ok((made, hidden))
    }

    fn make_file(&mut self, entry: &Entry, name: &[u8], source: &mut Source<'_, '_>) -> Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let (fd, _) =
            self.replacing(name, |folder| rustix::fs::openat(folder, name, flags, mode))?;
        let mut file = File::from(fd);
        match &entry.sparse {
            None => self.copy_data(&mut file, entry, source, entry.size_bytes)?,
            Some(map) => {
                for (offset, len) in map {
                    file.seek(SeekFrom::Start(*offset))
                        .map_err(io_with(|| format!("write {}", show(&entry.path))))?;
                    self.copy_data(&mut file, entry, source, *len)?;
                }
                file.set_len(entry.size_bytes)
                    .map_err(io_with(|| format!("write {}", show(&entry.path))))?;
            }
        }
        set_attributes(file.as_fd(), entry)?;
        rustix::fs::futimens(&file, &times(entry))
            .map_err(io_with(|| format!("set time of {}", show(&entry.path))))
    }

    fn copy_data(
        &mut self,
        file: &mut File,
        entry: &Entry,
        source: &mut Source<'_, '_>,
        len: u64,
    ) -> Result<()> {
        let mut left = len;
        let mut ends_in_hole = false;
        while left > 0 {
            let want = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = source.read_data(&mut self.buffer[..want])?;
            if count == 0 {
                return Err(refused(entry, "its data is shorter than announced"));
            }
            left -= count as u64;
            self.written_bytes += count as u64;
            self.check_ratio()?;
            let piece = &self.buffer[..count];
            ends_in_hole = count >= HOLE_BYTES && piece.iter().all(|b| *b == 0);
            let written = if ends_in_hole {
                file.seek(SeekFrom::Current(count as i64)).map(|_| ())
            } else {
                file.write_all(piece)
            };
            written.map_err(io_with(|| format!("write {}", show(&entry.path))))?;
        }
        if ends_in_hole && entry.sparse.is_none() {
            file.set_len(entry.size_bytes)
                .map_err(io_with(|| format!("write {}", show(&entry.path))))?;
        }
        Ok(())
    }

    fn make_folder(&mut self, entry: &Entry, path: &[u8], name: &[u8]) -> Result<()> {
        let made = rustix::fs::mkdirat(self.here(), name, Mode::from_raw_mode(0o700));
        let mut hidden = false;
        match made {
            Ok(()) => {}
            Err(Errno::EXIST) if self.is_folder(name) => {}
            Err(Errno::EXIST) => {
                let mode = Mode::from_raw_mode(0o700);
                hidden = self
                    .replacing(name, |folder| rustix::fs::mkdirat(folder, name, mode))?
                    .1;
            }
            Err(e) => return Err(io_with(|| format!("make folder {}", show(path)))(e)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(self.here(), name, flags, Mode::empty());
        let folder = folder.map_err(io_with(|| format!("open folder {}", show(path))))?;
        set_attributes(folder.as_fd(), entry)?;
        if hidden {
            whiteout::set_opaque(&folder)?;
        }
        self.folder_times.push((path.to_vec(), times(entry)));
        Ok(())
    }

    fn is_folder(&self, name: &[u8]) -> bool {
        rustix::fs::statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    fn make_symlink(&mut self, entry: &Entry, folder: &[u8], name: &[u8]) -> Result<()> {
        if entry.link.is_empty() || entry.link.len() > PATH_BYTES_MAX {
            return Err(refused(
                entry,
                "the target of the link is empty or too long",
            ));
        }
        let target = [folder, b"/", entry.link.as_slice()].concat();
        if !entry.link.starts_with(b"/") && clean(&target).is_none() {
            return Err(refused(
                entry,
                &format!("the link to {} leaves the root", show(&entry.link)),
            ));
        }
        let link = entry.link.as_slice();
        self.replacing(name, |folder| rustix::fs::symlinkat(link, folder, name))?;
        self.set_attributes_at(entry, name, false)
    }

    fn make_hard_link(&mut self, entry: &Entry, name: &[u8]) -> Result<()> {
        let target = self.locate(&entry.link).filter(|target| !target.is_empty());
        let target = target.ok_or_else(|| {
            refused(
                entry,
                &format!("the hard link to {} leaves the root", show(&entry.link)),
            )
        })?;
        let (folder, target_name) = split(&target);
        let missing = || {
            refused(
                entry,
                &format!(
                    "the hard link's target {} is not in the archive",
                    show(&entry.link)
                ),
            )
        };
        let folder = match open_folder(self.root, folder) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing()),
            Err(e) => {
                return Err(io_with(|| format!("open target of {}", show(&entry.path)))(
                    e,
                ));
            }
        };
        let target = rustix::fs::statat(&folder, target_name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|_| missing())?;
        let there = rustix::fs::statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW);
        if there.is_ok_and(|there| (there.st_dev, there.st_ino) == (target.st_dev, target.st_ino)) {
            return Ok(());
        }
        self.replacing(name, |here| {
            rustix::fs::linkat(&folder, target_name, here, name, AtFlags::empty())
        })?;
        Ok(())
    }

    fn make_node(&mut self, entry: &Entry, name: &[u8]) -> Result<()> {
        let kind = match entry.kind {
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        if kind != FileType::Fifo && !self.options.devices {
            return Err(refused(entry, "a device node is not allowed here"));
        }
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let mode = Mode::from_raw_mode(0o600);
        self.replacing(name, |folder| {
            rustix::fs::mknodat(folder, name, kind, mode, device)
        })?;
        self.set_attributes_at(entry, name, true)
    }

    /// For what can't be opened: links and device nodes. `name` was just made and is not followed.
    fn set_attributes_at(&self, entry: &Entry, name: &[u8], mode: bool) -> Result<()> {
        let failed = || format!("set attributes of {}", show(&entry.path));
        let (uid, gid) = ids(entry)?;
        rustix::fs::chownat(self.here(), name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io_with(failed))?;
        xattr::set_at(self.here(), name, &entry.xattrs)?;
        if mode {
            rustix::fs::chmodat(
                self.here(),
                name,
                Mode::from_raw_mode(entry.mode),
                AtFlags::empty(),
            )
            .map_err(io_with(failed))?;
        }
        rustix::fs::utimensat(self.here(), name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io_with(failed))
    }

    /// The archive's root in a layer sets the image's; a folder that is merely copied into stays as it is.
    fn set_root(&mut self, entry: &Entry) -> Result<()> {
        if !self.options.whiteouts {
            return Ok(());
        }
        let root = crate::diff::open_exactly(self.root, b"")
            .map_err(io_with(|| "open the root".to_owned()))?;
        set_attributes(root.as_fd(), entry)?;
        self.folder_times.push((Vec::new(), times(entry)));
        Ok(())
    }

    fn set_opaque(&mut self, entry: &Entry, folder: &[u8]) -> Result<()> {
        self.enter(entry, folder)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(self.here(), ".", flags, Mode::empty());
        whiteout::set_opaque(
            &folder.map_err(io_with(|| format!("open folder of {}", show(&entry.path))))?,
        )
    }

    /// A whiteout hides what lower layers have. What this layer itself has under the name stays, but nothing of the
    /// lower layers shows through it.
    fn hide(&mut self, entry: &Entry, folder: &[u8], name: &[u8]) -> Result<()> {
        self.enter(entry, folder)?;
        match whiteout::make(self.here(), name) {
            Err(Errno::EXIST) if self.is_folder(name) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let folder = rustix::fs::openat(self.here(), name, flags, Mode::empty());
                whiteout::set_opaque(&folder.map_err(io_with(|| format!("open {}", show(name))))?)
            }
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(io_with(|| format!("make whiteout for {}", show(name)))(e)),
        }
    }

    fn set_folder_times(&mut self) -> Result<()> {
        self.parent = None;
        for (path, times) in std::mem::take(&mut self.folder_times).iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let path = if path.is_empty() {
                b".".as_slice()
            } else {
                path
            };
            match rustix::fs::openat2(self.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
            {
                Ok(folder) => rustix::fs::futimens(folder, times)
                    .map_err(io_with(|| format!("set time of {}", show(path))))?,
                // Replaced by a later entry.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(io_with(|| format!("open folder {}", show(path)))(e)),
            }
        }
        Ok(())
    }
}

/// The order matters: changing the owner clears set-user-ID bits and capabilities.
fn set_attributes(fd: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
    let failed = || format!("set attributes of {}", show(&entry.path));
    let (uid, gid) = ids(entry)?;
    rustix::fs::fchown(fd, uid, gid).map_err(io_with(failed))?;
    xattr::set(fd, &entry.xattrs)?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(io_with(failed))
}

/// The largest number means "unchanged" to the kernel and names nobody.
fn ids(entry: &Entry) -> Result<(Option<rustix::fs::Uid>, Option<rustix::fs::Gid>)> {
    if entry.uid == u32::MAX || entry.gid == u32::MAX {
        return Err(refused(entry, "its owner is not a valid number"));
    }
    Ok((
        Some(rustix::fs::Uid::from_raw(entry.uid)),
        Some(rustix::fs::Gid::from_raw(entry.gid)),
    ))
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime_s,
        tv_nsec: i64::from(entry.mtime_ns) as _,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// A folder below `root`; links are followed, but never out of it.
pub(crate) fn open_folder(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() {
        b".".as_slice()
    } else {
        path
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // Something was renamed elsewhere on the machine while `..` was resolved.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// Normal form of a path without a leading slash; `None`: it leaves the root, or contains a zero byte.
pub(crate) fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            _ if part.contains(&0) => return None,
            _ => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// Folder and name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

pub(crate) fn show(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    if text.chars().count() <= 200 {
        text.into_owned()
    } else {
        text.chars().take(200).collect::<String>() + "…"
    }
}

fn refused(entry: &Entry, why: &str) -> Error {
    Error::Invalid(format!("archive refused: {}: {why}", show(&entry.path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_paths() {
        let table: [(&str, Option<&str>); 9] = [
            ("a/b", Some("a/b")),
            ("./a//b/", Some("a/b")),
            ("/etc/passwd", Some("etc/passwd")),
            ("a/../b", Some("b")),
            ("", Some("")),
            ("./", Some("")),
            ("..", None),
            ("a/../../b", None),
            ("a\0b", None),
        ];
        for (path, expected) in table {
            assert_eq!(
                clean(path.as_bytes()).as_deref(),
                expected.map(str::as_bytes),
                "{path:?}"
            );
        }
    }
}
