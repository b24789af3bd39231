//! Subresources: one file each. `status` and `scale` follow from a kind's definition; the others are
//! handlers, found by group, resource and name.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    error::ApiError,
    pipeline::Call,
    request::{ApiResponse, Body},
};

pub(crate) mod scale;
pub(crate) mod status;

/// Every built-in handler.
pub(crate) fn all() -> Vec<Arc<dyn Handler>> {
    vec![]
}

/// Serves one subresource.
#[async_trait]
pub(crate) trait Handler: Send + Sync + 'static {
    /// Group, plural name and subresource.
    fn serves(&self) -> (&str, &str, &str);

    /// Answers a request whose verb the definition allows.
    async fn serve(&self, call: &Call<'_>, body: Body) -> Result<ApiResponse, ApiError>;
}
