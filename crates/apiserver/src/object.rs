//! An object as bytes: canonical JSON without its resource version, which is spliced in when it is written out.
//!
//! A stored value is an eight-byte head (format, end of the type's fields, place of the resource version) and the JSON.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};
use wharf_kube_types::Resource;
use wharf_kube_types::selector::{FieldSelector, LabelSelector, field_value};

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 8;

/// Fields of the metadata before the resource version, and after it.
const META_FIRST: [&str; 5] = ["name", "generateName", "namespace", "selfLink", "uid"];
const META_LATER: [&str; 9] = [
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

/// A stored object at a revision.
#[derive(Clone, Debug)]
pub struct Record {
    value: Bytes,
    type_end: usize,
    splice: usize,
    /// The revision that is the object's resource version; 0 for none.
    pub revision: u64,
}

impl Record {
    /// Encodes an object.
    pub fn encode(object: &Value, revision: u64) -> Self {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(&[0; HEAD_BYTES]);
        out.extend_from_slice(b"{\"kind\":");
        json(&mut out, &object["kind"]);
        out.extend_from_slice(b",\"apiVersion\":");
        json(&mut out, &object["apiVersion"]);
        out.push(b',');
        let type_end = out.len() - HEAD_BYTES;
        out.extend_from_slice(b"\"metadata\":{");
        let none = Map::new();
        let meta = object["metadata"].as_object().unwrap_or(&none);
        for field in META_FIRST {
            if let Some(value) = meta.get(field) {
                member(&mut out, field, value);
                out.push(b',');
            }
        }
        let splice = out.len() - HEAD_BYTES;
        let mut any = false;
        for field in META_LATER {
            if let Some(value) = meta.get(field) {
                if any {
                    out.push(b',');
                }
                any = true;
                member(&mut out, field, value);
            }
        }
        if !any {
            // The splice ends with a comma: something must follow it.
            out.extend_from_slice(b"\"creationTimestamp\":null");
        }
        out.push(b'}');
        for (field, value) in object.as_object().unwrap_or(&none) {
            if !matches!(field.as_str(), "kind" | "apiVersion" | "metadata") {
                out.push(b',');
                member(&mut out, field, value);
            }
        }
        out.push(b'}');
        out[0] = FORMAT;
        let short = u16::try_from(type_end).unwrap_or_default();
        out[2..4].copy_from_slice(&short.to_le_bytes());
        let place = u32::try_from(splice).unwrap_or_default();
        out[4..8].copy_from_slice(&place.to_le_bytes());
        Self {
            value: out.into(),
            type_end,
            splice,
            revision,
        }
    }

    /// Reads the value stored at a key; nothing if it is none of this program's.
    pub fn open(key: &str, stored: Bytes, revision: u64) -> Option<Self> {
        Self::decode(crate::seal::open(key, stored)?, revision)
    }

    fn decode(value: Bytes, revision: u64) -> Option<Self> {
        let head: [u8; HEAD_BYTES] = value.get(..HEAD_BYTES)?.try_into().ok()?;
        if head[0] != FORMAT {
            return None;
        }
        let type_end = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let splice = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        (type_end <= splice && splice < value.len() - HEAD_BYTES).then_some(Self {
            value,
            type_end,
            splice,
            revision,
        })
    }

    /// The bytes to store at a key.
    pub fn stored(&self, key: &str) -> Bytes {
        crate::seal::seal(key, self.value.clone())
    }

    /// Whether the object's bytes hold a word.
    pub fn mentions(&self, word: &[u8]) -> bool {
        self.json().windows(word.len()).any(|window| window == word)
    }

    /// The same object at a revision.
    pub fn at(mut self, revision: u64) -> Self {
        self.revision = revision;
        self
    }

    fn json(&self) -> &[u8] {
        &self.value[HEAD_BYTES..]
    }

    /// Bytes that [`Record::write`] writes at most.
    pub fn size(&self) -> usize {
        self.value.len() + 48
    }

    /// Whether the object's `apiVersion` is this one.
    pub fn is_version(&self, api_version: &str) -> bool {
        let head = &self.json()[..self.type_end];
        let end = format!("\"apiVersion\":\"{api_version}\",");
        head.ends_with(end.as_bytes())
    }

    /// Writes the whole object.
    pub fn write(&self, out: &mut Vec<u8>) {
        let json = self.json();
        out.extend_from_slice(&json[..self.splice]);
        self.write_version(out);
        out.extend_from_slice(&json[self.splice..]);
    }

    /// Writes the object as an item of a list that names the type of all.
    pub fn write_item(&self, out: &mut Vec<u8>) {
        let json = self.json();
        out.push(b'{');
        out.extend_from_slice(&json[self.type_end..self.splice]);
        self.write_version(out);
        out.extend_from_slice(&json[self.splice..]);
    }

    fn write_version(&self, out: &mut Vec<u8>) {
        if self.revision != 0 {
            out.extend_from_slice(b"\"resourceVersion\":\"");
            out.extend_from_slice(self.revision.to_string().as_bytes());
            out.extend_from_slice(b"\",");
        }
    }

    /// The object with its resource version.
    pub fn to_value(&self) -> Value {
        let mut object = self.to_bare();
        if self.revision != 0 {
            set_version(&mut object, self.revision);
        }
        object
    }

    /// The object as it was encoded, without its resource version.
    pub fn to_bare(&self) -> Value {
        serde_json::from_slice(self.json()).unwrap_or_default()
    }
}

/// Sets an object's resource version.
pub fn set_version(object: &mut Value, revision: u64) {
    let meta = wharf_kube_types::object::metadata_mut(object);
    meta.insert("resourceVersion".to_owned(), revision.to_string().into());
}

fn json(out: &mut Vec<u8>, value: &Value) {
    // Writing a value with text keys to memory cannot fail.
    let _ = serde_json::to_writer(out, value);
}

fn member(out: &mut Vec<u8>, field: &str, value: &Value) {
    let _ = serde_json::to_writer(&mut *out, field);
    out.push(b':');
    json(out, value);
}

/// A stored object with what selectors ask for.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its key in the store.
    pub key: Arc<str>,
    /// Its bytes.
    pub record: Record,
    /// What else of its metadata the server looks at often.
    pub facts: Facts,
    labels: Vec<(Box<str>, Box<str>)>,
    fields: Vec<Box<str>>,
}

