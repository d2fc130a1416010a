//! Files that belong to a pod's group.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 64;

/// Gives a tree to a group: readable and writable as for its owner, new files belong to the group too. Links are not
/// followed.
pub(super) fn give(path: &Path, group: u32) -> std::io::Result<()> {
    walk(path, group, 0)
}

fn walk(path: &Path, group: u32, depth: usize) -> std::io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    lchown(path, None, Some(group))?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mut mode = meta.mode() & 0o7777;
    mode |= (mode & 0o600) >> 3;
    if meta.is_dir() {
        mode |= 0o2000 | ((mode & 0o100) >> 3);
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if meta.is_dir() && depth < DEPTH_MAX {
        for found in fs::read_dir(path)? {
            walk(&found?.path(), group, depth + 1)?;
        }
    }
    Ok(())
}
