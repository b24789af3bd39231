//! OpenAPI v2 (Swagger): one document of everything.

use serde_json::{Map, Value, json};

use super::{
    operations::{self, Operation, PRETTY, Parameter, Path},
    schemas::{self, gvk},
};
use crate::{fields::openapi::Dialect, registry::Resolved};

/// The document of what is served.
pub(super) fn document(served: &[Resolved]) -> Value {
    let paths: Map<String, Value> =
        served.iter().flat_map(operations::paths).map(|path| (path.path.clone(), item(&path))).collect();
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": paths,
        "definitions": schemas::all(served, Dialect::V2),
    })
}

fn query_parameter((name, kind, description): &Parameter) -> Value {
    json!({"name": name, "in": "query", "description": description, "type": kind, "uniqueItems": true})
}

fn path_parameter(name: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "path", "description": description, "required": true,
        "type": "string", "uniqueItems": true,
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
    let reference = |name: &str| json!({"$ref": Dialect::V2.reference(name)});
    let mut parameters: Vec<Value> = operation.query.iter().map(query_parameter).collect();
    let mut consumes = &["*/*"][..];
    if let Some((name, media_types)) = &operation.body {
        consumes = media_types;
        let required = operation.action != "delete" && operation.action != "deletecollection";
        parameters
            .push(json!({"name": "body", "in": "body", "required": required, "schema": reference(name)}));
    }
    let mut ok = json!({"description": "OK"});
    if let Some(name) = &operation.answer {
        ok["schema"] = reference(name);
    }
    let code = if operation.action == "post" { "201" } else { "200" };
    json!({
        "tags": [operation.tag],
        "description": format!("{} {}", operation.action, operation.kind),
        "operationId": operation.id,
        "consumes": consumes,
        "produces": ["application/json", "application/yaml"],
        "schemes": ["https"],
        "parameters": parameters,
        "responses": {code: ok, "401": {"description": "Unauthorized"}},
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": gvk(&operation.group, &operation.version, &operation.kind),
    })
}
