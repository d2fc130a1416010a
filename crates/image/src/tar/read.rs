//! Reading a tar stream: ustar, GNU and PAX, bounded, in one pass.

use std::io::Read;

use super::pax::Pax;
use super::{BLOCK, Entry, Kind, number, sparse};
use crate::error::io;
use crate::{Error, Result};

/// An extended header larger than this is an attack on memory.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;

/// Entries of a tar stream, one after the other; the data of an entry is read (or skipped) before the next.
pub(crate) struct TarReader<R> {
    input: R,
    /// Data of the current entry that is still in the stream, and the padding after it.
    left_bytes: u64,
    padding_bytes: u64,
    global: Pax,
    ended: bool,
}

/// Long names and extended headers gathered before the entry they belong to.
#[derive(Default)]
struct Pending {
    pax: Pax,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(input: R) -> TarReader<R> {
        TarReader {
            input,
            left_bytes: 0,
            padding_bytes: 0,
            global: Pax::default(),
            ended: false,
        }
    }

    /// The next entry; `None`: the archive has ended. What is left of the entry before is skipped.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip_rest()?;
        let mut pending = Pending {
            pax: self.global.clone(),
            ..Pending::default()
        };
        let mut extensions = 0;
        loop {
            let Some(header) = self.read_header()? else {
                return Ok(None);
            };
            let size_bytes = field(&header[124..136], "size")?;
            match header[156] {
                b'x' => pending.pax.take(&self.read_extension(size_bytes)?)?,
                b'g' => {
                    let data = self.read_extension(size_bytes)?;
                    self.global.take(&data)?;
                    pending.pax.take(&data)?;
                }
                b'L' => {
                    pending.long_path = Some(until_nul(&self.read_extension(size_bytes)?).to_vec())
                }
                b'K' => {
                    pending.long_link = Some(until_nul(&self.read_extension(size_bytes)?).to_vec())
                }
                _ => return self.finish_entry(&header, size_bytes, pending).map(Some),
            }
            extensions += 1;
            if extensions > 64 {
                return Err(Error::Invalid(
                    "malformed archive: too many extended headers for one entry".to_owned(),
                ));
            }
        }
    }

    /// Data of the current entry; 0: no more.
    pub(crate) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let want = buffer
            .len()
            .min(usize::try_from(self.left_bytes).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        loop {
            match self.input.read(&mut buffer[..want]) {
                Ok(0) => {
                    return Err(Error::Invalid(
                        "malformed archive: ends in the middle of a file".to_owned(),
                    ));
                }
                Ok(count) => {
                    self.left_bytes -= count as u64;
                    return Ok(count);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(io("read archive")(e)),
            }
        }
    }

    /// Reads to the end of the underlying stream: its digest covers what follows the last entry, too.
    pub(crate) fn drain(mut self) -> Result<R> {
        let mut buffer = vec![0; 64 * 1024];
        while self.input.read(&mut buffer).map_err(io("read archive"))? > 0 {}
        Ok(self.input)
    }

    fn skip_rest(&mut self) -> Result<()> {
        let mut left = self.left_bytes + std::mem::take(&mut self.padding_bytes);
        self.left_bytes = 0;
        let mut buffer = [0u8; 16 * 1024];
        while left > 0 {
            let want = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            self.input
                .read_exact(&mut buffer[..want])
                .map_err(cut_off)?;
            left -= want as u64;
        }
        Ok(())
    }

    /// `None` at the end: two zero blocks, or (as many tools write it) just no more bytes.
    fn read_header(&mut self) -> Result<Option<[u8; BLOCK]>> {
        if self.ended {
            return Ok(None);
        }
        let mut header = [0u8; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut header[filled..]) {
                Ok(0) if filled == 0 => {
                    self.ended = true;
                    return Ok(None);
                }
                Ok(0) => {
                    return Err(Error::Invalid(
                        "malformed archive: ends in the middle of a header".to_owned(),
                    ));
                }
                Ok(count) => filled += count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(io("read archive")(e)),
            }
        }
        if header.iter().all(|b| *b == 0) {
            self.ended = true;
            return Ok(None);
        }
        check_sum(&header)?;
        Ok(Some(header))
    }

    fn read_extension(&mut self, size_bytes: u64) -> Result<Vec<u8>> {
        if size_bytes > EXTENSION_BYTES_MAX {
            let limit = EXTENSION_BYTES_MAX;
            return Err(Error::Invalid(format!(
                "malformed archive: extended header of {size_bytes} bytes, at most {limit} are accepted"
            )));
        }
        let mut data = vec![0; size_bytes as usize];
        self.input.read_exact(&mut data).map_err(cut_off)?;
        self.padding_bytes = padding(size_bytes);
        self.skip_rest()?;
        Ok(data)
    }

    fn finish_entry(
        &mut self,
        header: &[u8; BLOCK],
        size_bytes: u64,
        pending: Pending,
    ) -> Result<Entry> {
        let Pending {
            pax,
            long_path,
            long_link,
        } = pending;
        let path = pax
            .sparse_name
            .clone()
            .or(pax.path.clone())
            .or(long_path)
            .unwrap_or_else(|| header_path(header));
        let kind = kind_of(header[156], &path)?;
        let mut entry = Entry::new(kind, path);
        entry.link = pax
            .link
            .clone()
            .or(long_link)
            .unwrap_or_else(|| until_nul(&header[157..257]).to_vec());
        entry.mode = (field(&header[100..108], "mode")? & 0o7777) as u32;
        entry.uid = pax.uid.map_or_else(|| id(&header[108..116], "uid"), Ok)?;
        entry.gid = pax.gid.map_or_else(|| id(&header[116..124], "gid"), Ok)?;
        let (seconds, nanoseconds) = match pax.mtime {
            Some(time) => time,
            None => (
                number::parse(&header[136..148]).ok_or_else(|| bad("mtime"))?,
                0,
            ),
        };
        (entry.mtime_s, entry.mtime_ns) = (seconds, nanoseconds);
        if matches!(kind, Kind::Char | Kind::Block) {
            entry.device = (
                id(&header[329..337], "device")?,
                id(&header[337..345], "device")?,
            );
        }
        // Only files have data, whatever the size of the others says.
        let stored_bytes = if kind == Kind::File {
            pax.size.unwrap_or(size_bytes)
        } else {
            0
        };
        entry.size_bytes = stored_bytes;
        self.left_bytes = stored_bytes;
        self.padding_bytes = padding(stored_bytes);
        if kind == Kind::File {
            self.read_sparse(header, &pax, &mut entry)?;
        }
        entry.xattrs = pax.xattrs;
        Ok(entry)
    }

    fn read_sparse(&mut self, header: &[u8; BLOCK], pax: &Pax, entry: &mut Entry) -> Result<()> {
        let (map, real_bytes) = if header[156] == b'S' {
            sparse::read_gnu(header, &mut self.input)?
        } else if pax.sparse_major == Some(1) {
            let (map, taken_bytes) = sparse::read_pax1(&mut self.input)?;
            self.left_bytes = self
                .left_bytes
                .checked_sub(taken_bytes)
                .ok_or_else(|| bad("sparse map"))?;
            (map, pax.sparse_size.ok_or_else(|| bad("sparse size"))?)
        } else if pax.sparse_map {
            (
                sparse::pairs(&pax.sparse_numbers)?,
                pax.sparse_size.ok_or_else(|| bad("sparse size"))?,
            )
        } else {
            return Ok(());
        };
        sparse::check(&map, real_bytes, self.left_bytes)?;
        entry.size_bytes = real_bytes;
        entry.sparse = Some(map);
        Ok(())
    }
}

