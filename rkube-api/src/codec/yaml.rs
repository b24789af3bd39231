//! YAML, as Kubernetes reads it: octal numbers with a leading zero, `yes` and `on` as booleans, merge keys;
//! aliases within a budget.
//!
//! ```
//! use rkube_api::codec::yaml;
//! let parsed = yaml::parse(b"kind: Secret\nmode: 0644\nquoted: '0644'\n")?;
//! assert_eq!(parsed.object["mode"], 420);
//! assert_eq!(parsed.object["quoted"], "0644");
//! let all = yaml::parse_all(b"kind: A\n---\n# nothing\n---\nkind: B\n")?;
//! assert_eq!(all.len(), 2);
//! # Ok::<(), rkube_api::codec::DecodeError>(())
//! ```

use std::cell::RefCell;

use serde::de::DeserializeSeed;
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Options};

use super::value::{Reader, TOO_DEEP};
use super::{DecodeError, MAX_BYTES, MAX_YAML_DEPTH, Parsed};

/// Reads one document that is an object. JSON is YAML too.
pub fn parse(bytes: &[u8]) -> Result<Parsed, DecodeError> {
    let (value, duplicates) = parse_value(bytes)?;
    super::object(value, duplicates)
}

/// Reads one document of any kind, with the messages for duplicate keys.
pub fn parse_value(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    read(super::text(bytes)?, options())
}

/// As [`parse_value`], for a file of the user's own, which may be as large as memory: how deep it nests and what
/// its aliases grow to is bounded all the same.
///
/// ```
/// let large = format!("a: {}", "x".repeat(rkube_api::codec::MAX_BYTES));
/// assert!(rkube_api::codec::yaml::parse_value(large.as_bytes()).is_err());
/// assert!(rkube_api::codec::yaml::parse_large(&large).is_ok());
/// ```
pub fn parse_large(text: &str) -> Result<(Value, Vec<String>), DecodeError> {
    let mut options = options();
    if let Some(budget) = &mut options.budget {
        // Each takes a byte of the text at least; what aliases repeat is counted apart.
        budget.max_nodes = budget.max_nodes.max(text.len());
        budget.max_events = budget.max_events.max(text.len().saturating_mul(2));
        budget.max_total_scalar_bytes = budget.max_total_scalar_bytes.max(text.len());
        budget.max_total_comment_bytes = budget.max_total_comment_bytes.max(text.len());
    }
    read(text, options)
}

/// Reads all documents of a file; empty ones are passed over.
pub fn parse_all(bytes: &[u8]) -> Result<Vec<Parsed>, DecodeError> {
    let mut all = Vec::new();
    for document in split_documents(super::text(bytes)?) {
        let (value, duplicates) = read(document, options())?;
        if !value.is_null() {
            all.push(super::object(value, duplicates)?);
        }
    }
    Ok(all)
}

/// The documents of a text, cut at lines that begin with `---`.
pub fn split_documents(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let separator = line
                .strip_prefix("---")
                .is_some_and(|l| l.is_empty() || l.starts_with([' ', '\t', '\r', '\n']));
            // What follows the dashes on their line belongs to the next document.
            if separator {
                rest = Some(&text[at + 3..]);
                return Some(&text[..at]);
            }
            at += line.len();
        }
        rest = None;
        Some(text)
    })
    .filter(|document| !document.trim().is_empty())
}

fn options() -> Options {
    let mut options = Options::default();
    options.legacy_octal_numbers = true;
    options.duplicate_keys = DuplicateKeyPolicy::LastWins;
    options.with_snippet = false;
    // A manifest repeats a block a few times, not a hundred thousand.
    options.alias_limits.max_total_replayed_events = 100_000;
    if let Some(budget) = &mut options.budget {
        budget.max_depth = MAX_YAML_DEPTH;
        budget.max_documents = 2;
        budget.max_nodes = 1_000_000;
        budget.max_events = 3_000_000;
        budget.max_total_scalar_bytes = 2 * MAX_BYTES;
    }
    options
}

fn read(text: &str, options: Options) -> Result<(Value, Vec<String>), DecodeError> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok((Value::Null, Vec::new()));
    }
    let duplicates = RefCell::new(Vec::new());
    let value = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        Reader::new(&duplicates).deserialize(deserializer)
    })
    .map_err(|error| refusal(&error))?;
    Ok((value, duplicates.into_inner()))
}

