//! From an HTTP response to an [`ApiResponse`] or an [`ApiError`].

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use http::{HeaderMap, header};
use http_body_util::BodyExt;
use k8s_openapi::{
    api::{
        authentication::v1::TokenRequest, autoscaling::v1::Scale, core::v1::Binding, policy::v1::Eviction,
    },
    apimachinery::pkg::apis::meta::v1::{ListMeta, Status},
};
use serde::Deserialize;
use serde_json::Value;

use super::{Body, Bytes};
use crate::{
    error::ApiError,
    kinds,
    object::{Kind, Object, ObjectError},
    registry::Decode,
    request::{ApiResponse, List, Verb},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(super) async fn collect(body: Body) -> Result<Bytes, BoxError> {
    Ok(body.collect().await.map_err(|error| Box::new(error) as BoxError)?.to_bytes())
}

fn broken(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::internal(format!("the server's answer could not be read: {error}"))
}

/// What subresources speak beside the kinds themselves.
fn subresource_types() -> BTreeMap<(String, String), Decode> {
    fn entry<K: Kind>() -> ((String, String), Decode) {
        ((K::API_VERSION.into(), K::KIND.into()), Arc::new(Object::typed_from_value::<K>))
    }
    BTreeMap::from([entry::<Binding>(), entry::<Eviction>(), entry::<Scale>(), entry::<TokenRequest>()])
}

/// Reads an object: typed if it is of a built-in kind in any version, else dynamic.
pub(super) fn object(value: Value) -> Result<Object, ObjectError> {
    static VERSIONS: LazyLock<BTreeMap<(String, String), Decode>> = LazyLock::new(|| {
        let mut versions = subresource_types();
        for definition in kinds::all() {
            for version in &definition.versions {
                let group = version.group.as_ref().unwrap_or(&definition.names.group);
                let api_version =
                    if group.is_empty() { version.name.clone() } else { format!("{group}/{}", version.name) };
                versions.insert((api_version, definition.names.kind.clone()), version.decode.clone());
            }
        }
        versions
    });
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    match VERSIONS.get(&(text("apiVersion"), text("kind"))) {
        Some(decode) => decode(value),
        None => Object::dynamic_from_value(value),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireList {
    api_version: String,
    kind: String,
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default, deserialize_with = "nullable")]
    items: Vec<Value>,
}

fn nullable<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Value>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn list(bytes: &[u8]) -> Result<ApiResponse, ApiError> {
    let wire: WireList = serde_json::from_slice(bytes).map_err(|error| broken(&error))?;
    let item_kind = wire.kind.strip_suffix("List").unwrap_or(&wire.kind).to_owned();
    let items = wire.items.into_iter().map(|mut item| {
        // Kubernetes leaves the kind of a list's items to the list.
        if let Some(fields) = item.as_object_mut() {
            fields.entry("apiVersion").or_insert_with(|| wire.api_version.clone().into());
            fields.entry("kind").or_insert_with(|| item_kind.clone().into());
        }
        object(item)
    });
    Ok(ApiResponse::List(List {
        items: items.collect::<Result<_, _>>().map_err(|error| broken(&error))?,
        api_version: wire.api_version,
        kind: wire.kind,
        resource_version: wire.metadata.resource_version.unwrap_or_default(),
        continue_token: wire.metadata.continue_.filter(|token| !token.is_empty()),
        remaining: wire.metadata.remaining_item_count.and_then(|count| u64::try_from(count).ok()),
    }))
}

/// What an answer below 400 says.
pub(super) fn success(
    verb: Verb,
    code: u16,
    bytes: &[u8],
    warnings: Vec<String>,
) -> Result<ApiResponse, ApiError> {
    if verb == Verb::List {
        return list(bytes);
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|error| broken(&error))?;
    let kind = value["kind"].as_str().unwrap_or_default();
    if value["apiVersion"] == "v1" && kind == "Status" {
        let status = serde_json::from_value(value).map_err(|error| broken(&error))?;
        return Ok(ApiResponse::Status { status, warnings });
    }
    if verb == Verb::DeleteCollection && kind.ends_with("List") {
        // Kubernetes shows what it deleted; a Status says as much as our callers ask.
        let status = Box::new(Status { status: Some("Success".into()), ..Status::default() });
        return Ok(ApiResponse::Status { status, warnings });
    }
    let object = object(value).map_err(|error| broken(&error))?;
    Ok(ApiResponse::Object { object, code, warnings })
}

/// The error that an answer from 400 on is.
pub(super) fn error(code: u16, bytes: &[u8], retry_after: Option<u32>) -> ApiError {
    let status = serde_json::from_slice::<Status>(bytes).ok().filter(|status| status.code.is_some());
    let mut status = status.unwrap_or_else(|| Status {
        code: Some(code.into()),
        message: Some(String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).into_owned()),
        reason: Some(String::new()),
        status: Some("Failure".into()),
        ..Status::default()
    });
    if let Some(seconds) = retry_after.and_then(|seconds| i32::try_from(seconds).ok()) {
        status.details.get_or_insert_default().retry_after_seconds.get_or_insert(seconds);
    }
    ApiError::from_status(status)
}

/// The texts of the `Warning` headers.
pub(super) fn warnings(headers: &HeaderMap) -> Vec<String> {
    let text = |value: &http::HeaderValue| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let quoted = value.split_once(" \"")?.1;
        let mut text = String::new();
        let mut characters = quoted.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => return Some(text),
                '\\' => text.extend(characters.next()),
                other => text.push(other),
            }
        }
        None
    };
    headers.get_all(header::WARNING).iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{core::v1::ConfigMap, events::v1::Event};
    use serde_json::json;

    use super::*;

    #[test]
    fn items_without_a_kind_get_the_lists() {
        let text = json!({
            "kind": "ConfigMapList", "apiVersion": "v1",
            "metadata": {"resourceVersion": "7", "continue": ""},
            "items": [{"metadata": {"name": "a"}}],
        });
        let answer = success(Verb::List, 200, text.to_string().as_bytes(), vec![]).unwrap();
        let ApiResponse::List(list) = answer else { panic!("{answer:?}") };
        assert_eq!((list.resource_version.as_str(), list.continue_token), ("7", None));
        assert!(list.items[0].as_kind::<ConfigMap>().is_some());
        let empty = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": null});
        assert!(success(Verb::List, 200, empty.to_string().as_bytes(), vec![]).is_ok());
    }

    #[test]
    fn every_served_version_is_typed() {
        let event =
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "eventTime": null, "metadata": {}});
        assert!(object(event).unwrap().as_kind::<Event>().is_some());
    }

    #[test]
    fn errors_are_read_whatever_they_are() {
        let status = ApiError::not_found("apps", "deployments", "web").to_status();
        let bytes = serde_json::to_vec(&status).unwrap();
        assert_eq!(error(404, &bytes, None), ApiError::not_found("apps", "deployments", "web"));
        assert_eq!(error(502, b"<html>", None).code(), 502);
        assert_eq!(error(429, b"", Some(7)).retry_after(), Some(7));
    }

    #[test]
    fn warnings_are_unquoted() {
        let mut headers = HeaderMap::new();
        headers.append("warning", r#"299 - "unknown field \"spec.x\"""#.parse().unwrap());
        assert_eq!(warnings(&headers), [r#"unknown field "spec.x""#]);
    }
}
