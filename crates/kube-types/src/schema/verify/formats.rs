//! The string formats that custom schemas may name; others are let pass.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::time::Timestamp;

/// Whether a text is of the named format.
pub(super) fn fits(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "datetime" => Timestamp::parse(&text.replace(' ', "T")).is_some(),
        "date" => Timestamp::parse(&format!("{text}T00:00:00Z")).is_some(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr(text),
        "uuid" => uuid(text, None),
        "uuid3" => uuid(text, Some('3')),
        "uuid4" => uuid(text, Some('4')),
        "uuid5" => uuid(text, Some('5')),
        "byte" => crate::protobuf::base64_error(text).is_none(),
        "duration" => duration(text),
        "hostname" => hostname(text),
        "email" => text
            .split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && hostname(host)),
        "uri" => {
            text.split_once(':').is_some_and(|(scheme, rest)| {
                !rest.is_empty()
                    && scheme
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            }) || text.starts_with('/')
        }
        "mac" => {
            text.split([':', '-'])
                .filter(|p| p.len() == 2 && hex(p))
                .count()
                >= 6
        }
        _ => true,
    }
}

fn hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let max = match address.parse::<std::net::IpAddr>() {
        Ok(address) if address.is_ipv4() => 32,
        Ok(_) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= max)
}

fn uuid(text: &str, version: Option<char>) -> bool {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    digits.len() == 32 && hex(&digits) && version.is_none_or(|v| digits.chars().nth(12) == Some(v))
}

fn hostname(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.trim_end_matches('.').split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// As Go's time.ParseDuration: `1h30m`, `-1.5s`; or `3 days`, which the original's format library also takes.
fn duration(text: &str) -> bool {
    let text = text.trim_start_matches(['+', '-']);
    if text == "0" {
        return true;
    }
    let mut rest = text;
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let unit_at = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(unit_at);
        if number.parse::<f64>().is_err() {
            return false;
        }
        let tail = tail.trim_start();
        let end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let known = [
            "ns", "us", "µs", "ms", "s", "m", "h", "d", "w", "second", "seconds", "minute",
            "minutes", "hour", "hours", "day", "days", "week", "weeks",
        ];
        if !known.contains(&tail[..end].trim()) {
            return false;
        }
        rest = &tail[end..];
    }
    true
}
