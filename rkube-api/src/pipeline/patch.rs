//! Patch: JSON patch, merge patch, strategic merge patch and apply as sources of an update.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

use super::{
    call::Call,
    create, decode,
    managed::{self, Managed},
    update::{Next, Rules, Source, change},
};
use crate::{
    codec,
    error::{ApiError, Cause},
    fields::SchemaRef,
    meta::{ErrorList, FieldError, FieldPath, object_meta::validate_field_manager},
    object::Object,
    patch::{
        apply::{self, Applied, ApplyError, Conflict},
        json::{self, JsonPatch, JsonPatchError},
        merge, strategic,
    },
    registry::SubresourceKind,
    request::{ApiResponse, Body, FieldValidation, patch_type},
    subresources::scale,
};

/// Changes an object in part, or applies it.
pub(crate) async fn patch(call: &Call<'_>, body: Body, rules: &Rules<'_>) -> Result<ApiResponse, ApiError> {
    let mut patch = Patch::decode(call, body)?;
    patch.check_options(call)?;
    for _ in 0..create::ATTEMPTS {
        let mut warnings = patch.duplicates.clone();
        if call.options.field_validation == FieldValidation::Ignore {
            warnings.clear();
        }
        let result = change(call, rules, &mut patch, &mut warnings).await;
        let (object, code) = match result {
            Err(ApiError::NotFound { .. }) if patch.is_apply() && call.subresource().is_none() => {
                match apply_new(call, &patch, &mut warnings).await {
                    Err(ApiError::AlreadyExists { .. }) => continue,
                    result => (result?, 201),
                }
            }
            result => (result?, 200),
        };
        warnings.extend(std::mem::take(&mut patch.warnings));
        return Ok(ApiResponse::Object { object: call.outgoing(object)?, code, warnings });
    }
    Err(call.modified(call.name()))
}

/// A patch that was read.
pub(crate) struct Patch {
    kind: Kind,
    /// The patch as it came, for messages.
    text: String,
    /// Keys that came twice in it.
    duplicates: Vec<String>,
    /// Unknown fields of the last attempt.
    warnings: Vec<String>,
    /// Whether it is about managedFields, which are computed only then.
    whole: bool,
}

