//! How Go prints values.

use super::value::Value;

/// As the result of an action.
pub fn top(value: &Value) -> String {
    match value {
        Value::Nil | Value::Missing => "<no value>".into(),
        other => show(other),
    }
}

/// Go's `%v`.
pub fn show(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, false);
    out
}

/// Go's `%+v`.
pub fn show_named(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, true);
    out
}

fn write(out: &mut String, value: &Value, named: bool) {
    match value {
        Value::Nil | Value::NilPointer | Value::Missing => out.push_str("<nil>"),
        Value::Bool(on) => out.push_str(if *on { "true" } else { "false" }),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&float_from(*number, 6)),
        Value::Text(text) => out.push_str(text),
        Value::Time(text) => out.push_str(&time(text)),
        Value::List(_) => {
            out.push('[');
            for (i, item) in value.items().iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                write(out, item, named);
            }
            out.push(']');
        }
        Value::Map(_) => {
            let mut pairs: Vec<&(String, Value)> = value.pairs().iter().collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            out.push_str("map[");
            for (i, (key, item)) in pairs.into_iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                write(out, item, named);
            }
            out.push(']');
        }
        Value::Record(record) => {
            out.push('{');
            for (i, field) in record.fields.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                if named {
                    out.push_str(&field.name);
                    out.push(':');
                }
                write(out, &field.value, named);
            }
            out.push('}');
        }
        Value::Method(_) => out.push_str("func"),
    }
}

/// Go's print of a time.
fn time(text: &str) -> String {
    let Ok(at) = text.parse::<jiff::Timestamp>() else {
        return text.to_owned();
    };
    let offset = text.get(text.len().saturating_sub(6)..).unwrap_or_default();
    let (hours, minutes) = offset.split_once(':').unwrap_or_default();
    let seconds = match (hours.parse::<i32>(), minutes.parse::<i32>()) {
        (Ok(hours), Ok(minutes)) if hours.abs() < 24 && offset.starts_with(['+', '-']) => {
            hours * 3600 + if hours < 0 { -minutes } else { minutes } * 60
        }
        _ => 0,
    };
    let zone = match jiff::tz::Offset::from_seconds(seconds) {
        Ok(offset) if seconds != 0 => jiff::tz::TimeZone::fixed(offset),
        _ => jiff::tz::TimeZone::UTC,
    };
    let shown = crate::units::go_time(&at, zone);
    match seconds {
        0 => shown,
        // A zone without a name has its offset for one.
        _ => {
            let (rest, _) = shown.rsplit_once(' ').unwrap_or((&shown, ""));
            let offset = rest.rsplit(' ').next().unwrap_or_default();
            format!("{rest} {offset}")
        }
    }
}

/// Go's shortest form of a float: an exponent below 1e-4 and from 1e21 on, as in JSON.
pub fn float(number: f64) -> String {
    float_from(number, 21)
}

/// The same with an exponent from ten to the power of `threshold` on; printing uses 6.
fn float_from(number: f64, threshold: i32) -> String {
    if number == 0.0 {
        return "0".into();
    }
    if !number.is_finite() {
        return if number.is_nan() {
            "NaN".into()
        } else if number > 0.0 {
            "+Inf".into()
        } else {
            "-Inf".into()
        };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..threshold).contains(&exponent) {
        return format!("{number}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Go's `print`: a space between operands when neither is text.
pub fn sprint(values: &[Value]) -> String {
    let mut out = String::new();
    for (i, value) in values.iter().enumerate() {
        let texts = value.as_text().is_some() || i == 0 || values[i - 1].as_text().is_some();
        if !texts {
            out.push(' ');
        }
        out.push_str(&show(value));
    }
    out
}

/// Go's `println`.
pub fn sprintln(values: &[Value]) -> String {
    let texts: Vec<String> = values.iter().map(show).collect();
    format!("{}\n", texts.join(" "))
}
