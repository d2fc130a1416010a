//! Files of the API in a volume, changed all at once: a folder named by its time holds them, `..data` leads to it, and
//! each name leads through `..data`. Readers see all of the old files or all of the new ones.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path};

/// A file's bytes, mode and owner.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
    pub user: Option<u32>,
}

const DATA: &str = "..data";

/// Brings the files of a folder to these. Does nothing where they are the same already.
pub(super) fn write(
    folder: &Path,
    files: &BTreeMap<String, File>,
    group: Option<u32>,
) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let data = folder.join(DATA);
    if data.exists() && is_same(&data, files) {
        return Ok(());
    }
    let stamp = jiff::Timestamp::now().as_nanosecond();
    let name = format!("..{stamp}");
    let new = folder.join(&name);
    fs::create_dir(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        write_file(&new, path, file, group)?;
    }
    let old = fs::read_link(&data).ok();
    let link = folder.join("..data_tmp");
    let _ = fs::remove_file(&link);
    symlink(&name, &link)?;
    fs::rename(&link, &data)?;
    link_names(folder, files)?;
    if let Some(old) = old {
        fs::remove_dir_all(folder.join(old))?;
    }
    Ok(())
}

fn is_same(data: &Path, files: &BTreeMap<String, File>) -> bool {
    let mut count = 0;
    count_files(data, &mut count);
    let same = |(path, file): (&String, &File)| {
        fs::read(data.join(path)).is_ok_and(|bytes| bytes == file.bytes)
    };
    count == files.len() && files.iter().all(same)
}

fn count_files(folder: &Path, count: &mut usize) {
    for found in fs::read_dir(folder).into_iter().flatten().flatten() {
        match found.file_type() {
            Ok(kind) if kind.is_dir() => count_files(&found.path(), count),
            _ => *count += 1,
        }
    }
}

fn write_file(folder: &Path, path: &str, file: &File, group: Option<u32>) -> std::io::Result<()> {
    let plain = |part| matches!(part, Component::Normal(name) if name != DATA);
    if !Path::new(path).components().all(plain) || path.is_empty() {
        return Err(std::io::Error::other(format!(
            "{path:?} is not a path inside a volume"
        )));
    }
    let place = folder.join(path);
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut open = fs::OpenOptions::new();
    let mut made = open.write(true).create_new(true).mode(0o600).open(&place)?;
    made.write_all(&file.bytes)?;
    let mut mode = file.mode;
    if group.is_some() {
        mode |= (mode & 0o400) >> 3;
    }
    std::os::unix::fs::fchown(&made, file.user, group)?;
    made.set_permissions(fs::Permissions::from_mode(mode))
}

/// A link for the first part of each path; those of files that are gone go.
fn link_names(folder: &Path, files: &BTreeMap<String, File>) -> std::io::Result<()> {
    let first = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    let wanted: std::collections::BTreeSet<String> = files.keys().map(first).collect();
    for found in fs::read_dir(folder)? {
        let found = found?;
        let name = found.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name) {
            fs::remove_file(found.path())?;
        }
    }
    for name in wanted {
        let place = folder.join(&name);
        if fs::symlink_metadata(&place).is_err() {
            symlink(format!("{DATA}/{name}"), place)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> BTreeMap<String, File> {
        let one = |(name, text): &(&str, &str)| {
            let file = File {
                bytes: text.as_bytes().to_vec(),
                mode: 0o640,
                user: None,
            };
            ((*name).to_owned(), file)
        };
        list.iter().map(one).collect()
    }

    #[test]
    fn all_files_change_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write(path, &files(&[("a", "1"), ("dir/b", "2")]), None).unwrap();
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
        assert_eq!((read("a"), read("dir/b")), ("1".to_owned(), "2".to_owned()));
        let before = fs::read_link(path.join("..data")).unwrap();
        write(path, &files(&[("a", "1"), ("dir/b", "2")]), None).unwrap();
        assert_eq!(
            fs::read_link(path.join("..data")).unwrap(),
            before,
            "nothing changed"
        );
        write(path, &files(&[("a", "3")]), None).unwrap();
        assert_eq!(read("a"), "3");
        assert!(!path.join("dir").exists() && !path.join(before).exists());
        assert_eq!(
            fs::metadata(path.join("a")).unwrap().permissions().mode() & 0o777,
            0o640
        );
    }

    #[test]
    fn paths_do_not_leave_the_volume() {
        let folder = tempfile::tempdir().unwrap();
        for wrong in ["../x", "/x", "a/../../x", "..data"] {
            assert!(
                write(folder.path(), &files(&[(wrong, "1")]), None).is_err(),
                "{wrong}"
            );
        }
    }
}
