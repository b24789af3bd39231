//! What a client asks and what the server answers, before and after any wire.
//!
//! The in-process client and the HTTP adapter both make an [`ApiRequest`] and hand it to a
//! [`Transport`]; from there on nothing knows which of the two it was.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Status};

use crate::{error::ApiError, object::Object};

/// Carries a request to an API server, in this process or elsewhere.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends one request and gives its answer. An error is the server's Status, or what kept the
    /// request from reaching it.
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError>;
}

/// Who asks, as far as the transport knows; authentication makes a [`UserInfo`] of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing was shown.
    Anonymous,
    /// A bearer token.
    Token(String),
    /// A verified client certificate: the subject's common name and organizations.
    Certificate {
        /// The user's name.
        common_name: String,
        /// The user's groups.
        organizations: Vec<String>,
    },
    /// A component in this process, which the assembly vouches for.
    InProcess(Arc<UserInfo>),
}

/// An authenticated user.
///
/// ```
/// let user = rkube_api::request::UserInfo::component("system:kube-scheduler");
/// assert!(user.in_group("system:authenticated"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// For example `system:kube-scheduler`, `system:node:n1`, `system:serviceaccount:ns:name`.
    pub name: String,
    /// For example `system:masters`.
    pub groups: Vec<String>,
    /// The user's UID, if it has one.
    pub uid: Option<String>,
}

impl UserInfo {
    /// The user of a component of the control plane.
    pub fn component(name: impl Into<String>) -> Self {
        Self { name: name.into(), groups: vec!["system:authenticated".into()], uid: None }
    }

    /// The user of a node agent.
    pub fn node(node: &str) -> Self {
        Self {
            name: format!("system:node:{node}"),
            groups: vec!["system:nodes".into(), "system:authenticated".into()],
            uid: None,
        }
    }

    /// A user who may do everything.
    pub fn admin(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            groups: vec!["system:masters".into(), "system:authenticated".into()],
            uid: None,
        }
    }

    /// Whether the user belongs to `group`.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|mine| mine == group)
    }
}

/// The verbs of the API, as authorization and audit name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Read one.
    Get,
    /// Read many.
    List,
    /// Follow changes.
    Watch,
    /// Make one.
    Create,
    /// Replace one.
    Update,
    /// Change one in part.
    Patch,
    /// Remove one.
    Delete,
    /// Remove many.
    DeleteCollection,
}

impl Verb {
    /// Every verb, in the order in which discovery lists them.
    pub const ALL: [Self; 8] = [
        Self::Create,
        Self::Delete,
        Self::DeleteCollection,
        Self::Get,
        Self::List,
        Self::Patch,
        Self::Update,
        Self::Watch,
    ];

    /// The verb as RBAC and discovery write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Whether the verb changes anything.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request is about: a resource, one object of it, or a subresource of that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The API group, empty for the core group.
    pub group: String,
    /// The version asked for.
    pub version: String,
    /// The plural resource name, `pods`.
    pub resource: String,
    /// The namespace; `None` means cluster-scoped, or all namespaces in a list.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: Option<String>,
    /// `status`, `scale`, `binding`, ...
    pub subresource: Option<String>,
}

/// One request, decoded as far as its options; the body is decoded by the pipeline.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    /// Who asks.
    pub credentials: Credentials,
    /// What is asked.
    pub verb: Verb,
    /// Of what.
    pub target: Target,
    /// How.
    pub options: Options,
    /// With which object or patch.
    pub body: Body,
    /// `User-Agent`: its first word, up to `/`, is the default field manager.
    pub user_agent: Arc<str>,
}

/// The body of a request.
#[derive(Clone, Debug, Default)]
pub enum Body {
    /// No body.
    #[default]
    Empty,
    /// An object passed by value, in process: nothing to decode.
    Object(Object),
    /// Text from a wire, of a media type: an object, a patch, or delete options.
    Bytes {
        /// `Content-Type`, without parameters.
        content_type: String,
        /// The text.
        bytes: Bytes,
    },
    /// Delete options passed by value, in process.
    Delete(Box<DeleteOptions>),
}

