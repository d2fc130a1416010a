//! Copying files out of and into containers, as tar archives.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use tokio::sync::mpsc;
use tokio_util::io::SyncIoBridge;

use crate::error_from::{blocking, io as failed};
use crate::inside::Inside;
use crate::{ByteStream, Engine, Error, Kind, PathStat, PutOptions, Reader, Result};

/// Blocks of a stream that may wait for a slow client.
const BLOCKS_WAITING_MAX: usize = 16;
const BLOCK_BYTES: usize = 64 * 1024;
/// Folders within each other: more are a trap.
const DEPTH_MAX: u32 = 1_024;

impl Engine {
    /// Facts of a path inside, for `cp`.
    pub async fn archive_stat(&self, container: &str, path: &str) -> Result<PathStat> {
        let (engine, entry, path) = (
            self.clone(),
            self.inner.containers.find(container)?,
            path.to_owned(),
        );
        blocking(move || {
            let inside = engine.inside(&entry, &path)?;
            let file = inside.open(OFlags::PATH, path.ends_with('/'))?;
            path_stat(&inside, file.as_fd())
        })
        .await
    }

    /// A tar of a path inside.
    pub async fn archive_get(&self, container: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        let (engine, entry, path) = (
            self.clone(),
            self.inner.containers.find(container)?,
            path.to_owned(),
        );
        let contents = path.ends_with("/.");
        let (stat, inside, follow) = blocking(move || {
            let inside = engine.inside(&entry, &path)?;
            // `dir/.` and `dir/` name what a link leads to.
            let follow = path.ends_with('/') || path.ends_with("/.");
            let file = inside.open(OFlags::PATH, follow)?;
            Ok((path_stat(&inside, file.as_fd())?, inside, follow))
        })
        .await?;
        let stream = stream_of(move |output| {
            // `dir/.` stands for what is in the folder, without its name.
            let name = match inside.name().as_str() {
                _ if contents => PathBuf::from("."),
                "/" => PathBuf::from("."),
                name => PathBuf::from(name),
            };
            let mut builder = tar::Builder::new(output);
            let place = inside
                .open(OFlags::PATH, follow)
                .map_err(io::Error::other)?;
            pack(&mut builder, &inside, place, &name)?;
            builder.into_inner()?.flush()
        });
        Ok((stat, stream))
    }

    /// Unpacks a tar (plain or compressed) into a folder inside.
    pub async fn archive_put(
        &self,
        container: &str,
        path: &str,
        options: PutOptions,
        archive: Reader,
    ) -> Result<()> {
        let (engine, entry, path) = (
            self.clone(),
            self.inner.containers.find(container)?,
            path.to_owned(),
        );
        // Ownership is always that of the archive: clients put into it what they want.
        let _ = options;
        blocking(move || {
            let inside = engine.inside(&entry, &path)?;
            if inside.read_only {
                return Err(Error::new(
                    Kind::Forbidden,
                    format!("mounted volume or container rootfs is marked read-only: {path}"),
                ));
            }
            let place = inside.open(OFlags::PATH, true)?;
            let stat = rustix::fs::fstat(&place).map_err(failed(format!("look at {path}")))?;
            if !FileType::from_raw_mode(stat.st_mode).is_dir() {
                return Err(Error::new(
                    Kind::InvalidParameter,
                    format!("extraction point is not a directory: {path}"),
                ));
            }
            let mut archive = SyncIoBridge::new(archive);
            wharf_image::extract(&mut archive, place.as_fd(), Path::new(""))?;
            // What follows the end of the archive is read too: the client is still sending it.
            io::copy(&mut archive, &mut io::sink()).map_err(failed("read the archive"))?;
            Ok(())
        })
        .await
    }

    /// The whole root file system as a tar.
    pub async fn export(&self, container: &str) -> Result<ByteStream> {
        let (engine, entry) = (self.clone(), self.inner.containers.find(container)?);
        let inside = blocking(move || {
            let pid = entry.record().state.pid;
            // The snapshot alone, without what is mounted on it.
            match pid {
                0 => Ok(Inside {
                    root: engine.inner.images.mount(&entry.id)?,
                    path: "/".into(),
                    read_only: true,
                    container: entry.record().name.clone(),
                }),
                _ => engine.inside(&entry, "/"),
            }
        })
        .await?;
        Ok(stream_of(move |mut output| {
            wharf_image::pack(inside.root.as_fd(), &mut output)
                .map(drop)
                .map_err(io::Error::other)?;
            output.flush()
        }))
    }
}

/// Runs a writer where it may block and gives what it writes as a stream. A reader that goes away ends it.
fn stream_of(write: impl FnOnce(Channel) -> io::Result<()> + Send + 'static) -> ByteStream {
    let (sender, receiver) = mpsc::channel(BLOCKS_WAITING_MAX);
    let errors = sender.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write(Channel {
            sender,
            block: Vec::with_capacity(BLOCK_BYTES),
        }) {
            // The reader sees that the archive is not whole.
            let _ = errors.blocking_send(Err(error));
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|block| (block, receiver))
    })
    .boxed()
}

