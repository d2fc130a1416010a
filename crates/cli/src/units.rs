//! Sizes, durations and points in time as people read them, by Docker's rules; and read back.

use jiff::{Timestamp, tz::TimeZone};

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Powers of 1000, four digits: `1.982MB`.
pub fn human_size(bytes: f64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 4)
}

/// Powers of 1000, three digits: `1.98MB`.
pub fn human_size_3(bytes: f64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 3)
}

/// Powers of 1024, four digits: `23.54GiB`.
pub fn bytes_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

fn scaled(mut size: f64, base: f64, names: &[&str], digits: usize) -> String {
    let mut at = 0;
    while size >= base && at + 1 < names.len() {
        size /= base;
        at += 1;
    }
    format!("{}{}", significant(size, digits), names[at])
}

/// C's `%.*g`.
pub fn significant(number: f64, digits: usize) -> String {
    if number == 0.0 {
        return "0".into();
    }
    let text = format!("{number:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits as i32 {
        let mantissa = trim_zeros(mantissa);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let places = (digits as i32 - 1 - exponent).max(0) as usize;
    trim_zeros(&format!("{number:.places$}")).to_owned()
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

/// A length of time in words.
pub fn human_duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Hours are rounded, not cut: ninety minutes are two hours.
    let hours = (seconds as f64 / 3600.0 + 0.5) as i64;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// Seconds since 1970, now.
pub fn now() -> i64 {
    Timestamp::now().as_second()
}

/// `2 minutes ago` for a point in seconds since 1970.
pub fn ago(seconds: i64) -> String {
    format!("{} ago", human_duration(now() - seconds))
}

/// Seconds since 1970 of an RFC 3339 text.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// `2006-01-02 15:04:05 -0700 MST` in the local zone.
pub fn local_time(seconds: i64) -> String {
    let Ok(time) = Timestamp::from_second(seconds) else {
        return String::new();
    };
    go_time(&time, TimeZone::system())
}

/// Go's default print of a time: `2006-01-02 15:04:05.999999999 -0700 MST`.
pub fn go_time(time: &Timestamp, zone: TimeZone) -> String {
    let zoned = time.to_zoned(zone);
    let fraction = fraction(time.subsec_nanosecond(), false);
    format!(
        "{}{fraction} {}",
        zoned.strftime("%Y-%m-%d %H:%M:%S"),
        zoned.strftime("%z %Z")
    )
}

/// RFC 3339 in the local zone, with all nine digits of the fraction when `full`.
pub fn local_rfc3339(time: &Timestamp, full: bool) -> String {
    let zoned = time.to_zoned(TimeZone::system());
    let offset = if zoned.offset().is_zero() {
        "Z".to_owned()
    } else {
        zoned.strftime("%:z").to_string()
    };
    let fraction = if full {
        fraction(time.subsec_nanosecond(), true)
    } else {
        String::new()
    };
    format!("{}{fraction}{offset}", zoned.strftime("%Y-%m-%dT%H:%M:%S"))
}

fn fraction(nanoseconds: i32, full: bool) -> String {
    if full {
        return format!(".{nanoseconds:09}");
    }
    if nanoseconds == 0 {
        String::new()
    } else {
        format!(".{nanoseconds:09}")
            .trim_end_matches('0')
            .to_owned()
    }
}

/// Bytes of a size such as `512m` or `1.5GiB` (both are powers of 1024).
pub fn ram_bytes(text: &str) -> Option<i64> {
    sized(text, 1024.0)
}

fn sized(text: &str, base: f64) -> Option<i64> {
    let text = text.trim();
    let split = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.')
        .map_or(0, |at| at + 1);
    let (number, suffix) = text.split_at(split);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let value: f64 = number
        .parse()
        .ok()
        .filter(|n: &f64| n.is_finite() && *n >= 0.0)?;
    let suffix = suffix.trim().to_ascii_lowercase();
    let suffix = match suffix.as_str() {
        "" | "b" => return Some(value as i64),
        other => other
            .strip_suffix("ib")
            .or(other.strip_suffix('b'))
            .unwrap_or(other)
            .to_owned(),
    };
    let power = ["k", "m", "g", "t", "p"]
        .iter()
        .position(|unit| *unit == suffix)? as i32
        + 1;
    Some((value * base.powi(power)) as i64)
}

/// Nanoseconds of a duration as Go writes it: `1h30m`, `1.5s`, `300ms`. The error is Go's.
pub fn duration_ns(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
        };
        total += number * unit;
        rest = &rest[end..];
    }
    Ok((sign * total) as i64)
}

