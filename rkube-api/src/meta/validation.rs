//! Validation errors that name a field, with Kubernetes' wording.
//!
//! A [`FieldPath`] is a list linked over the stack: building one costs nothing, and it becomes text only
//! when something is wrong.
//!
//! ```
//! use rkube_api::meta::{ErrorList, FieldError, FieldPath};
//! let spec = FieldPath::new("spec");
//! let containers = spec.child("containers");
//! let mut errors = ErrorList::default();
//! errors.push(FieldError::required(&containers.index(0).child("name"), ""));
//! errors.push(FieldError::invalid(&spec.child("replicas"), -1, "must be greater than or equal to 0"));
//! assert_eq!(
//!     errors.to_string(),
//!     "[spec.containers[0].name: Required value, \
//!      spec.replicas: Invalid value: -1: must be greater than or equal to 0]"
//! );
//! ```

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// The text for a field that may never change.
pub const IMMUTABLE: &str = "field is immutable";

/// Where in an object something is.
#[derive(Clone, Copy, Debug)]
pub struct FieldPath<'a> {
    parent: Option<&'a FieldPath<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Child(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> FieldPath<'a> {
    /// The object itself; it prints as nothing.
    #[must_use]
    pub const fn root() -> FieldPath<'static> {
        FieldPath { parent: None, step: Step::Root }
    }

    /// A field of the object.
    #[must_use]
    pub const fn new(name: &'a str) -> FieldPath<'a> {
        FieldPath { parent: None, step: Step::Child(name) }
    }

    /// A field of what is here.
    #[must_use]
    pub const fn child<'b>(&'b self, name: &'b str) -> FieldPath<'b> {
        FieldPath { parent: Some(self), step: Step::Child(name) }
    }

    /// An item of the list that is here.
    #[must_use]
    pub const fn index(&self, index: usize) -> FieldPath<'_> {
        FieldPath { parent: Some(self), step: Step::Index(index) }
    }

    /// An entry of the map that is here.
    #[must_use]
    pub const fn key<'b>(&'b self, key: &'b str) -> FieldPath<'b> {
        FieldPath { parent: Some(self), step: Step::Key(key) }
    }

    // True if something was written.
    fn write(&self, f: &mut fmt::Formatter<'_>) -> Result<bool, fmt::Error> {
        let after = match self.parent {
            Some(parent) => parent.write(f)?,
            None => false,
        };
        match self.step {
            Step::Root => return Ok(after),
            Step::Child(name) if after => write!(f, ".{name}")?,
            Step::Child(name) => f.write_str(name)?,
            Step::Index(index) => write!(f, "[{index}]")?,
            Step::Key(key) => write!(f, "[{key}]")?,
        }
        Ok(true)
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f).map(drop)
    }
}

/// What kind of wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Something that is referred to does not exist.
    NotFound,
    /// A value is absent that must be given.
    Required,
    /// A value is there twice that must be unique.
    Duplicate,
    /// A value is not of the form that the field wants.
    Invalid,
    /// A value is none of those that the field knows.
    NotSupported,
    /// A value is given where there may be none.
    Forbidden,
    /// A text is longer than allowed.
    TooLong,
    /// A text is shorter than allowed.
    TooShort,
    /// A list has more items than allowed.
    TooMany,
    /// A list has fewer items than allowed.
    TooFew,
    /// A value is of another JSON type.
    TypeInvalid,
    /// The server could not tell.
    InternalError,
}

impl Reason {
    /// The reason as it stands in a Status' causes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::NotFound => "FieldValueNotFound",
            Reason::Required => "FieldValueRequired",
            Reason::Duplicate => "FieldValueDuplicate",
            Reason::Invalid => "FieldValueInvalid",
            Reason::NotSupported => "FieldValueNotSupported",
            Reason::Forbidden => "FieldValueForbidden",
            Reason::TooLong => "FieldValueTooLong",
            Reason::TooShort => "FieldValueTooShort",
            Reason::TooMany => "FieldValueTooMany",
            Reason::TooFew => "FieldValueTooFew",
            Reason::TypeInvalid => "FieldValueTypeInvalid",
            Reason::InternalError => "InternalError",
        }
    }

    /// The words that begin the message.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Reason::NotFound => "Not found",
            Reason::Required => "Required value",
            Reason::Duplicate => "Duplicate value",
            Reason::Invalid | Reason::TypeInvalid => "Invalid value",
            Reason::NotSupported => "Unsupported value",
            Reason::Forbidden => "Forbidden",
            Reason::TooLong => "Too long",
            Reason::TooShort => "Too short",
            Reason::TooMany => "Too many",
            Reason::TooFew => "Too few",
            Reason::InternalError => "Internal error",
        }
    }

    const fn shows_value(self) -> bool {
        !matches!(
            self,
            Reason::Required | Reason::Forbidden | Reason::TooLong | Reason::TooShort | Reason::InternalError
        )
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// What kind of wrong.
    pub reason: Reason,
    /// Which field.
    pub field: String,
    /// The value found there, for the reasons that show it.
    pub bad_value: Value,
    /// What would be right.
    pub detail: String,
}

