//! Archives written by an independent implementation, and trees compared in full.
#![allow(dead_code, clippy::unwrap_used)]

pub mod registry;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use wharf_image::{Images, RegistryConfig};

pub fn images() -> (tempfile::TempDir, Images) {
    let folder = tempfile::tempdir().unwrap();
    let images = Images::open(folder.path(), RegistryConfig::default()).unwrap();
    (folder, images)
}

/// An entry of a test archive; the name goes into the header as it is, however bad.
pub struct Item<'a> {
    pub kind: tar::EntryType,
    pub path: &'a str,
    pub link: &'a str,
    pub data: &'a [u8],
    pub mode: u32,
}

pub fn file<'a>(path: &'a str, data: &'a str) -> Item<'a> {
    Item {
        kind: tar::EntryType::Regular,
        path,
        link: "",
        data: data.as_bytes(),
        mode: 0o644,
    }
}

pub fn folder(path: &str) -> Item<'_> {
    Item {
        kind: tar::EntryType::Directory,
        path,
        link: "",
        data: b"",
        mode: 0o755,
    }
}

pub fn link<'a>(kind: tar::EntryType, path: &'a str, link: &'a str) -> Item<'a> {
    Item {
        kind,
        path,
        link,
        data: b"",
        mode: 0o777,
    }
}

pub fn symlink<'a>(path: &'a str, target: &'a str) -> Item<'a> {
    link(tar::EntryType::Symlink, path, target)
}

pub fn hard_link<'a>(path: &'a str, target: &'a str) -> Item<'a> {
    link(tar::EntryType::Link, path, target)
}

pub fn archive(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in items {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..item.path.len()].copy_from_slice(item.path.as_bytes());
        header.as_old_mut().linkname[..item.link.len()].copy_from_slice(item.link.as_bytes());
        header.set_entry_type(item.kind);
        header.set_mode(item.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(item.data.len() as u64);
        if matches!(item.kind, tar::EntryType::Char | tar::EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        builder.append(&header, item.data).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Everything about a tree that a layer must carry, path by path.
pub fn describe(root: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut inodes: BTreeMap<u64, String> = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let kind = meta.file_type();
            let mut text = format!(
                "{:o} {}:{} {}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime()
            );
            if kind.is_symlink() {
                text += &format!(" -> {}", std::fs::read_link(&path).unwrap().display());
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                text += &format!(" {} {}", bytes.len(), wharf_blob::Digest::of(&bytes));
                if meta.nlink() > 1 {
                    let first = inodes.entry(meta.ino()).or_insert_with(|| name.clone());
                    text += &format!(" = {first}");
                }
            } else if kind.is_char_device() || kind.is_block_device() {
                text += &format!(" dev {}", meta.rdev());
            } else if kind.is_dir() {
                todo.push(path.clone());
            }
            if kind.is_file() || kind.is_dir() {
                let mut list = vec![0u8; 4096];
                let len = rustix::fs::llistxattr(&path, &mut list[..]).unwrap();
                for key in list[..len]
                    .split(|b| *b == 0)
                    .filter(|key| !key.is_empty() && !key.starts_with(b"trusted."))
                {
                    let mut value = vec![0u8; 4096];
                    let len = rustix::fs::lgetxattr(&path, key, &mut value[..]).unwrap();
                    text += &format!(" {}={:?}", String::from_utf8_lossy(key), &value[..len]);
                }
            }
            out.insert(name, text);
        }
    }
    out
}

/// The path through which a detached mount is reached.
pub fn through(tree: &std::os::fd::OwnedFd) -> std::path::PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", tree.as_raw_fd()).into()
}

pub fn silent() -> wharf_image::ProgressSink {
    std::sync::Arc::new(|_| {})
}

/// A configuration for layers.
pub fn config(diff_ids: &[&str]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": diff_ids.iter().map(|_| serde_json::json!({"created_by": "test"})).collect::<Vec<_>>(),
    }))
    .unwrap()
}
