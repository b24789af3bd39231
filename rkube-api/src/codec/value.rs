//! Reads a JSON value from any self-describing format, noting duplicate keys on the way.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::MAX_DEPTH;
use crate::meta::validation::FieldPath;

/// What a reader says when it went too deep.
pub(super) const TOO_DEEP: &str = "nested too deep";
/// As many duplicates as are worth reporting.
const MAX_DUPLICATES: usize = 100;

/// Reads one value, at one place of the whole.
pub(super) struct Reader<'a> {
    pub(super) path: FieldPath<'a>,
    pub(super) depth: usize,
    pub(super) duplicates: &'a RefCell<Vec<String>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(duplicates: &'a RefCell<Vec<String>>) -> Self {
        Reader { path: FieldPath::root(), depth: 0, duplicates }
    }

    fn below<'b>(&'b self, path: FieldPath<'b>) -> Reader<'b> {
        Reader { path, depth: self.depth + 1, duplicates: self.duplicates }
    }

    fn check<E: Error>(&self) -> Result<(), E> {
        if self.depth >= MAX_DEPTH { Err(E::custom(TOO_DEEP)) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.check()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.below(self.path.index(list.len())))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.check()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self.below(self.path.child(&key)))?;
            if map.contains_key(&key) {
                let mut duplicates = self.duplicates.borrow_mut();
                let message = format!("duplicate field \"{}\"", self.path.child(&key));
                if duplicates.len() < MAX_DUPLICATES && !duplicates.contains(&message) {
                    duplicates.push(message);
                }
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