impl FieldError {
    fn build(reason: Reason, path: &FieldPath<'_>, value: impl Serialize, detail: String) -> Self {
        // A value that JSON can't hold is shown as null rather than hiding the error.
        let bad_value = serde_json::to_value(value).unwrap_or(Value::Null);
        FieldError { reason, field: path.to_string(), bad_value, detail }
    }

    /// The field is missing.
    pub fn required(path: &FieldPath<'_>, detail: impl Into<String>) -> Self {
        Self::build(Reason::Required, path, "", detail.into())
    }

    /// The value is malformed.
    pub fn invalid(path: &FieldPath<'_>, value: impl Serialize, detail: impl Into<String>) -> Self {
        Self::build(Reason::Invalid, path, value, detail.into())
    }

    /// The value is of the wrong type.
    pub fn type_invalid(path: &FieldPath<'_>, value: impl Serialize, detail: impl Into<String>) -> Self {
        Self::build(Reason::TypeInvalid, path, value, detail.into())
    }

    /// The value is none of those allowed.
    pub fn not_supported(path: &FieldPath<'_>, value: impl Serialize, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| go_quoted(s)).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        Self::build(Reason::NotSupported, path, value, detail)
    }

    /// The value is there already.
    pub fn duplicate(path: &FieldPath<'_>, value: impl Serialize) -> Self {
        Self::build(Reason::Duplicate, path, value, String::new())
    }

    /// What the value names doesn't exist.
    pub fn not_found(path: &FieldPath<'_>, value: impl Serialize) -> Self {
        Self::build(Reason::NotFound, path, value, String::new())
    }

    /// The field may not be set here.
    pub fn forbidden(path: &FieldPath<'_>, detail: impl Into<String>) -> Self {
        Self::build(Reason::Forbidden, path, "", detail.into())
    }

    /// The value has too many bytes.
    pub fn too_long(path: &FieldPath<'_>, max_bytes: usize) -> Self {
        let unit = if max_bytes == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {max_bytes} {unit}");
        Self::build(Reason::TooLong, path, "<value omitted>", detail)
    }

    /// The list has too many items.
    pub fn too_many(path: &FieldPath<'_>, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::build(Reason::TooMany, path, actual, format!("must have at most {max} {unit}"))
    }

    /// The list has too few items.
    pub fn too_few(path: &FieldPath<'_>, actual: usize, min: usize) -> Self {
        let unit = if min == 1 { "item" } else { "items" };
        Self::build(Reason::TooFew, path, actual, format!("must have at least {min} {unit}"))
    }

    /// The server failed, not the client.
    pub fn internal(path: &FieldPath<'_>, detail: impl Into<String>) -> Self {
        Self::build(Reason::InternalError, path, Value::Null, detail.into())
    }