/// A point in time as the daemon takes it (`seconds.nanoseconds`) from a Go duration before now, an RFC 3339 time
/// or date, or seconds since 1970.
pub fn point_in_time(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    if let Ok(before) = duration_ns(text) {
        let now = Timestamp::now().as_nanosecond();
        return Ok(seconds_and_nanos(now - i128::from(before)));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(seconds_and_nanos(time.as_nanosecond()));
    }
    if let Ok(local) = text.parse::<jiff::civil::DateTime>()
        && let Ok(zoned) = local.to_zoned(TimeZone::system())
    {
        return Ok(seconds_and_nanos(zoned.timestamp().as_nanosecond()));
    }
    let numeric = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if numeric(seconds) && numeric(fraction) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "failed to parse value as time or duration: {text:?}"
    ))
}

fn seconds_and_nanos(nanoseconds: i128) -> String {
    format!(
        "{}.{:09}",
        nanoseconds.div_euclid(1_000_000_000),
        nanoseconds.rem_euclid(1_000_000_000)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, four, three) in [
            (0.0, "0B", "0B"),
            (999.0, "999B", "999B"),
            (1982379.0, "1.982MB", "1.98MB"),
            (999_999.0, "1000kB", "1e+03kB"),
            (123_456_789.0, "123.5MB", "123MB"),
            (3072.0, "3.072kB", "3.07kB"),
        ] {
            assert_eq!(
                (human_size(bytes).as_str(), human_size_3(bytes).as_str()),
                (four, three),
                "{bytes}"
            );
        }
        assert_eq!(bytes_size(25276514304.0), "23.54GiB");
        assert_eq!(bytes_size(315392.0), "308KiB");
    }

    #[test]
    fn durations_in_words() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (3600 * 47, "47 hours"),
            (3600 * 48, "2 days"),
            (3600 * 24 * 14, "2 weeks"),
            (3600 * 24 * 60, "2 months"),
            (3600 * 24 * 365 * 2, "2 years"),
        ] {
            assert_eq!(human_duration(seconds), words, "{seconds}");
        }
    }

    #[test]
    fn sizes_and_durations_read_back() {
        assert_eq!(ram_bytes("20m"), Some(20 << 20));
        assert_eq!(ram_bytes("1.5GiB"), Some(3 << 29));
        assert_eq!(ram_bytes("64"), Some(64));
        assert_eq!(ram_bytes("xyz"), None);
        assert_eq!(ram_bytes("-1m"), None);
        assert_eq!(duration_ns("1h1.5s"), Ok(3_601_500_000_000));
        assert_eq!(
            duration_ns("1"),
            Err("time: missing unit in duration \"1\"".into())
        );
        assert_eq!(duration_ns("x"), Err("time: invalid duration \"x\"".into()));
        assert_eq!(
            duration_ns("1y"),
            Err("time: unknown unit \"y\" in duration \"1y\"".into())
        );
    }

    #[test]
    fn points_in_time() {
        assert_eq!(point_in_time("1136073600.5").unwrap(), "1136073600.5");
        assert_eq!(
            point_in_time("2006-01-01T00:00:00Z").unwrap(),
            "1136073600.000000000"
        );
        assert!(point_in_time("xx").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in "\\PC{0,12}", near in "[0-9.a-zµ -]{0,10}") {
            for text in [&text, &near] {
                let _ = (ram_bytes(text), duration_ns(text), point_in_time(text));
            }
        }

        #[test]
        fn every_size_has_a_form(bytes in 0u64..=u64::MAX) {
            let text = human_size(bytes as f64);
            proptest::prop_assert!(text.ends_with('B') && text.len() <= 10, "{}", text);
        }
    }
}
