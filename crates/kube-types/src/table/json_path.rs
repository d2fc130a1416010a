//! The part of JSONPath that printer columns and selectable fields use: fields, indices, slices, wildcards, filters by
//! equality, and descent.

use serde_json::Value;

use crate::object;

/// So many values are found at most.
const FOUND_MAX: usize = 1_000;

/// The values at a path such as `.status.conditions[?(@.type=="Ready")].status`; none for a path that can't be read.
pub fn json_path<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    let path = path
        .trim()
        .trim_start_matches('{')
        .trim_end_matches('}')
        .trim_start_matches('$');
    let mut found = vec![value];
    let mut rest = path;
    while !rest.is_empty() {
        let Some((step, tail)) = step(rest) else {
            return Vec::new();
        };
        found = found
            .iter()
            .flat_map(|v| walk(v, &step))
            .take(FOUND_MAX)
            .collect();
        rest = tail;
    }
    found.into_iter().filter(|v| !v.is_null()).collect()
}

enum Step<'p> {
    Field(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    Descend(String),
    Filter {
        path: &'p str,
        equal: bool,
        text: String,
    },
}

fn step(path: &str) -> Option<(Step<'_>, &str)> {
    if let Some(rest) = path.strip_prefix("..") {
        let (name, tail) = name(rest)?;
        return Some((Step::Descend(name), tail));
    }
    if let Some(rest) = path.strip_prefix('.') {
        if let Some(tail) = rest.strip_prefix('*') {
            return Some((Step::All, tail));
        }
        if rest.starts_with('[') {
            return step(rest);
        }
        let (name, tail) = name(rest)?;
        return Some((Step::Field(name), tail));
    }
    if let Some(rest) = path.strip_prefix('[') {
        let end = closing(rest)?;
        return Some((bracket(&rest[..end])?, &rest[end + 1..]));
    }
    let (name, tail) = name(path)?;
    Some((Step::Field(name), tail))
}

/// A field's name, in which a backslash hides a dot.
fn name(path: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = path.char_indices();
    let mut end = path.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?.1),
            '.' | '[' => {
                end = at;
                break;
            }
            c => out.push(c),
        }
    }
    (!out.is_empty()).then(|| (out, &path[end..]))
}

/// The place of the bracket that closes, quotes and inner brackets minded.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Option<Step<'_>> {
    let inner = inner.trim();
    if inner == "*" {
        return Some(Step::All);
    }
    if let Some(text) = unquoted(inner) {
        return Some(Step::Field(text.to_owned()));
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|f| f.strip_suffix(')')) {
        let (path, text, equal) = match (filter.split_once("=="), filter.split_once("!=")) {
            (Some((path, text)), _) => (path, text, true),
            (None, Some((path, text))) => (path, text, false),
            (None, None) => return None,
        };
        let text = text.trim();
        let text = unquoted(text).unwrap_or(text).to_owned();
        let path = path.trim().strip_prefix('@')?;
        return Some(Step::Filter { path, equal, text });
    }
    if let Some((from, to)) = inner.split_once(':') {
        let bound = |text: &str| {
            if text.is_empty() {
                Some(None)
            } else {
                text.parse().ok().map(Some)
            }
        };
        return Some(Step::Slice(bound(from)?, bound(to)?));
    }
    inner.parse().ok().map(Step::Index)
}

fn unquoted(text: &str) -> Option<&str> {
    ['"', '\'']
        .iter()
        .find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q))
}

fn walk<'a>(value: &'a Value, step: &Step<'_>) -> Vec<&'a Value> {
    let at = |index: i64, length: usize| {
        let place = if index < 0 {
            index + length as i64
        } else {
            index
        };
        usize::try_from(place).unwrap_or_default().min(length)
    };
    match (step, value) {
        (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
        (Step::Index(index), Value::Array(items)) => {
            let place = if *index < 0 {
                index + items.len() as i64
            } else {
                *index
            };
            usize::try_from(place)
                .ok()
                .and_then(|place| items.get(place))
                .into_iter()
                .collect()
        }
        (Step::Slice(from, to), Value::Array(items)) => {
            let from = from.map_or(0, |f| at(f, items.len()));
            let to = to.map_or(items.len(), |t| at(t, items.len()));
            items.get(from..to).unwrap_or_default().iter().collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Filter { path, equal, text }, Value::Array(items)) => items
            .iter()
            .filter(|item| matches(item, path, text) == *equal)
            .collect(),
        (Step::Descend(name), value) => {
            let mut found = Vec::new();
            descend(value, name, &mut found);
            found
        }
        _ => Vec::new(),
    }
}

fn matches(item: &Value, path: &str, text: &str) -> bool {
    let field = path.trim_start_matches('.');
    let found = if field.is_empty() {
        Some(item)
    } else {
        object::at(item, field)
    };
    match found {
        Some(Value::String(found)) => found == text,
        Some(other) => *other == text,
        None => false,
    }
}

fn descend<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    if found.len() >= FOUND_MAX {
        return;
    }
    match value {
        Value::Object(map) => {
            found.extend(map.get(name));
            map.values().for_each(|v| descend(v, name, found));
        }
        Value::Array(items) => items.iter().for_each(|v| descend(v, name, found)),
        _ => {}
    }
}