    /// The message without the field: what stands in a cause of a Status.
    #[must_use]
    pub fn body(&self) -> String {
        let mut out = self.reason.words().to_string();
        if self.reason.shows_value() {
            out.push_str(": ");
            match &self.bad_value {
                Value::String(s) => out.push_str(&go_quoted(s)),
                other => out.push_str(&go_json(other)),
            }
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for FieldError {}

/// A text between quotes as Go's `%q` writes it, which is how messages show texts.
#[must_use]
pub fn go_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// JSON as Go's encoder writes it (which escapes `<`, `>` and `&`).
fn go_json(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(['<', '>', '&']) {
        return text;
    }
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// All that is wrong with an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorList(Vec<FieldError>);

impl ErrorList {
    /// Nothing wrong.
    #[must_use]
    pub const fn new() -> Self {
        ErrorList(Vec::new())
    }

    /// Adds one error.
    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// Adds an `Invalid` error for each message.
    pub fn push_messages(&mut self, path: &FieldPath<'_>, value: &str, messages: Vec<String>) {
        self.0.extend(messages.into_iter().map(|m| FieldError::invalid(path, value, m)));
    }

    /// Adds an error if the two differ.
    pub fn immutable<T: PartialEq + Serialize + ?Sized>(&mut self, path: &FieldPath<'_>, new: &T, old: &T) {
        if new != old {
            self.push(FieldError::invalid(path, new, IMMUTABLE));
        }
    }

    /// Adds an error if the number is below zero.
    pub fn non_negative(&mut self, path: &FieldPath<'_>, value: i64) {
        if value < 0 {
            self.push(FieldError::invalid(path, value, "must be greater than or equal to 0"));
        }
    }

    /// Is all well?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many errors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The errors in the order found.
    pub fn iter(&self) -> std::slice::Iter<'_, FieldError> {
        self.0.iter()
    }

    /// `Err(self)` unless all is well.
    pub fn into_result(self) -> Result<(), ErrorList> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl Extend<FieldError> for ErrorList {
    fn extend<I: IntoIterator<Item = FieldError>>(&mut self, iter: I) {
        self.0.extend(iter);
    }
}

impl IntoIterator for ErrorList {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a ErrorList {
    type Item = &'a FieldError;
    type IntoIter = std::slice::Iter<'a, FieldError>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl From<Vec<FieldError>> for ErrorList {
    fn from(errors: Vec<FieldError>) -> Self {
        ErrorList(errors)
    }
}

impl FromIterator<FieldError> for ErrorList {
    fn from_iter<I: IntoIterator<Item = FieldError>>(iter: I) -> Self {
        ErrorList(iter.into_iter().collect())
    }
}

/// One error as it is, several between brackets, each text once: the form a Status' message has.
impl fmt::Display for ErrorList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts: Vec<String> = Vec::with_capacity(self.0.len());
        for error in &self.0 {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        match &texts[..] {
            [one] => f.write_str(one),
            many => write!(f, "[{}]", many.join(", ")),
        }
    }
}

impl std::error::Error for ErrorList {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_read_as_kubernetes_writes_them() {
        let root = FieldPath::root();
        assert_eq!(root.to_string(), "");
        assert_eq!(
            root.child("spec").child("containers").index(0).child("name").to_string(),
            "spec.containers[0].name"
        );
        assert_eq!(FieldPath::new("metadata").child("labels").key("a").to_string(), "metadata.labels[a]");
    }

    #[test]
    fn bodies() {
        let p = FieldPath::new("f");
        for (error, want) in [
            (FieldError::required(&p, ""), "Required value"),
            (FieldError::required(&p, "must be set"), "Required value: must be set"),
            (FieldError::invalid(&p, "x\"", "no"), "Invalid value: \"x\\\"\": no"),
            (FieldError::invalid(&p, 5, "no"), "Invalid value: 5: no"),
            (FieldError::invalid(&p, json!({"a": "<"}), "no"), "Invalid value: {\"a\":\"\\u003c\"}: no"),
            (
                FieldError::not_supported(&p, "x", &["a", "b"]),
                "Unsupported value: \"x\": supported values: \"a\", \"b\"",
            ),
            (FieldError::duplicate(&p, "x"), "Duplicate value: \"x\""),
            (FieldError::forbidden(&p, "no"), "Forbidden: no"),
            (FieldError::too_long(&p, 63), "Too long: may not be more than 63 bytes"),
            (FieldError::too_many(&p, 3, 1), "Too many: 3: must have at most 1 item"),
            (FieldError::not_found(&p, "x"), "Not found: \"x\""),
            (FieldError::internal(&p, "boom"), "Internal error: boom"),
        ] {
            assert_eq!(error.body(), want);
        }
    }

    #[test]
    fn a_list_says_each_thing_once() {
        let e = FieldError::required(&FieldPath::new("a"), "");
        assert_eq!(ErrorList::from(vec![e.clone(), e.clone()]).to_string(), "a: Required value");
        let f = FieldError::required(&FieldPath::new("b"), "");
        assert_eq!(ErrorList::from(vec![e, f]).to_string(), "[a: Required value, b: Required value]");
    }
}
