//! Debian packages as raw material: fetched with apt, unpacked with dpkg-deb, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::run;

/// Fetches packages with the libraries they link against into the cache; returns their files.
pub fn fetch(packages: &[&str]) -> Vec<PathBuf> {
    let folder = crate::cache_dir().join("deb");
    fs::create_dir_all(&folder).expect("make the package cache");
    let mut wanted: Vec<String> = packages.iter().map(|p| (*p).to_owned()).collect();
    wanted.extend(libraries_of(packages));
    wanted.sort();
    wanted.dedup();
    let missing: Vec<&String> = wanted
        .iter()
        .filter(|name| find(&folder, name).is_none())
        .collect();
    if !missing.is_empty() {
        // The sandbox user of apt can't write to our cache; we are root and read what apt verified.
        run(Command::new("apt-get")
            .args(["-o", "APT::Sandbox::User=root", "download", "-qq"])
            .args(&missing)
            .current_dir(&folder))
        .ok();
    }
    wanted
        .iter()
        .map(|name| {
            find(&folder, name)
                .unwrap_or_else(|| panic!("apt-get download brought no file for {name}"))
        })
        .collect()
}

/// Unpacks a package's files into a folder.
pub fn unpack(package: &Path, root: &Path) {
    run(Command::new("dpkg-deb").arg("-x").arg(package).arg(root)).ok();
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let prefix = format!("{name}_");
    fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with(&prefix) && n.ends_with(".deb"))
        })
}

/// The shared libraries among what apt would install on an empty machine.
fn libraries_of(packages: &[&str]) -> Vec<String> {
    let plan = run(Command::new("apt-get")
        .args([
            "install",
            "-s",
            "-o",
            "Dir::State::status=/dev/null",
            "--no-install-recommends",
        ])
        .args(packages));
    plan.ok()
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .filter(|name| {
            (name.starts_with("lib") || name.starts_with("zlib"))
                && !name.starts_with("libperl")
                && !name.starts_with("libpam")
                && !name.ends_with("-perl")
        })
        .map(str::to_owned)
        .collect()
}