/// Parts of an object's metadata.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The uid.
    pub uid: Box<str>,
    /// Whose it is.
    pub owners: Vec<Owner>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Who has to act before it is gone.
    pub finalizers: Vec<Box<str>>,
}

/// An owner reference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    /// Group and version.
    pub api_version: Box<str>,
    /// The kind.
    pub kind: Box<str>,
    /// The name.
    pub name: Box<str>,
    /// The uid.
    pub uid: Box<str>,
    /// Whether the owner can't go in the foreground before this object.
    pub block_owner_deletion: Option<bool>,
}

#[derive(Deserialize, Default)]
struct Skim {
    #[serde(default)]
    metadata: SkimMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SkimMeta {
    uid: Option<Box<str>>,
    labels: Option<std::collections::BTreeMap<Box<str>, Box<str>>>,
    owner_references: Option<Vec<Owner>>,
    deletion_timestamp: Option<Box<str>>,
    finalizers: Option<Vec<Box<str>>>,
}

impl Object {
    /// The same object in another form.
    pub fn with_record(&self, record: Record) -> Self {
        Self {
            record,
            ..self.clone()
        }
    }

    /// Reads an entry. `fields` are those of the resource that selectors may name besides name and namespace.
    pub fn read(
        key: Arc<str>,
        record: Record,
        resource: Option<&Resource>,
        fields: &[String],
    ) -> Self {
        let skim: Skim = serde_json::from_slice(record.json()).unwrap_or_default();
        let fields = match resource {
            Some(resource) if !fields.is_empty() => {
                let value = record.to_bare();
                let text = |field: &String| field_value(resource, &value, field).into();
                fields.iter().map(text).collect()
            }
            _ => Vec::new(),
        };
        let meta = skim.metadata;
        let labels = meta.labels.unwrap_or_default();
        let facts = Facts {
            uid: meta.uid.unwrap_or_default(),
            owners: meta.owner_references.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.unwrap_or_default(),
        };
        Self {
            key,
            record,
            facts,
            labels: labels.into_iter().collect(),
            fields,
        }
    }

