//! When to try again, and after how long.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::RETRY_AFTER;

/// Attempts of one request, the first included.
pub(crate) const ATTEMPTS_MAX: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(250);
const DELAY_MAX: Duration = Duration::from_secs(30);

/// Whether a status may be gone in a moment.
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Doubling delay before attempt `attempt` (1: the first repetition).
pub(crate) fn delay(attempt: u32) -> Duration {
    FIRST_DELAY
        .saturating_mul(1 << attempt.saturating_sub(1).min(16))
        .min(DELAY_MAX)
}

/// What the registry asks for, within reason; else the doubling delay.
pub(super) fn delay_of(response: &Response, attempt: u32) -> Duration {
    let asked = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    asked.map_or_else(
        || delay(attempt),
        |seconds| Duration::from_secs(seconds).min(DELAY_MAX),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_limit() {
        let delays: Vec<u128> = (1..=4).map(|attempt| delay(attempt).as_millis()).collect();
        assert_eq!(delays, [250, 500, 1000, 2000]);
        assert_eq!(delay(40), DELAY_MAX);
    }
}
