//! Device nodes of the machine.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{Error, Kind, Result};

const FOLDERS_DEEP_MAX: usize = 8;

/// Kind (`c` or `b`), numbers and mode of a node.
pub(crate) fn facts(path: &Path) -> Result<(&'static str, i64, i64, u32)> {
    let wrong = |why: String| {
        Error::new(
            Kind::InvalidParameter,
            format!(
                "error gathering device information while adding custom device \"{}\": {why}",
                path.display()
            ),
        )
    };
    let metadata = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => wrong("no such file or directory".into()),
        _ => wrong(e.to_string()),
    })?;
    let kind = match metadata.file_type() {
        t if t.is_char_device() => "c",
        t if t.is_block_device() => "b",
        _ => return Err(wrong("not a device node".into())),
    };
    let number = metadata.rdev();
    Ok((
        kind,
        i64::from(rustix::fs::major(number)),
        i64::from(rustix::fs::minor(number)),
        metadata.mode() & 0o7777,
    ))
}

/// Every node of /dev but terminals and what the container has of its own.
pub(crate) fn all() -> Vec<Value> {
    const OWN: &[&str] = &[
        "pts",
        "shm",
        "fd",
        "mqueue",
        "console",
        "ptmx",
        ".udev",
        ".lxc",
        ".lxd-mounts",
    ];
    let mut list = Vec::new();
    let mut folders = vec![(PathBuf::from("/dev"), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let own = OWN.iter().any(|own| name == *own);
            match entry.file_type() {
                Ok(t) if t.is_dir() && !own && depth < FOLDERS_DEEP_MAX => {
                    folders.push((path, depth + 1))
                }
                Ok(t) if (t.is_char_device() || t.is_block_device()) && !own => {
                    if let Ok((kind, major, minor, mode)) = facts(&path) {
                        list.push(json!({"path": path, "type": kind, "major": major, "minor": minor, "fileMode": mode, "uid": 0, "gid": 0}));
                    }
                }
                _ => {}
            }
        }
    }
    list
}
