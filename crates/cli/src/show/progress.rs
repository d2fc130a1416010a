//! The daemon's stream of progress messages: bars that move on a terminal, plain lines elsewhere.

use std::io::{BufReader, Read, Write};

use serde::Deserialize;

use crate::failure::Failure;
use crate::{terminal, units};

/// One message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    stream: String,
    status: String,
    #[serde(rename = "progressDetail")]
    progress: Option<Progress>,
    id: String,
    from: String,
    #[serde(rename = "errorDetail")]
    error: Option<ErrorDetail>,
    #[serde(rename = "error")]
    error_text: String,
    aux: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Progress {
    current: i64,
    total: i64,
    start: i64,
    units: String,
    hidecounts: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    code: i32,
    message: String,
}

/// Where progress is shown.
#[derive(Debug)]
pub struct Display<W: Write> {
    out: W,
    terminal: bool,
    width: usize,
    lines: Vec<String>,
}

impl<W: Write> Display<W> {
    /// Shows on `out`, which is a terminal or not.
    pub fn new(out: W, terminal: bool) -> Display<W> {
        let width = if terminal {
            terminal::size().map_or(200, |(_, columns)| usize::from(columns))
        } else {
            200
        };
        Display {
            out,
            terminal,
            width,
            lines: Vec::new(),
        }
    }

    /// Shows every message of `from`; `aux` gets the results that come between them. A message of failure ends it.
    pub fn run(
        &mut self,
        from: impl Read,
        mut aux: impl FnMut(&mut W, &serde_json::Value),
    ) -> Result<(), Failure> {
        let messages =
            serde_json::Deserializer::from_reader(BufReader::new(from)).into_iter::<Message>();
        for message in messages {
            let message = message.map_err(|error| Failure::said(error.to_string()))?;
            match &message.aux {
                Some(value) => aux(&mut self.out, value),
                None => self.message(&message)?,
            }
        }
        Ok(())
    }

    fn message(&mut self, message: &Message) -> Result<(), Failure> {
        if let Some(error) = &message.error {
            let text = if error.message.is_empty() {
                &message.error_text
            } else {
                &error.message
            };
            let text = if error.code == 401 {
                "authentication is required"
            } else {
                text
            };
            return Err(Failure::Exit {
                code: if error.code == 0 { 1 } else { error.code },
                text: text.to_owned(),
            });
        }
        if !message.error_text.is_empty() {
            return Err(Failure::said(&message.error_text));
        }
        let mut text = String::new();
        let mut up = 0;
        if !message.id.is_empty() && message.progress.is_some() {
            let known = self.lines.iter().position(|id| *id == message.id);
            let line = known.unwrap_or_else(|| {
                self.lines.push(message.id.clone());
                self.lines.len() - 1
            });
            if self.terminal {
                if known.is_none() {
                    text.push('\n');
                }
                up = self.lines.len() - line;
                text.push_str(&format!("\x1b[{up}A"));
            }
        } else {
            self.lines.clear();
        }
        self.render(message, &mut text);
        if !message.id.is_empty() && self.terminal && up > 0 {
            text.push_str(&format!("\x1b[{up}B"));
        }
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
            .map_err(Failure::Stream)
    }

    fn render(&self, message: &Message, text: &mut String) {
        let bar = message
            .progress
            .as_ref()
            .map(|progress| bar(progress, self.width));
        let mut end = "";
        if self.terminal && message.stream.is_empty() && bar.is_some() {
            end = "\r";
            text.push_str("\x1b[2K\r");
        } else if bar.as_ref().is_some_and(|bar| !bar.is_empty()) {
            return;
        }
        if !message.id.is_empty() {
            text.push_str(&format!("{}: ", message.id));
        }
        if !message.from.is_empty() {
            text.push_str(&format!("(from {}) ", message.from));
        }
        match bar {
            Some(bar) if self.terminal => text.push_str(&format!("{} {bar}{end}", message.status)),
            _ if !message.stream.is_empty() => text.push_str(&format!("{}{end}", message.stream)),
            _ => text.push_str(&format!("{}{end}\n", message.status)),
        }
    }
}

fn bar(progress: &Progress, width: usize) -> String {
    let Progress { current, total, .. } = *progress;
    if current <= 0 && total <= 0 {
        return String::new();
    }
    let amount = |number: i64| units::human_size(number as f64);
    if total <= 0 {
        if progress.units.is_empty() {
            return format!("{:>8}", amount(current));
        }
        return format!("{current} {}", progress.units);
    }
    let half = ((current as f64 / total as f64 * 100.0) as i64 / 2).clamp(0, 50) as usize;
    let mut text = String::new();
    if width > 110 {
        text = format!("[{}>{}] ", "=".repeat(half), " ".repeat(50 - half));
    }
    if progress.hidecounts {
    } else if !progress.units.is_empty() {
        text.push_str(&format!("{current}/{total} {}", progress.units));
    } else if current > total {
        text.push_str(&format!("{:>8}", amount(current)));
    } else {
        text.push_str(&format!("{:>8}/{}", amount(current), amount(total)));
    }
    if current > 0 && progress.start > 0 && half < 50 && width > 50 {
        let elapsed = units::now() - progress.start;
        let left = (total - current).max(0) * elapsed.max(0) / current;
        text.push_str(&format!(" {left}s"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(terminal: bool, messages: &str) -> (String, Result<(), Failure>) {
        let mut out = Vec::new();
        let mut display = Display {
            out: &mut out,
            terminal,
            width: 120,
            lines: Vec::new(),
        };
        let result = display.run(messages.as_bytes(), |_, _| {});
        (String::from_utf8(out).unwrap(), result)
    }

    const PULL: &str = r#"{"status":"Pulling from library/x","id":"latest"}
{"status":"Pulling fs layer","progressDetail":{},"id":"aa"}
{"status":"Downloading","progressDetail":{"current":50,"total":100},"progress":"…","id":"aa"}
{"status":"Status: done"}
"#;

    #[test]
    fn plain_lines_leave_bars_out() {
        let (out, result) = show(false, PULL);
        assert!(result.is_ok());
        assert_eq!(
            out,
            "latest: Pulling from library/x\naa: Pulling fs layer\nStatus: done\n"
        );
    }

    #[test]
    fn a_terminal_gets_moving_bars() {
        let (out, _) = show(true, PULL);
        let bar = format!("[{}>{}]", "=".repeat(25), " ".repeat(25));
        assert_eq!(
            out,
            format!(
                "latest: Pulling from library/x\n\n\x1b[1A\x1b[2K\raa: Pulling fs layer \r\x1b[1B\x1b[1A\x1b[2K\raa: Downloading {bar}      50B/100B\r\x1b[1BStatus: done\n"
            )
        );
    }

    #[test]
    fn an_error_ends_it_with_its_code() {
        let (out, result) = show(
            false,
            r#"{"stream":"a"}{"errorDetail":{"code":3,"message":"no"},"error":"no"}{"stream":"b"}"#,
        );
        assert_eq!(out, "a");
        let failure = result.unwrap_err();
        assert_eq!((failure.code(), failure.to_string().as_str()), (3, "no"));
    }
}
