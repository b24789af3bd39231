//! JSON.
//!
//! ```
//! use rkube_api::codec::json;
//! let parsed = json::parse(br#"{"kind": "Pod"}"#)?;
//! assert!(parsed.duplicates.is_empty());
//! assert_eq!(json::to_vec(&parsed.object).unwrap(), br#"{"kind":"Pod"}"#);
//! assert!(json::parse(b"[1]").is_err());
//! # Ok::<(), rkube_api::codec::DecodeError>(())
//! ```

use std::cell::RefCell;

use serde::Serialize;
use serde::de::DeserializeSeed;
use serde_json::Value;

use super::value::{Reader, TOO_DEEP};
use super::{DecodeError, MAX_DEPTH, Parsed};

/// Reads an object.
pub fn parse(bytes: &[u8]) -> Result<Parsed, DecodeError> {
    let (value, duplicates) = parse_value(bytes)?;
    super::object(value, duplicates)
}

/// Reads any value (a JSON patch is a list), with the messages for duplicate keys.
pub fn parse_value(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    let text = super::text(bytes)?;
    let duplicates = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Reader::new(&duplicates)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(refusal)?;
    Ok((value, duplicates.into_inner()))
}

fn refusal(error: serde_json::Error) -> DecodeError {
    let text = error.to_string();
    // The crate has a bound too; whichever speaks first, it means the same.
    if text.starts_with("recursion limit exceeded") || text.starts_with(TOO_DEEP) {
        return DecodeError::TooDeep(MAX_DEPTH);
    }
    DecodeError::Syntax(format!("json parse error: {text}"))
}

/// Writes a value, without blanks; the keys of a JSON value come sorted, so equal values give equal bytes.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::with_capacity(1024);
    serde_json::to_writer(&mut bytes, value)?;
    Ok(bytes)
}

#[cfg(test)]
pub(in crate::codec) mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn duplicates_are_reported_and_the_last_wins() {
        let parsed =
            parse(br#"{"a": [{"b": 1, "b": 2}, {"b": 1}], "c": {"d": 1}, "c": {"e": 2}, "c": 3}"#).unwrap();
        assert_eq!(parsed.object, serde_json::json!({"a": [{"b": 2}, {"b": 1}], "c": 3}));
        assert_eq!(parsed.duplicates, ["duplicate field \"a[0].b\"", "duplicate field \"c\""]);
    }

    #[test]
    fn refusals() {
        for (bytes, want) in [
            (&b"[1]"[..], DecodeError::NotAnObject("a list")),
            (b"null", DecodeError::NotAnObject("null")),
            (b"{\"a\": \"\xff\"}", DecodeError::InvalidUtf8(7)),
        ] {
            assert_eq!(parse(bytes), Err(want));
        }
        for bytes in
            [&b""[..], b"{", b"{} x", b"{\"a\":1,}", b"{\"a\": 1e999}", b"{a: 1}", b"{\"a\":\"\\ud800\"}"]
        {
            assert!(matches!(parse(bytes), Err(DecodeError::Syntax(_))), "{bytes:?}");
        }
        assert_eq!(parse(&vec![b' '; super::super::MAX_BYTES + 1]), Err(DecodeError::TooLarge));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        for depth in [MAX_DEPTH + 1, 200] {
            assert_eq!(parse(nested(depth).as_bytes()), Err(DecodeError::TooDeep(MAX_DEPTH)));
        }
        let lists = format!("{{\"a\": {}", "[".repeat(1_000_000));
        assert_eq!(parse(lists.as_bytes()), Err(DecodeError::TooDeep(MAX_DEPTH)));
    }

    pub(in crate::codec) fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1_000_000i64..1_000_000).prop_map(|i| Value::from(i as f64 / 8.0)),
            "[ -~é\n]{0,8}".prop_map(Value::from),
            prop::sample::select(vec![
                "0644", "yes", "1e3", "null", "~", "0x1f", "- a", "a: b", "", " x ", ".nan"
            ])
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-zA-Z0-9/.~ -]{0,6}", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in value()) {
            let bytes = to_vec(&value).unwrap();
            prop_assert_eq!(parse_value(&bytes).unwrap(), (value, Vec::new()));
        }

        #[test]
        fn it_reads_what_serde_json_reads(bytes in "[{}\\[\\]:,\"a-c0-9.eE+\\- ntrufals\\\\]{0,24}") {
            let ours = parse_value(bytes.as_bytes()).ok().map(|(v, _)| v);
            prop_assert_eq!(ours, serde_json::from_str::<Value>(&bytes).ok());
        }
    }
}
