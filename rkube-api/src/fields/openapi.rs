//! The built-in types as OpenAPI documents describe them, version 2 and 3, with Kubernetes' extensions.
//!
//! ```
//! use rkube_api::fields::openapi::{components, Dialect, Served};
//! use rkube_api::meta::GroupVersionKind;
//! let served = Served {
//!     type_name: "io.k8s.api.apps.v1.Deployment",
//!     kinds: vec![GroupVersionKind::new("apps", "v1", "Deployment")],
//!     listed: true,
//! };
//! let schemas = components(&[served], Dialect::V3);
//! let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
//! assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
//! assert!(schemas.contains_key("io.k8s.api.apps.v1.DeploymentList"));
//! ```

use serde_json::{Map, Value, json};

use super::builtin::definitions;
use super::facts::{Fact, Shape, fact};
use crate::meta::GroupVersionKind;

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// Which version of OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Swagger: `#/definitions/`.
    V2,
    /// OpenAPI 3: `#/components/schemas/`.
    V3,
}

impl Dialect {
    /// A reference to a type.
    #[must_use]
    pub fn reference(self, type_name: &str) -> Value {
        Value::String(match self {
            Dialect::V2 => format!("#/definitions/{type_name}"),
            Dialect::V3 => format!("#/components/schemas/{type_name}"),
        })
    }
}

/// A type that is served.
#[derive(Clone, Debug)]
pub struct Served<'a> {
    /// Its OpenAPI name.
    pub type_name: &'a str,
    /// The kinds it is served as.
    pub kinds: Vec<GroupVersionKind>,
    /// Is there a list of it?
    pub listed: bool,
}

/// The schemas of the types and of all they contain, by OpenAPI name. Names that aren't known are left out.
#[must_use]
pub fn components(served: &[Served<'_>], dialect: Dialect) -> Map<String, Value> {
    let mut schemas = Map::new();
    for served in served {
        add(served.type_name, dialect, &mut schemas);
    }
    for served in served {
        if !schemas.contains_key(served.type_name) {
            continue;
        }
        if let Some(schema) = schemas.get_mut(served.type_name) {
            schema["x-kubernetes-group-version-kind"] = kinds(&served.kinds, "");
        }
        if served.listed {
            schemas.insert(format!("{}List", served.type_name), list_of(served, dialect));
            add(LIST_META, dialect, &mut schemas);
        }
    }
    schemas
}

/// Adds a type and all it contains.
fn add(type_name: &str, dialect: Dialect, schemas: &mut Map<String, Value>) {
    for (name, definition) in definitions(type_name).into_iter().flatten() {
        if !schemas.contains_key(&name) {
            let schema = named(&name, definition, dialect);
            schemas.insert(name, schema);
        }
    }
}

fn kinds(kinds: &[GroupVersionKind], suffix: &str) -> Value {
    let kind = |k: &GroupVersionKind| json!({"group": k.group, "version": k.version, "kind": format!("{}{suffix}", k.kind)});
    kinds.iter().map(kind).collect()
}

/// k8s-openapi has no schema for its lists: they are all alike.
fn list_of(served: &Served<'_>, dialect: Dialect) -> Value {
    let kind = served.kinds.first().map(|k| k.kind.as_str()).unwrap_or_default();
    let mut item = json!({"$ref": dialect.reference(served.type_name)});
    let mut metadata = json!({
        "description": "Standard list metadata.",
        "$ref": dialect.reference(LIST_META),
    });
    if dialect == Dialect::V3 {
        item = with_siblings(item, &json!({}));
        metadata = with_siblings(metadata, &json!({}));
    }
    json!({
        "description": format!("{kind}List is a list of {kind} objects."),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of the list's form."},
            "kind": {"type": "string", "description": format!("{kind}List.")},
            "metadata": metadata,
            "items": {"type": "array", "description": "The objects.", "items": item},
        },
        "x-kubernetes-group-version-kind": kinds(&served.kinds, "List"),
    })
}

