//! Durations in Go's notation (`1m30s`), which Dockerfiles use, and values in the notation of Go's `%q` and `%v`.

/// Nanoseconds of a duration such as `1h2m3.5s`.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total_ns = 0f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit_ns = match &rest[..letters] {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        total_ns += number * unit_ns;
        rest = &rest[letters..];
    }
    if total_ns >= i64::MAX as f64 {
        return Err(invalid());
    }
    let ns = total_ns.round() as i64;
    Ok(if negative { -ns } else { ns })
}

/// As Go prints it: `0s`, `1.5ms`, `1m30s`, `2h0m0s`.
pub(crate) fn show(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    let decimal = |unit: u64, name: &str| {
        let fraction = format!("{:0width$}", ns % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{sign}{}{point}{fraction}{name}", ns / unit)
    };
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{ns}ns"),
        1_000..1_000_000 => decimal(1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (ns / 60_000_000_000, ns % 60_000_000_000);
            let fraction = format!("{:09}", rest % 1_000_000_000);
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            let seconds = format!("{}{point}{fraction}s", rest / 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// A string as Go's `%q` writes it.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            _ => quoted.push_str(&character(c)),
        }
    }
    quoted + "\""
}

fn character(c: char) -> String {
    match c {
        '\u{7}' => "\\a".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\t' => "\\t".to_owned(),
        '\n' => "\\n".to_owned(),
        '\u{b}' => "\\v".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\r' => "\\r".to_owned(),
        c if (c as u32) < 0x20 || c as u32 == 0x7f => format!("\\x{:02x}", c as u32),
        c if c.is_control() => format!("\\u{:04x}", c as u32),
        c => c.to_string(),
    }
}

/// A number as Go's `%q` writes it: as the character with that code.
pub(crate) fn quote_number(number: i64) -> String {
    let c = u32::try_from(number).ok().and_then(char::from_u32);
    match c.unwrap_or('\u{fffd}') {
        c @ ('\'' | '\\') => format!("'\\{c}'"),
        c => format!("'{}'", character(c)),
    }
}

/// A list as Go's `%q` writes it.
pub(crate) fn quote_list(list: &[String]) -> String {
    let words: Vec<String> = list.iter().map(|word| quote(word)).collect();
    format!("[{}]", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_gos_notation() {
        let table = [
            ("0", 0, "0s"),
            ("5s", 5_000_000_000, "5s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("1.5ms", 1_500_000, "1.5ms"),
            ("2h", 7_200_000_000_000, "2h0m0s"),
            ("10us", 10_000, "10µs"),
            ("1.25s", 1_250_000_000, "1.25s"),
            ("-3ns", -3, "-3ns"),
        ];
        for (text, ns, shown) in table {
            assert_eq!(parse(text), Ok(ns), "{text}");
            assert_eq!(show(ns), shown);
        }
        for bad in ["", "1", "s", "1x", "1..2s", "99999999999999h", "5 s"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            quote_list(&["a".into(), "b\"c\n".into()]),
            "[\"a\" \"b\\\"c\\n\"]"
        );
        assert_eq!(quote_number(2), "'\\x02'");
        assert_eq!(quote_number(0), "'\\x00'");
        assert_eq!(quote_number(10), "'\\n'");
        assert_eq!(quote_number(48), "'0'");
    }
}
