//! Texts that mean something: durations, times, URLs, versions; and `format`.

use std::cmp::Ordering;

use super::eval::{EvalError, Result};
use super::value::Value;
use crate::time::Timestamp;

const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// Go's durations (`1h30m`, `1.5s`, `-3ms`) in nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let (_, nanos) = UNITS.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        total += number * nanos;
        rest = &rest[letters..];
    }
    (total < i64::MAX as f64).then(|| {
        if negative {
            -(total as i64)
        } else {
            total as i64
        }
    })
}

/// As cel-go writes a duration: in seconds.
pub fn duration_text(nanos: i64) -> String {
    format!("{}s", nanos as f64 / 1e9)
}

/// RFC 3339 with as many digits as needed.
pub fn timestamp_text(time: Timestamp) -> String {
    let whole = time.to_seconds_text();
    if time.nanos == 0 {
        return whole;
    }
    let fraction = format!("{:09}", time.nanos);
    format!(
        "{}.{}Z",
        whole.trim_end_matches('Z'),
        fraction.trim_end_matches('0')
    )
}

/// A URL in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub text: String,
    pub scheme: String,
    /// With the port, if it has one.
    pub host: String,
    pub path: String,
    pub query: String,
}

impl Url {
    /// Reads an absolute URL or an absolute path.
    pub fn parse(text: &str) -> Option<Url> {
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || "\"<>\\^`{|}".contains(c);
        if text.is_empty() || text.contains(is_odd) {
            return None;
        }
        let (before_fragment, _) = text.split_once('#').unwrap_or((text, ""));
        let (address, query) = before_fragment
            .split_once('?')
            .unwrap_or((before_fragment, ""));
        let (scheme, rest) = match address.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
            Some(_) => return None,
            None if address.starts_with('/') => ("", address),
            None => return None,
        };
        let (authority, path) = match (scheme, rest.find('/')) {
            ("", _) => ("", rest),
            (_, Some(at)) => rest.split_at(at),
            (_, None) => (rest, ""),
        };
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let port = if host.starts_with('[') {
            host.split_once(']')?.1
        } else {
            host.find(':').map_or("", |at| &host[at..])
        };
        let port_fits =
            port.is_empty() || port.strip_prefix(':')?.bytes().all(|b| b.is_ascii_digit());
        port_fits.then(|| Url {
            text: text.to_owned(),
            scheme: scheme.to_lowercase(),
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    /// The host without its port and brackets.
    pub fn hostname(&self) -> &str {
        match self.host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.host.split(':').next().unwrap_or_default(),
        }
    }

    /// The port's digits.
    pub fn port(&self) -> &str {
        let after = self
            .host
            .rsplit_once(']')
            .map_or(self.host.as_str(), |(_, rest)| rest);
        after.split_once(':').map_or("", |(_, port)| port)
    }

    /// Values by name, each in its order.
    pub fn query_values(&self) -> Vec<(String, Vec<String>)> {
        let mut values: Vec<(String, Vec<String>)> = Vec::new();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (unescape(name), unescape(value));
            match values.iter_mut().find(|(known, _)| *known == name) {
                Some((_, list)) => list.push(value),
                None => values.push((name, vec![value])),
            }
        }
        values
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], escaped) {
            (_, Some(byte)) => {
                out.push(byte);
                at += 3;
                continue;
            }
            (b'+', None) => out.push(b' '),
            (byte, None) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A version (semver.org 2.0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    pub text: String,
    pub numbers: [u64; 3],
    pre: Vec<String>,
}

impl Semver {
    /// Reads `1.2.3-rc.1+build`.
    pub fn parse(text: &str) -> Option<Semver> {
        let (main, _) = text.split_once('+').unwrap_or((text, ""));
        let (numbers, pre) = main.split_once('-').unwrap_or((main, ""));
        let mut parts = numbers.split('.');
        let mut number = || -> Option<u64> {
            let part = parts.next()?;
            let plain = part == "0" || !part.starts_with('0');
            (plain && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok())?
        };
        let numbers = [number()?, number()?, number()?];
        let pre: Vec<String> = pre
            .split('.')
            .filter(|p| !p.is_empty())
            .map(str::to_owned)
            .collect();
        (parts.next().is_none() && (pre.is_empty() != main.contains('-'))).then(|| Semver {
            text: text.to_owned(),
            numbers,
            pre,
        })
    }
}

impl PartialOrd for Semver {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Semver {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_part = || {
            for (a, b) in self.pre.iter().zip(&other.pre) {
                let ordering = match (a.parse::<u64>(), b.parse::<u64>()) {
                    (Ok(a), Ok(b)) => a.cmp(&b),
                    (Ok(_), Err(_)) => Ordering::Less,
                    (Err(_), Ok(_)) => Ordering::Greater,
                    _ => a.cmp(b),
                };
                if ordering.is_ne() {
                    return ordering;
                }
            }
            self.pre.len().cmp(&other.pre.len())
        };
        // A version comes after its candidates.
        let finished = |version: &Semver| version.pre.is_empty();
        self.numbers
            .cmp(&other.numbers)
            .then_with(|| match (finished(self), finished(other)) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => by_part(),
            })
    }
}

