//! How long a container that keeps ending waits: 10 s, doubled each time up to 5 min, forgotten after 10 min.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
const FORGOTTEN: SignedDuration = SignedDuration::from_secs(600);

/// One pod's memory of failures, by what failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff(HashMap<String, (Duration, Timestamp)>);

impl Backoff {
    /// Until when a start has to wait after a failure at `failed`, and how long that is in all.
    pub fn holds(
        &self,
        what: &str,
        failed: Timestamp,
        now: Timestamp,
    ) -> Option<(Timestamp, Duration)> {
        let (wait, updated) = self.0.get(what)?;
        if failed.duration_since(*updated) > FORGOTTEN {
            return None;
        }
        let until = failed.checked_add(*wait).ok()?;
        // A clock that jumped back must not hold for longer than was meant.
        (now < until && now >= failed).then_some((until, *wait))
    }

    /// Something is tried again after a failure: the next one waits longer.
    pub fn next(&mut self, what: &str, failed: Timestamp, now: Timestamp) {
        let wait = match self.0.get(what) {
            Some((wait, updated)) if failed.duration_since(*updated) <= FORGOTTEN => {
                (*wait * 2).min(LONGEST)
            }
            _ => FIRST,
        };
        self.0.insert(what.to_owned(), (wait, now));
    }

    /// When something was last tried in vain.
    pub fn since(&self, what: &str) -> Option<Timestamp> {
        self.0.get(what).map(|(_, updated)| *updated)
    }

    pub fn forget(&mut self, what: &str) {
        self.0.remove(what);
    }
}

/// `10s`, `1m20s`, `5m0s`.
pub(crate) fn text(wait: Duration) -> String {
    match (wait.as_secs() / 60, wait.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_forgotten() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut backoff = Backoff::default();
        assert_eq!(
            backoff.holds("a", at(0), at(0)),
            None,
            "the first time there is no wait"
        );
        backoff.next("a", at(0), at(0));
        assert_eq!(backoff.holds("a", at(1), at(5)), Some((at(11), FIRST)));
        assert_eq!(backoff.holds("a", at(1), at(11)), None);
        backoff.next("a", at(1), at(11));
        assert_eq!(
            backoff.holds("a", at(12), at(31)),
            Some((at(32), FIRST * 2))
        );
        for _ in 0..9 {
            backoff.next("a", at(12), at(12));
        }
        assert_eq!(backoff.holds("a", at(12), at(12)).unwrap().1, LONGEST);
        assert_eq!(backoff.holds("a", at(700), at(701)), None);
        assert_eq!(backoff.holds("b", at(12), at(12)), None);
    }

    #[test]
    fn durations_read_like_go_s() {
        let texts = [10, 40, 80, 160, 300].map(|s| text(Duration::from_secs(s)));
        assert_eq!(texts, ["10s", "40s", "1m20s", "2m40s", "5m0s"]);
    }
}
