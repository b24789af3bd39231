//! The client of every component: [`Client`] and typed [`Api`] over a [`Transport`].
//!
//! In process nothing is encoded: what a read returns is the `Arc` that the server's cache holds. The
//! same code talks to a remote cluster when the transport is remote. On top of it: watchers, informers
//! with caches and indexes, work queues, an event recorder and leader election, one module each.

mod api;
mod cache;
mod events;
mod follow;
mod informer;
mod key;
pub mod leader;
mod params;
mod work_queue;

use std::sync::Arc;

pub use api::{Api, KindWatchEvent, KindWatchStream, ObjectList};
pub use cache::Cache;
pub use events::{EventKind, EventRecorder, reference_to};
pub use follow::{Seen, follow};
pub use informer::{Change, Informer, Informers, Scope};
pub use key::ObjectKey;
pub use params::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Precondition, WatchParams};
pub use work_queue::{Backoff, WorkQueue};

use crate::{
    context::Context,
    error::ApiError,
    request::{ApiRequest, ApiResponse, Body, Credentials, Options, Target, Transport, Verb},
};

/// A user's access to an API server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    credentials: Credentials,
    user_agent: Arc<str>,
    context: Context,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({}, {:?})", self.user_agent, self.credentials)
    }
}

impl Client {
    /// A client that sends as `credentials`. `user_agent` is also the default field manager, up to its
    /// first `/`.
    pub fn new(
        transport: Arc<dyn Transport>,
        credentials: Credentials,
        user_agent: impl Into<Arc<str>>,
        context: Context,
    ) -> Self {
        Self { transport, credentials, user_agent: user_agent.into(), context }
    }

    /// The same server, seen by another user.
    pub fn with_credentials(&self, credentials: Credentials, user_agent: impl Into<Arc<str>>) -> Self {
        Self { credentials, user_agent: user_agent.into(), ..self.clone() }
    }

    /// The same access for a component that takes time, randomness and tasks from elsewhere.
    pub fn with_context(&self, context: Context) -> Self {
        Self { context, ..self.clone() }
    }

    /// Where components of this client take time, randomness and tasks from.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The name under which it sends.
    pub fn user_agent(&self) -> &str {
        &self.user_agent
    }

    /// Sends a request; everything else is built on this.
    pub async fn request(
        &self,
        verb: Verb,
        target: Target,
        options: Options,
        body: Body,
    ) -> Result<ApiResponse, ApiError> {
        self.transport
            .send(ApiRequest {
                credentials: self.credentials.clone(),
                verb,
                target,
                options,
                body,
                user_agent: self.user_agent.clone(),
            })
            .await
    }
}
