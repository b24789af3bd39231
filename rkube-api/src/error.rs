//! The errors of the API and their one mapping to `metav1.Status`.
//!
//! ```
//! use rkube_api::error::ApiError;
//!
//! let status = ApiError::not_found("", "pods", "web-0").to_status();
//! assert_eq!(status.code, Some(404));
//! assert_eq!(status.message.as_deref(), Some("pods \"web-0\" not found"));
//! ```

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, Status, StatusCause, StatusDetails};

use crate::{meta::validation::FieldError, object::ObjectError};

/// What went wrong, with the fields that a client may want. The code and reason of the Status follow
/// from the variant, never from a text.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum ApiError {
    /// 404: the object does not exist.
    #[error("{} {name:?} not found", qualified(resource, group))]
    NotFound {
        /// The API group.
        group: String,
        /// The plural resource name.
        resource: String,
        /// The object's name.
        name: String,
    },
    /// 404: there is no such path or resource.
    #[error("the server could not find the requested resource")]
    NoSuchPath,
    /// 409: an object of this name exists.
    #[error("{} {name:?} already exists", qualified(resource, group))]
    AlreadyExists {
        /// The API group.
        group: String,
        /// The plural resource name.
        resource: String,
        /// The object's name.
        name: String,
    },
    /// 409: the object has changed, or a precondition failed.
    #[error("Operation cannot be fulfilled on {} {name:?}: {message}", qualified(resource, group))]
    Conflict {
        /// The API group.
        group: String,
        /// The plural resource name.
        resource: String,
        /// The object's name.
        name: String,
        /// Which condition failed.
        message: String,
        /// For apply: a cause a field in conflict.
        causes: Vec<Cause>,
    },
    /// 422: the object is not valid.
    #[error("{} {name:?} is invalid: {}", qualified(kind, group), joined(causes))]
    Invalid {
        /// The API group.
        group: String,
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// One a field that is wrong.
        causes: Vec<Cause>,
    },
    /// 400: the request makes no sense.
    #[error("{message}")]
    BadRequest {
        /// Why.
        message: String,
    },
    /// 401: the credentials are missing or wrong.
    #[error("Unauthorized")]
    Unauthorized,
    /// 403: not allowed.
    #[error("{message}")]
    Forbidden {
        /// The API group.
        group: String,
        /// The plural resource name, empty for a path.
        resource: String,
        /// The object's name.
        name: String,
        /// The whole sentence.
        message: String,
        /// For example NamespaceTerminating.
        causes: Vec<Cause>,
    },
    /// 405: the resource does not know the verb.
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// 406: none of the accepted media types can be served.
    #[error("only the following media types are accepted: {}", supported.join(", "))]
    NotAcceptable {
        /// Those that can.
        supported: Vec<String>,
    },
    /// 415: the body's media type is not known here.
    #[error(
        "the body of the request was in an unknown format - accepted media types include: {}",
        supported.join(", ")
    )]
    UnsupportedMediaType {
        /// Those that are.
        supported: Vec<String>,
    },
    /// 413: the body is too large.
    #[error("{message}")]
    TooLarge {
        /// Which bound was passed.
        message: String,
    },
    /// 410: the version asked for is no longer held.
    #[error("{message}")]
    Expired {
        /// Which.
        message: String,
        /// For an expired page: a token that goes on from the newest state.
        continue_token: Option<String>,
    },
    /// 504: the version asked for lies ahead.
    #[error("Timeout: Too large resource version: {requested}, current: {current}")]
    VersionTooLarge {
        /// Asked for.
        requested: u64,
        /// Reached.
        current: u64,
    },
    /// 429: not now.
    #[error("{message}")]
    TooManyRequests {
        /// Why.
        message: String,
        /// When to come again, in seconds; 0 if nobody knows.
        retry_after: u32,
        /// For example DisruptionBudget.
        causes: Vec<Cause>,
    },
    /// 504: the server did not finish in time; a write may have happened.
    #[error("{message}")]
    Timeout {
        /// What was going on.
        message: String,
    },
    /// 503: the server cannot be used now, or could not be reached.
    #[error("{message}")]
    Unavailable {
        /// Why.
        message: String,
    },
    /// 500: a fault of the server.
    #[error("Internal error occurred: {message}")]
    Internal {
        /// Which.
        message: String,
    },
    /// Any other Status: of a remote server, or one whose sentence follows no pattern.
    #[error("{}", .0.message.as_deref().unwrap_or_default())]
    Other(Box<Status>),
}

/// One cause in the details of a Status.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cause {
    /// For example `FieldValueInvalid`.
    pub reason: String,
    /// The field's path, empty if it is no field.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl Cause {
    /// A cause.
    pub fn new(reason: impl Into<String>, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), field: field.into(), message: message.into() }
    }
}

impl From<&FieldError> for Cause {
    fn from(error: &FieldError) -> Self {
        Self::new(error.reason.as_str(), error.field.as_str(), error.body())
    }
}