    /// The same state under another revision.
    pub fn moved_to(&self, revision: u64) -> Self {
        Self {
            key: self.key.clone(),
            record: self.record.clone().at(revision),
            facts: self.facts.clone(),
            labels: self.labels.clone(),
            fields: self.fields.clone(),
        }
    }

    /// Namespace (empty for none) and name.
    pub fn names(&self) -> (&str, &str) {
        let rest = self.key.splitn(3, '/').nth(2).unwrap_or_default();
        rest.rsplit_once('/').unwrap_or(("", rest))
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(key, _)| **key == *name);
        found.map(|(_, value)| &**value)
    }

    fn field(&self, name: &str, known: &[String]) -> &str {
        match name {
            "metadata.name" => self.names().1,
            "metadata.namespace" => self.names().0,
            name => known
                .iter()
                .position(|field| field == name)
                .and_then(|place| self.fields.get(place))
                .map_or("", |value| value),
        }
    }
}

/// What a list or watch selects.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// By labels.
    pub labels: LabelSelector,
    /// By fields.
    pub fields: FieldSelector,
}

impl Selection {
    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether an object is selected; `known` are the names of its extra fields.
    pub fn matches(&self, object: &Object, known: &[String]) -> bool {
        let mut terms = self.fields.terms().iter();
        if !terms.all(|(field, equal, value)| (object.field(field, known) == value) == *equal) {
            return false;
        }
        if self.labels.is_everything() {
            return true;
        }
        let labels: Map<String, Value> = object
            .labels
            .iter()
            .map(|(key, value)| (key.to_string(), Value::from(&**value)))
            .collect();
        self.labels.matches_labels(Some(&labels))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Value {
        json!({
            "apiVersion": "v1", "data": {"a": "b"}, "kind": "ConfigMap",
            "metadata": {"labels": {"x": "y"}, "creationTimestamp": "2026-01-01T00:00:00Z", "namespace": "n",
                "name": "m", "uid": "u"},
        })
    }

    #[test]
    fn the_version_is_spliced_in_at_its_place() {
        let record = Record::encode(&sample(), 7);
        let text = {
            let mut out = Vec::new();
            record.write(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            text,
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"m","namespace":"n","uid":"u","resourceVersion":"7","creationTimestamp":"2026-01-01T00:00:00Z","labels":{"x":"y"}},"data":{"a":"b"}}"#
        );
        let mut item = Vec::new();
        record.write_item(&mut item);
        assert!(item.starts_with(br#"{"metadata":{"name":"m""#));
        let again = Record::decode(record.value.clone(), 9).unwrap();
        assert_eq!(again.to_value()["metadata"]["resourceVersion"], "9");
        assert_eq!(again.to_bare(), sample());
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bytes in [
            &b""[..],
            b"{}",
            b"\x02\0\0\0\0\0\0\0{}",
            b"\x01\0\x09\0\x01\0\0\0{}",
        ] {
            assert!(Record::decode(Bytes::copy_from_slice(bytes), 1).is_none());
        }
    }

    #[test]
    fn selections_look_at_labels_and_fields() {
        let record = Record::encode(&sample(), 7);
        let object = Object::read("core/configmaps/n/m".into(), record, None, &[]);
        let select = |labels: &str, fields: &str| {
            let selection = Selection {
                labels: LabelSelector::parse(labels).unwrap(),
                fields: FieldSelector::parse(fields).unwrap(),
            };
            selection.matches(&object, &[])
        };
        assert!(select("x=y", "metadata.name=m"));
        assert!(select("", "metadata.namespace!=other"));
        assert!(!select("x=z", ""));
        assert!(!select("", "metadata.name=other"));
    }
}