fn cut_off(e: std::io::Error) -> Error {
    if e.kind() == std::io::ErrorKind::UnexpectedEof {
        return Error::Invalid("malformed archive: ends too early".to_owned());
    }
    io("read archive")(e)
}

fn bad(what: &str) -> Error {
    Error::Invalid(format!("malformed archive: bad {what} in a header"))
}

fn padding(size_bytes: u64) -> u64 {
    size_bytes
        .next_multiple_of(BLOCK as u64)
        .saturating_sub(size_bytes)
}

fn field(bytes: &[u8], what: &str) -> Result<u64> {
    // The upper half would overflow the arithmetic with padding; no file is that large.
    number::parse(bytes)
        .and_then(|n| u64::try_from(n).ok())
        .filter(|n| *n < 1 << 62)
        .ok_or_else(|| bad(what))
}

fn id(bytes: &[u8], what: &str) -> Result<u32> {
    u32::try_from(field(bytes, what)?).map_err(|_| bad(what))
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

/// POSIX archives carry the front of a long path in a field that GNU uses for other things.
fn header_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    let prefix = until_nul(&header[345..500]);
    if &header[257..263] != b"ustar\0" || prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

fn kind_of(flag: u8, path: &[u8]) -> Result<Kind> {
    Ok(match flag {
        // Before POSIX a folder was a file whose name ends in a slash.
        0 | b'0' | b'7' if path.ends_with(b"/") => Kind::Folder,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Char,
        b'4' => Kind::Block,
        b'5' => Kind::Folder,
        b'6' => Kind::Fifo,
        other => {
            let path = String::from_utf8_lossy(path);
            return Err(Error::Invalid(format!(
                "malformed archive: {path}: unknown kind of entry {:?}",
                char::from(other)
            )));
        }
    })
}

/// Old tools summed signed bytes; both sums are accepted, as everywhere.
fn check_sum(header: &[u8; BLOCK]) -> Result<()> {
    let stored = number::parse(&header[148..156]).ok_or_else(|| bad("checksum"))?;
    let bytes = || {
        header
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { b' ' } else { *b })
    };
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|b| i64::from(b as i8)).sum();
    if stored == unsigned || stored == signed {
        Ok(())
    } else {
        Err(bad("checksum (is this a tar archive?)"))
    }
}