impl From<Cause> for StatusCause {
    fn from(cause: Cause) -> Self {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Self { reason: some(cause.reason), field: some(cause.field), message: some(cause.message) }
    }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

fn joined(causes: &[Cause]) -> String {
    let text = |cause: &Cause| match cause.field.as_str() {
        "" => cause.message.clone(),
        field => format!("{field}: {}", cause.message),
    };
    let mut texts: Vec<String> = causes.iter().map(text).collect();
    if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) }
}

impl ApiError {
    /// 404 for an object.
    pub fn not_found(group: impl Into<String>, resource: impl Into<String>, name: impl Into<String>) -> Self {
        Self::NotFound { group: group.into(), resource: resource.into(), name: name.into() }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest { message: message.into() }
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal { message: message.into() }
    }

    /// A Status whose sentence follows no pattern.
    #[cfg(feature = "server")]
    pub(crate) fn sentence(
        code: i32,
        reason: Option<&str>,
        message: impl Into<String>,
        causes: Vec<Cause>,
    ) -> Self {
        let causes: Vec<_> = causes.into_iter().map(StatusCause::from).collect();
        let details = StatusDetails { causes: Some(causes), ..StatusDetails::default() };
        Self::Other(Box::new(Status {
            status: Some("Failure".into()),
            code: Some(code),
            reason: reason.map(Into::into),
            message: Some(message.into()),
            details: Some(details).filter(|details| details.causes != Some(Vec::new())),
            ..Status::default()
        }))
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        match self {
            Self::NotFound { .. } | Self::NoSuchPath => 404,
            Self::AlreadyExists { .. } | Self::Conflict { .. } => 409,
            Self::Invalid { .. } => 422,
            Self::BadRequest { .. } => 400,
            Self::Unauthorized => 401,
            Self::Forbidden { .. } => 403,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable { .. } => 406,
            Self::UnsupportedMediaType { .. } => 415,
            Self::TooLarge { .. } => 413,
            Self::Expired { .. } => 410,
            Self::VersionTooLarge { .. } | Self::Timeout { .. } => 504,
            Self::TooManyRequests { .. } => 429,
            Self::Unavailable { .. } => 503,
            Self::Internal { .. } => 500,
            Self::Other(status) => status.code.and_then(|code| u16::try_from(code).ok()).unwrap_or(500),
        }
    }

    /// `reason` of the Status.
    pub fn reason(&self) -> &str {
        match self {
            Self::NotFound { .. } | Self::NoSuchPath => "NotFound",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::Conflict { .. } => "Conflict",
            Self::Invalid { .. } => "Invalid",
            Self::BadRequest { .. } => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden { .. } => "Forbidden",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable { .. } => "NotAcceptable",
            Self::UnsupportedMediaType { .. } => "UnsupportedMediaType",
            Self::TooLarge { .. } => "RequestEntityTooLarge",
            Self::Expired { .. } => "Expired",
            Self::VersionTooLarge { .. } | Self::Timeout { .. } => "Timeout",
            Self::TooManyRequests { .. } => "TooManyRequests",
            Self::Unavailable { .. } => "ServiceUnavailable",
            Self::Internal { .. } => "InternalError",
            Self::Other(status) => status.reason.as_deref().unwrap_or_default(),
        }
    }

