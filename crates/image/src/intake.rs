//! From a stream of bytes to an unpacked layer in one pass: count → decompress → hash → unpack.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use crate::Result;
use crate::error::{io, io_at};
use crate::layers::Staged;
use crate::unpack::{UnpackOptions, Unpacked, unpack};

const BUFFER_BYTES: usize = 256 * 1024;
/// What the author of an xz archive may make us use: twice what the strongest preset does.
const XZ_MEMORY_KIB_MAX: u32 = 128 * 1024;

/// How a layer's tar is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    /// By the first bytes.
    pub(crate) fn detect(head: &[u8]) -> Compression {
        match head {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            _ => Compression::None,
        }
    }

    /// Media type of such a layer (image-spec, "application/vnd.oci.image.layer.v1.tar"). Others are no layers that a
    /// registry could have: they are packed anew.
    pub(crate) fn media_type(self) -> Option<&'static str> {
        match self {
            Compression::None => Some(crate::manifest::OCI_LAYER_TAR),
            Compression::Gzip => Some(crate::manifest::OCI_LAYER_GZIP),
            Compression::Zstd => Some(crate::manifest::OCI_LAYER_ZSTD),
            Compression::Bzip2 | Compression::Xz => None,
        }
    }
}

/// The tar in an archive, whatever it is compressed with: gzip, zstd, bzip2, xz, or nothing.
///
/// # Errors
/// The archive's beginning can't be read. Whether the rest makes sense is seen when it is read.
pub fn decompressed<'a>(archive: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    decompress(archive).map(|(stream, _)| stream)
}

/// The same, and what it was compressed with.
pub(crate) fn decompress<'a>(input: impl Read + 'a) -> Result<(Box<dyn Read + 'a>, Compression)> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let head = loop {
        match input.fill_buf() {
            Ok(head) => break head.to_vec(),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(io("read archive")(e)),
        }
    };
    let compression = Compression::detect(&head);
    let output: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => Box::new(
            zstd::stream::read::Decoder::with_buffer(input).map_err(io("begin decompression"))?,
        ),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
            input,
            true,
            XZ_MEMORY_KIB_MAX,
        )),
    };
    Ok((output, compression))
}

/// Counts what passes.
pub(crate) struct Counting<R> {
    pub input: R,
    pub count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Hashes what passes.
struct Hashing<R> {
    input: R,
    hash: Sha256,
    count_bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.count_bytes += count as u64;
        Ok(count)
    }
}

/// A layer that is unpacked in a staging folder.
pub(crate) struct Intake {
    pub staged: Staged,
    pub diff_id: String,
    /// Size of the uncompressed tar.
    pub tar_bytes: u64,
    pub unpacked: Unpacked,
    pub compression: Compression,
}

/// Unpacks a stream into a staging folder and says what it was. On an error the folder is gone.
pub(crate) fn take_in(input: &mut dyn Read, staged: Staged) -> Result<Intake> {
    let count = Arc::new(AtomicU64::new(0));
    let (stream, compression) = decompress(Counting {
        input,
        count: count.clone(),
    })?;
    let compressed_bytes = (compression != Compression::None).then_some(count);
    let mut hashing = Hashing {
        input: stream,
        hash: Sha256::new(),
        count_bytes: 0,
    };
    let options = UnpackOptions {
        whiteouts: true,
        devices: true,
        compressed_bytes,
        ..UnpackOptions::default()
    };
    let folder = File::open(staged.tree()).map_err(io_at("open", &staged.tree()))?;
    let mut buffered = BufReader::with_capacity(BUFFER_BYTES, &mut hashing);
    let unpacked = unpack(&mut buffered, folder.as_fd(), &options)?;
    drop(buffered);
    let diff_id = format!("sha256:{}", hex::encode(hashing.hash.finalize()));
    Ok(Intake {
        staged,
        diff_id,
        tar_bytes: hashing.count_bytes,
        unpacked,
        compression,
    })
}
