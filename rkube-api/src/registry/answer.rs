//! Kinds that are questions: a create is answered and nothing is stored (reviews of access and tokens).

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectRulesReviewStatus,
};

use crate::{error::ApiError, object::Object, request::UserInfo};

/// Answers a question, in the hub version.
pub type AnswerFn =
    Arc<dyn for<'a> Fn(&'a dyn Oracle, Object) -> BoxFuture<'a, Result<Object, ApiError>> + Send + Sync>;

/// What an answer can find out: the server's knowledge of users and their rights.
#[async_trait]
pub trait Oracle: Send + Sync {
    /// Who asks.
    fn user(&self) -> &UserInfo;

    /// The audience for which this server takes tokens.
    fn audience(&self) -> &str;

    /// Whether a user may do this to a resource. The verb `*` stands for all verbs, and one that the server
    /// does not know is allowed to those who may do everything.
    async fn may_use(&self, user: &UserInfo, what: &ResourceAttributes) -> bool;

    /// Whether a user may do this to a path that is no resource.
    async fn may_reach(&self, user: &UserInfo, what: &NonResourceAttributes) -> bool;

    /// What the user may do in a namespace; see [`SubjectRulesReviewStatus`].
    async fn rules(&self, user: &UserInfo, namespace: &str) -> SubjectRulesReviewStatus;

    /// The user of a bearer token, if it is good.
    async fn token(&self, token: &str) -> Result<Option<Arc<UserInfo>>, ApiError>;
}
