//! How long to wait before trying again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Waits that double, up to a bound.
#[derive(Debug, Clone, Copy)]
pub struct Pause {
    pub first: Duration,
    pub longest: Duration,
}

impl Pause {
    /// The wait after so many failures in a row, counted from 1.
    pub fn after(self, failures: u32) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1 << failures.saturating_sub(1).min(30));
        doubled.min(self.longest)
    }

    /// The same with up to a half more, so that many who failed together do not come back together.
    pub fn spread(self, failures: u32) -> Duration {
        let random = RandomState::new().build_hasher().finish();
        let half = self.after(failures) / 2;
        self.after(failures) + half.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_bound() {
        let pause = Pause {
            first: Duration::from_millis(5),
            longest: Duration::from_secs(1000),
        };
        assert_eq!(pause.after(1), Duration::from_millis(5));
        assert_eq!(pause.after(4), Duration::from_millis(40));
        assert_eq!(pause.after(u32::MAX), Duration::from_secs(1000));
        let spread = pause.spread(2);
        assert!(spread >= Duration::from_millis(10) && spread <= Duration::from_millis(15));
    }
}
