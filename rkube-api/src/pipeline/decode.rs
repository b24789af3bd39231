//! Stage 3: bodies become objects of the hub version, with their defaults.

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use serde_json::Value;

use super::{call::Call, managed};
use crate::{
    codec::{self, DecodeError, Parsed},
    error::ApiError,
    fields::{self, Kind, SchemaRef},
    object::{Dynamic, Object},
    registry::{Definition, Resolved, Scope},
    request::{Body, FieldValidation},
};

/// What a body held.
pub(super) struct Decoded {
    /// The object in the hub version, defaulted.
    pub(super) object: Object,
    /// What to tell the user.
    pub(super) warnings: Vec<String>,
}

/// The object in the body of a create or update.
pub(super) fn object(call: &Call<'_>, body: Body) -> Result<Decoded, ApiError> {
    let resource = &call.resource;
    let (value, duplicates) = match body {
        Body::Object(object) => {
            check_type(resource, object.api_version(), object.kind())?;
            if is_typed(resource, &object) {
                return Ok(Decoded { object: to_hub(resource, object)?, warnings: Vec::new() });
            }
            (object.to_value()?, Vec::new())
        }
        Body::Bytes { content_type, bytes } => {
            let parsed = parse(&content_type, &bytes)?;
            (parsed.object, parsed.duplicates)
        }
        Body::Empty => {
            return Err(ApiError::bad_request("couldn't get version/kind; the request has no body"));
        }
        Body::Delete(_) => {
            return Err(ApiError::bad_request(format!(
                "DeleteOptions cannot be handled as a {}",
                resource.definition.names.kind
            )));
        }
    };
    let value = with_type(resource, value)?;
    let warnings = strict_errors(resource, &value, duplicates, call.options.field_validation);
    if call.options.field_validation == FieldValidation::Strict && !warnings.is_empty() {
        return Err(strict_refusal(resource, &warnings));
    }
    Ok(Decoded { object: to_hub(resource, typed(resource, value)?)?, warnings })
}

/// The object of a JSON value that says what it is, in the version that was asked for: made an object of
/// the hub version, with its defaults.
pub(super) fn from_value(resource: &Resolved, value: Value) -> Result<Object, ApiError> {
    let value = with_type(resource, value)?;
    to_hub(resource, typed(resource, value)?)
}

/// The media types in which an object may come.
const OBJECT_TYPES: [&str; 3] = ["application/json", "application/yaml", codec::protobuf::MEDIA_TYPE];

/// Reads text of a media type that may carry an object.
pub(crate) fn parse(content_type: &str, bytes: &Bytes) -> Result<Parsed, ApiError> {
    let parsed = match content_type {
        "" | "application/json" => codec::json::parse(bytes),
        "application/yaml" | "application/x-yaml" | "text/yaml" => codec::yaml::parse(bytes),
        codec::protobuf::MEDIA_TYPE => codec::protobuf::parse(bytes),
        _ => {
            let supported = OBJECT_TYPES.iter().map(|&kind| kind.into()).collect();
            return Err(ApiError::UnsupportedMediaType { supported });
        }
    };
    parsed.map_err(|error| undecodable(&error))
}

/// What a text that is not in its format means: 413 if it is too large, else 400.
pub(super) fn undecodable(error: &DecodeError) -> ApiError {
    match error {
        DecodeError::TooLarge => ApiError::TooLarge { message: error.to_string() },
        DecodeError::Protobuf(_) => ApiError::bad_request(error.to_string()),
        error => unreadable(&error.to_string()),
    }
}

fn unreadable(why: &str) -> ApiError {
    ApiError::bad_request(format!("couldn't get version/kind; json parse error: {why}"))
}

/// Checks what the value says it is; built-in kinds need not say.
fn with_type(resource: &Resolved, mut value: Value) -> Result<Value, ApiError> {
    let definition = &resource.definition;
    let Some(map) = value.as_object_mut() else {
        return Err(unreadable(&format!("cannot unmarshal {} into an object", fields::go_value(&value))));
    };
    let text = |field: &str, found: Option<&Value>| match found {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => {
            Err(unreadable(&format!("cannot unmarshal {} into field {field}", fields::go_value(other))))
        }
    };
    let kind = text("kind", map.get("kind"))?;
    let api_version = text("apiVersion", map.get("apiVersion"))?;
    if definition.custom {
        for (field, found) in [("Kind", &kind), ("apiVersion", &api_version)] {
            if found.is_empty() {
                let summary: String = value.to_string().chars().take(200).collect();
                return Err(ApiError::bad_request(format!("Object '{field}' is missing in '{summary}'")));
            }
        }
    }
    let expected = resource.api_version();
    let api_version = if api_version.is_empty() { expected.clone() } else { api_version };
    let kind = if kind.is_empty() { definition.names.kind.clone() } else { kind };
    check_type(resource, &api_version, &kind)?;
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".into(), api_version.into());
        map.insert("kind".into(), kind.into());
    }
    Ok(value)
}

pub(super) fn check_type(resource: &Resolved, api_version: &str, kind: &str) -> Result<(), ApiError> {
    let expected = &resource.definition.names.kind;
    if kind != expected {
        let version = api_version.rsplit('/').next().unwrap_or_default();
        return Err(ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {expected}: the object is of another kind"
        )));
    }
    let (group, version) = (resource.group(), resource.version().name.as_str());
    let same = match api_version.split_once('/') {
        Some((found_group, found_version)) => found_group == group && found_version == version,
        None => group.is_empty() && api_version == version,
    };
    if !same {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            resource.api_version()
        )));
    }
    Ok(())
}