/// Writes into a stream, block by block.
struct Channel {
    sender: mpsc::Sender<io::Result<Bytes>>,
    block: Vec<u8>,
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.block.extend_from_slice(bytes);
        if self.block.len() >= BLOCK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_BYTES));
        self.sender
            .blocking_send(Ok(block.into()))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn path_stat(inside: &Inside, file: BorrowedFd<'_>) -> Result<PathStat> {
    let stat = rustix::fs::fstat(file).map_err(failed("look at a file of the container"))?;
    let link_target = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => rustix::fs::readlinkat(file, "", Vec::new())
            .map(|target| target.to_string_lossy().into_owned())
            .map_err(failed("read a link of the container"))?,
        _ => String::new(),
    };
    Ok(PathStat {
        name: inside.name(),
        size_bytes: stat.st_size,
        go_mode: go_mode(stat.st_mode),
        mtime: Timestamp::new(
            stat.st_mtime,
            i32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        )
        .unwrap_or_default(),
        link_target,
    })
}

/// Go's `os.FileMode`: permissions below, kinds and special bits from the top.
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special = special
        .iter()
        .filter(|(bit, _)| mode & bit != 0)
        .fold(0, |bits, (_, go)| bits | go);
    kind | special | (mode & 0o777)
}

/// Packs one entry under a name, a folder with all below it.
fn pack(
    builder: &mut tar::Builder<Channel>,
    inside: &Inside,
    place: OwnedFd,
    name: &Path,
) -> io::Result<()> {
    let stat = rustix::fs::fstat(&place)?;
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        let folder = inside
            .open(OFlags::RDONLY | OFlags::DIRECTORY, true)
            .map_err(io::Error::other)?;
        builder.append_data(&mut header(&stat), name, io::empty())?;
        return pack_folder(builder, folder.as_fd(), name, 0);
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let file = inside
                .open(OFlags::RDONLY | OFlags::NONBLOCK, true)
                .map_err(io::Error::other)?;
            pack_file(builder, File::from(file), &stat, name)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&place, "", Vec::new())?;
            builder.append_link(
                &mut header(&stat),
                name,
                Path::new(&*target.to_string_lossy()),
            )
        }
        _ => builder.append_data(&mut header(&stat), name, io::empty()),
    }
}

fn pack_folder(
    builder: &mut tar::Builder<Channel>,
    folder: BorrowedFd<'_>,
    name: &Path,
    depth: u32,
) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!("{} is too deep", name.display())));
    }
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let file_name = entry.file_name();
        if matches!(file_name.to_bytes(), b"." | b"..") {
            continue;
        }
        let inner = name.join(std::ffi::OsStr::from_bytes(file_name.to_bytes()));
        // Gone since it was listed: a running container changes its files.
        let Ok(stat) = rustix::fs::statat(folder, file_name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let below = rustix::fs::openat(
                    folder,
                    file_name,
                    flags | OFlags::DIRECTORY,
                    Mode::empty(),
                )?;
                builder.append_data(&mut header(&stat), &inner, io::empty())?;
                pack_folder(builder, below.as_fd(), &inner, depth + 1)?;
            }
            FileType::RegularFile => {
                let file = rustix::fs::openat(folder, file_name, flags, Mode::empty())?;
                pack_file(builder, File::from(file), &stat, &inner)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(folder, file_name, Vec::new())?;
                let target = std::ffi::OsStr::from_bytes(target.to_bytes());
                builder.append_link(&mut header(&stat), &inner, Path::new(target))?;
            }
            // A socket means something only to who listens on it.
            FileType::Socket => {}
            _ => builder.append_data(&mut header(&stat), &inner, io::empty())?,
        }
    }
    Ok(())
}

/// As long as its header says, whatever the container does to it meanwhile.
fn pack_file(
    builder: &mut tar::Builder<Channel>,
    file: File,
    stat: &Stat,
    name: &Path,
) -> io::Result<()> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let padded = file.take(size).chain(io::repeat(0)).take(size);
    builder.append_data(&mut header(stat), name, padded)
}

fn header(stat: &Stat) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    let kind = FileType::from_raw_mode(stat.st_mode);
    header.set_entry_type(match kind {
        FileType::Directory => tar::EntryType::Directory,
        FileType::Symlink => tar::EntryType::Symlink,
        FileType::CharacterDevice => tar::EntryType::Char,
        FileType::BlockDevice => tar::EntryType::Block,
        FileType::Fifo => tar::EntryType::Fifo,
        _ => tar::EntryType::Regular,
    });
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(if kind.is_file() {
        u64::try_from(stat.st_size).unwrap_or(0)
    } else {
        0
    });
    if kind.is_char_device() || kind.is_block_device() {
        // The fields of a GNU header exist.
        let _ = header.set_device_major(rustix::fs::major(stat.st_rdev));
        let _ = header.set_device_minor(rustix::fs::minor(stat.st_rdev));
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o040_755), 1 << 31 | 0o755);
        assert_eq!(go_mode(0o120_777), 1 << 27 | 0o777);
        assert_eq!(go_mode(0o104_755), 1 << 23 | 0o755);
        assert_eq!(go_mode(0o041_777), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(go_mode(0o020_666), 1 << 26 | 1 << 21 | 0o666);
    }
}
