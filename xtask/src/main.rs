//! Developer commands: `cargo xtask COMMAND`.
#![forbid(unsafe_code)]

mod build;
mod check;
mod demo;
mod images;
mod kinds;
mod packages;
mod proto;
mod test;

use std::process::{Command, ExitCode};

/// What a command of ours returns: a sentence on what failed and what to do.
type Result<T = ()> = std::result::Result<T, String>;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

Commands:
  demo     Install what is needed, build, and show Wharf at work
  test     Install what is needed and run all tests
  check    Check the layers of the crates, the heads of the files and the length of functions
  images   Make the test images from Debian packages
  kinds    Make the table of Kubernetes kinds (`kinds SWAGGER.json [SOURCES/staging/src/k8s.io]`)
  build    Build the one-file release binary (prints its path)
  bench    Measure Wharf side by side with runc, crun and Docker";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.first().map(String::as_str) {
        Some("demo") => demo::demo(),
        Some("test") => test::test(&args[1..]),
        Some("check") => check::check(),
        Some("images") => {
            packages::install(packages::FOR_IMAGES).and_then(|()| images::make(build::debug))
        }
        Some("build") => build::release().map(|path| println!("{}", path.display())),
        Some("bench") => test::bench(&args[1..]),
        Some("kinds") => kinds::generate(
            args.get(1).map(String::as_str),
            args.get(2).map(String::as_str),
        ),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a program in the foreground.
fn run(command: &mut Command) -> Result {
    let status = command
        .status()
        .map_err(|e| format!("start {command:?}: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} failed: {status}"))
    }
}

/// `cargo` in the workspace.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(wharf_testkit::workspace_dir());
    command
}
