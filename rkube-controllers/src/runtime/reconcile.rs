//! What a controller's author writes.

use std::{future::Future, time::Duration};

use async_trait::async_trait;
use rkube_api::{client::ObjectKey, error::ApiError};

/// Brings the world one step closer to what an object asks for.
///
/// The runtime calls it with the key of an object that may have changed, never twice at a time for one
/// key. It must be idempotent and look at the present state only: several changes may come as one call,
/// a call may come without any change, and the object may be gone.
///
/// ```
/// use async_trait::async_trait;
/// use k8s_openapi::api::core::v1::ConfigMap;
/// use rkube_api::client::{Api, Client, ObjectKey};
/// use rkube_controllers::runtime::{Outcome, Reconcile, ReconcileError};
///
/// struct Greeter {
///     client: Client,
/// }
///
/// #[async_trait]
/// impl Reconcile for Greeter {
///     async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
///         let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.namespace);
///         let Some(map) = maps.get_opt(&key.name).await? else { return Ok(Outcome::Done) };
///         // ... compare with what it asks for, and write what is missing ...
///         Ok(Outcome::Done)
///     }
/// }
/// ```
#[async_trait]
pub trait Reconcile: Send + Sync + 'static {
    /// Looks at the object of this key and does what is missing.
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError>;
}

/// When a key is to be looked at again, after success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// When something changes.
    Done,
    /// After this time at the latest.
    RequeueAfter(Duration),
}

impl Outcome {
    /// The outcome of a plan that may want another look.
    pub fn after(wait: Option<Duration>) -> Self {
        wait.map_or(Self::Done, Self::RequeueAfter)
    }
}

/// Why a key could not be reconciled.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API said no; tried again with growing pauses.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Trying again makes no sense until the object changes.
    #[error("{0}")]
    Permanent(String),
    /// Anything else; tried again with growing pauses.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

impl ReconcileError {
    /// Whether the key is to be tried again.
    pub fn is_retried(&self) -> bool {
        !matches!(self, Self::Permanent(_))
    }

    /// Whether it is the ordinary result of acting on a cache that lags behind.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(ApiError::Conflict { .. } | ApiError::AlreadyExists { .. }))
    }
}

/// A reconciler from an asynchronous closure.
///
/// ```
/// use rkube_controllers::runtime::{Outcome, reconcile_fn};
/// let reconciler = reconcile_fn(|key| async move {
///     println!("{key} may have changed");
///     Ok(Outcome::Done)
/// });
/// ```
pub fn reconcile_fn<F, Fut>(function: F) -> impl Reconcile
where
    F: Fn(ObjectKey) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Outcome, ReconcileError>> + Send + 'static,
{
    Function(function)
}

struct Function<F>(F);

#[async_trait]
impl<F, Fut> Reconcile for Function<F>
where
    F: Fn(ObjectKey) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Outcome, ReconcileError>> + Send + 'static,
{
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        (self.0)(key.clone()).await
    }
}
