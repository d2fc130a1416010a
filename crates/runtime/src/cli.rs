//! `wharf runtime …`: runc's command line.

/// Runs the command line after `wharf runtime` and returns the exit code. Called before any thread exists.
pub fn main(args: Vec<std::ffi::OsString>) -> i32 {
    let _ = args;
    todo!()
}
