//! Docker's `filters` parameter: a JSON object of lists, or (older) of sets.

use std::collections::BTreeMap;

use serde_json::Value;
use wharf_engine::{Event, Labels};

use crate::answer::{Outcome, Refusal};
use crate::request::Query;

/// Values by key; any of a key's values will do, all keys must.
#[derive(Debug, Default, Clone)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    pub fn of(query: &Query) -> Outcome<Filters> {
        let Some(text) = query.get("filters") else {
            return Ok(Filters::default());
        };
        let value: BTreeMap<String, Value> =
            serde_json::from_str(text).map_err(|e| Refusal::bad(format!("invalid filter: {e}")))?;
        let list = |value: Value| match value {
            Value::Array(list) => list
                .into_iter()
                .filter_map(|v| v.as_str().map(str::to_owned))
                .collect(),
            Value::Object(set) => set
                .into_iter()
                .filter(|(_, on)| *on != Value::Bool(false))
                .map(|(k, _)| k)
                .collect(),
            _ => Vec::new(),
        };
        Ok(Filters(
            value
                .into_iter()
                .map(|(key, value)| (key, list(value)))
                .collect(),
        ))
    }

    /// Refuses keys that mean nothing here, in the reference's words.
    pub fn check(&self, known: &[&str]) -> Outcome<()> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Refusal::bad(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// No value, or one that fits.
    pub fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| fits(value))
    }

    /// `label=key` and `label=key=value`: all of them.
    pub fn labels(&self, labels: &Labels) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        self.values(key)
            .first()
            .map(|value| matches!(value.as_str(), "1" | "true" | "True"))
    }

    pub fn accept_event(&self, event: &Event) -> bool {
        let attribute = |key: &str| event.attributes.get(key).cloned().unwrap_or_default();
        let subject = |wanted: &str, kind: &str| {
            event.kind == kind && (event.id.starts_with(wanted) || attribute("name") == wanted)
        };
        self.any("type", |v| v == event.kind)
            && self.any("event", |v| {
                v == event.action || event.action.starts_with(&format!("{v}:"))
            })
            && self.any("container", |v| {
                subject(v, "container") || attribute("container") == v
            })
            && self.any("image", |v| subject(v, "image") || attribute("image") == v)
            && self.any("volume", |v| subject(v, "volume"))
            && self.any("network", |v| subject(v, "network"))
            && self.labels(&event.attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_are_read() {
        for text in [r#"{"name":["a","b"]}"#, r#"{"name":{"a":true,"b":true}}"#] {
            let filters = Filters::of(&Query::of(
                &format!(
                    "/?filters={}",
                    text.replace('"', "%22")
                        .replace('{', "%7B")
                        .replace('}', "%7D")
                )
                .parse()
                .unwrap(),
            ))
            .unwrap();
            assert!(
                filters.any("name", |v| v == "b")
                    && !filters.any("name", |v| v == "c")
                    && filters.any("other", |_| false)
            );
            assert!(filters.check(&["name"]).is_ok() && filters.check(&["id"]).is_err());
        }
    }
}
