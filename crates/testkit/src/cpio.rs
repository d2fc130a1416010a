//! Archives in the format that a kernel unpacks as its first root file system ("newc", cpio(5)).

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const TRAILER: &str = "TRAILER!!!";
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Adds entries to a growing archive.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A folder.
    pub fn folder(&mut self, path: &str) {
        self.entry(path.as_bytes(), FOLDER | 0o755, &[]);
    }

    /// A file with these bytes.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path.as_bytes(), FILE | mode, content);
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path.as_bytes(), LINK | 0o777, target.as_bytes());
    }

    /// All of a folder of this machine, owned by root, below `prefix`; `wanted` chooses by the path inside it.
    pub fn tree(&mut self, folder: &Path, prefix: &str, wanted: &dyn Fn(&Path) -> bool) {
        let mut waiting = vec![folder.to_owned()];
        while let Some(place) = waiting.pop() {
            for entry in fs::read_dir(&place).expect("read the folder").flatten() {
                let path = entry.path();
                let inside = path.strip_prefix(folder).expect("it is below the folder");
                if !wanted(inside) {
                    continue;
                }
                let name = Path::new(prefix).join(inside);
                let name = name.as_os_str().as_bytes();
                let about = path.symlink_metadata().expect("stat a file");
                let mode = about.permissions().mode();
                if about.is_dir() {
                    self.entry(name, mode, &[]);
                    waiting.push(path);
                } else if about.is_symlink() {
                    let target = fs::read_link(&path).expect("read a link");
                    self.entry(name, mode, target.as_os_str().as_bytes());
                } else if about.is_file() && about.nlink() > 0 {
                    self.entry(name, mode, &fs::read(&path).expect("read a file"));
                }
            }
        }
    }

    fn entry(&mut self, name: &[u8], mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("files of an archive are small");
        let length = u32::try_from(name.len() + 1).expect("names are short");
        // Number, mode, owner, group, links, time, size, devices, length of the name, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            write!(self.bytes, "{field:08x}").expect("memory takes every write");
        }
        self.bytes.extend(name);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The whole archive. Several may follow each other.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER.as_bytes(), 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_begin_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.file("a", 0o644, b"hello");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("07070100000001000081a4"));
        assert_eq!(&bytes[110..112], b"a\0");
        assert_eq!(&bytes[112..117], b"hello");
        assert_eq!(text.rfind("070701"), Some(120));
    }
}