/// Version 3 ignores what stands beside a reference, so it goes into `allOf`.
fn with_siblings(mut schema: Value, default: &Value) -> Value {
    if let Value::Object(map) = &mut schema
        && let Some(reference) = map.remove("$ref")
    {
        map.insert("allOf".to_string(), json!([{"$ref": reference}]));
        map.insert("default".to_string(), default.clone());
    }
    schema
}

/// A type with a name.
fn named(name: &str, definition: Value, dialect: Dialect) -> Value {
    let short = name.rsplit('.').next().unwrap_or_default();
    if definition["x-kubernetes-int-or-string"] == true {
        return number_or_text(short, &definition["description"], dialect);
    }
    let mut schema = rewritten(definition, dialect);
    // k8s-openapi's objects always have metadata; on the wire it may be left out.
    let is_object = schema["properties"].get("apiVersion").is_some();
    let Value::Object(map) = &mut schema else { return schema };
    if is_object {
        let required = map.get_mut("required").and_then(Value::as_array_mut);
        let empty = required.is_some_and(|required| {
            required.retain(|field| field != "metadata");
            required.is_empty()
        });
        if empty {
            map.remove("required");
        }
    }
    if fact(name, ".").is_some_and(|f| f.shape == Some(Shape::Atomic)) {
        map.insert("x-kubernetes-map-type".to_string(), "atomic".into());
    }
    let properties = map.get_mut("properties").and_then(Value::as_object_mut);
    for (field, property) in properties.into_iter().flatten() {
        if let Some(fact) = fact(name, field) {
            *property = extended(property.take(), fact, dialect);
        } else if dialect == Dialect::V3 && property.get("description").is_some() {
            *property = plain_reference(property.take());
        }
    }
    schema
}

/// A reference with a description beside it, in version 3.
fn plain_reference(mut property: Value) -> Value {
    if let Value::Object(map) = &mut property
        && let Some(reference) = map.remove("$ref")
    {
        map.insert("allOf".to_string(), json!([{"$ref": reference}]));
    }
    property
}

/// A field with what the facts say of it.
fn extended(property: Value, fact: &Fact, dialect: Dialect) -> Value {
    let is_reference = property.get("$ref").is_some();
    let mut property = match (&fact.default, dialect) {
        (Some(default), Dialect::V3) if is_reference => with_siblings(property, default),
        (_, Dialect::V3) => plain_reference(property),
        _ => property,
    };
    let Value::Object(map) = &mut property else { return property };
    if let Some(default) = fact.default.as_ref().filter(|_| !is_reference) {
        map.insert("default".to_string(), default.clone());
    }
    let is_list = map.get("type").is_some_and(|t| t == "array");
    let mut put = |key: &str, value: Value| {
        map.insert(format!("x-kubernetes-{key}"), value);
    };
    match &fact.shape {
        Some(Shape::Set) => put("list-type", "set".into()),
        Some(Shape::Map(keys)) => {
            put("list-type", "map".into());
            put("list-map-keys", json!(keys));
        }
        Some(Shape::Atomic) if is_list => put("list-type", "atomic".into()),
        Some(Shape::Atomic) => put("map-type", "atomic".into()),
        Some(Shape::Granular) => put("map-type", "granular".into()),
        None => {}
    }
    let patch = &fact.patch;
    let strategies: Vec<&str> =
        [(patch.merge, "merge"), (patch.replace, "replace"), (patch.retain_keys, "retainKeys")]
            .into_iter()
            .filter_map(|(on, name)| on.then_some(name))
            .collect();
    if !strategies.is_empty() {
        put("patch-strategy", strategies.join(",").into());
    }
    if let Some(key) = &patch.merge_key {
        put("patch-merge-key", key.as_str().into());
    }
    property
}

