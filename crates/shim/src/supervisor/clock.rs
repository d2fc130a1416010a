//! Wall-clock time as Go's RFC3339Nano writes it: UTC, trailing zeros of the fraction left out.

use rustix::time::{ClockId, Timespec};

/// The wall clock.
pub(crate) fn now() -> Timespec {
    rustix::time::clock_gettime(ClockId::Realtime)
}

/// Milliseconds that only ever grow.
pub(crate) fn monotonic_ms() -> u64 {
    let time = rustix::time::clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
}

/// One moment as text.
pub(crate) fn rfc3339(time: Timespec) -> String {
    let mut text = Vec::with_capacity(32);
    Stamp::default().write(time, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// Writes moments, keeping the part that is the same for a whole second.
#[derive(Debug, Default)]
pub(crate) struct Stamp {
    second: Option<i64>,
    text: String,
}

impl Stamp {
    pub(crate) fn write(&mut self, time: Timespec, out: &mut Vec<u8>) {
        if self.second != Some(time.tv_sec) {
            self.second = Some(time.tv_sec);
            self.text = seconds(time.tv_sec);
        }
        out.extend_from_slice(self.text.as_bytes());
        let mut digits = [b'0'; 9];
        let mut rest = time.tv_nsec;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let used = digits
            .iter()
            .rposition(|d| *d != b'0')
            .map_or(0, |last| last + 1);
        if used > 0 {
            out.push(b'.');
            out.extend_from_slice(&digits[..used]);
        }
        out.push(b'Z');
    }
}

/// Date and time of day, from the proleptic Gregorian calendar in years that begin in March.
fn seconds(unix: i64) -> String {
    let (day, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_go_writes_them() {
        let cases = [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (1_709_251_199, 120_000_000, "2024-02-29T23:59:59.12Z"),
            (1_735_689_600, 999_999_999, "2025-01-01T00:00:00.999999999Z"),
            (4_107_542_400, 500, "2100-03-01T00:00:00.0000005Z"),
        ];
        for (tv_sec, tv_nsec, expected) in cases {
            assert_eq!(rfc3339(Timespec { tv_sec, tv_nsec }), expected);
        }
    }
}
