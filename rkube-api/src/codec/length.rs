//! How many bytes a value takes as JSON, without writing them.
//!
//! Every write is measured against the store's limit, and most come as typed objects that never were text.
//! Adding up lengths takes a fraction of the time that writing takes.
//!
//! ```
//! use rkube_api::codec::{json, length};
//! let value = serde_json::json!({"text": "a \"quoted\" word", "numbers": [1, -2.5, null]});
//! assert_eq!(length::of(&value)?, json::to_vec(&value)?.len());
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::fmt::Display;

use serde::ser::{self, Error as _, Serialize};
use serde_json::Error;

/// How many bytes `serde_json` would write for a value, without blanks.
///
/// # Errors
/// When the value has no form in JSON.
pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<usize, Error> {
    let mut length = Length { bytes: 0, key: false };
    value.serialize(&mut length)?;
    Ok(length.bytes)
}

/// As [`of`], for a text.
#[must_use]
pub fn of_text(text: &str) -> usize {
    let bytes = text.as_bytes();
    let escaped = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    // Without a branch a byte, so that it runs on many at once. Hardly any text needs escapes.
    let any = bytes.iter().fold(false, |any, byte| any | escaped(*byte));
    let extra: usize = if any { bytes.iter().map(|byte| extra(*byte)).sum() } else { 0 };
    bytes.len() + extra + 2
}

struct Length {
    bytes: usize,
    /// A key of a map comes next: one that is no text is written as one.
    key: bool,
}

impl Length {
    /// What is no text.
    fn bare(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes + if self.key { 2 } else { 0 };
        Ok(())
    }

    fn integer(&mut self, negative: bool, size: u128) -> Result<(), Error> {
        let digits = size.checked_ilog10().map_or(1, |tens| tens as usize + 1);
        self.bare(digits + usize::from(negative))
    }

    fn text(&mut self, text: &str) {
        self.bytes += of_text(text);
    }

    /// A list or a map: its brackets, and what else is around it.
    fn open(&mut self, around: usize) -> Result<Parts<'_>, Error> {
        if self.key {
            return Err(Error::custom("key must be a string"));
        }
        self.bytes += around + 2;
        Ok(Parts { length: self, first: true })
    }

    /// `{"variant":` and `}`.
    fn variant(&mut self, variant: &str) -> usize {
        self.text(variant);
        3
    }
}

/// How many bytes more a byte of a text takes escaped.
fn extra(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
        0..0x20 => 5,
        _ => 0,
    }
}

/// The inside of a list or a map.
struct Parts<'a> {
    length: &'a mut Length,
    first: bool,
}

impl Parts<'_> {
    fn comma(&mut self) {
        self.length.bytes += usize::from(!self.first);
        self.first = false;
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.comma();
        value.serialize(&mut *self.length)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.comma();
        // A name in a program's text needs no escapes; looking for them in each would take a third of the time.
        debug_assert_eq!(of_text(name), name.len() + 2, "{name} is written with escapes");
        self.length.bytes += name.len() + 3;
        value.serialize(&mut *self.length)
    }
}

macro_rules! signed {
    ($($method:ident $of:ty),*) => {
        $(fn $method(self, value: $of) -> Result<(), Error> {
            self.integer(value < 0, value.unsigned_abs().into())
        })*
    };
}

macro_rules! unsigned {
    ($($method:ident $of:ty),*) => {
        $(fn $method(self, value: $of) -> Result<(), Error> {
            self.integer(false, value.into())
        })*
    };
}

macro_rules! floats {
    ($($method:ident $of:ty),*) => {
        $(fn $method(self, value: $of) -> Result<(), Error> {
            // Rare enough to be written.
            let bytes = serde_json::to_string(&value)?.len();
            self.bare(bytes)
        })*
    };
}

impl<'a> ser::Serializer for &'a mut Length {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    signed! { serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64 }
    unsigned! { serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64 }
    floats! { serialize_f32 f32, serialize_f64 f64 }

    fn serialize_i128(self, value: i128) -> Result<(), Error> {
        self.integer(value < 0, value.unsigned_abs())
    }

    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        self.integer(false, value)
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.bare(if value { 4 } else { 5 })
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.text(value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        ser::Serializer::collect_seq(self, value)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.bytes += "null".len();
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.bytes += self.variant(variant);
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'a>, Error> {
        self.open(0)
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'a>, Error> {
        self.open(0)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Error> {
        self.open(0)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Error> {
        let around = self.variant(variant);
        self.open(around)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'a>, Error> {
        self.open(0)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Error> {
        self.open(0)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Error> {
        let around = self.variant(variant);
        self.open(around)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.serialize_str(&value.to_string())
    }
}

macro_rules! lists {
    ($($of:ident $method:ident),*) => {
        $(impl ser::$of for Parts<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.item(value)
            }

            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        })*
    };
}

lists! {
    SerializeSeq serialize_element, SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field
}

macro_rules! structs {
    ($($of:ident),*) => {
        $(impl ser::$of for Parts<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.field(name, value)
            }

            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        })*
    };
}

structs! { SerializeStruct, SerializeStructVariant }

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.comma();
        self.length.key = true;
        let measured = key.serialize(&mut *self.length);
        self.length.key = false;
        measured
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.length.bytes += 1;
        value.serialize(&mut *self.length)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;

    use super::of;
    use crate::codec::json::tests::value;

    #[derive(Serialize)]
    enum Variant {
        Unit,
        New(u8),
        Tuple(i64, &'static str),
        Struct { a: Option<char>, b: (), c: f64 },
    }

    #[derive(Serialize)]
    struct Unit;

    #[derive(Serialize)]
    struct Pair(bool, f32);

    fn same<T: Serialize>(value: &T) {
        let text = serde_json::to_string(value).unwrap();
        assert_eq!(of(value).unwrap(), text.len(), "{text}");
    }

    #[test]
    fn every_shape_is_as_long_as_it_is_written() {
        same(&[Variant::Unit, Variant::New(255), Variant::Tuple(i64::MIN, "\u{1}\u{7f}é\"\\\n\u{8}")]);
        same(&Variant::Struct { a: Some('"'), b: (), c: 1e300 });
        same(&(
            Unit,
            Pair(true, 0.1),
            [false; 0],
            None::<u8>,
            f64::NAN,
            u64::MAX,
            -0.0,
            i128::MIN,
            u128::MAX,
        ));
        same(&BTreeMap::from([(0, "zero"), (-17, "less")]));
        same(&BTreeMap::from([(true, vec![BTreeMap::<String, u8>::new()])]));
        assert!(of(&BTreeMap::from([(vec![1], 1)])).is_err());
    }

    proptest! {
        #[test]
        fn any_value_is_as_long_as_it_is_written(value in value(), text in ".{0,20}") {
            prop_assert_eq!(of(&value).unwrap(), serde_json::to_vec(&value).unwrap().len());
            prop_assert_eq!(of(&text).unwrap(), serde_json::to_vec(&text).unwrap().len());
        }
    }
}
