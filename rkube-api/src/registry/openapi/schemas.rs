//! The types of what is served, in the form of OpenAPI v2.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    fields::{
        self,
        openapi::{Dialect, Served, components},
    },
    meta::GroupVersionKind,
    registry::{Resolved, SubresourceKind},
};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// A group, a version and a kind, as the extension of OpenAPI writes them.
pub(super) fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

/// The name of a type of `meta/v1`.
pub(super) fn meta(kind: &str) -> String {
    format!("{META}.{kind}")
}

/// The name of the type of a resource's objects.
pub(super) fn type_name(resolved: &Resolved) -> String {
    resolved.version().type_name.clone().unwrap_or_else(|| {
        let labels: Vec<&str> = resolved.group().rsplit('.').collect();
        format!("{}.{}.{}", labels.join("."), resolved.version().name, resolved.definition.names.kind)
    })
}

/// The name of the type of a resource's lists.
pub(super) fn list_name(resolved: &Resolved) -> String {
    let name = type_name(resolved);
    let package = name.rsplit_once('.').map_or("", |(package, _)| package);
    format!("{package}.{}", resolved.definition.names.list_kind)
}

/// The name of a built-in type that a subresource speaks.
pub(super) fn foreign_type(group: &str, version: &str, kind: &str) -> Option<String> {
    let package = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or_default() };
    let name = format!("io.k8s.api.{package}.{version}.{kind}");
    fields::type_names().find(|known| *known == name).map(str::to_owned)
}

/// The type that a subresource speaks: its group, version and kind, and its OpenAPI name if there is one.
pub(super) fn subresource_type(
    resolved: &Resolved,
    kind: &SubresourceKind,
) -> ((String, String, String), Option<String>) {
    let own = (
        resolved.group().to_owned(),
        resolved.version().name.clone(),
        resolved.definition.names.kind.clone(),
    );
    let face = match kind {
        SubresourceKind::Status(_) => own.clone(),
        SubresourceKind::Scale(_) => ("autoscaling".into(), "v1".into(), "Scale".into()),
        SubresourceKind::Handler { body, .. } => body.clone(),
    };
    let name = if face == own { Some(type_name(resolved)) } else { foreign_type(&face.0, &face.1, &face.2) };
    (face, name)
}

/// The types that these resources need, by name.
pub(super) fn all(served: &[Resolved], dialect: Dialect) -> Map<String, Value> {
    // Kinds by type, and whether there are lists of it.
    let mut types: BTreeMap<String, (Vec<GroupVersionKind>, bool)> = BTreeMap::new();
    for kind in ["DeleteOptions", "Status"] {
        types.entry(meta(kind)).or_default().0.push(GroupVersionKind::new("", "v1", kind));
    }
    types.entry(meta("ObjectMeta")).or_default();
    for resolved in served {
        let kind = &resolved.definition.names.kind;
        let own = GroupVersionKind::new(resolved.group(), &resolved.version().name, kind);
        let entry = types.entry(type_name(resolved)).or_default();
        entry.0.push(own);
        entry.1 = true;
        for subresource in &resolved.definition.subresources {
            let ((group, version, kind), name) = subresource_type(resolved, &subresource.kind);
            let kind = GroupVersionKind::new(&group, &version, &kind);
            if let Some(name) = name {
                let kinds = &mut types.entry(name).or_default().0;
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
        }
    }
    let types: Vec<Served<'_>> = types
        .iter()
        .map(|(name, (kinds, listed))| Served { type_name: name, kinds: kinds.clone(), listed: *listed })
        .collect();
    let mut schemas = components(&types, dialect);
    schemas.insert(meta("Patch"), json!({"description": "A change to part of an object.", "type": "object"}));
    for resolved in served.iter().filter(|resolved| resolved.version().type_name.is_none()) {
        dynamic(&mut schemas, resolved, dialect);
    }
    schemas
}

/// A reference with a description beside it, in each version's way.
fn described(name: &str, description: &str, dialect: Dialect) -> Value {
    let reference = json!({"$ref": dialect.reference(name)});
    match dialect {
        Dialect::V2 => json!({"$ref": reference["$ref"], "description": description}),
        Dialect::V3 => json!({"allOf": [reference], "description": description}),
    }
}

/// Adds a kind that was defined at run time, and its list.
fn dynamic(schemas: &mut Map<String, Value>, resolved: &Resolved, dialect: Dialect) {
    let names = &resolved.definition.names;
    let mark = |kind: &str| json!([gvk(resolved.group(), &resolved.version().name, kind)]);
    let mut schema = match resolved.version().schema.as_deref() {
        Some(schema) => structural(schema, dialect),
        None => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
    };
    schema["x-kubernetes-group-version-kind"] = mark(&names.kind);
    let name = type_name(resolved);
    let list = json!({
        "description": format!("A list of {} objects.", names.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"description": "The version of this list's schema.", "type": "string"},
            "kind": {"description": "What this list is.", "type": "string"},
            "metadata": described(&meta("ListMeta"), "The list's metadata.", dialect),
            "items": {
                "description": "The objects.",
                "type": "array",
                "items": {"$ref": dialect.reference(&name)},
            },
        },
        "x-kubernetes-group-version-kind": mark(&names.list_kind),
    });
    schemas.insert(list_name(resolved), list);
    schemas.insert(name, schema);
}

/// The schema of a kind that was defined at run time, with what every object has.
fn structural(schema: &Value, dialect: Dialect) -> Value {
    let mut schema = if schema.is_object() { schema.clone() } else { json!({}) };
    if dialect == Dialect::V2 {
        forget_what_v2_lacks(&mut schema);
    }
    schema["type"] = "object".into();
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    let properties = &mut schema["properties"];
    properties["apiVersion"] =
        json!({"description": "The version of this object's schema.", "type": "string"});
    properties["kind"] = json!({"description": "What this object is.", "type": "string"});
    properties["metadata"] = described(&meta("ObjectMeta"), "The object's metadata.", dialect);
    schema
}

fn forget_what_v2_lacks(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for word in ["oneOf", "anyOf", "not", "nullable"] {
                // A property may have such a name; a schema's own word is no object with a type.
                if fields.get(word).is_some_and(|value| value.get("type").is_none()) {
                    fields.remove(word);
                }
            }
            fields.values_mut().for_each(forget_what_v2_lacks);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_what_v2_lacks),
        _ => {}
    }
}
