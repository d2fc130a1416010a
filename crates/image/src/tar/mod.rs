//! Tar streams: what an entry is, the same for reading and writing.

pub(crate) mod number;
mod pax;
pub(crate) mod read;
mod sparse;
pub(crate) mod write;

pub(crate) use read::TarReader;
pub(crate) use write::TarWriter;

pub(crate) const BLOCK: usize = 512;

/// Kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Char,
    Block,
    Folder,
    Fifo,
}

/// One entry, extensions applied. Paths are bytes as they stand in the archive: nothing about them is checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub kind: Kind,
    pub path: Vec<u8>,
    /// Target of a hard or symbolic link.
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime_s: i64,
    pub mtime_ns: u32,
    /// Size of the file when unpacked.
    pub size_bytes: u64,
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data goes, offset and length; `None`: all in one piece.
    pub sparse: Option<Vec<(u64, u64)>>,
}

impl Entry {
    pub(crate) fn new(kind: Kind, path: Vec<u8>) -> Entry {
        Entry {
            kind,
            path,
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime_s: 0,
            mtime_ns: 0,
            size_bytes: 0,
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        }
    }
}
