//! Functions of times and durations.

use super::{EvalError, Result, Value};
use crate::time::Timestamp;

const DAY: i64 = 86_400;

pub fn of_timestamp<'a>(function: &str, time: Timestamp, args: &[Value<'a>]) -> Result<Value<'a>> {
    let offset = match args {
        [] => 0,
        [Value::String(zone)] => offset_seconds(zone)?,
        _ => return Err(EvalError::no_overload()),
    };
    let local = Timestamp {
        seconds: time.seconds + offset,
        nanos: time.nanos,
    };
    let text = local.to_seconds_text();
    let part = |from: usize, to: usize| {
        text.get(from..to)
            .and_then(|part| part.parse::<i64>().ok())
            .unwrap_or(0)
    };
    let days = local.seconds.div_euclid(DAY);
    Ok(Value::Int(match function {
        "getFullYear" => part(0, 4),
        "getMonth" => part(5, 7) - 1,
        "getDate" => part(8, 10),
        "getDayOfMonth" => part(8, 10) - 1,
        // 1970-01-01 was a Thursday; Sunday is 0.
        "getDayOfWeek" => (days + 4).rem_euclid(7),
        "getDayOfYear" => {
            let first = Timestamp::parse(&format!("{:04}-01-01T00:00:00Z", part(0, 4)));
            first.map_or(0, |first| days - first.seconds.div_euclid(DAY))
        }
        "getHours" => part(11, 13),
        "getMinutes" => part(14, 16),
        "getSeconds" => part(17, 19),
        "getMilliseconds" => i64::from(local.nanos / 1_000_000),
        _ => return Err(EvalError::no_overload()),
    }))
}

/// `UTC`, or `+01:00` and the like.
fn offset_seconds(zone: &str) -> Result<i64> {
    let unknown = || {
        EvalError::new(format!(
            "unknown time zone {zone}: give an offset, as +01:00"
        ))
    };
    if matches!(zone, "UTC" | "Z" | "") {
        return Ok(0);
    }
    let (sign, rest) = match zone.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (hours, minutes) = rest.split_once(':').ok_or_else(unknown)?;
    let number = |text: &str| text.parse::<i64>().ok().filter(|n| (0..60).contains(n));
    let (hours, minutes) = (
        number(hours).ok_or_else(unknown)?,
        number(minutes).ok_or_else(unknown)?,
    );
    Ok(sign * (hours * 3600 + minutes * 60))
}

pub fn of_duration<'a>(function: &str, nanos: i64, args: &[Value<'a>]) -> Result<Value<'a>> {
    if !args.is_empty() {
        return Err(EvalError::no_overload());
    }
    const SECOND: i64 = 1_000_000_000;
    Ok(Value::Int(match function {
        "getHours" => nanos / (3600 * SECOND),
        "getMinutes" => nanos / (60 * SECOND),
        "getSeconds" => nanos / SECOND,
        "getMilliseconds" => nanos / 1_000_000,
        _ => return Err(EvalError::no_overload()),
    }))
}
