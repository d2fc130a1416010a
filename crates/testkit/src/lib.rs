//! For tests only: sandboxes (own mount and network namespace, own data folder), test images made from Debian packages,
//! fault injection. Knows no code path of the product: it drives binaries.
#![forbid(unsafe_code)]

pub mod archive;
pub mod cpio;
pub mod debian;
pub mod images;
pub mod kubectl;
pub mod process;
pub mod sandbox;
pub mod virtual_machine;

use std::path::PathBuf;

/// Folder for what tests make once and use often: `target/testkit` of this workspace.
pub fn cache_dir() -> PathBuf {
    workspace_dir().join("target/testkit")
}

/// Top folder of the workspace.
pub fn workspace_dir() -> PathBuf {
    let crate_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    crate_dir
        .ancestors()
        .nth(2)
        .map(PathBuf::from)
        .unwrap_or(crate_dir)
}
