//! `cargo xtask test`: everything that must hold, in one command.

use std::process::{Command, Stdio};

use crate::{Result, build, cargo, check, images, packages, run};

/// Installs what is needed, makes the images, then runs the checks and all tests. Arguments go to the test runner.
pub fn test(args: &[String]) -> Result {
    packages::install(packages::FOR_IMAGES)?;
    packages::install(packages::FOR_DEMO)?;
    packages::install(packages::FOR_TESTS)?;
    check::check()?;
    images::make(build::debug)?;
    wharf_testkit::kubectl::install();
    let mut command = cargo();
    if has_nextest() {
        command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    } else {
        command.args(["test", "--workspace", "--no-fail-fast"]);
    }
    run(command.args(args))
}

/// `cargo xtask bench`: the side-by-side measurements.
pub fn bench(args: &[String]) -> Result {
    packages::install(packages::FOR_IMAGES)?;
    packages::install(packages::FOR_TESTS)?;
    images::make(build::release)?;
    let wharf = crate::build::release()?;
    let bare = crate::build::bare_start()?;
    run(cargo()
        .args(["bench", "-p", "wharf", "--bench", "side_by_side", "--"])
        .args(args)
        .env("WHARF_BINARY", wharf)
        .env("WHARF_BARE_START", bare))
}

fn has_nextest() -> bool {
    Command::new("cargo-nextest")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