/// The media types of patches.
pub mod patch_type {
    /// RFC 6902.
    pub const JSON: &str = "application/json-patch+json";
    /// RFC 7396.
    pub const MERGE: &str = "application/merge-patch+json";
    /// Kubernetes' strategic merge patch.
    pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
    /// Server-side apply.
    pub const APPLY: &str = "application/apply-patch+yaml";
}

/// What to do with fields that the type does not have, and with duplicates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently; the default in process, where a typed object cannot have any.
    #[default]
    Ignore,
    /// Drop them with a warning; the default over HTTP.
    Warn,
    /// Refuse them.
    Strict,
}

/// How `resourceVersion` is to be met by a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    /// Exactly that state.
    Exact,
    /// That state or a later one.
    NotOlderThan,
}

/// The options of every verb; each verb reads those that it has. As in `metav1.ListOptions`,
/// `CreateOptions`, `PatchOptions`, ... and on the wire, absent is empty or `None`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Reads: the version asked for, as given.
    pub resource_version: Option<String>,
    /// Lists, watches: how to meet it.
    pub resource_version_match: Option<VersionMatch>,
    /// Lists, watches: the label selector, as given.
    pub label_selector: Option<String>,
    /// Lists, watches: the field selector, as given.
    pub field_selector: Option<String>,
    /// Lists: at most so many; 0 is no bound.
    pub limit: u64,
    /// Lists: where the last page ended.
    pub continue_token: Option<String>,
    /// Watches: end after this.
    pub timeout: Option<Duration>,
    /// Watches: whether bookmarks are welcome.
    pub allow_watch_bookmarks: bool,
    /// Watches: whether to begin with what exists.
    pub send_initial_events: Option<bool>,
    /// Writes: run everything, keep nothing.
    pub dry_run: bool,
    /// Writes: the manager's name.
    pub field_manager: Option<String>,
    /// Writes: unknown and duplicate fields.
    pub field_validation: FieldValidation,
    /// Apply: take over fields in conflict.
    pub force: bool,
    /// `pretty`: indented JSON.
    pub pretty: bool,
}

/// The answer to a request.
pub enum ApiResponse {
    /// One object: read, or as the write left it.
    Object {
        /// The object.
        object: Object,
        /// 200, 201 or 202.
        code: u16,
        /// What to tell the user besides.
        warnings: Vec<String>,
    },
    /// Many objects.
    List(List),
    /// A stream of changes.
    Watch(WatchStream),
    /// What a finished delete says.
    Status {
        /// The Status.
        status: Box<Status>,
        /// What to tell the user besides.
        warnings: Vec<String>,
    },
}

impl fmt::Debug for ApiResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object { object, code, .. } => write!(f, "Object({code}, {object:?})"),
            Self::List(list) => write!(f, "List({} items at {})", list.items.len(), list.resource_version),
            Self::Watch(_) => f.write_str("Watch"),
            Self::Status { status, .. } => write!(f, "Status({status:?})"),
        }
    }
}

/// A page of objects.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// `apiVersion` of the list and its items.
    pub api_version: String,
    /// `PodList`.
    pub kind: String,
    /// The objects, in the order of their keys.
    pub items: Vec<Object>,
    /// The state that the list shows.
    pub resource_version: String,
    /// Where the next page begins, if there is one.
    pub continue_token: Option<String>,
    /// How many follow, unless a selector is set.
    pub remaining: Option<u64>,
}

/// A stream of changes; it ends when the server has nothing more to say.
pub type WatchStream = BoxStream<'static, WatchEvent>;

/// One change.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// The object is new to the watcher.
    Added(Object),
    /// The object has changed.
    Modified(Object),
    /// The object is gone, or no longer matches; it carries the version of that.
    Deleted(Object),
    /// Everything up to this version has been sent.
    Bookmark {
        /// That version.
        resource_version: String,
        /// Whether this ends the initial events.
        initial_events_end: bool,
    },
    /// The watch is over; for example 410 Expired.
    Error(ApiError),
}
