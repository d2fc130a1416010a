//! News of long work, line by line, for a client that may read slowly or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::body::Body;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wharf_image::{Progress, ProgressSink};

use crate::answer::{Outcome, Refusal, stream};

/// So much may wait for the client; beyond it, what can be spared is left out.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// Where the news come in; may be called from any thread, never waits.
#[derive(Clone)]
pub struct News {
    lines: mpsc::UnboundedSender<Line>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// Where they go out.
pub struct Lines {
    lines: mpsc::UnboundedReceiver<Line>,
    waiting_bytes: Arc<AtomicUsize>,
}

struct Line {
    bytes: Bytes,
    error: Option<String>,
}

pub fn news() -> (News, Lines) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let news = News {
        lines: sender,
        waiting_bytes: waiting_bytes.clone(),
    };
    let lines = Lines {
        lines: receiver,
        waiting_bytes,
    };
    (news, lines)
}

impl News {
    /// A line that must arrive.
    pub fn tell(&self, line: &Value) {
        let line = Line {
            bytes: Bytes::from(format!("{line}\r\n")),
            error: line["error"].as_str().map(str::to_owned),
        };
        self.waiting_bytes.fetch_add(line.bytes.len(), Relaxed);
        // A client that went away does not end the work.
        let _ = self.lines.send(line);
    }

    /// A line that is left out when too much waits already.
    pub fn mention(&self, line: &Value) {
        if self.waiting_bytes.load(Relaxed) < WAITING_BYTES_MAX {
            self.tell(line);
        }
    }

    /// The end of work that failed.
    pub fn fail(&self, error: &dyn std::error::Error) {
        self.tell(&error_json(&crate::answer::chain(error)));
    }

    /// Progress of a pull or push.
    pub fn sink(&self) -> ProgressSink {
        let news = self.clone();
        // Numbers are followed by newer numbers; words are not.
        Arc::new(move |progress| match progress.current_bytes {
            Some(_) => news.mention(&progress_json(&progress)),
            None => news.tell(&progress_json(&progress)),
        })
    }
}

impl Lines {
    async fn next(&mut self) -> Option<Line> {
        let line = self.lines.recv().await?;
        self.waiting_bytes.fetch_sub(line.bytes.len(), Relaxed);
        Some(line)
    }

    /// The lines as an answer; `held` lives as long as they come.
    pub fn answer(self, held: impl Send + 'static) -> Response<Body> {
        self.after(None, held)
    }

    /// The same, but where the very first line is an error it becomes the answer's status: nothing was promised yet.
    pub async fn answer_or(
        mut self,
        held: impl Send + 'static,
        status: impl FnOnce(&str) -> StatusCode,
    ) -> Outcome {
        let first = self.next().await;
        match first.as_ref().and_then(|line| line.error.as_deref()) {
            Some(message) => Err(Refusal::new(status(message), message)),
            None => Ok(self.after(first, held)),
        }
    }

    fn after(self, first: Option<Line>, held: impl Send + 'static) -> Response<Body> {
        let lines = unfold((first, self, held), |(first, mut lines, held)| async move {
            let line = match first {
                Some(line) => line,
                None => lines.next().await?,
            };
            Some((Ok(line.bytes), (None, lines, held)))
        });
        stream("application/json", lines)
    }
}

/// One line of progress.
pub fn progress_json(progress: &Progress) -> Value {
    let mut value = json!({"status": progress.status});
    if let Some(id) = &progress.id {
        value["id"] = json!(id);
        value["progressDetail"] = json!({});
    }
    if let Some(current) = progress.current_bytes {
        value["progressDetail"] = match progress.total_bytes {
            Some(total) => json!({"current": current, "total": total}),
            None => json!({"current": current}),
        };
    }
    value
}

/// The last line of a stream that failed.
pub fn error_json(message: &str) -> Value {
    json!({"errorDetail": {"message": message}, "error": message})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_does_not_read_costs_little() {
        let (news, mut lines) = news();
        let block = json!({"stream": "x".repeat(1 << 20)});
        for _ in 0..1_000 {
            news.mention(&block);
        }
        assert!(news.waiting_bytes.load(Relaxed) < WAITING_BYTES_MAX + (2 << 20));
        news.tell(&error_json("the end"));
        drop(news);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let last = runtime.block_on(async {
            let mut last = None;
            while let Some(line) = lines.next().await {
                last = line.error;
            }
            last
        });
        assert_eq!(last.as_deref(), Some("the end"));
        assert_eq!(lines.waiting_bytes.load(Relaxed), 0);
    }
}
