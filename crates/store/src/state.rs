//! The committed state in memory: newest entries, recent changes, and who watches them.
//!
//! Entries share their bytes with the changes that made them, so history costs what was overwritten and no more.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::watch::{QUEUE_EVENTS_MAX, Watch};
use crate::{Change, Entry, Error, Event, Page, Range, Result, Revision};

/// How much history is kept.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    pub changes_max: usize,
    pub bytes_max: usize,
}

#[derive(Debug)]
pub struct Recent {
    pub change: Arc<Change>,
    pub at: Instant,
}

#[derive(Debug, Default)]
pub struct State {
    entries: BTreeMap<Arc<str>, Entry>,
    /// Changes after `floor`, oldest first, without gaps.
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    revision: Revision,
    floor: Revision,
    watchers: HashMap<Arc<str>, Vec<mpsc::Sender<Event>>>,
}

impl State {
    pub fn restore(
        entries: BTreeMap<Arc<str>, Entry>,
        recent: Vec<Change>,
        revision: Revision,
        floor: Revision,
    ) -> Self {
        let mut state = Self {
            entries,
            revision,
            floor,
            ..Self::default()
        };
        for change in recent {
            state.remember(Arc::new(change));
        }
        state
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Makes a durable change visible and hands it to the watchers.
    pub fn publish(&mut self, change: Arc<Change>) {
        match &change.now {
            Some(entry) => self.entries.insert(change.key.clone(), entry.clone()),
            None => self.entries.remove(&change.key),
        };
        self.revision = change.revision;
        self.remember(change.clone());
        self.watchers.retain(|prefix, queues| {
            if change.key.starts_with(&**prefix) {
                queues.retain(|queue| queue.try_send(Event::Change(change.clone())).is_ok());
            }
            !queues.is_empty()
        });
    }

    /// Revisions up to this one brought nothing more.
    pub fn advance(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    pub fn announce_progress(&mut self) {
        let revision = self.revision;
        self.watchers.retain(|_, queues| {
            queues.retain(|queue| queue.try_send(Event::Progress(revision)).is_ok());
            !queues.is_empty()
        });
    }

    fn remember(&mut self, change: Arc<Change>) {
        self.recent_bytes += size(&change);
        self.recent.push_back(Recent {
            change,
            at: Instant::now(),
        });
    }

    /// The revision up to which history must be forgotten to stay within bounds.
    pub fn excess(&self, keep: Keep, oldest: Option<Instant>) -> Revision {
        let (mut count, mut bytes) = (self.recent.len(), self.recent_bytes);
        let mut floor = self.floor;
        for recent in &self.recent {
            let old = oldest.is_some_and(|oldest| recent.at < oldest);
            if count <= keep.changes_max && bytes <= keep.bytes_max && !old {
                break;
            }
            count -= 1;
            bytes -= size(&recent.change);
            floor = recent.change.revision;
        }
        floor
    }

    pub fn oldest_change(&self) -> Option<Instant> {
        self.recent.front().map(|recent| recent.at)
    }

    pub fn forget(&mut self, up_to: Revision) {
        while self
            .recent
            .front()
            .is_some_and(|recent| recent.change.revision <= up_to)
        {
            if let Some(gone) = self.recent.pop_front() {
                self.recent_bytes -= size(&gone.change);
            }
        }
        self.floor = self.floor.max(up_to.min(self.revision));
    }

    fn check(&self, asked: Revision) -> Result<()> {
        if asked > self.revision {
            return Err(Error::Future {
                asked,
                newest: self.revision,
            });
        }
        if asked < self.floor {
            return Err(Error::Compacted {
                asked,
                oldest: self.floor,
            });
        }
        Ok(())
    }

    /// Index of the first recent change after a revision.
    fn first_after(&self, revision: Revision) -> usize {
        self.recent
            .partition_point(|recent| recent.change.revision <= revision)
    }

    pub fn watch(&mut self, prefix: &str, after: Revision) -> Result<Watch> {
        self.check(after)?;
        let backlog = self
            .recent
            .range(self.first_after(after)..)
            .filter(|recent| recent.change.key.starts_with(prefix))
            .map(|recent| Event::Change(recent.change.clone()))
            .collect();
        let (sender, receiver) = mpsc::channel(QUEUE_EVENTS_MAX);
        let queues = self.watchers.entry(prefix.into()).or_default();
        queues.retain(|queue| !queue.is_closed());
        queues.push(sender);
        Ok(Watch::new(backlog, receiver))
    }

    pub fn list(&self, range: &Range) -> Result<Page> {
        let revision = range.at.unwrap_or(self.revision);
        self.check(revision)?;
        let start = match &range.after {
            Some(after) if **after >= *range.prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(range.prefix.as_str()),
        };
        let newest = self
            .entries
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&range.prefix))
            .map(|(_, entry)| entry);
        if revision == self.revision {
            return Ok(page(newest, range.limit, revision));
        }
        let mut then: BTreeMap<&str, &Entry> = newest.map(|entry| (&*entry.key, entry)).collect();
        // Undone newest first, so that the value before the oldest of several changes is what stays.
        let later = self.recent.range(self.first_after(revision)..).rev();
        for change in later.map(|recent| &*recent.change) {
            let key = &*change.key;
            let within = match start {
                Bound::Excluded(after) => key > after,
                _ => true,
            };
            if !within || !key.starts_with(&range.prefix) {
                continue;
            }
            match &change.before {
                Some(before) => then.insert(key, before),
                None => then.remove(key),
            };
        }
        Ok(page(then.into_values(), range.limit, revision))
    }
}

fn page<'a>(entries: impl Iterator<Item = &'a Entry>, limit: usize, revision: Revision) -> Page {
    let mut entries = entries;
    let limit = if limit == 0 { usize::MAX } else { limit };
    let taken: Vec<Entry> = entries.by_ref().take(limit).cloned().collect();
    Page {
        revision,
        entries: taken,
        remaining: entries.count(),
    }
}

/// What a change costs to keep, roughly.
fn size(change: &Change) -> usize {
    let value = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry.value.len());
    128 + change.key.len() + value(&change.now) + value(&change.before)
}
