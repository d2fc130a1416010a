//! The values a template sees: JSON, and records with the names and types of Docker's structs.

use std::fmt;
use std::rc::Rc;

/// A function carried by a value, such as `.Label "name"` of a container's row.
pub type Method = Rc<dyn Fn(&[Value]) -> Result<Value, String>>;

/// One value.
#[derive(Clone, Default)]
pub enum Value {
    /// Go's nil of no type, JSON's null: prints `<no value>`, or `<nil>` inside something else.
    #[default]
    Nil,
    /// Go's nil pointer: prints `<nil>`, and has no fields.
    NilPointer,
    /// What a missing key of a map gives: prints `<no value>`.
    Missing,
    /// Truth.
    Bool(bool),
    /// Whole number.
    Int(i64),
    /// Number with a fraction.
    Float(f64),
    /// Text.
    Text(Rc<str>),
    /// Point in time as RFC 3339 text: JSON shows that, everything else Go's form.
    Time(Rc<str>),
    /// List; `None` is Go's nil slice.
    List(Option<Rc<Vec<Value>>>),
    /// Map from text, in the order of the source; `None` is Go's nil map.
    Map(Option<Rc<Vec<(String, Value)>>>),
    /// Struct.
    Record(Rc<Record>),
    /// Method, called when looked up.
    Method(Method),
}

/// A struct.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Go's name of its type, for errors.
    pub type_name: String,
    /// Fields in order.
    pub fields: Vec<Field>,
    /// A row of a table: its JSON is sorted by name and escapes `<`, `>` and `&`.
    pub row: bool,
}

/// A struct's field.
#[derive(Debug, Clone)]
pub struct Field {
    /// Name in templates.
    pub name: Rc<str>,
    /// Name in JSON; empty when left out there.
    pub json: Rc<str>,
    /// Left out of JSON when empty.
    pub omit_empty: bool,
    /// Value.
    pub value: Value,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::print::show(self))
    }
}

impl Value {
    /// Text.
    pub fn text(text: impl AsRef<str>) -> Value {
        Value::Text(Rc::from(text.as_ref()))
    }

    /// List.
    pub fn list(items: Vec<Value>) -> Value {
        Value::List(Some(Rc::new(items)))
    }

    /// Map.
    pub fn map(items: Vec<(String, Value)>) -> Value {
        Value::Map(Some(Rc::new(items)))
    }

    /// Parses JSON text, keeping the order of keys.
    pub fn parse_json(text: &[u8]) -> Result<Value, String> {
        serde_json::from_slice::<Ordered>(text)
            .map(|ordered| ordered.0)
            .map_err(|error| error.to_string())
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is a whole one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// A member of a map or record by its JSON name.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(Some(items)) => items
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            Value::Record(record) => record
                .fields
                .iter()
                .find(|f| &*f.json == key)
                .map(|f| &f.value),
            _ => None,
        }
    }

    /// The text at `key`, or "".
    pub fn str_at(&self, key: &str) -> &str {
        self.get(key).and_then(Value::as_text).unwrap_or_default()
    }

    /// The number at `key`, or 0.
    pub fn int_at(&self, key: &str) -> i64 {
        match self.get(key) {
            Some(Value::Int(number)) => *number,
            Some(Value::Float(number)) => *number as i64,
            _ => 0,
        }
    }

    /// The truth at `key`, or false.
    pub fn bool_at(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Value::Bool(true)))
    }

    /// Items of the list at `key`, or none.
    pub fn items_at(&self, key: &str) -> &[Value] {
        self.get(key).map(Value::items).unwrap_or_default()
    }

    /// Items of a list, or none.
    pub fn items(&self) -> &[Value] {
        match self {
            Value::List(Some(items)) => items,
            _ => &[],
        }
    }

    /// Pairs of a map, or none.
    pub fn pairs(&self) -> &[(String, Value)] {
        match self {
            Value::Map(Some(items)) => items,
            _ => &[],
        }
    }

    /// Go's truth: not zero, not empty.
    pub fn truth(&self) -> bool {
        match self {
            Value::Nil | Value::NilPointer | Value::Missing => false,
            Value::Bool(on) => *on,
            Value::Int(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(items) => items.as_ref().is_some_and(|items| !items.is_empty()),
            Value::Map(items) => items.as_ref().is_some_and(|items| !items.is_empty()),
            Value::Time(_) | Value::Record(_) | Value::Method(_) => true,
        }
    }

    /// Go's name of the type, for errors.
    pub fn type_name(&self) -> String {
        match self {
            Value::Nil | Value::NilPointer | Value::Missing => "interface {}".into(),
            Value::Bool(_) => "bool".into(),
            Value::Int(_) => "int".into(),
            Value::Float(_) => "float64".into(),
            Value::Text(_) => "string".into(),
            Value::Time(_) => "time.Time".into(),
            Value::List(_) => "[]interface {}".into(),
            Value::Map(_) => "map[string]interface {}".into(),
            Value::Record(record) => record.type_name.clone(),
            Value::Method(_) => "func".into(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::text(text)
    }
}

/// Builds a row of a table.
#[derive(Debug, Default)]
pub struct Row(Record);

impl Row {
    /// A row whose type errors name as `type_name`.
    pub fn new(type_name: &str) -> Row {
        Row(Record {
            type_name: type_name.to_owned(),
            fields: Vec::new(),
            row: true,
        })
    }

    /// With a field.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Row {
        let name: Rc<str> = Rc::from(name);
        self.0.fields.push(Field {
            name: name.clone(),
            json: name,
            omit_empty: false,
            value: value.into(),
        });
        self
    }

    /// With a method, which JSON leaves out.
    pub fn method(mut self, name: &str, method: Method) -> Row {
        let value = Value::Method(method);
        self.0.fields.push(Field {
            name: Rc::from(name),
            json: Rc::from(""),
            omit_empty: false,
            value,
        });
        self
    }

    /// The value.
    pub fn done(self) -> Value {
        Value::Record(Rc::new(self.0))
    }
}

/// JSON with the order of keys kept.
struct Ordered(Value);

impl<'de> serde::Deserialize<'de> for Ordered {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Ordered, D::Error> {
        from.deserialize_any(OrderedVisitor).map(Ordered)
    }
}

struct OrderedVisitor;

impl<'de> serde::de::Visitor<'de> for OrderedVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E>(self, on: bool) -> Result<Value, E> {
        Ok(Value::Bool(on))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number)
            .map(Value::Int)
            .unwrap_or(Value::Float(number as f64)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Ordered(item)) = from.next_element()? {
            items.push(item);
        }
        Ok(Value::list(items))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some((key, Ordered(value))) = from.next_entry::<String, Ordered>()? {
            items.push((key, value));
        }
        Ok(Value::map(items))
    }
}
