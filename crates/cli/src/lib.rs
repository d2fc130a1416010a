//! The `wharf` command: the same words, flags, tables and templates as Docker's client, talking to the daemon's
//! HTTP API over its socket.
#![forbid(unsafe_code)]

/// Runs the command line (without the program's name) and returns the exit code.
///
/// `start_daemon` starts a daemon in the background and returns once its socket listens; it is called when no
/// daemon listens on the default socket and the user is root.
pub fn main(args: Vec<String>, start_daemon: &dyn Fn() -> std::io::Result<()>) -> i32 {
    let _ = (args, start_daemon);
    todo!()
}
