//! The supervisor's program: everything is in the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    wharf_shim::supervisor::main()
}
