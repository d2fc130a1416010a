//! The composition root: one binary that is client, daemon, registry, OCI runtime and carrier of the supervisor.
#![forbid(unsafe_code)]

mod cluster;
mod daemon;
mod embedded;
mod listen;
mod notify;
mod registry;
mod rooms;
mod server;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Names under which the program is the OCI runtime, for callers that take a runtime's path and no words after it.
const RUNTIME_NAMES: &[&str] = &["runc", "wharf-runtime"];

fn main() -> ExitCode {
    let mut all = std::env::args_os();
    let name = all.next().unwrap_or_default();
    let args: Vec<OsString> = all.collect();
    // The runtime clones without exec: it must be reached before any thread or allocator pool exists.
    let code = match args.first().and_then(|a| a.to_str()) {
        _ if is_runtime(&name) => wharf_runtime::cli::main(args),
        Some("runtime") => wharf_runtime::cli::main(args[1..].to_vec()),
        Some("daemon") => daemon::main(&args[1..]),
        Some("registry") => registry::main(&args[1..]),
        Some("server") => server::main(&args[1..]),
        Some("up") => cluster::up(&args[1..]),
        Some("down") => cluster::down(&args[1..]),
        Some("status") => cluster::status(&args[1..]),
        _ => client(args),
    };
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}

fn is_runtime(name: &OsString) -> bool {
    let name = Path::new(name).file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| RUNTIME_NAMES.contains(&name))
}

/// Everything else is the client's.
fn client(args: Vec<OsString>) -> i32 {
    let mut words = Vec::with_capacity(args.len());
    for arg in args {
        match arg.into_string() {
            Ok(word) => words.push(word),
            Err(word) => {
                eprintln!("wharf: argument {word:?} is not valid UTF-8");
                return 125;
            }
        }
    }
    wharf_cli::main(words, &daemon::start_in_background)
}