/// A quantity or int-or-string, as each version can say it.
fn number_or_text(short: &str, description: &Value, dialect: Dialect) -> Value {
    match (short, dialect) {
        ("Quantity", Dialect::V2) => json!({"description": description, "type": "string"}),
        ("Quantity", Dialect::V3) => {
            json!({"description": description, "oneOf": [{"type": "string"}, {"type": "number"}]})
        }
        (_, Dialect::V2) => {
            json!({"description": description, "type": "string", "format": "int-or-string"})
        }
        (_, Dialect::V3) => json!({
            "description": description,
            "format": "int-or-string",
            "oneOf": [{"type": "integer"}, {"type": "string"}],
        }),
    }
}

/// References in the dialect's own form, all the way down.
fn rewritten(schema: Value, dialect: Dialect) -> Value {
    match schema {
        Value::Object(map) => {
            let entry = |(key, value): (String, Value)| match value.as_str() {
                Some(reference) if key == "$ref" => {
                    let name = reference.strip_prefix("#/$defs/").unwrap_or(reference);
                    (key, dialect.reference(name))
                }
                _ => (key, rewritten(value, dialect)),
            };
            Value::Object(map.into_iter().map(entry).collect())
        }
        Value::Array(items) => items.into_iter().map(|item| rewritten(item, dialect)).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> Vec<Served<'static>> {
        vec![
            Served {
                type_name: "io.k8s.api.apps.v1.Deployment",
                kinds: vec![GroupVersionKind::new("apps", "v1", "Deployment")],
                listed: true,
            },
            Served {
                type_name: "io.k8s.api.core.v1.Service",
                kinds: vec![GroupVersionKind::new("", "v1", "Service")],
                listed: true,
            },
        ]
    }

    #[test]
    fn version_3_says_what_kubernetes_says() {
        let schemas = components(&served(), Dialect::V3);
        let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
        assert_eq!(
            deployment["x-kubernetes-group-version-kind"],
            json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
        );
        assert_eq!(deployment["required"], json!(["spec"]), "and not metadata");
        let spec = &deployment["properties"]["spec"];
        assert_eq!(
            spec["allOf"],
            json!([{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"}])
        );
        assert_eq!(spec["default"], json!({}));
        let strategy = &schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"];
        assert_eq!(strategy["x-kubernetes-patch-strategy"], "retainKeys");
        let ports = &schemas["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"];
        assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["port", "protocol"]));
        assert_eq!(ports["x-kubernetes-patch-merge-key"], "port");
        let volumes = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"];
        assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
        let selector = &schemas["io.k8s.api.core.v1.ServiceSpec"]["properties"]["selector"];
        assert_eq!(selector["x-kubernetes-map-type"], "atomic");
        assert_eq!(
            schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["oneOf"],
            json!([{"type": "integer"}, {"type": "string"}])
        );
        let items = &schemas["io.k8s.api.core.v1.ServiceList"]["properties"]["items"]["items"];
        assert_eq!(items["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Service");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => map.iter().for_each(|(key, value)| match value.as_str() {
                    Some(text) if key == "$ref" => found.push(text.to_string()),
                    _ => references(value, found),
                }),
                Value::Array(items) => items.iter().for_each(|v| references(v, found)),
                _ => {}
            }
        }
        for (dialect, prefix) in [(Dialect::V2, "#/definitions/"), (Dialect::V3, "#/components/schemas/")] {
            let schemas = components(&served(), dialect);
            let mut found = Vec::new();
            schemas.values().for_each(|schema| references(schema, &mut found));
            assert!(found.len() > 100);
            for reference in found {
                assert!(schemas.contains_key(reference.strip_prefix(prefix).unwrap()), "{reference}");
            }
        }
    }

    #[test]
    fn version_2_keeps_what_stands_beside_a_reference() {
        let schemas = components(&served(), Dialect::V2);
        let spec = &schemas["io.k8s.api.apps.v1.Deployment"]["properties"]["spec"];
        assert_eq!(spec["$ref"], "#/definitions/io.k8s.api.apps.v1.DeploymentSpec");
        assert!(spec["description"].is_string());
        assert_eq!(schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"], "string");
    }
}
