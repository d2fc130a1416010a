//! The composition root: one binary that is client, daemon, registry, OCI runtime and carrier of the supervisor.
#![forbid(unsafe_code)]

mod daemon;
mod embedded;
mod notify;
mod registry;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    // The runtime clones without exec: it must be reached before any thread or allocator pool exists.
    let code = match args.first().and_then(|a| a.to_str()) {
        Some("runtime") => wharf_runtime::cli::main(args[1..].to_vec()),
        Some("daemon") => daemon::main(&args[1..]),
        Some("registry") => registry::main(&args[1..]),
        _ => client(args),
    };
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
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
