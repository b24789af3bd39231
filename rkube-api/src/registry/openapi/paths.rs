//! The paths of what is served. Both versions of OpenAPI say the same of them; they differ in where the type
//! of a parameter, a body and an answer stand.

use serde_json::{Map, Value, json};

use super::{
    operations::{self, Operation, PRETTY, Parameter, Path},
    schemas::gvk,
};
use crate::{fields::openapi::Dialect, registry::Resolved};

const ANSWERS: [&str; 2] = ["application/json", "application/yaml"];

/// The paths of resources.
pub(super) fn of(served: &[Resolved], dialect: Dialect) -> Map<String, Value> {
    let paths = served.iter().flat_map(operations::paths);
    paths.map(|path| (path.path.clone(), item(&path, dialect))).collect()
}

fn item(path: &Path, dialect: Dialect) -> Value {
    let mut parameters = Vec::new();
    if path.named {
        parameters.push(path_parameter("name", "The object's name.", dialect));
    }
    if path.namespaced {
        parameters.push(path_parameter("namespace", "The object's namespace.", dialect));
    }
    parameters.push(query_parameter(&PRETTY, dialect));
    let mut item = Map::new();
    for one in &path.operations {
        item.insert(one.method.into(), operation(one, dialect));
    }
    item.insert("parameters".into(), parameters.into());
    item.into()
}

fn query_parameter((name, kind, description): &Parameter, dialect: Dialect) -> Value {
    typed(json!({"name": name, "in": "query", "description": description}), kind, dialect)
}

fn path_parameter(name: &str, description: &str, dialect: Dialect) -> Value {
    let parameter = json!({"name": name, "in": "path", "description": description, "required": true});
    typed(parameter, "string", dialect)
}

fn typed(mut parameter: Value, kind: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::V2 => {
            parameter["type"] = kind.into();
            parameter["uniqueItems"] = true.into();
        }
        Dialect::V3 => parameter["schema"] = json!({"type": kind, "uniqueItems": true}),
    }
    parameter
}

fn operation(operation: &Operation, dialect: Dialect) -> Value {
    let mut out = json!({
        "tags": [operation.tag],
        "description": format!("{} {}", operation.action, operation.kind),
        "operationId": operation.id,
        "responses": {"401": {"description": "Unauthorized"}},
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": gvk(&operation.group, &operation.version, &operation.kind),
    });
    let code = if operation.action == "post" { "201" } else { "200" };
    let mut parameters: Vec<Value> =
        operation.query.iter().map(|parameter| query_parameter(parameter, dialect)).collect();
    let reference = |name: &str| json!({"$ref": dialect.reference(name)});
    let required = operation.action != "delete" && operation.action != "deletecollection";
    let mut ok = json!({"description": "OK"});
    match dialect {
        Dialect::V2 => {
            let (mut consumes, body) = (&["*/*"][..], operation.body.as_ref());
            if let Some((name, media_types)) = body {
                consumes = media_types;
                let schema = reference(name);
                parameters
                    .push(json!({"name": "body", "in": "body", "required": required, "schema": schema}));
            }
            if let Some(name) = &operation.answer {
                ok["schema"] = reference(name);
            }
            out["consumes"] = json!(consumes);
            out["produces"] = json!(ANSWERS);
            out["schemes"] = json!(["https"]);
            out["parameters"] = parameters.into();
        }
        Dialect::V3 => {
            let content = |name: &str, media_types: &[&str]| -> Value {
                media_types.iter().map(|of| ((*of).to_owned(), json!({"schema": reference(name)}))).collect()
            };
            if let Some((name, media_types)) = &operation.body {
                out["requestBody"] = json!({"content": content(name, media_types), "required": required});
            }
            let answer = operation.answer.as_ref();
            ok["content"] = answer.map_or_else(|| json!({}), |name| content(name, &ANSWERS));
            if !parameters.is_empty() {
                out["parameters"] = parameters.into();
            }
        }
    }
    out["responses"][code] = ok;
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kinds,
        registry::{
            Registry,
            openapi::{self, schemas},
        },
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
