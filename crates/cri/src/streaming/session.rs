//! The streams of one command, whatever carries them.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::Status;

/// Blocks that wait in each direction: a slow end slows the other, nothing grows.
const BLOCKS_MAX: usize = 16;

/// What a block of output is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdout,
    Stderr,
}

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Size {
    pub width: u16,
    pub height: u16,
}

/// The command's side.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its standard input; ends when the client's does.
    pub input: mpsc::Receiver<Bytes>,
    pub sizes: mpsc::Receiver<Size>,
    /// Fails when the client is gone.
    pub output: mpsc::Sender<(Channel, Bytes)>,
}

/// The client's side.
#[derive(Debug)]
pub(super) struct Carrier {
    pub input: mpsc::Sender<Bytes>,
    pub sizes: mpsc::Sender<Size>,
    pub output: mpsc::Receiver<(Channel, Bytes)>,
}

/// Both sides of a new session.
pub(super) fn pair() -> (Session, Carrier) {
    let (to_input, input) = mpsc::channel(BLOCKS_MAX);
    let (to_sizes, sizes) = mpsc::channel(BLOCKS_MAX);
    let (output, from_output) = mpsc::channel(BLOCKS_MAX);
    let session = Session {
        input,
        sizes,
        output,
    };
    let carrier = Carrier {
        input: to_input,
        sizes: to_sizes,
        output: from_output,
    };
    (session, carrier)
}

/// How a command ended, as the error channel says it: an object of kind Status from version 4 of the protocol on, before
/// that the words of a failure alone.
pub(super) fn ending(outcome: &Result<i32, Status>, version: u8) -> Bytes {
    let status = match outcome {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => {
            let cause = format!("error executing command in container: {}", error.message());
            json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {cause}"),
                "reason": "InternalError",
                "details": {"causes": [{"message": cause}]},
                "code": 500,
            })
        }
    };
    match version {
        4.. => status.to_string().into(),
        _ => match &status["message"] {
            Value::String(words) => words.clone().into(),
            _ => Bytes::new(),
        },
    }
}
