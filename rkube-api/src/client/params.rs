//! The parameters of the client's calls, each with its defaults.

use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use serde_json::Value;

use crate::{
    error::ApiError,
    request::{FieldValidation, Options, VersionMatch, patch_type},
};

/// What to list.
///
/// ```
/// use rkube_api::client::ListParams;
/// let params = ListParams::default().labels("app=web").fields("spec.nodeName=n1").limit(500);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListParams {
    /// Label selector; empty selects all.
    pub labels: String,
    /// Field selector; empty selects all.
    pub fields: String,
    /// At most so many; 0 is no bound.
    pub limit: u64,
    /// Where the last page ended.
    pub continue_token: Option<String>,
    /// The version asked for; absent is the newest.
    pub resource_version: Option<String>,
    /// How to meet it.
    pub version_match: Option<VersionMatch>,
}

impl ListParams {
    /// Selects by labels.
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = selector.into();
        self
    }

    /// Selects by fields.
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = selector.into();
        self
    }

    /// Bounds the page.
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// Goes on from the last page.
    pub fn continue_from(mut self, token: impl Into<String>) -> Self {
        self.continue_token = Some(token.into());
        self
    }

    /// Any cached state will do (`resourceVersion=0`).
    pub fn any_version(mut self) -> Self {
        self.resource_version = Some("0".into());
        self
    }

    pub(crate) fn options(&self) -> Options {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Options {
            label_selector: some(&self.labels),
            field_selector: some(&self.fields),
            limit: self.limit,
            continue_token: self.continue_token.clone(),
            resource_version: self.resource_version.clone(),
            resource_version_match: self.version_match,
            ..Options::default()
        }
    }
}

/// What to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchParams {
    /// Label selector; empty selects all.
    pub labels: String,
    /// Field selector; empty selects all.
    pub fields: String,
    /// The version after which to begin; absent or `0` begins with what exists.
    pub resource_version: Option<String>,
    /// Whether bookmarks are welcome.
    pub bookmarks: bool,
    /// Begin with what exists and mark its end with a bookmark (needs `bookmarks`).
    pub initial_events: bool,
    /// End after this.
    pub timeout: Option<Duration>,
}

impl WatchParams {
    /// Begins after `version`.
    pub fn after(version: impl Into<String>) -> Self {
        Self { resource_version: Some(version.into()), ..Self::default() }
    }

    /// Welcomes bookmarks.
    pub fn bookmarks(mut self) -> Self {
        self.bookmarks = true;
        self
    }

    pub(crate) fn options(&self) -> Options {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Options {
            label_selector: some(&self.labels),
            field_selector: some(&self.fields),
            resource_version: self.resource_version.clone(),
            resource_version_match: self.initial_events.then_some(VersionMatch::NotOlderThan),
            allow_watch_bookmarks: self.bookmarks,
            send_initial_events: self.initial_events.then_some(true),
            timeout: self.timeout,
            ..Options::default()
        }
    }
}

/// How to create or replace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostParams {
    /// Run everything, keep nothing.
    pub dry_run: bool,
    /// The manager's name, if not the user agent's.
    pub field_manager: Option<String>,
    /// Unknown and duplicate fields.
    pub field_validation: FieldValidation,
}

impl PostParams {
    pub(crate) fn options(&self) -> Options {
        Options {
            dry_run: self.dry_run,
            field_manager: self.field_manager.clone(),
            field_validation: self.field_validation,
            ..Options::default()
        }
    }
}

/// How to patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchParams {
    /// Run everything, keep nothing.
    pub dry_run: bool,
    /// The manager's name; apply needs one.
    pub field_manager: Option<String>,
    /// Unknown and duplicate fields.
    pub field_validation: FieldValidation,
    /// Apply: take over fields in conflict.
    pub force: bool,
}

impl PatchParams {
    pub(crate) fn options(&self) -> Options {
        let Self { dry_run, field_manager, field_validation, force } = self.clone();
        let write = PostParams { dry_run, field_manager, field_validation };
        Options { force, ..write.options() }
    }
}

/// A change to part of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7396.
    Merge(Value),
    /// Kubernetes' strategic merge.
    Strategic(Value),
    /// Server-side apply.
    Apply(Value),
}

impl Patch {
    /// Its media type and text.
    pub(crate) fn encode(&self) -> Result<(&'static str, Bytes), ApiError> {
        let (kind, value) = match self {
            Self::Json(value) => (patch_type::JSON, value),
            Self::Merge(value) => (patch_type::MERGE, value),
            Self::Strategic(value) => (patch_type::STRATEGIC, value),
            Self::Apply(value) => (patch_type::APPLY, value),
        };
        let text = serde_json::to_vec(value).map_err(|error| ApiError::bad_request(error.to_string()))?;
        Ok((kind, text.into()))
    }
}

/// What must hold for a delete to go through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// The object's UID.
    pub uid: Option<String>,
    /// The object's version.
    pub resource_version: Option<String>,
}

/// How to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteParams {
    /// Run everything, keep nothing.
    pub dry_run: bool,
    /// Seconds; absent is the kind's default.
    pub grace_period: Option<i64>,
    /// `Foreground`, `Background` or `Orphan`; absent is the kind's default.
    pub propagation: Option<String>,
    /// What must hold.
    pub precondition: Precondition,
}

impl DeleteParams {
    /// At once, without grace.
    pub fn now() -> Self {
        Self { grace_period: Some(0), ..Self::default() }
    }

    /// Only the object of this UID.
    pub fn uid(mut self, uid: impl Into<String>) -> Self {
        self.precondition.uid = Some(uid.into());
        self
    }

    /// Background, foreground or orphan.
    pub fn propagation(mut self, policy: impl Into<String>) -> Self {
        self.propagation = Some(policy.into());
        self
    }

    pub(crate) fn delete_options(&self) -> DeleteOptions {
        let Precondition { uid, resource_version } = self.precondition.clone();
        DeleteOptions {
            dry_run: self.dry_run.then(|| vec!["All".into()]),
            grace_period_seconds: self.grace_period,
            preconditions: (uid.is_some() || resource_version.is_some())
                .then_some(Preconditions { uid, resource_version }),
            propagation_policy: self.propagation.clone(),
            ..DeleteOptions::default()
        }
    }
}
