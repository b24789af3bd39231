//! Kinds that are defined at run time: a `CustomResourceDefinition` becomes a [`Definition`] like any other,
//! of dynamic objects. So far: names, scope, versions without conversion, structural schemas (types, required
//! fields, pruning, defaults), the status subresource, simple printer columns and selectable fields.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>
//!
//! ```
//! use rkube_api::{dynamic, registry::Registry};
//! use serde_json::json;
//!
//! let crd = serde_json::from_value(json!({
//!     "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
//!     "metadata": {"name": "lamps.example.com"},
//!     "spec": {
//!         "group": "example.com", "scope": "Namespaced",
//!         "names": {"plural": "lamps", "kind": "Lamp"},
//!         "versions": [{
//!             "name": "v1", "served": true, "storage": true,
//!             "schema": {"openAPIV3Schema": {"type": "object", "properties": {
//!                 "spec": {"type": "object", "properties": {"on": {"type": "boolean"}}},
//!             }}},
//!         }],
//!     },
//! })).unwrap();
//! let registry = Registry::new([]).unwrap();
//! registry.add(dynamic::definition(&crd).unwrap()).unwrap();
//! assert!(registry.snapshot().resolve("example.com", "v1", "lamps").is_some());
//! ```

mod path;
mod strategy;

use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use serde_json::Value;

use crate::{
    fields::{Schema, SchemaError},
    object::{Dynamic, Object, ObjectError},
    registry::{
        Column, Convert, Definition, Face, Names, Scope, Selectable, Subresource, SubresourceKind, Version,
    },
    request::Verb,
};
use path::Path;

/// Why a `CustomResourceDefinition` defines nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// No version is served, or not exactly one is stored.
    #[error("spec.versions: Invalid value: must have exactly one version marked as storage version")]
    Versions,
    /// The schema of a version cannot be used.
    #[error("spec.versions[{version}].schema: {error}")]
    Schema {
        /// The version.
        version: String,
        /// What is wrong with it.
        error: SchemaError,
    },
    /// A version has no schema.
    #[error("spec.versions[{0}].schema.openAPIV3Schema: Required value: schemas are required")]
    NoSchema(String),
    /// The scope is none of the two.
    #[error("spec.scope: Unsupported value: {0:?}: supported values: \"Cluster\", \"Namespaced\"")]
    Scope(String),
    /// The schema could not be written as JSON.
    #[error("{0}")]
    Json(String),
}

/// What a `CustomResourceDefinition` defines.
pub fn definition(crd: &CustomResourceDefinition) -> Result<Definition, DefinitionError> {
    let spec = &crd.spec;
    let stored: Vec<&str> = spec.versions.iter().filter(|it| it.storage).map(|it| it.name.as_str()).collect();
    let ([stored], true) = (stored.as_slice(), spec.versions.iter().any(|version| version.served)) else {
        return Err(DefinitionError::Versions);
    };
    let scope = match spec.scope.as_str() {
        "Namespaced" => Scope::Namespaced,
        "Cluster" => Scope::Cluster,
        other => return Err(DefinitionError::Scope(other.to_owned())),
    };
    let kept: Vec<_> = spec.versions.iter().filter(|version| version.served || version.storage).collect();
    let compiled: Vec<_> = kept.iter().map(|it| Compiled::of(&spec.group, it)).collect::<Result<_, _>>()?;
    let hub = kept.iter().position(|version| version.name == *stored).ok_or(DefinitionError::Versions)?;
    let (source, target) = kept.get(hub).zip(compiled.get(hub)).ok_or(DefinitionError::Versions)?;
    let versions = kept.iter().zip(&compiled).map(|(it, own)| version(it, own, target)).collect();
    let Face { strategy, columns, selectable, subresources } = face(source, &target.schema);
    let names = &spec.names;
    Ok(Definition {
        names: Names {
            group: spec.group.clone(),
            plural: names.plural.clone(),
            singular: names.singular.clone().unwrap_or_else(|| names.kind.to_lowercase()),
            kind: names.kind.clone(),
            list_kind: names.list_kind.clone().unwrap_or_else(|| format!("{}List", names.kind)),
            short: names.short_names.clone().unwrap_or_default(),
            categories: names.categories.clone().unwrap_or_default(),
        },
        scope,
        strategy,
        columns,
        selectable,
        versions,
        hub,
        subresources,
        verbs: Verb::ALL.to_vec(),
        time_to_live: None,
        answer: None,
        custom: true,
    })
}

