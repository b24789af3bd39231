//! `status`: the same object, of which a write changes the status alone.

use crate::{
    error::ApiError,
    pipeline::{Call, Rules, get, patch, update},
    registry::StatusStrategy,
    request::{ApiResponse, Body, Verb},
};

/// Answers a request on the status of an object.
pub(crate) async fn serve(
    call: &Call<'_>,
    strategy: &StatusStrategy,
    body: Body,
) -> Result<ApiResponse, ApiError> {
    let rules = Rules::status(strategy);
    match call.verb {
        Verb::Get => get(call).await,
        Verb::Update => update(call, body, &rules).await,
        Verb::Patch => patch(call, body, &rules).await,
        _ => Err(ApiError::MethodNotAllowed),
    }
}
