//! Bytes to JSON values and back: JSON and YAML, with bounds on what a hostile body may cost.
//!
//! A duplicate key is no error here (the last one wins) but is reported, so that field validation can
//! refuse it, warn of it or ignore it.
//!
//! ```
//! let parsed = rkube_api::codec::json::parse(br#"{"spec": {"replicas": 1, "replicas": 2}}"#)?;
//! assert_eq!(parsed.object["spec"]["replicas"], 2);
//! assert_eq!(parsed.duplicates, ["duplicate field \"spec.replicas\""]);
//! # Ok::<(), rkube_api::codec::DecodeError>(())
//! ```

pub mod json;
pub mod length;
pub mod protobuf;
mod value;
pub mod yaml;

/// As many bytes as a body may have.
pub const MAX_BYTES: usize = 3 * 1024 * 1024;
/// As deep as JSON from a client may nest. What is stored nests a little deeper, for managedFields repeat the
/// object's shape within its metadata, and must be read again within the 128 levels of `serde_json`.
pub const MAX_DEPTH: usize = 100;
/// As deep as YAML may nest: its reader takes some 13 KB of stack a level in a debug build.
pub const MAX_YAML_DEPTH: usize = 64;

/// A body that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The object.
    pub object: serde_json::Value,
    /// A message for each key that came twice: `duplicate field "spec.replicas"`.
    pub duplicates: Vec<String>,
}

/// Why a body can't be read. Too large is 413, all others are 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More than [`MAX_BYTES`].
    #[error("Request entity too large: limit is {MAX_BYTES}")]
    TooLarge,
    /// Not UTF-8.
    #[error("invalid UTF-8 at byte {0}")]
    InvalidUtf8(usize),
    /// Nested deeper than the format's bound.
    #[error("exceeded max depth of {0}")]
    TooDeep(usize),
    /// Aliases or anchors that would grow beyond reason.
    #[error("{0}")]
    Budget(String),
    /// Not in the format.
    #[error("{0}")]
    Syntax(String),
    /// Not Kubernetes' protobuf, or of a kind that is not known.
    #[error("protobuf: {0}")]
    Protobuf(String),
    /// Something else than an object.
    #[error("expected an object, found {0}")]
    NotAnObject(&'static str),
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    if bytes.len() > MAX_BYTES {
        return Err(DecodeError::TooLarge);
    }
    std::str::from_utf8(bytes).map_err(|e| DecodeError::InvalidUtf8(e.valid_up_to()))
}

fn object(object: serde_json::Value, duplicates: Vec<String>) -> Result<Parsed, DecodeError> {
    use serde_json::Value;
    Err(DecodeError::NotAnObject(match object {
        Value::Object(_) => return Ok(Parsed { object, duplicates }),
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
    }))
}
