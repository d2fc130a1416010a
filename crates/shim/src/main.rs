//! The supervisor's program, and the containers' init: everything is in the library.
#![forbid(unsafe_code)]

use std::path::Path;

fn main() -> std::process::ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    if Path::new(&name)
        .file_name()
        .is_some_and(|name| name == wharf_shim::init::NAME)
    {
        return wharf_shim::init::main(words);
    }
    wharf_shim::supervisor::main()
}
