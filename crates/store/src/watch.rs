//! A watcher's end of the stream of changes: what happened before it came, then a bounded queue.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::{Error, Event, Result};

/// Events that may wait for one watcher before it is dropped.
pub(crate) const QUEUE_EVENTS_MAX: usize = 4096;

/// An open watch. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    backlog: VecDeque<Event>,
    queue: mpsc::Receiver<Event>,
}

impl Watch {
    pub(crate) fn new(backlog: VecDeque<Event>, queue: mpsc::Receiver<Event>) -> Self {
        Self { backlog, queue }
    }

    /// The next event. Safe to drop while waiting: no event is lost.
    ///
    /// # Errors
    /// [`Error::Lagged`] after the last event of a watcher that was too slow or whose store was closed.
    pub async fn next(&mut self) -> Result<Event> {
        if let Some(event) = self.backlog.pop_front() {
            return Ok(event);
        }
        self.queue.recv().await.ok_or(Error::Lagged {
            queued: QUEUE_EVENTS_MAX,
        })
    }

    /// The next event if one is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.backlog
            .pop_front()
            .or_else(|| self.queue.try_recv().ok())
    }
}
