//! Go's `printf`.

use super::print;
use super::value::Value;

#[derive(Debug, Default, Clone)]
struct Verb {
    minus: bool,
    plus: bool,
    zero: bool,
    space: bool,
    sharp: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Widest field; more would only fill memory.
const WIDTH_MAX: usize = 10_000;

/// Formats `values` by `format`.
pub fn format(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => verb.minus = true,
                '+' => verb.plus = true,
                '0' => verb.zero = true,
                ' ' => verb.space = true,
                '#' => verb.sharp = true,
                _ => break,
            }
            chars.next();
        }
        verb.width = size(&mut chars, values, &mut next);
        if chars.peek() == Some(&'.') {
            chars.next();
            verb.precision = Some(size(&mut chars, values, &mut next).unwrap_or(0));
        }
        let Some(letter) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if letter == '%' {
            out.push('%');
            continue;
        }
        match values.get(next) {
            Some(value) => out.push_str(&pad(&verb, &one(&verb, letter, value), value)),
            None => out.push_str(&format!("%!{letter}(BADINDEX)").replace("BADINDEX", "MISSING")),
        }
        next += 1;
    }
    if next < values.len() {
        let extra: Vec<String> = values[next..]
            .iter()
            .map(|v| format!("{}={}", v.type_name(), print::show(v)))
            .collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn size(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    values: &[Value],
    next: &mut usize,
) -> Option<usize> {
    if chars.peek() == Some(&'*') {
        chars.next();
        let value = values.get(*next).and_then(Value::as_int);
        *next += 1;
        return value
            .and_then(|n| usize::try_from(n).ok())
            .map(|n| n.min(WIDTH_MAX));
    }
    let mut number: Option<usize> = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        number = Some((number.unwrap_or(0) * 10 + digit as usize).min(WIDTH_MAX));
    }
    number
}

fn pad(verb: &Verb, text: &str, value: &Value) -> String {
    let Some(width) = verb.width else {
        return text.to_owned();
    };
    let missing = width.saturating_sub(text.chars().count());
    let fill = " ".repeat(missing);
    if verb.minus {
        return format!("{text}{fill}");
    }
    if verb.zero && matches!(value, Value::Int(_) | Value::Float(_)) {
        let (sign, digits) = match text.strip_prefix(['-', '+']) {
            Some(digits) => (&text[..1], digits),
            None => ("", text),
        };
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    format!("{fill}{text}")
}

fn one(verb: &Verb, letter: char, value: &Value) -> String {
    let signed = |text: String| {
        if text.starts_with('-') {
            text
        } else if verb.plus {
            format!("+{text}")
        } else if verb.space {
            format!(" {text}")
        } else {
            text
        }
    };
    match (letter, value) {
        ('T', _) => value.type_name(),
        ('v', Value::Text(_)) if verb.sharp => print_quoted(value),
        ('v', Value::Int(_) | Value::Float(_)) => signed(print::show(value)),
        ('v', _) if verb.plus => print::show_named(value),
        ('v', _) => print::show(value),
        ('s', Value::Text(text)) => cut(verb, text),
        ('s', Value::Time(_) | Value::List(_) | Value::Map(_) | Value::Record(_)) => {
            print::show(value)
        }
        ('q', Value::Text(_)) => print_quoted(value),
        ('q', Value::List(_)) => {
            let items: Vec<String> = value
                .items()
                .iter()
                .map(|item| one(verb, 'q', item))
                .collect();
            format!("[{}]", items.join(" "))
        }
        ('d', Value::Int(number)) => signed(number.to_string()),
        ('d', Value::List(_)) => {
            let items: Vec<String> = value
                .items()
                .iter()
                .map(|item| one(verb, 'd', item))
                .collect();
            format!("[{}]", items.join(" "))
        }
        ('b', Value::Int(number)) => format!("{number:b}"),
        ('o', Value::Int(number)) => format!("{number:o}"),
        ('x', Value::Int(number)) if verb.sharp => format!("0x{number:x}"),
        ('x', Value::Int(number)) => format!("{number:x}"),
        ('X', Value::Int(number)) => format!("{number:X}"),
        ('x', Value::Text(text)) => text.bytes().map(|b| format!("{b:02x}")).collect(),
        ('X', Value::Text(text)) => text.bytes().map(|b| format!("{b:02X}")).collect(),
        ('c', Value::Int(number)) => u32::try_from(*number)
            .ok()
            .and_then(char::from_u32)
            .unwrap_or('\u{fffd}')
            .to_string(),
        ('t', Value::Bool(on)) => on.to_string(),
        ('f' | 'F', Value::Float(number)) => {
            signed(format!("{number:.*}", verb.precision.unwrap_or(6)))
        }
        ('e', Value::Float(number)) => signed(exponent(*number, verb.precision.unwrap_or(6))),
        ('g', Value::Float(_)) => signed(print::show(value)),
        ('U', Value::Int(number)) => format!("U+{number:04X}"),
        (_, Value::Nil | Value::Missing | Value::NilPointer) => format!("%!{letter}(<nil>)"),
        _ => format!("%!{letter}({}={})", value.type_name(), print::show(value)),
    }
}

fn cut(verb: &Verb, text: &str) -> String {
    match verb.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text.to_owned(),
    }
}

fn print_quoted(value: &Value) -> String {
    crate::line::flag::quote(value.as_text().unwrap_or_default())
}

fn exponent(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let exponent: i32 = exponent.parse().unwrap_or(0);
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        None => text,
    }
}