/// Whether an object that says it is of the version has also the version's type. A kind that was defined at
/// run time has none: its objects are pruned and defaulted by its schema, whichever way they come.
fn is_typed(resource: &Resolved, object: &Object) -> bool {
    resource.version().type_name.is_some() && object.as_kind::<Dynamic>().is_none()
}

fn typed(resource: &Resolved, mut value: Value) -> Result<Object, ApiError> {
    if let Some(schema) = resource.version().type_name.as_deref().and_then(fields::schema_of) {
        drop_empty(schema.root(), &mut value);
        fields::normalize(schema.root(), &mut value).map_err(|error| not_of_the_kind(resource, &error))?;
    } else {
        fields::normalize_metadata(&mut value).map_err(|error| not_of_the_kind(resource, &error))?;
    }
    (resource.version().decode)(value).map_err(|error| not_of_the_kind(resource, &error))
}

/// 400 for what cannot be made an object of the kind.
fn not_of_the_kind(resource: &Resolved, why: &dyn std::fmt::Display) -> ApiError {
    let (kind, version) = (&resource.definition.names.kind, &resource.version().name);
    ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
}

/// Lists and maps that hold nothing are absent, as Kubernetes' own encoding has them.
fn drop_empty(schema: SchemaRef<'_>, value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|name, value| {
            let Some(field) = schema.child(name) else { return true };
            drop_empty(field, value);
            match (field.kind(), value) {
                (Kind::List { .. }, Value::Array(list)) => !list.is_empty(),
                (Kind::Map { .. }, Value::Object(map)) => !map.is_empty(),
                _ => true,
            }
        }),
        Value::Array(list) => {
            if let Some(item) = schema.item() {
                list.iter_mut().for_each(|value| drop_empty(item, value));
            }
        }
        _ => {}
    }
}

fn to_hub(resource: &Resolved, object: Object) -> Result<Object, ApiError> {
    let mut object = match &resource.version().to_hub {
        Some(convert) => convert(object)?,
        None => object,
    };
    default(&resource.definition, &mut object);
    Ok(object)
}

/// Fills in what the user left out.
pub(super) fn default(definition: &Definition, object: &mut Object) {
    if let Some(default) = &definition.strategy.default {
        default(object);
    }
}

/// Unknown and duplicate fields, one message each; none if nobody wants to know.
pub(super) fn strict_errors(
    resource: &Resolved,
    value: &Value,
    duplicates: Vec<String>,
    wanted: FieldValidation,
) -> Vec<String> {
    if wanted == FieldValidation::Ignore {
        return Vec::new();
    }
    let mut found = duplicates;
    found.extend(fields::unknown_fields(managed::schema(resource).root(), value));
    found
}

/// 400 for unknown and duplicate fields under strict validation.
fn strict_refusal(resource: &Resolved, found: &[String]) -> ApiError {
    not_of_the_kind(resource, &format!("strict decoding error: {}", found.join(", ")))
}

/// The options in the body of a delete.
pub(super) fn delete_options(body: Body) -> Result<DeleteOptions, ApiError> {
    match body {
        Body::Empty => Ok(DeleteOptions::default()),
        Body::Delete(options) => Ok(*options),
        Body::Bytes { bytes, .. } if bytes.is_empty() => Ok(DeleteOptions::default()),
        Body::Bytes { content_type, bytes } => {
            let value = parse(&content_type, &bytes)?.object;
            match value.get("kind").and_then(Value::as_str) {
                None | Some("" | "DeleteOptions") => {}
                Some(kind) => {
                    return Err(ApiError::bad_request(format!(
                        "{kind} cannot be handled as a DeleteOptions"
                    )));
                }
            }
            serde_json::from_value(value).map_err(|error| {
                ApiError::bad_request(format!("the body cannot be handled as a DeleteOptions: {error}"))
            })
        }
        Body::Object(object) => {
            Err(ApiError::bad_request(format!("{} cannot be handled as a DeleteOptions", object.kind())))
        }
    }
}

/// Makes name and namespace in a new object agree with the request; 400 if they don't.
pub(super) fn place_new(call: &Call<'_>, object: &mut Object) -> Result<(), ApiError> {
    let requested = call.namespace();
    match call.definition().scope {
        Scope::Cluster => clear_namespace(object),
        Scope::Namespaced if requested.is_empty() => {
            return Err(ApiError::bad_request("an empty namespace may not be set during creation"));
        }
        Scope::Namespaced if object.namespace().is_empty() => {
            object.meta_mut().namespace = Some(requested.to_owned());
        }
        Scope::Namespaced if object.namespace() != requested => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Scope::Namespaced => {}
    }
    if !object.resource_version().is_empty() {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    Ok(())
}

/// A namespace in an object of the cluster's scope is passed over, as Kubernetes does.
fn clear_namespace(object: &mut Object) {
    if object.meta().namespace.is_some() {
        object.meta_mut().namespace = None;
    }
}

/// Makes name and namespace in a replacement agree with the request; 400 if they don't.
pub(super) fn place_replacement(call: &Call<'_>, object: &mut Object) -> Result<(), ApiError> {
    let (name, namespace) = (call.name(), call.namespace());
    if object.name().is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    if object.name() != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            object.name()
        )));
    }
    if call.definition().scope == Scope::Cluster {
        clear_namespace(object);
    } else {
        if object.namespace().is_empty() {
            object.meta_mut().namespace = Some(namespace.to_owned());
        } else if object.namespace() != namespace {
            return Err(ApiError::bad_request(format!(
                "the namespace of the object ({}) does not match the namespace on the URL ({namespace})",
                object.namespace()
            )));
        }
    }
    Ok(())
}
