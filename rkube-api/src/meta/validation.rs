//! Field errors. (Placeholder shape; the real machinery replaces this file.)

/// Why a field is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The value is not allowed.
    Invalid,
}

impl Reason {
    /// As in a cause: `FieldValueInvalid`.
    pub fn as_str(self) -> &'static str {
        "FieldValueInvalid"
    }
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Why.
    pub reason: Reason,
    /// Its path.
    pub field: String,
    /// What is wrong.
    pub detail: String,
}

impl FieldError {
    /// The message without the field.
    pub fn body(&self) -> String {
        self.detail.clone()
    }
}

/// All that is wrong with an object.
pub type ErrorList = Vec<FieldError>;
