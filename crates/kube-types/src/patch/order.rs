//! The order of a list after a strategic merge patch that names it in `$setElementOrder`.

use std::collections::HashMap;

use serde_json::Value;

/// Arranges `merged`: items named in `wanted` in that order; the others keep their places relative to those that the
/// list had before.
pub(super) fn arrange(
    merged: Vec<Value>,
    wanted: &[Value],
    before: &[Value],
    key: Option<&str>,
) -> Vec<Value> {
    let identity = |item: &Value| match key {
        Some(key) => item[key].to_string(),
        None => item.to_string(),
    };
    let position = |items: &[Value]| -> HashMap<String, usize> {
        items
            .iter()
            .enumerate()
            .map(|(index, item)| (identity(item), index))
            .collect()
    };
    let (wanted, before) = (position(wanted), position(before));
    let (mut named, mut others): (Vec<Value>, Vec<Value>) = merged
        .into_iter()
        .partition(|item| wanted.contains_key(&identity(item)));
    named.sort_by_key(|item| wanted.get(&identity(item)).copied());
    others.sort_by_key(|item| before.get(&identity(item)).copied().unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut named = named.into_iter().peekable();
    let mut others = others.into_iter().peekable();
    while let (Some(a), Some(b)) = (named.peek(), others.peek()) {
        let places = before.get(&identity(a)).zip(before.get(&identity(b)));
        if places.is_some_and(|(a, b)| a < b) {
            out.extend(named.next());
        } else {
            out.extend(others.next());
        }
    }
    out.extend(named);
    out.extend(others);
    out
}
