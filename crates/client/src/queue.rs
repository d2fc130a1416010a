//! Keys that need work. A key waits once however often it was added, and only one worker has it at a time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::pause::Pause;

/// Failures of one key: client-go's numbers.
const FAILURES: Pause = Pause {
    first: Duration::from_millis(5),
    longest: Duration::from_secs(1000),
};

/// A queue that is shared by cloning.
pub struct Queue<K>(Arc<Shared<K>>);

struct Shared<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Needs work: what is ready, and what a worker has and was added again meanwhile.
    dirty: HashSet<K>,
    /// What workers have.
    taken: HashSet<K>,
    later: BinaryHeap<Reverse<Later<K>>>,
    /// When a key in `later` is due at the earliest; older entries of the same key are void.
    due: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
    is_closed: bool,
}

struct Later<K> {
    at: Instant,
    key: K,
}

impl<K> PartialEq for Later<K> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl<K> Eq for Later<K> {}
impl<K> PartialOrd for Later<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Later<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Queue(self.0.clone())
    }
}

impl<K: Clone + Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        Queue(Arc::new(Shared {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                dirty: HashSet::new(),
                taken: HashSet::new(),
                later: BinaryHeap::new(),
                due: HashMap::new(),
                failures: HashMap::new(),
                is_closed: false,
            }),
            changed: Notify::new(),
        }))
    }
}

/// A key that a worker has. Dropping it gives it back: it is ready again if it was added meanwhile.
pub struct Taken<K: Clone + Eq + Hash> {
    queue: Queue<K>,
    key: K,
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Marks a key as needing work.
    pub fn add(&self, key: K) {
        self.lock().add(key);
        self.0.changed.notify_one();
    }

    /// The same after a while, unless it is added before.
    pub fn add_after(&self, key: K, wait: Duration) {
        if wait.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + wait;
        {
            let mut state = self.lock();
            if state.is_closed || state.due.get(&key).is_some_and(|due| *due <= at) {
                return;
            }
            state.due.insert(key.clone(), at);
            state.later.push(Reverse(Later { at, key }));
        }
        self.0.changed.notify_one();
    }

    /// Work on a key failed: it comes again after a wait that grows with its failures.
    pub fn retry(&self, key: K) {
        let failures = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures
        };
        self.add_after(key, FAILURES.after(failures));
    }

    /// Work on a key succeeded: its failures are forgotten.
    pub fn forget(&self, key: &K) {
        self.lock().failures.remove(key);
    }

    /// How often work on a key failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.lock().failures.get(key).copied().unwrap_or_default()
    }

    /// How many keys wait for a worker now.
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// Whether no key waits for a worker now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No key is taken in any more; workers get what is ready, then nothing.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.0.changed.notify_waiters();
        self.0.changed.notify_one();
    }

    /// The next key; nothing when the queue is closed and empty.
    pub async fn next(&self) -> Option<Taken<K>> {
        loop {
            let changed = self.0.changed.notified();
            let next_due = {
                let mut state = self.lock();
                state.ripen(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.taken.insert(key.clone());
                    if !state.ready.is_empty() {
                        // One notice may have stood for several keys.
                        self.0.changed.notify_one();
                    }
                    let queue = self.clone();
                    return Some(Taken { queue, key });
                }
                if state.is_closed {
                    self.0.changed.notify_one();
                    return None;
                }
                state.later.peek().map(|later| later.0.at)
            };
            match next_due {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, changed).await;
                }
                None => changed.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) {
        if self.is_closed || !self.dirty.insert(key.clone()) {
            return;
        }
        self.due.remove(&key);
        if !self.taken.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// What is due becomes ready.
    fn ripen(&mut self, now: Instant) {
        while self.later.peek().is_some_and(|later| later.0.at <= now) {
            let Some(Reverse(later)) = self.later.pop() else {
                return;
            };
            // Otherwise it was added since, or asked for at an earlier moment.
            if self.due.get(&later.key) == Some(&later.at) {
                self.due.remove(&later.key);
                self.add(later.key);
            }
        }
    }
}

impl<K: Clone + Eq + Hash> Taken<K> {
    /// The key.
    pub fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Clone + Eq + Hash> Drop for Taken<K> {
    fn drop(&mut self) {
        let is_ready = {
            let mut state = self.queue.lock();
            state.taken.remove(&self.key);
            let again = state.dirty.contains(&self.key);
            if again {
                state.ready.push_back(self.key.clone());
            }
            again
        };
        if is_ready {
            self.queue.0.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(queue: &Queue<&'static str>) -> Taken<&'static str> {
        queue.next().await.unwrap()
    }

    fn is_idle(queue: &Queue<&'static str>) -> bool {
        queue.lock().ripen(Instant::now());
        queue.is_empty()
    }

    #[tokio::test]
    async fn a_key_waits_once_and_has_one_worker() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        let a = take(&queue).await;
        assert_eq!(*a.key(), "a");
        queue.add("a");
        queue.add("a");
        let b = take(&queue).await;
        assert_eq!(*b.key(), "b");
        assert!(is_idle(&queue), "a worker has it");
        drop(a);
        assert_eq!(*take(&queue).await.key(), "a");
        drop(b);
        assert!(is_idle(&queue));
    }

    #[tokio::test(start_paused = true)]
    async fn later_means_later_and_the_earliest_counts() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(30));
        drop(take(&queue).await);
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(is_idle(&queue), "once for all of them");
        queue.add_after("a", Duration::from_secs(5));
        queue.add("a");
        drop(take(&queue).await);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(is_idle(&queue), "it was added before it was due");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_and_longer() {
        let queue = Queue::default();
        let mut waits = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            queue.retry("a");
            drop(take(&queue).await);
            waits.push(start.elapsed().as_millis());
        }
        assert_eq!(waits, [5, 10, 20, 40]);
        assert_eq!(queue.failures(&"a"), 4);
        queue.forget(&"a");
        assert_eq!(queue.failures(&"a"), 0);
    }

    #[tokio::test]
    async fn many_workers_share_and_a_closed_queue_runs_dry() {
        let queue: Queue<u32> = Queue::default();
        let workers: Vec<_> = (0..8)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let mut done = Vec::new();
                    while let Some(taken) = queue.next().await {
                        tokio::task::yield_now().await;
                        done.push(*taken.key());
                    }
                    done
                })
            })
            .collect();
        for key in 0..1_000 {
            queue.add(key);
            if key % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
        queue.close();
        queue.add(5_000);
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.await.unwrap());
        }
        all.sort_unstable();
        assert_eq!(all, (0..1_000).collect::<Vec<_>>());
    }
}
