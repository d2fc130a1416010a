//! JSON as Go's encoder writes it, and the indentation of JSON text.

use super::print;
use super::value::{Field, Value};

/// One line of JSON. Maps are sorted by key, records keep their order.
pub fn encode(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, false);
    out
}

fn write(out: &mut String, value: &Value, html: bool) {
    match value {
        Value::Nil | Value::NilPointer | Value::Missing | Value::Method(_) => out.push_str("null"),
        Value::List(None) | Value::Map(None) => out.push_str("null"),
        Value::Bool(_) | Value::Int(_) => out.push_str(&print::show(value)),
        Value::Float(number) => out.push_str(&print::float(*number)),
        Value::Text(text) | Value::Time(text) => write_text(out, text, html),
        Value::List(Some(items)) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(out, item, html);
            }
            out.push(']');
        }
        Value::Map(Some(items)) => {
            let mut items: Vec<&(String, Value)> = items.iter().collect();
            items.sort_by(|a, b| a.0.cmp(&b.0));
            write_members(
                out,
                items.into_iter().map(|(key, value)| (key.as_str(), value)),
                html,
            );
        }
        Value::Record(record) => {
            let mut fields: Vec<&Field> =
                record.fields.iter().filter(|field| shown(field)).collect();
            if record.row {
                fields.sort_by(|a, b| a.json.cmp(&b.json));
            }
            write_members(
                out,
                fields.into_iter().map(|f| (&*f.json, &f.value)),
                html || record.row,
            );
        }
    }
}

fn shown(field: &Field) -> bool {
    let empty = match &field.value {
        Value::Record(_) => false,
        other => !other.truth(),
    };
    !(field.json.is_empty() || field.omit_empty && empty)
}

fn write_members<'a>(
    out: &mut String,
    members: impl Iterator<Item = (&'a str, &'a Value)>,
    html: bool,
) {
    out.push('{');
    for (i, (key, value)) in members.enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_text(out, key, html);
        out.push(':');
        write(out, value, html);
    }
    out.push('}');
}

fn write_text(out: &mut String, text: &str, html: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '<' | '>' | '&' if html => out.push_str(&format!("\\u{:04x}", c as u32)),
            '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// One line of JSON with maps in the order of their source: for documents whose struct is not known here.
pub fn in_order(value: &Value) -> String {
    match value {
        Value::Map(Some(items)) => {
            let members: Vec<String> = items
                .iter()
                .map(|(key, value)| format!("{}:{}", encode(&Value::text(key)), in_order(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::List(Some(items)) => format!(
            "[{}]",
            items.iter().map(in_order).collect::<Vec<_>>().join(",")
        ),
        other => encode(other),
    }
}

/// Lays JSON text out over lines, four spaces a level, touching nothing else.
pub fn indent(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0usize;
    let (mut quoted, mut escaped, mut opened) = (false, false, false);
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"    ".repeat(depth));
    };
    for c in text.chars() {
        if quoted {
            out.push(c);
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => quoted = false,
                _ => {}
            }
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        if opened && !matches!(c, '}' | ']') {
            depth += 1;
            newline(&mut out, depth);
        }
        match c {
            '{' | '[' => {}
            '}' | ']' if !opened => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
                continue;
            }
            ':' => {
                out.push_str(": ");
                continue;
            }
            '"' => quoted = true,
            _ => {}
        }
        out.push(c);
        opened = matches!(c, '{' | '[');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indentation_as_go_does_it() {
        assert_eq!(
            indent(r#"[{"a":[],"b":{},"c":[1,{"d":"x:{,\"y"}],"e":null}]"#),
            "[\n    {\n        \"a\": [],\n        \"b\": {},\n        \"c\": [\n            1,\n            {\n                \"d\": \"x:{,\\\"y\"\n            }\n        ],\n        \"e\": null\n    }\n]"
        );
    }
}