/// What a version says for itself. The rules look at objects of the stored version, whose schema this is.
fn face(version: &CustomResourceDefinitionVersion, stored: &Arc<Schema>) -> Face {
    let has_status = version.subresources.as_ref().is_some_and(|subresources| subresources.status.is_some());
    let status =
        || Subresource { name: "status".into(), kind: SubresourceKind::Status(strategy::status(stored)) };
    Face {
        strategy: strategy::of(stored, has_status),
        columns: columns(version.additional_printer_columns.as_deref().unwrap_or_default()),
        selectable: version.selectable_fields.iter().flatten().map(|it| selectable(&it.json_path)).collect(),
        subresources: has_status.then(status).into_iter().collect(),
    }
}

/// The schema of a version, as it came and ready for use.
struct Compiled {
    api_version: String,
    raw: Arc<Value>,
    schema: Arc<Schema>,
}

impl Compiled {
    fn of(group: &str, version: &CustomResourceDefinitionVersion) -> Result<Self, DefinitionError> {
        let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        let schema = schema.ok_or_else(|| DefinitionError::NoSchema(version.name.clone()))?;
        let raw = serde_json::to_value(schema).map_err(|error| DefinitionError::Json(error.to_string()))?;
        let schema = Schema::from_openapi(&raw)
            .map_err(|error| DefinitionError::Schema { version: version.name.clone(), error })?;
        let api_version = format!("{group}/{}", version.name);
        Ok(Self { api_version, raw: Arc::new(raw), schema: Arc::new(schema) })
    }

    /// The conversion into this version. Without a converter, versions differ by their name and by what
    /// their schemas know.
    fn convert(&self, default: bool) -> Convert {
        let (api_version, schema) = (self.api_version.clone(), self.schema.clone());
        Arc::new(move |mut object| {
            if let Some(dynamic) = object.as_kind_mut::<Dynamic>() {
                dynamic.api_version.clone_from(&api_version);
                let mut fields = Value::Object(std::mem::take(&mut dynamic.fields));
                schema.prune(&mut fields);
                if default {
                    schema.default(&mut fields);
                }
                if let Value::Object(fields) = fields {
                    dynamic.fields = fields;
                }
            }
            Ok(object)
        })
    }
}

/// A version of what is stored as `hub`.
fn version(version: &CustomResourceDefinitionVersion, own: &Compiled, hub: &Compiled) -> Version {
    let decode = {
        let schema = own.schema.clone();
        move |mut value: Value| -> Result<Object, ObjectError> {
            schema.prune(&mut value);
            schema.default(&mut value);
            Object::dynamic_from_value(value)
        }
    };
    Version {
        name: version.name.clone(),
        served: version.served,
        decode: Arc::new(decode),
        to_hub: (!version.storage).then(|| hub.convert(true)),
        from_hub: (!version.storage).then(|| own.convert(false)),
        type_name: None,
        schema: Some(own.raw.clone()),
        compiled: Some(own.schema.clone()),
        group: None,
        face: (!version.storage).then(|| Box::new(face(version, &hub.schema))),
    }
}

fn columns(defined: &[CustomResourceColumnDefinition]) -> Vec<Column> {
    let mut columns = vec![Column::name()];
    for column in defined {
        let path = Path::parse(&column.json_path);
        columns.push(Column {
            name: column.name.clone(),
            kind: column.type_.clone(),
            format: column.format.clone().unwrap_or_default(),
            description: column.description.clone().unwrap_or_default(),
            priority: column.priority.unwrap_or_default(),
            cell: Arc::new(move |object, _| path.of(object).unwrap_or_default()),
        });
    }
    if defined.is_empty() {
        columns.push(Column::age());
    }
    columns
}

fn selectable(text: &str) -> Selectable {
    let path = Path::parse(text);
    Selectable {
        path: text.trim_start_matches('.').to_owned(),
        value: Arc::new(move |object| {
            path.of(object).map(|value| match value {
                Value::String(text) => text,
                other => other.to_string(),
            })
        }),
    }
}

/// The object's fields apart from metadata, if it is dynamic.
fn fields(object: &Object) -> Option<&serde_json::Map<String, Value>> {
    object.as_kind::<Dynamic>().map(|dynamic| &dynamic.fields)
}

/// The whole object as JSON; null if it has no such form.
fn whole(object: &Object) -> Value {
    object.body().to_value().unwrap_or_default()
}
