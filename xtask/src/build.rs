//! Building: the release binary and the examples, each one static file.

use std::path::PathBuf;

use crate::{Result, cargo, run};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// No shared library, no relocation at start: an exec costs page faults only.
const STATIC: &str = "-C target-feature=+crt-static -C relocation-model=static";

fn folder() -> PathBuf {
    wharf_testkit::workspace_dir()
        .join("target")
        .join(TARGET)
        .join("release")
}

/// Builds the release binary; returns its path.
pub fn release() -> Result<PathBuf> {
    build(&["wharf"])?;
    Ok(folder().join("wharf"))
}

/// Builds the binary that the tests run: not optimised, with checks; returns its path.
pub fn debug() -> Result<PathBuf> {
    run(cargo().args(["build", "-p", "wharf"]))?;
    Ok(wharf_testkit::workspace_dir().join("target/debug/wharf"))
}

/// Builds the program that does nothing but start a container, in the same way; returns its path.
pub fn bare_start() -> Result<PathBuf> {
    run(release_command().args(["-p", "wharf-runtime", "--example", "bare_start"]))?;
    Ok(folder().join("examples/bare_start"))
}

/// Builds the example programs.
pub fn examples() -> Result {
    build(&[
        "hello-world",
        "k8s-for-beginners",
        "memconsumer",
        "pagecounter",
    ])
}

fn build(packages: &[&str]) -> Result {
    let mut command = release_command();
    for package in packages {
        command.args(["-p", package]);
    }
    run(&mut command)
}

fn release_command() -> std::process::Command {
    let mut command = cargo();
    command
        .args(["build", "--release", "--target", TARGET])
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", STATIC);
    command
}