enum Kind {
    Json(JsonPatch),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

impl Patch {
    /// Reads the body of a patch; 415 if it is of another type.
    pub(crate) fn decode(call: &Call<'_>, body: Body) -> Result<Self, ApiError> {
        let Body::Bytes { content_type, bytes } = body else {
            return Err(unsupported(call));
        };
        let parse = |parsed: Result<(Value, Vec<String>), codec::DecodeError>| {
            parsed.map_err(|error| match decode::undecodable(&error) {
                ApiError::BadRequest { .. } => {
                    ApiError::bad_request(format!("error decoding patch: {error}"))
                }
                error => error,
            })
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let whole = text.contains("managedFields");
        let (kind, duplicates) = match content_type.as_str() {
            patch_type::JSON => {
                let (value, duplicates) = parse(codec::json::parse_value(&bytes))?;
                (Kind::Json(JsonPatch::from_value(value).map_err(|error| json_error(&error))?), duplicates)
            }
            patch_type::MERGE => {
                let (value, duplicates) = parse(codec::json::parse_value(&bytes))?;
                (Kind::Merge(object(value)?), duplicates)
            }
            patch_type::STRATEGIC if !call.definition().custom => {
                let (value, duplicates) = parse(codec::json::parse_value(&bytes))?;
                (Kind::Strategic(object(value)?), duplicates)
            }
            patch_type::APPLY => {
                let (value, duplicates) = parse(codec::yaml::parse_value(&bytes))?;
                (Kind::Apply(config(call, object(value)?)?), duplicates)
            }
            _ => return Err(unsupported(call)),
        };
        let patch = Self { kind, text, duplicates, warnings: Vec::new(), whole };
        if call.options.field_validation == FieldValidation::Strict && !patch.duplicates.is_empty() {
            return Err(patch.strict(&patch.duplicates));
        }
        Ok(patch)
    }

    fn is_apply(&self) -> bool {
        self.config().is_some()
    }

    /// What is applied, if it is an apply.
    pub(crate) fn config(&self) -> Option<&Value> {
        match &self.kind {
            Kind::Apply(config) => Some(config),
            _ => None,
        }
    }

    /// Refuses options that do not fit the patch.
    pub(crate) fn check_options(&self, call: &Call<'_>) -> Result<(), ApiError> {
        check_options(call, self.is_apply())
    }

    /// The JSON that the patch makes of an object, and what becomes of managedFields.
    pub(crate) fn apply(
        &self,
        call: &Call<'_>,
        current: Value,
        entries: impl FnOnce() -> Vec<ManagedFieldsEntry>,
        schema: SchemaRef<'_>,
    ) -> Result<(Value, Option<Managed>), ApiError> {
        let value = match &self.kind {
            Kind::Json(patch) => json::apply(current, patch).map_err(|error| json_error(&error))?,
            Kind::Merge(patch) => {
                let mut value = current;
                merge::apply(&mut value, patch);
                value
            }
            Kind::Strategic(patch) => strategic::apply(current, patch.clone(), schema)
                .map_err(|error| ApiError::bad_request(error.to_string()))?,
            Kind::Apply(config) => {
                let applied = applied(call, Some(&current), config, &entries(), schema)?;
                return Ok((applied.object, Some(Managed::Set(applied.entries))));
            }
        };
        Ok((value, None))
    }

    /// The refusal of unknown or duplicate fields: 400 on apply, 422 on the other patches.
    fn strict(&self, found: &[String]) -> ApiError {
        let found = format!("strict decoding error: {}", found.join(", "));
        if self.is_apply() {
            return ApiError::bad_request(format!("error strict decoding YAML: {found}"));
        }
        self.invalid(&found)
    }

    /// 422 for a patch whose result is no object of the kind.
    fn invalid(&self, why: &str) -> ApiError {
        let error = FieldError::invalid(&FieldPath::new("patch"), &self.text, why);
        ApiError::Invalid {
            group: String::new(),
            kind: String::new(),
            name: String::new(),
            causes: vec![Cause::from(&error)],
        }
    }

    fn object(&mut self, call: &Call<'_>, value: Value) -> Result<Object, ApiError> {
        let wanted = call.options.field_validation;
        let found = decode::strict_errors(&call.resource, &value, Vec::new(), wanted);
        if wanted == FieldValidation::Strict && !found.is_empty() {
            return Err(self.strict(&found));
        }
        self.warnings = found;
        decode::from_value(&call.resource, value).map_err(|error| match error {
            ApiError::BadRequest { message } if !self.is_apply() => self.invalid(&message),
            error => error,
        })
    }
}

impl Source for Patch {
    fn next(&mut self, call: &Call<'_>, current: &Object) -> Result<Next, ApiError> {
        let value = match self.whole && !self.is_apply() {
            true => call.outgoing(current.clone())?.to_value()?,
            false => managed::plain(&call.resource, current)?,
        };
        let schema = managed::schema(&call.resource);
        let entries = || current.managed_fields().to_vec();
        let (value, known) = self.apply(call, value, entries, schema.root())?;
        let mut object = self.object(call, value)?;
        let sent = managed::sent(&mut object);
        // As if the user had sent the whole object back: a patch that changes the version is a condition.
        if !object.resource_version().is_empty() && object.resource_version() != current.resource_version() {
            return Err(call.modified(current.name()));
        }
        Ok(Next { object, managed: known.unwrap_or(Managed::Track(sent)) })
    }
}

/// What an apply makes of an object and its managedFields, or 409.
fn applied(
    call: &Call<'_>,
    live: Option<&Value>,
    config: &Value,
    entries: &[ManagedFieldsEntry],
    schema: SchemaRef<'_>,
) -> Result<Applied, ApiError> {
    let api_version = call.resource.api_version();
    let writer = managed::writer(call, &api_version);
    apply::apply(live, config, entries, schema, &writer, call.options.force)
        .map_err(|error| apply_error(&error))
}

/// managedFields of an object of which some fields are applied through a subresource, or 409.
pub(crate) fn owned(
    call: &Call<'_>,
    current: &Object,
    fields: &Value,
) -> Result<Vec<ManagedFieldsEntry>, ApiError> {
    let schema = managed::schema(&call.resource);
    let live = managed::plain(&call.resource, current)?;
    Ok(applied(call, Some(&live), fields, current.managed_fields(), schema.root())?.entries)
}

/// An apply of what does not exist creates it.
async fn apply_new(call: &Call<'_>, patch: &Patch, warnings: &mut Vec<String>) -> Result<Object, ApiError> {
    let Kind::Apply(config) = &patch.kind else { return Err(call.not_found()) };
    call.server.authorize_create(call).await?;
    if let Some(uid) = config.pointer("/metadata/uid").and_then(Value::as_str).filter(|uid| !uid.is_empty()) {
        let message = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(call.conflict(call.name(), message));
    }
    let schema = managed::schema(&call.resource);
    let applied = applied(call, None, config, &[], schema.root())?;
    let mut reader = Patch {
        kind: Kind::Apply(Value::Null),
        text: String::new(),
        duplicates: Vec::new(),
        warnings: Vec::new(),
        whole: false,
    };
    let mut object = reader.object(call, applied.object)?;
    warnings.extend(reader.warnings);
    decode::place_new(call, &mut object)?;
    create::insert(call, object, Managed::Set(applied.entries), warnings).await
}

/// What an apply says must be of the kind, and about the object in the URL.
fn config(call: &Call<'_>, mut config: Value) -> Result<Value, ApiError> {
    let text = |path: &str| config.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, api_version) = (text("/kind"), text("/apiVersion"));
    for (field, found) in [("kind", &kind), ("apiVersion", &api_version)] {
        if found.is_empty() {
            return Err(ApiError::bad_request(format!("error decoding YAML: Object '{field}' is missing")));
        }
    }
    match call.subresource().and_then(|name| call.definition().subresource(name)).map(|it| &it.kind) {
        Some(SubresourceKind::Scale(_)) => scale::check_type(&api_version, &kind)?,
        _ => decode::check_type(&call.resource, &api_version, &kind)?,
    }
    let (name, namespace) = (text("/metadata/name"), text("/metadata/namespace"));
    if !name.is_empty() && name != call.name() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    if !namespace.is_empty() && namespace != call.namespace() {
        return Err(ApiError::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the URL ({})",
            call.namespace()
        )));
    }
    if name.is_empty() {
        let metadata = config
            .as_object_mut()
            .map(|map| map.entry("metadata").or_insert_with(|| Value::Object(Default::default())));
        if let Some(Value::Object(metadata)) = metadata {
            metadata.insert("name".into(), call.name().into());
        }
    }
    Ok(config)
}

