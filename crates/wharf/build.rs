//! Builds the supervisor as a static executable of its own, for [`include_bytes`]: small in a release, quickly in a
//! debug build.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// No relocation at start, no loader, no unwinding tables to run.
const FLAGS: [&str; 3] = [
    "-Ctarget-feature=+crt-static",
    "-Crelocation-model=static",
    "-Cpanic=abort",
];
/// Everything that is linked into the supervisor.
const CRATES: [&str; 4] = ["sys", "cgroup", "runtime", "shim"];

fn main() {
    if let Err(message) = build() {
        eprintln!("{message}");
        std::process::exit(1);
    }
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}

fn build() -> Result<(), String> {
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../..");
    for name in CRATES {
        for part in ["src", "Cargo.toml"] {
            let path = workspace.join("crates").join(name).join(part);
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    for file in ["Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(file).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=WHARF_SHIM");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let built = match env::var_os("WHARF_SHIM") {
        // An executable from elsewhere, for whoever builds in steps.
        Some(path) => PathBuf::from(path),
        None => run_cargo(&workspace, &out)?,
    };
    std::fs::copy(&built, out.join("wharf-shim"))
        .map(drop)
        .map_err(|error| format!("copy {}: {error}", built.display()))
}

/// Runs cargo in a folder of its own, so that its lock is not ours; the lock file and the downloaded crates are.
fn run_cargo(workspace: &Path, out: &Path) -> Result<PathBuf, String> {
    let profile = if variable("PROFILE")? == "release" {
        "shim"
    } else {
        "shim-debug"
    };
    // Named even where it is the host: the flags must not reach procedural macros.
    let target = variable("TARGET")?;
    let folder = out.join("shim");
    let mut command = Command::new(variable("CARGO")?);
    command
        .args([
            "build",
            "--locked",
            "--offline",
            "--quiet",
            "--package",
            "wharf-shim",
        ])
        .args([
            "--bin",
            "wharf-shim",
            "--profile",
            profile,
            "--target",
            &target,
        ])
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    // Settings of the outer build (a linter in the compiler's place, its flags) are not meant for this one.
    for name in [
        "RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "CLIPPY_ARGS",
        "CARGO_BUILD_TARGET",
        "CARGO_INCREMENTAL",
    ] {
        command.env_remove(name);
    }
    let status = command
        .status()
        .map_err(|error| format!("run cargo for the supervisor: {error}"))?;
    if !status.success() {
        return Err(format!("building the supervisor ended with {status}"));
    }
    Ok(folder.join(target).join(profile).join("wharf-shim"))
}
