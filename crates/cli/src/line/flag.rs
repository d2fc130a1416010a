//! A flag as a command declares it, in constant tables that cost nothing at start.

/// How often a flag may be given and what a value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `--flag`, `--flag=false`.
    Bool,
    /// The last value wins.
    One,
    /// Every value counts.
    Many,
    /// Every value counts, and each may hold several, separated by commas.
    Csv,
}

/// Checks one value as given; the error is what the user reads after `invalid argument … for … flag: `.
pub type Check = fn(&str) -> Result<(), String>;

/// One flag.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Name without the dashes.
    pub long: &'static str,
    /// One-letter form, `'\0'` for none.
    pub short: char,
    /// Arity.
    pub kind: Kind,
    /// Word shown in the help for the value.
    pub label: &'static str,
    /// Value when not given.
    pub default: &'static str,
    /// Help text.
    pub help: &'static str,
    /// Validation while parsing.
    pub check: Option<Check>,
    /// Not shown in the help.
    pub hidden: bool,
}

const fn flag(
    long: &'static str,
    short: char,
    kind: Kind,
    label: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        long,
        short,
        kind,
        label,
        default: "",
        help,
        check: None,
        hidden: false,
    }
}

/// No one-letter form.
pub const NONE: char = '\0';

/// A switch.
pub const fn switch(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag {
        check: Some(check_bool),
        ..flag(long, short, Kind::Bool, "", help)
    }
}

/// A text value.
pub const fn text(long: &'static str, short: char, help: &'static str) -> Flag {
    flag(long, short, Kind::One, "string", help)
}

/// A whole number.
pub const fn number(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag {
        check: Some(check_int),
        ..flag(long, short, Kind::One, "int", help)
    }
}

/// A value with its own word in the help and its own check.
pub const fn checked(
    long: &'static str,
    short: char,
    label: &'static str,
    check: Check,
    help: &'static str,
) -> Flag {
    Flag {
        check: Some(check),
        ..flag(long, short, Kind::One, label, help)
    }
}

/// A list of values.
pub const fn list(long: &'static str, short: char, help: &'static str) -> Flag {
    flag(long, short, Kind::Many, "list", help)
}

/// A list with its own word and check.
pub const fn checked_list(
    long: &'static str,
    short: char,
    label: &'static str,
    check: Check,
    help: &'static str,
) -> Flag {
    Flag {
        check: Some(check),
        ..flag(long, short, Kind::Many, label, help)
    }
}

/// A list of values that may be separated by commas.
pub const fn csv(long: &'static str, short: char, help: &'static str) -> Flag {
    flag(long, short, Kind::Csv, "strings", help)
}

/// `name=value` pairs for the daemon to filter by.
pub const fn filter(short: char) -> Flag {
    checked_list(
        "filter",
        short,
        "filter",
        check_filter,
        "Show only what matches, for example 'label=tier=web'",
    )
}

impl Flag {
    /// With a value used when the flag isn't given.
    pub const fn or(self, default: &'static str) -> Flag {
        Flag { default, ..self }
    }

    /// Accepted, but not shown.
    pub const fn hide(self) -> Flag {
        Flag {
            hidden: true,
            ..self
        }
    }

    /// How a message names the flag: `-m, --memory` or `--cpus`.
    pub fn title(&self) -> String {
        if self.short == NONE {
            format!("--{}", self.long)
        } else {
            format!("-{}, --{}", self.short, self.long)
        }
    }
}

/// Go's reading of a truth value.
pub fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Checks a truth value.
pub fn check_bool(value: &str) -> Result<(), String> {
    parse_bool(value).map(drop).ok_or_else(|| {
        format!(
            "strconv.ParseBool: parsing {}: invalid syntax",
            quote(value)
        )
    })
}

/// Checks a whole number of 64 bits.
pub fn check_int(value: &str) -> Result<(), String> {
    number_error("ParseInt", value, value.parse::<i64>().err())
}

/// Checks an unsigned number of 16 bits.
pub fn check_uint16(value: &str) -> Result<(), String> {
    number_error("ParseUint", value, value.parse::<u16>().err())
}

fn number_error(
    function: &str,
    value: &str,
    error: Option<std::num::ParseIntError>,
) -> Result<(), String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match error {
        None => Ok(()),
        Some(error) => {
            let what = match error.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Err(format!(
                "strconv.{function}: parsing {}: {what}",
                quote(value)
            ))
        }
    }
}

/// Checks one `name=value` filter.
pub fn check_filter(value: &str) -> Result<(), String> {
    if value.is_empty() || value.contains('=') {
        Ok(())
    } else {
        Err("bad format of filter (expected name=value)".into())
    }
}

/// Go's `%q`, near enough for what a terminal can send.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", c as u32))
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