fn object(value: Value) -> Result<Value, ApiError> {
    if value.is_object() {
        return Ok(value);
    }
    Err(ApiError::bad_request("error decoding patch: the patch is no object"))
}

fn unsupported(call: &Call<'_>) -> ApiError {
    let custom = call.definition().custom;
    let all = [patch_type::JSON, patch_type::MERGE, patch_type::APPLY, patch_type::STRATEGIC];
    let supported = all.iter().filter(|kind| !(custom && **kind == patch_type::STRATEGIC));
    ApiError::UnsupportedMediaType { supported: supported.map(|&kind| kind.into()).collect() }
}

fn json_error(error: &JsonPatchError) -> ApiError {
    match error {
        JsonPatchError::Malformed(_) => ApiError::bad_request(error.to_string()),
        JsonPatchError::TooManyOperations(_)
        | JsonPatchError::TooMuchCopied(_)
        | JsonPatchError::TooDeep { .. } => ApiError::TooLarge { message: error.to_string() },
        _ => unprocessable(error.to_string()),
    }
}

/// 422 without a field: what the request asks for does not fit the object.
fn unprocessable(why: String) -> ApiError {
    let message = "the server rejected our request due to an error in our request";
    ApiError::sentence(422, Some("Invalid"), message, vec![Cause::new("", "", why)])
}

fn apply_error(error: &ApplyError) -> ApiError {
    let ApplyError::Conflict(conflicts) = error else { return ApiError::bad_request(error.to_string()) };
    let cause = |conflict: &Conflict| {
        let message = format!("conflict with {}", conflict.manager);
        Cause::new("FieldManagerConflict", conflict.field.clone(), message)
    };
    // Unlike other conflicts its message has nothing before it.
    ApiError::sentence(409, Some("Conflict"), error.to_string(), conflicts.iter().map(cause).collect())
}

fn check_options(call: &Call<'_>, is_apply: bool) -> Result<(), ApiError> {
    let mut errors = ErrorList::default();
    let manager = call.options.field_manager.as_deref().unwrap_or_default();
    let field = FieldPath::new("fieldManager");
    if is_apply && manager.is_empty() {
        errors.push(FieldError::required(&field, "is required for apply patch"));
    }
    if !is_apply && call.options.force {
        let detail = "may not be specified for non-apply patch";
        errors.push(FieldError::forbidden(&FieldPath::new("force"), detail));
    }
    validate_field_manager(manager, &field, &mut errors);
    super::read::invalid_options_of("PatchOptions", &errors)
}
