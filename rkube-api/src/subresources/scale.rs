//! `scale`: how many replicas an object wants and has, as an `autoscaling/v1` Scale.

use k8s_openapi::{
    api::autoscaling::v1::{Scale as ScaleObject, ScaleSpec, ScaleStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Value, json};

use crate::{
    error::ApiError,
    fields::schema_of,
    meta::{ErrorList, FieldError, FieldPath},
    object::Object,
    pipeline::{Call, Managed, Next, Patch, Rules, Source, change, owned, parse, read_object},
    registry::Scale,
    request::{ApiResponse, Body, Verb},
};

/// Answers a request on the scale of an object.
pub(crate) async fn serve(call: &Call<'_>, scale: &Scale, body: Body) -> Result<ApiResponse, ApiError> {
    let mut warnings = Vec::new();
    let object = match call.verb {
        Verb::Get => read_object(call).await?,
        Verb::Update => {
            let mut source = Rescale { scale, wanted: decode(call, body)? };
            change(call, &Rules::main(call.definition()), &mut source, &mut warnings).await?
        }
        Verb::Patch => {
            let patch = Patch::decode(call, body)?;
            patch.check_options(call)?;
            let mut source = PatchedScale { scale, patch };
            change(call, &Rules::main(call.definition()), &mut source, &mut warnings).await?
        }
        _ => return Err(ApiError::MethodNotAllowed),
    };
    Ok(ApiResponse::Object { object: Object::new(of(scale, &object)), code: 200, warnings })
}

/// The scale in a body.
fn decode(call: &Call<'_>, body: Body) -> Result<ScaleObject, ApiError> {
    let value = match body {
        Body::Object(object) => object.to_value()?,
        Body::Bytes { content_type, bytes } => parse(&content_type, &bytes)?.object,
        Body::Empty | Body::Delete(_) => {
            return Err(ApiError::bad_request("the request has no Scale in its body"));
        }
    };
    let scale = from_value(value)?;
    let (name, namespace) = (scale.metadata.name.as_deref(), scale.metadata.namespace.as_deref());
    if name.is_some_and(|name| name != call.name()) {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            name.unwrap_or_default(),
            call.name()
        )));
    }
    if namespace.is_some_and(|namespace| namespace != call.namespace()) {
        return Err(ApiError::bad_request(format!(
            "the namespace of the object ({}) does not match the namespace on the URL ({})",
            namespace.unwrap_or_default(),
            call.namespace()
        )));
    }
    Ok(scale)
}

/// 400 for what says that it is something else.
pub(crate) fn check_type(api_version: &str, kind: &str) -> Result<(), ApiError> {
    if ["", "Scale"].contains(&kind) && ["", "autoscaling/v1"].contains(&api_version) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!("{api_version} {kind} cannot be handled as a Scale")))
}

fn from_value(value: Value) -> Result<ScaleObject, ApiError> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, version) = (text("kind"), text("apiVersion"));
    check_type(&version, &kind)?;
    serde_json::from_value(value).map_err(|error| {
        ApiError::bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: {error}"))
    })
}

/// A new scale for an object.
struct Rescale<'a> {
    scale: &'a Scale,
    wanted: ScaleObject,
}

impl Source for Rescale<'_> {
    fn next(&mut self, call: &Call<'_>, current: &Object) -> Result<Next, ApiError> {
        rescale(call, self.scale, &self.wanted, current)
    }
}

/// A change of the scale of an object.
struct PatchedScale<'a> {
    scale: &'a Scale,
    patch: Patch,
}

impl Source for PatchedScale<'_> {
    fn next(&mut self, call: &Call<'_>, current: &Object) -> Result<Next, ApiError> {
        if let Some(config) = self.patch.config() {
            return apply(call, self.scale, config, current);
        }
        let now = Object::new(of(self.scale, current)).to_value()?;
        let schema = schema_of("io.k8s.api.autoscaling.v1.Scale")
            .ok_or_else(|| ApiError::internal("the type of a Scale is not known"))?;
        let (value, _) = self.patch.apply(call, now, Vec::new, schema.root())?;
        rescale(call, self.scale, &from_value(value)?, current)
    }
}

/// An apply of a scale owns the object's number of replicas, if it names one.
fn apply(call: &Call<'_>, scale: &Scale, config: &Value, current: &Object) -> Result<Next, ApiError> {
    let mut wanted = from_value(config.clone())?;
    let named = config.pointer("/spec/replicas").filter(|replicas| !replicas.is_null());
    wanted.spec.get_or_insert_default().replicas.get_or_insert_with(|| (scale.spec_replicas)(current));
    let fields = match named {
        Some(replicas) => {
            scale.path.iter().rev().fold(replicas.clone(), |inner, name| json!({ name.as_str(): inner }))
        }
        None => json!({}),
    };
    let Next { object, .. } = rescale(call, scale, &wanted, current)?;
    Ok(Next { object, managed: Managed::Set(owned(call, current, &fields)?) })
}

/// The object with another number of replicas.
fn rescale(call: &Call<'_>, scale: &Scale, wanted: &ScaleObject, current: &Object) -> Result<Next, ApiError> {
    let meta = &wanted.metadata;
    if meta.resource_version.as_deref().is_some_and(|it| !it.is_empty() && it != current.resource_version()) {
        return Err(call.modified(current.name()));
    }
    if let Some(uid) = meta.uid.as_deref().filter(|uid| *uid != current.uid()) {
        let message =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", current.uid());
        return Err(call.conflict(current.name(), message));
    }
    let replicas = wanted.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
    if replicas < 0 {
        let path = FieldPath::new("spec");
        let detail = "must be greater than or equal to 0";
        let error = FieldError::invalid(&path.child("replicas"), replicas, detail);
        return Err(ApiError::Invalid {
            group: "autoscaling".into(),
            kind: "Scale".into(),
            name: current.name().to_owned(),
            causes: ErrorList::from(vec![error]).iter().map(Into::into).collect(),
        });
    }
    let mut object = current.clone();
    (scale.set_replicas)(&mut object, replicas);
    Ok(Next { object, managed: Managed::Track(Vec::new()) })
}

/// The scale of an object.
fn of(scale: &Scale, object: &Object) -> ScaleObject {
    let meta = object.meta();
    let selector = (scale.selector)(object);
    ScaleObject {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            creation_timestamp: meta.creation_timestamp.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(ScaleSpec { replicas: Some((scale.spec_replicas)(object)) }),
        status: Some(ScaleStatus {
            replicas: (scale.status_replicas)(object),
            selector: (!selector.is_empty()).then_some(selector),
        }),
    }
}
