//! Messages for the caller: containerd and podman read the log file, people standard error.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Failure, Outcome, failed};

/// Where messages go.
#[derive(Debug, Clone)]
pub struct Log {
    file: Option<Arc<File>>,
    json: bool,
    /// Steps are told too.
    verbose: bool,
}

impl Log {
    /// Standard error alone.
    pub fn to_stderr() -> Log {
        Log {
            file: None,
            json: false,
            verbose: false,
        }
    }

    /// A file, to whose end is written; errors are said on standard error too.
    pub fn to_file(path: &str, format: &str) -> Outcome<Log> {
        let file = File::options().append(true).create(true).open(path);
        let file = file.map_err(failed(format!("open {path}")))?;
        Log {
            file: Some(Arc::new(file)),
            json: false,
            verbose: false,
        }
        .with_format(format)
    }

    /// `text` or `json`.
    pub fn with_format(self, format: &str) -> Outcome<Log> {
        match format {
            "text" | "json" => Ok(Log {
                json: format == "json",
                ..self
            }),
            _ => Err(Failure::new(format!("invalid log-format: {format}"))),
        }
    }

    /// With steps (`--debug`).
    pub fn verbose(self, verbose: bool) -> Log {
        Log { verbose, ..self }
    }

    /// A step, told where they were asked for.
    pub fn debug(&self, message: &str) {
        if self.verbose {
            self.write("debug", message);
        }
    }

    /// The reason why the command failed.
    pub fn error(&self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            // Nobody is left to be told that standard error is closed.
            let _ = writeln!(std::io::stderr(), "{message}");
        }
    }

    /// Something that went wrong without making the command fail.
    pub fn warn(&self, message: &str) {
        self.write("warning", message);
    }

    fn write(&self, level: &str, message: &str) {
        let time = rfc3339(SystemTime::now(), false);
        let line = if self.json {
            let entry = serde_json::json!({"level": level, "msg": message, "time": time});
            format!("{entry}\n")
        } else {
            format!("time={time:?} level={level} msg={message:?}\n")
        };
        let _ = match &self.file {
            Some(file) => (&**file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

/// A moment in UTC, to the second or the nanosecond.
pub fn rfc3339(moment: SystemTime, nanoseconds: bool) -> String {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years begin in March here, so that a leap day is the last day of one; eras have 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = if nanoseconds {
        format!(".{:09}", since.subsec_nanos())
    } else {
        String::new()
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments_read_as_calendars_write_them() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds), false);
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59Z");
        assert_eq!(
            rfc3339(UNIX_EPOCH + Duration::new(1, 5), true),
            "1970-01-01T00:00:01.000000005Z"
        );
    }
}
