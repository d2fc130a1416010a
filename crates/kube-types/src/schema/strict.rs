//! JSON read with every repeated field noted.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::field::{Path, go_quote};

/// A repetition is noted this often; a body can't make the answer grow without bound.
const REPORTED_MAX: usize = 100;

/// A body that is not JSON.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

/// Reads JSON of at most 128 levels. A repeated field keeps its last value.
///
/// # Errors
/// The text is not JSON, or too deep.
pub fn parse(bytes: &[u8]) -> Result<Value, ParseError> {
    serde_json::from_slice(bytes).map_err(|e| ParseError(e.to_string()))
}

/// Reads JSON of at most 128 levels, and says which fields are there more than once, as strict decoding prints it:
/// `duplicate field "spec.replicas"`.
///
/// # Errors
/// The text is not JSON, or too deep.
pub fn parse_strict(bytes: &[u8]) -> Result<(Value, Vec<String>), ParseError> {
    let found = RefCell::new(Vec::new());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let seed = Seed {
        path: Path::ROOT,
        found: &found,
    };
    let value = seed
        .deserialize(&mut reader)
        .map_err(|e| ParseError(e.to_string()))?;
    reader.end().map_err(|e| ParseError(e.to_string()))?;
    Ok((value, found.into_inner()))
}

struct Seed<'a> {
    path: Path<'a>,
    found: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = self.path.index(list.len());
            match items.next_element_seed(Seed {
                path,
                found: self.found,
            })? {
                Some(item) => list.push(item),
                None => return Ok(list.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let mut twice = HashSet::new();
        while let Some(name) = entries.next_key::<String>()? {
            let path = self.path.field(&name);
            let value = entries.next_value_seed(Seed {
                path,
                found: self.found,
            })?;
            if map.contains_key(&name) && twice.insert(name.clone()) {
                let mut found = self.found.borrow_mut();
                if found.len() >= REPORTED_MAX {
                    return Err(A::Error::custom("too many duplicate fields"));
                }
                found.push(format!("duplicate field {}", go_quote(&path.to_string())));
            }
            map.insert(name, value);
        }
        Ok(map.into())
    }
}
