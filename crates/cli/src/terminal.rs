//! The terminal: whether there is one, its size, and its raw mode.

use std::io::IsTerminal;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Whether standard input is a terminal.
pub fn input() -> bool {
    std::io::stdin().is_terminal()
}

/// Whether standard output is a terminal.
pub fn output() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
pub fn error() -> bool {
    std::io::stderr().is_terminal()
}

/// Rows and columns of the terminal at standard output, or at standard input.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(std::io::stdout())
        .or_else(|_| tcgetwinsize(std::io::stdin()))
        .ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Puts a mode of the terminal back when dropped.
#[derive(Debug)]
pub struct Restore(Termios);

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Passes every key on as it is typed, until the answer is dropped. `None` when there is no terminal.
pub fn raw() -> Option<Restore> {
    let before = tcgetattr(std::io::stdin()).ok()?;
    let mut mode = before.clone();
    mode.make_raw();
    tcsetattr(std::io::stdin(), OptionalActions::Now, &mode).ok()?;
    Some(Restore(before))
}

/// Doesn't show what is typed, until the answer is dropped.
pub fn silent() -> Option<Restore> {
    let before = tcgetattr(std::io::stdin()).ok()?;
    let mut mode = before.clone();
    mode.local_modes.remove(rustix::termios::LocalModes::ECHO);
    tcsetattr(std::io::stdin(), OptionalActions::Now, &mode).ok()?;
    Some(Restore(before))
}
