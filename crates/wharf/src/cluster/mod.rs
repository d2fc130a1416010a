//! A cluster on this machine: `wharf up`, `wharf down`, `wharf status`.

mod compose;
mod down;
mod place;
mod status;
mod up;

pub use down::main as down;
pub use status::main as status;
pub use up::main as up;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
/// A failure that may travel between threads, as one that does not.
fn local(error: Box<dyn std::error::Error + Send + Sync>) -> Box<dyn std::error::Error> {
    error
}

/// Reads a command line; what it prints by itself (help, mistakes) gives the exit code.
fn parse<C: clap::Parser>(name: &str, args: &[std::ffi::OsString]) -> std::result::Result<C, i32> {
    let name = std::ffi::OsString::from(name);
    C::try_parse_from(std::iter::once(&name).chain(args)).map_err(|error| {
        let _ = error.print();
        error.exit_code()
    })
}