fn refusal(error: &serde_saphyr::Error) -> DecodeError {
    let text = error.to_string();
    let deep = text.contains(TOO_DEEP) || text.contains("Depth") || text.contains("recursion limit");
    if deep {
        return DecodeError::TooDeep(MAX_YAML_DEPTH);
    }
    if text.contains("budget") || text.contains("alias") {
        return DecodeError::Budget(format!("yaml: {text}"));
    }
    DecodeError::Syntax(format!("error converting YAML to JSON: yaml: {text}"))
}

/// Writes a value as one document.
pub fn to_string(value: &Value) -> Result<String, DecodeError> {
    serde_saphyr::to_string(value).map_err(|e| DecodeError::Syntax(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn value(text: &str) -> Value {
        parse_value(text.as_bytes()).unwrap().0
    }

    #[test]
    fn scalars_read_as_kubernetes_reads_them() {
        for (text, want) in [
            ("0644", json!(420)),
            ("'0644'", json!("0644")),
            ("0o644", json!(420)),
            ("0x1F", json!(31)),
            ("1e3", json!(1000.0)),
            ("yes", json!(true)),
            ("off", json!(false)),
            ("~", json!(null)),
            ("1.5", json!(1.5)),
            ("100m", json!("100m")),
            ("2026-01-01", json!("2026-01-01")),
            ("18446744073709551615", json!(u64::MAX)),
            ("!!str 5", json!("5")),
        ] {
            assert_eq!(value(&format!("a: {text}"))["a"], want, "{text}");
        }
        assert_eq!(value("80: x\ntrue: z"), json!({"80": "x", "true": "z"}));
        assert_eq!(
            value("a: &x {b: 1}\nc:\n  <<: *x\n  d: 2"),
            json!({"a": {"b": 1}, "c": {"b": 1, "d": 2}})
        );
        assert_eq!(value("a: |\n  x\n  y\n"), json!({"a": "x\ny\n"}));
    }

    #[test]
    fn duplicates_are_reported_and_the_last_wins() {
        let parsed = parse(b"spec:\n  a: 1\n  b:\n  - c: 1\n    c: 2\n  a: 3\n").unwrap();
        assert_eq!(parsed.object, json!({"spec": {"a": 3, "b": [{"c": 2}]}}));
        assert_eq!(parsed.duplicates, ["duplicate field \"spec.b[0].c\"", "duplicate field \"spec.a\""]);
    }

    #[test]
    fn refusals() {
        for text in ["a: [", "a: b: c", "a: *unknown", "a: \"x"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(parse(b"- a"), Err(DecodeError::NotAnObject("a list")));
        assert_eq!(parse(b"a: \xff"), Err(DecodeError::InvalidUtf8(3)));
        assert_eq!(parse(&vec![b' '; MAX_BYTES + 1]), Err(DecodeError::TooLarge));
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_string();
        for i in 1..12 {
            let alias = format!("*a{}", i - 1);
            laughs.push_str(&format!("a{i}: &a{i} [{}]\n", vec![alias; 10].join(",")));
        }
        assert!(
            matches!(parse(laughs.as_bytes()), Err(DecodeError::Budget(_))),
            "{:?}",
            parse(laughs.as_bytes()).err()
        );
        let deep = format!("a: {}", "[".repeat(100_000));
        assert_eq!(parse(deep.as_bytes()), Err(DecodeError::TooDeep(MAX_YAML_DEPTH)));
        let block: String = (0..300).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        assert_eq!(parse(block.as_bytes()), Err(DecodeError::TooDeep(MAX_YAML_DEPTH)));
    }

    #[test]
    fn documents() {
        let docs = |text: &'static str| split_documents(text).collect::<Vec<_>>();
        assert_eq!(docs("a: 1\n---\nb: 2\n"), ["a: 1\n", "\nb: 2\n"]);
        assert_eq!(docs("---\na: 1\n---\n---\n"), ["\na: 1\n"]);
        assert_eq!(docs("a: |\n  ---\n  x\n"), ["a: |\n  ---\n  x\n"]);
        assert_eq!(docs("--- {a: 1}\n"), [" {a: 1}\n"]);
        assert!(parse_all(b"---\n# only a comment\n").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in super::super::json::tests::value()) {
            let text = to_string(&value).unwrap();
            prop_assert_eq!(parse_value(text.as_bytes()).unwrap().0, value, "{}", text);
        }

        #[test]
        fn json_reads_the_same(value in super::super::json::tests::value()) {
            let text = value.to_string();
            prop_assert_eq!(parse_value(text.as_bytes()).unwrap().0, value);
        }
    }
}
