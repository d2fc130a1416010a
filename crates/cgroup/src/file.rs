//! Reading and writing control files, with errors that name file and value.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Times a removal is tried again, the pause doubling from a millisecond.
const REMOVAL_TRIES: u32 = 10;

/// Writes a value; the kernel takes or refuses it whole.
pub fn write(folder: &Path, name: &str, value: impl std::fmt::Display) -> Result<()> {
    let path = folder.join(name);
    let value = value.to_string();
    let written = File::options()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| Error::File {
        operation: format!("write {value:?} to"),
        path,
        source,
    })
}

/// Writes a value where there is one.
pub fn write_some<T: std::fmt::Display>(folder: &Path, name: &str, value: Option<T>) -> Result<()> {
    value.map_or(Ok(()), |value| write(folder, name, value))
}

/// Reads a file whole.
pub fn read(folder: &Path, name: &str) -> Result<String> {
    let path = folder.join(name);
    let mut text = String::new();
    let result = File::open(&path).and_then(|mut file| file.read_to_string(&mut text));
    result.map(|_| text).map_err(|source| Error::File {
        operation: "read".into(),
        path,
        source,
    })
}

/// A number in a file; absent files and `max` are told apart by the caller's default.
pub fn read_number(folder: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(folder.join(name)).ok()?;
    match text.trim() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Lines `key value` of a file.
pub fn read_pairs(folder: &Path, name: &str) -> std::collections::BTreeMap<String, u64> {
    let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// Makes the folders of a path below a root; returns those that were not there, outermost first.
pub fn make_folders(root: &Path, inside: &str) -> Result<Vec<PathBuf>> {
    let whole = root.join(inside.trim_start_matches('/'));
    let mut made = Vec::new();
    let mut path = root.to_owned();
    // Mostly only the last folder is missing.
    match fs::create_dir(&whole) {
        Ok(()) => return Ok(vec![whole]),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(made),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => {
            return Err(Error::File {
                operation: "make".into(),
                path: whole,
                source,
            });
        }
    }
    for part in inside.split('/').filter(|part| !part.is_empty()) {
        path.push(part);
        match fs::create_dir(&path) {
            Ok(()) => made.push(path.clone()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => {
                remove_made(&made);
                return Err(Error::File {
                    operation: "make".into(),
                    path,
                    source,
                });
            }
        }
    }
    Ok(made)
}

/// Takes back what [`make_folders`] made.
pub fn remove_made(made: &[PathBuf]) {
    for path in made.iter().rev() {
        // In use by somebody else meanwhile: then it is theirs.
        let _ = fs::remove_dir(path);
    }
}

/// Removes a group's folder and all below it.
pub fn remove_tree(path: &Path) -> Result<()> {
    for below in folders_in(path) {
        remove_tree(&below)?;
    }
    remove_folder(path)
}

/// Every folder directly below one.
pub fn folders_in(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The kernel says "busy" for a moment after the last process has ended, and tells nobody when that is over: the one
/// place where trying again is all there is.
fn remove_folder(path: &Path) -> Result<()> {
    let mut pause = std::time::Duration::from_millis(1);
    for attempt in 1.. {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && attempt < REMOVAL_TRIES =>
            {
                std::thread::sleep(pause);
                pause *= 2;
            }
            Err(source) => {
                return Err(Error::File {
                    operation: "remove".into(),
                    path: path.into(),
                    source,
                });
            }
        }
    }
    Ok(())
}

/// PIDs of `cgroup.procs` in a folder and all below it.
pub fn processes(path: &Path) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        match fs::read_to_string(folder.join("cgroup.procs")) {
            Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // ENODEV: removed while it was read.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
                continue;
            }
            Err(source) => {
                return Err(Error::File {
                    operation: "read".into(),
                    path: folder.join("cgroup.procs"),
                    source,
                });
            }
        }
        folders.extend(folders_in(&folder));
    }
    Ok(found)
}
