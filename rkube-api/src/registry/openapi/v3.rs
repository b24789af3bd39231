//! OpenAPI v3: one document a group and version.

use serde_json::{Map, Value, json};

use super::{
    operations::{self, Operation, PRETTY, Parameter, Path},
    schemas::{self, gvk},
};
use crate::{fields::openapi::Dialect, registry::Resolved};

/// The document of what is served at one group and version.
pub(super) fn document(served: &[Resolved]) -> Value {
    let paths: Map<String, Value> =
        served.iter().flat_map(operations::paths).map(|path| (path.path.clone(), item(&path))).collect();
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": paths,
        "components": {"schemas": schemas::all(served, Dialect::V3)},
    })
}

fn query_parameter((name, kind, description): &Parameter) -> Value {
    json!({
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": kind, "uniqueItems": true},
    })
}

fn path_parameter(name: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "path",
        "description": description,
        "required": true,
        "schema": {"type": "string", "uniqueItems": true},
    })
}

fn item(path: &Path) -> Value {
    let mut parameters = Vec::new();
    if path.named {
        parameters.push(path_parameter("name", "The object's name."));
    }
    if path.namespaced {
        parameters.push(path_parameter("namespace", "The object's namespace."));
    }
    parameters.push(query_parameter(&PRETTY));
    let mut item = Map::new();
    for operation in &path.operations {
        item.insert(operation.method.into(), write(operation));
    }
    item.insert("parameters".into(), parameters.into());
    item.into()
}

fn write(operation: &Operation) -> Value {
    let reference = |name: &str| json!({"schema": {"$ref": Dialect::V3.reference(name)}});
    let mut out = Map::new();
    out.insert("tags".into(), json!([operation.tag]));
    out.insert("description".into(), format!("{} {}", operation.action, operation.kind).into());
    out.insert("operationId".into(), operation.id.clone().into());
    if !operation.query.is_empty() {
        out.insert("parameters".into(), operation.query.iter().map(query_parameter).collect());
    }
    if let Some((name, media_types)) = &operation.body {
        let content: Map<String, Value> =
            media_types.iter().map(|media_type| ((*media_type).to_owned(), reference(name))).collect();
        let required = operation.action != "delete" && operation.action != "deletecollection";
        out.insert("requestBody".into(), json!({"content": content, "required": required}));
    }
    let content: Map<String, Value> = match &operation.answer {
        Some(name) => ["application/json", "application/yaml"]
            .into_iter()
            .map(|media_type| (media_type.to_owned(), reference(name)))
            .collect(),
        None => Map::new(),
    };
    let code = if operation.action == "post" { "201" } else { "200" };
    out.insert(
        "responses".into(),
        json!({
            code: {"description": "OK", "content": content},
            "401": {"description": "Unauthorized"},
        }),
    );
    out.insert("x-kubernetes-action".into(), operation.action.into());
    out.insert(
        "x-kubernetes-group-version-kind".into(),
        gvk(&operation.group, &operation.version, &operation.kind),
    );
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kinds,
        registry::{Registry, openapi},
    };

    /// As kubectl 1.32 finds out whether the server validates fields.
    #[test]
    fn every_patch_says_that_fields_are_validated() {
        let snapshot = Registry::new(kinds::all()).unwrap().snapshot();
        let mut seen = 0;
        for path in openapi::v3_paths(&snapshot) {
            let document = openapi::v3(&snapshot, &path).unwrap();
            for (path, item) in document["paths"].as_object().unwrap() {
                let Some(patch) = item.get("patch") else { continue };
                seen += 1;
                let names: Vec<_> =
                    patch["parameters"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
                assert!(
                    names.contains(&json!("fieldValidation")) && names.contains(&json!("dryRun")),
                    "{path}"
                );
                assert!(patch["x-kubernetes-group-version-kind"]["kind"].is_string());
            }
        }
        assert!(seen > 15);
    }

    #[test]
    fn every_served_kind_has_a_schema_that_says_so() {
        let snapshot = Registry::new(kinds::all()).unwrap().snapshot();
        for (path, served) in openapi::groups(&snapshot) {
            let document = openapi::v3(&snapshot, &path).unwrap();
            let text = document.to_string();
            assert!(!text.contains("#/definitions") && !text.contains("$defs"));
            for resolved in served {
                let name = schemas::type_name(&resolved);
                let schema = &document["components"]["schemas"][&name];
                let marked = &schema["x-kubernetes-group-version-kind"][0]["kind"];
                assert_eq!(marked, &json!(resolved.definition.names.kind), "{name}");
                assert!(schema["properties"]["metadata"]["allOf"][0]["$ref"].is_string());
            }
        }
    }
}
