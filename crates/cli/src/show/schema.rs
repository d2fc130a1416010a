//! Gives raw JSON the field names, types and zero values of the structs that Docker's templates see.
//!
//! Templates were written against those structs: `{{.ID}}` where the JSON says `Id`, `<nil>` for a health check
//! that isn't there, `{{if .State.Health}}`. Keys that no struct has are found by a second try on the raw JSON.

use std::collections::HashMap;
use std::rc::Rc;

use super::schema_types::TYPES;
use crate::template::value::{Field, Record, Value};

struct FieldType {
    name: Rc<str>,
    json: Rc<str>,
    omit_empty: bool,
    kind: String,
}

/// The struct types by name.
pub struct Schema {
    types: HashMap<&'static str, (String, Vec<FieldType>)>,
}

impl Default for Schema {
    fn default() -> Schema {
        Schema::new()
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Schema({} types)", self.types.len())
    }
}

impl Schema {
    /// Reads the table of types.
    pub fn new() -> Schema {
        let mut types = HashMap::new();
        for block in TYPES.split("\n\n") {
            let mut words = block.split_whitespace();
            let (Some(name), Some(go_name)) = (words.next(), words.next()) else {
                continue;
            };
            types.insert(name, (go_name.to_owned(), words.map(field_type).collect()));
        }
        Schema { types }
    }

    /// `raw` as the struct `name`.
    pub fn typed(&self, name: &str, raw: &Value) -> Value {
        let Some((go_name, fields)) = self.types.get(name) else {
            return raw.clone();
        };
        let fields = fields
            .iter()
            .map(|field| Field {
                name: field.name.clone(),
                json: field.json.clone(),
                omit_empty: field.omit_empty,
                value: self.value(&field.kind, raw.get(&field.json)),
            })
            .collect();
        Value::Record(Rc::new(Record {
            type_name: go_name.clone(),
            fields,
            row: false,
        }))
    }

    fn value(&self, kind: &str, raw: Option<&Value>) -> Value {
        let raw = raw.filter(|value| !matches!(value, Value::Nil));
        match (kind.as_bytes().first(), raw) {
            (Some(b'*'), None) => Value::NilPointer,
            (Some(b'*'), Some(raw)) => self.value(&kind[1..], Some(raw)),
            (Some(b'['), None) => Value::List(None),
            (Some(b'['), Some(raw)) => Value::list(
                raw.items()
                    .iter()
                    .map(|item| self.value(&kind[1..], Some(item)))
                    .collect(),
            ),
            (Some(b'{'), None) => Value::Map(None),
            (Some(b'{'), Some(raw)) => Value::map(
                raw.pairs()
                    .iter()
                    .map(|(key, item)| (key.clone(), self.value(&kind[1..], Some(item))))
                    .collect(),
            ),
            (Some(b's'), None) => Value::text(""),
            (Some(b'b'), None) => Value::Bool(false),
            (Some(b'i'), None) => Value::Int(0),
            (Some(b't'), None) => Value::Time(Rc::from("0001-01-01T00:00:00Z")),
            (Some(b't'), Some(Value::Text(text))) => Value::Time(text.clone()),
            (Some(first), raw) if first.is_ascii_uppercase() => {
                self.typed(kind, raw.unwrap_or(&Value::Nil))
            }
            (_, raw) => raw.cloned().unwrap_or_default(),
        }
    }
}

/// `Name:kind`, `Name=json:kind`, with `?` at the end for `omitempty`.
fn field_type(text: &str) -> FieldType {
    let (names, kind) = text.split_once(':').unwrap_or((text, "a"));
    let (name, json) = names.split_once('=').unwrap_or((names, names));
    let omit_empty = kind.ends_with('?');
    FieldType {
        name: Rc::from(name),
        json: Rc::from(json),
        omit_empty,
        kind: kind.trim_end_matches('?').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;

    fn show(template: &str, kind: &str, json: &str) -> String {
        let raw = Value::parse_json(json.as_bytes()).unwrap();
        Template::parse(template)
            .unwrap()
            .render(&Schema::new().typed(kind, &raw))
            .unwrap()
    }

    #[test]
    fn names_zero_values_and_order() {
        let json = r#"{"Id":"x","State":{"Status":"running","Running":true,"Pid":7},"Config":{"Labels":{"a":"b"},"ExposedPorts":{"80/tcp":{}}},"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}}}"#;
        assert_eq!(
            show("{{.ID}} {{.State.Health}} {{.Mounts}}", "Container", json),
            "x <nil> []"
        );
        assert_eq!(
            show("{{.State}}", "Container", json),
            "{running true false false false false 7 0    <nil>}"
        );
        assert_eq!(
            show("{{json .Mounts}}{{json .State.Status}}", "Container", json),
            "null\"running\""
        );
        assert_eq!(
            show("{{.HostConfig.PortBindings}}", "Container", json),
            "map[80/tcp:[{ 8080}]]"
        );
        assert_eq!(
            show(
                "{{.Config.ExposedPorts}}{{json .Config.ExposedPorts}}",
                "Container",
                json
            ),
            "map[80/tcp:{}]{\"80/tcp\":{}}"
        );
        assert_eq!(
            show("{{.Config.Labels.nope}}", "Container", json),
            "<no value>"
        );
    }
}
