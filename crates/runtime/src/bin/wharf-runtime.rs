//! The runtime's command line as a program of its own, for callers that take a path and for tests.
#![forbid(unsafe_code)]

fn main() {
    let args = std::env::args_os().skip(1).collect();
    std::process::exit(wharf_runtime::cli::main(args));
}
