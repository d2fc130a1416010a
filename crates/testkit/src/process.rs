//! Running programs in tests: output captured, failure told with all that is needed to understand it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// What a program did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The command line, for messages.
    pub line: String,
    /// Exit code; 128 + signal number when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Standard output without the last newline; panics unless the program succeeded.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert!(
            self.code == 0,
            "{} ended with {}\nstdout: {}\nstderr: {}",
            self.line,
            self.code,
            self.stdout,
            self.stderr
        );
        self.stdout.trim_end_matches('\n')
    }

    /// Standard output and error together; panics if the program succeeded.
    #[track_caller]
    pub fn failed(&self) -> String {
        assert!(
            self.code != 0,
            "{} succeeded\nstdout: {}\nstderr: {}",
            self.line,
            self.stdout,
            self.stderr
        );
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Standard output and error together, whatever the outcome.
    pub fn both(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs a command to its end, with `input` on standard input.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Ran {
    let line = format!("{command:?}");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("start {line}: {e}"));
    let mut stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(stdin) = stdin.as_mut() {
                // A program that does not read its input is none of our business.
                let _ = stdin.write_all(input);
            }
        });
        child.wait_with_output()
    });
    ran(
        line.clone(),
        output.unwrap_or_else(|e| panic!("wait for {line}: {e}")),
    )
}

/// Runs a command to its end, with nothing on standard input.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    let line = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("start {line}: {e}"));
    ran(line, output)
}

fn ran(line: String, output: Output) -> Ran {
    use std::os::unix::process::ExitStatusExt;
    Ran {
        line,
        code: output
            .status
            .code()
            .unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
