//! Query strings and path segments.

/// A query string under construction.
#[derive(Debug, Default, Clone)]
pub struct Query(String);

impl Query {
    /// An empty one.
    pub fn new() -> Query {
        Query::default()
    }

    /// Adds a pair.
    pub fn add(mut self, name: &str, value: &str) -> Query {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        escape_into(&mut self.0, name);
        self.0.push('=');
        escape_into(&mut self.0, value);
        self
    }

    /// Adds a pair when the value isn't empty.
    pub fn some(self, name: &str, value: &str) -> Query {
        if value.is_empty() {
            self
        } else {
            self.add(name, value)
        }
    }

    /// Adds `name=1` when `on`.
    pub fn on(self, name: &str, on: bool) -> Query {
        if on { self.add(name, "1") } else { self }
    }

    /// The path with this query.
    pub fn to_path(&self, path: &str) -> String {
        if self.0.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", self.0)
        }
    }
}

/// One segment of a path (a slash is kept: image names have them).
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@!$&'()*+,;=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn escape_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The daemon's form of `--filter name=value …`: `{"name":{"value":true}}`, empty when there is none.
pub fn filters(pairs: &[&str]) -> String {
    let mut map: std::collections::BTreeMap<String, std::collections::BTreeMap<String, bool>> =
        Default::default();
    for pair in pairs.iter().filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        map.entry(name.trim().to_lowercase())
            .or_default()
            .insert(value.trim().to_owned(), true);
    }
    if map.is_empty() {
        String::new()
    } else {
        serde_json::to_string(&map).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_escaped() {
        let query = Query::new().add("a b", "c&d").some("e", "").on("f", true);
        assert_eq!(query.to_path("/x"), "/x?a%20b=c%26d&f=1");
        assert_eq!(segment("a/b c?#"), "a/b%20c%3F%23");
    }

    #[test]
    fn filters_gather_values() {
        assert_eq!(
            filters(&["label=a=b", "Label=c", "until = 5m"]),
            r#"{"label":{"a=b":true,"c":true},"until":{"5m":true}}"#
        );
        assert_eq!(filters(&[]), "");
    }
}