/// `"%s is %d".format([a, b])`.
pub fn format(pattern: &str, args: &[Value<'_>]) -> Result<String> {
    let mut out = String::new();
    let mut args = args.iter();
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let length = rest
            .find(|c: char| c.is_ascii_alphabetic())
            .ok_or_else(|| EvalError::new("unexpected end of string"))?;
        let precision = match rest[..length].strip_prefix('.') {
            Some(digits) => digits.parse().ok().filter(|precision| *precision <= 100),
            None if length == 0 => Some(6),
            None => None,
        };
        let precision = precision
            .ok_or_else(|| EvalError::new(format!("could not parse formatting clause %{rest}")))?;
        let kind = rest[length..].chars().next().unwrap_or_default();
        let arg = args
            .next()
            .ok_or_else(|| EvalError::new("index out of range in format"))?;
        out.push_str(&one(kind, precision, arg)?);
        rest = &rest[length + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn one(kind: char, precision: usize, arg: &Value<'_>) -> Result<String> {
    let wrong = || {
        EvalError::new(format!(
            "error during formatting: %{kind} can't be used with {}",
            arg.type_name()
        ))
    };
    Ok(match (kind, arg) {
        ('s', arg) => match arg {
            Value::Null => "null".to_owned(),
            arg if arg.is_list() => {
                let items: Result<Vec<String>> = arg
                    .items()
                    .iter()
                    .map(|item| one('s', precision, item))
                    .collect();
                format!("[{}]", items?.join(", "))
            }
            arg => arg.to_text(),
        },
        ('d', Value::Int(value)) => value.to_string(),
        ('d', Value::Uint(value)) => value.to_string(),
        ('f', Value::Double(value)) => format!("{value:.precision$}"),
        ('f', Value::Int(value)) => format!("{:.precision$}", *value as f64),
        ('e', Value::Double(value)) => exponent(*value, precision),
        ('b', Value::Bool(value)) => u8::from(*value).to_string(),
        ('b', Value::Int(value)) => signed(*value, |n| format!("{n:b}")),
        ('b', Value::Uint(value)) => format!("{value:b}"),
        ('x', Value::Int(value)) => signed(*value, |n| format!("{n:x}")),
        ('X', Value::Int(value)) => signed(*value, |n| format!("{n:X}")),
        ('x', Value::Uint(value)) => format!("{value:x}"),
        ('X', Value::Uint(value)) => format!("{value:X}"),
        ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        ('o', Value::Int(value)) => signed(*value, |n| format!("{n:o}")),
        ('o', Value::Uint(value)) => format!("{value:o}"),
        _ => return Err(wrong()),
    })
}

fn signed(value: i64, digits: impl Fn(u64) -> String) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", digits(value.unsigned_abs()))
}

/// As Go writes exponents: a sign and two digits.
fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (number, power) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = match power.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', power),
    };
    format!("{number}e{sign}{digits:0>2}")
}
