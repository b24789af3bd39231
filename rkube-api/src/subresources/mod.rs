//! Subresources: one file each. `status` and `scale` follow from a kind's definition; the others are
//! handlers, found by group, resource and name.

mod binding;
mod ephemeral_containers;
mod eviction;
mod finalize;
pub(crate) mod scale;
pub(crate) mod status;
mod token;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use serde_json::Value;

use crate::{
    admission::{self, AdmissionRequest, Operation},
    error::ApiError,
    object::{Kind, Object},
    pipeline::{Call, parse},
    request::{ApiResponse, Body},
};

/// Every built-in handler.
pub(crate) fn all() -> Vec<Arc<dyn Handler>> {
    vec![
        Arc::new(binding::BindPod),
        Arc::new(ephemeral_containers::EphemeralContainers),
        Arc::new(eviction::EvictPod),
        Arc::new(finalize::FinalizeNamespace),
        Arc::new(token::RequestToken),
    ]
}

/// Serves one subresource.
#[async_trait]
pub(crate) trait Handler: Send + Sync + 'static {
    /// Group, plural name and subresource.
    fn serves(&self) -> (&str, &str, &str);

    /// Answers a request whose verb the definition allows.
    async fn serve(&self, call: &Call<'_>, body: Body) -> Result<ApiResponse, ApiError>;
}

/// The body of a subresource as the kind that it has to be.
fn typed_body<K: Kind>(body: Body) -> Result<K, ApiError> {
    let value = match body {
        Body::Object(object) => match object.as_kind::<K>() {
            Some(found) => return Ok(found.clone()),
            None => object.to_value()?,
        },
        Body::Bytes { content_type, bytes } => parse(&content_type, &bytes)?.object,
        Body::Empty | Body::Delete(_) => {
            return Err(ApiError::bad_request(format!("the request has no {} in its body", K::KIND)));
        }
    };
    let mut value = value;
    if let Value::Object(map) = &mut value {
        let fits = |found: Option<&Value>, wanted: &str| match found {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty() || text == wanted,
            Some(_) => false,
        };
        if !fits(map.get("kind"), K::KIND) || !fits(map.get("apiVersion"), K::API_VERSION) {
            let text = |field| map.get(field).map(ToString::to_string).unwrap_or_default();
            return Err(ApiError::bad_request(format!(
                "{} in version {} cannot be handled as a {}",
                text("kind"),
                text("apiVersion"),
                K::KIND
            )));
        }
        map.insert("kind".into(), K::KIND.into());
        map.insert("apiVersion".into(), K::API_VERSION.into());
    }
    serde_json::from_value(value).map_err(|error| {
        ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {error}",
            K::KIND,
            K::VERSION,
            K::KIND
        ))
    })
}

/// A body that names an object must name the one in the URL.
fn check_place(call: &Call<'_>, meta: &ObjectMeta, kind: &str) -> Result<(), ApiError> {
    if meta.name.as_deref().is_some_and(|name| !name.is_empty() && name != call.name()) {
        return Err(ApiError::bad_request(format!("name in URL does not match name in {kind} object")));
    }
    if meta.namespace.as_deref().is_some_and(|name| !name.is_empty() && name != call.namespace()) {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Takes the body of a subresource through admission, as something that is made. What plugins want checked
/// in the commit is not asked: no object is made.
async fn admit<K: Kind>(
    call: &Call<'_>,
    body: K,
    dry_run: bool,
    warnings: &mut Vec<String>,
) -> Result<K, ApiError> {
    let plugins = call.server.admission();
    let object = Object::new(body);
    let mut request = AdmissionRequest::new(call, Operation::Create, None, Some(object)).dry(dry_run);
    admission::mutate(plugins, &mut request).await?;
    admission::validate(plugins, &mut request).await?;
    *warnings = request.take_warnings(std::mem::take(warnings));
    Ok(Arc::unwrap_or_clone(request.take_object()?.into_kind()?))
}

/// The Status of what was done.
fn success(warnings: Vec<String>) -> ApiResponse {
    let status = Status { status: Some("Success".into()), code: Some(201), ..Status::default() };
    ApiResponse::Status { status: Box::new(status), warnings }
}