    /// How many seconds the client should wait before it tries again, if it should.
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::TooManyRequests { retry_after, .. } => Some(*retry_after).filter(|seconds| *seconds > 0),
            Self::VersionTooLarge { .. } => Some(1),
            Self::Other(status) => {
                status.details.as_ref()?.retry_after_seconds.and_then(|seconds| u32::try_from(seconds).ok())
            }
            _ => None,
        }
    }

    fn subject(&self) -> (&str, &str, &str) {
        match self {
            Self::NotFound { group, resource, name }
            | Self::AlreadyExists { group, resource, name }
            | Self::Conflict { group, resource, name, .. }
            | Self::Forbidden { group, resource, name, .. }
            | Self::Invalid { group, kind: resource, name, .. } => (group, resource, name),
            _ => ("", "", ""),
        }
    }

    fn causes(&self) -> Vec<Cause> {
        match self {
            Self::Conflict { causes, .. }
            | Self::Invalid { causes, .. }
            | Self::Forbidden { causes, .. }
            | Self::TooManyRequests { causes, .. } => causes.clone(),
            Self::VersionTooLarge { .. } => {
                vec![Cause::new("ResourceVersionTooLarge", "", "Too large resource version")]
            }
            Self::Internal { message } => vec![Cause::new("", "", message)],
            _ => Vec::new(),
        }
    }

    /// The Status that a client sees.
    pub fn to_status(&self) -> Status {
        if let Self::Other(status) = self {
            return (**status).clone();
        }
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (group, kind, name) = self.subject();
        let causes: Vec<_> = self.causes().into_iter().map(StatusCause::from).collect();
        let details = StatusDetails {
            causes: (!causes.is_empty()).then_some(causes),
            group: some(group),
            kind: some(kind),
            name: some(name),
            retry_after_seconds: self.retry_after().and_then(|seconds| i32::try_from(seconds).ok()),
            uid: None,
        };
        let metadata = match self {
            Self::Expired { continue_token, .. } => {
                ListMeta { continue_: continue_token.clone(), ..ListMeta::default() }
            }
            _ => ListMeta::default(),
        };
        Status {
            code: Some(i32::from(self.code())),
            details: (details != StatusDetails::default()).then_some(details),
            message: Some(self.to_string()),
            metadata,
            reason: Some(self.reason().to_owned()),
            status: Some("Failure".into()),
        }
    }

    /// The error that a Status of a remote server stands for.
    pub fn from_status(status: Status) -> Self {
        let details = status.details.clone().unwrap_or_default();
        let causes = details
            .causes
            .unwrap_or_default()
            .into_iter()
            .map(|cause| Cause {
                reason: cause.reason.unwrap_or_default(),
                field: cause.field.unwrap_or_default(),
                message: cause.message.unwrap_or_default(),
            })
            .collect::<Vec<_>>();
        let message = status.message.clone().unwrap_or_default();
        let group = details.group.unwrap_or_default();
        let resource = details.kind.unwrap_or_default();
        let name = details.name.unwrap_or_default();
        match (status.code.unwrap_or_default(), status.reason.as_deref().unwrap_or_default()) {
            (404, _) if !name.is_empty() => Self::NotFound { group, resource, name },
            (404, _) => Self::NoSuchPath,
            (409, "AlreadyExists") => Self::AlreadyExists { group, resource, name },
            (409, "Conflict") => {
                let prefix =
                    format!("Operation cannot be fulfilled on {} {name:?}: ", qualified(&resource, &group));
                match message.strip_prefix(&prefix) {
                    Some(message) => {
                        Self::Conflict { group, resource, name, message: message.to_owned(), causes }
                    }
                    // A sentence of its own: apply names whose fields they are.
                    None => Self::Other(Box::new(status)),
                }
            }
            (422, "Invalid") if !causes.is_empty() => Self::Invalid { group, kind: resource, name, causes },
            (400, "BadRequest") => Self::BadRequest { message },
            (401, _) => Self::Unauthorized,
            (403, _) => Self::Forbidden { group, resource, name, message, causes },
            (405, _) => Self::MethodNotAllowed,
            (410, _) => Self::Expired { message, continue_token: status.metadata.continue_ },
            (413, _) => Self::TooLarge { message },
            (429, _) => Self::TooManyRequests {
                message,
                retry_after: details
                    .retry_after_seconds
                    .and_then(|seconds| u32::try_from(seconds).ok())
                    .unwrap_or(0),
                causes,
            },
            (503, _) => Self::Unavailable { message },
            _ => Self::Other(Box::new(status)),
        }
    }
}

impl From<ObjectError> for ApiError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Decode { message } => Self::BadRequest { message },
            ObjectError::Encode { .. } | ObjectError::WrongKind { .. } => Self::internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_becomes_the_error_it_came_from() {
        let errors = [
            ApiError::not_found("apps", "deployments", "web"),
            ApiError::NoSuchPath,
            ApiError::AlreadyExists { group: String::new(), resource: "pods".into(), name: "a".into() },
            ApiError::Conflict {
                group: "apps".into(),
                resource: "deployments".into(),
                name: "web".into(),
                message: "the object has been modified".into(),
                causes: vec![],
            },
            ApiError::Invalid {
                group: String::new(),
                kind: "Pod".into(),
                name: "a".into(),
                causes: vec![Cause::new("FieldValueRequired", "spec.containers", "Required value")],
            },
            ApiError::Unauthorized,
            ApiError::Expired { message: "too old".into(), continue_token: Some("t".into()) },
        ];
        for error in errors {
            assert_eq!(ApiError::from_status(error.to_status()), error);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_field_if_it_has_one() {
        let invalid = |causes: Vec<Cause>| {
            let (kind, name) = ("Pod".into(), "a".into());
            ApiError::Invalid { group: String::new(), kind, name, causes }.to_string()
        };
        let image = Cause::new("FieldValueRequired", "spec.containers[0].image", "Required value");
        let whole = Cause::new("FieldValueInvalid", "", "the object is odd");
        assert_eq!(
            invalid(vec![image.clone()]),
            "Pod \"a\" is invalid: spec.containers[0].image: Required value"
        );
        assert_eq!(invalid(vec![whole.clone()]), "Pod \"a\" is invalid: the object is odd");
        assert_eq!(
            invalid(vec![image, whole]),
            "Pod \"a\" is invalid: [spec.containers[0].image: Required value, the object is odd]"
        );
    }
}
