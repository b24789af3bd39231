//! Schemas of custom resources: the structural subset of OpenAPI v3.
//!
//! Source: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>
//!
//! ```
//! use rkube_api::fields::Schema;
//! use serde_json::json;
//! let schema = Schema::from_openapi(&json!({"type": "object", "properties": {
//!     "spec": {"type": "object", "required": ["size"], "properties": {
//!         "size": {"type": "integer", "minimum": 1},
//!         "color": {"type": "string", "default": "red"},
//!     }},
//! }}))?;
//! let mut object = json!({"kind": "Shirt", "spec": {"size": 0, "unknown": 1}});
//! schema.prune(&mut object);
//! schema.default(&mut object);
//! assert_eq!(object, json!({"kind": "Shirt", "spec": {"size": 0, "color": "red"}}));
//! assert_eq!(
//!     schema.validate(&object).to_string(),
//!     "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"
//! );
//! # Ok::<(), rkube_api::fields::SchemaError>(())
//! ```

use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::builtin::schema_of;
use super::schema::{Field, Kind, ListShape, Node, NodeId, ObjectType, Schema};
use crate::meta::validation::FieldPath;

/// As deep as a schema may nest.
const MAX_DEPTH: usize = 64;
/// As large as a compiled pattern may be, in bytes.
const MAX_PATTERN: usize = 1 << 20;
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Why a schema can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// References are not allowed.
    #[error("{0}.$ref: Forbidden: must not be set")]
    Ref(String),
    /// The type is none that is known.
    #[error(
        "{path}.type: Unsupported value: {found:?}: supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\""
    )]
    Type {
        /// Where.
        path: String,
        /// What it says.
        found: String,
    },
    /// The type is missing.
    #[error("{0}.type: Required value: must not be empty for specified object fields")]
    NoType(String),
    /// A list says nothing of its items.
    #[error("{0}.items: Required value: must be specified")]
    NoItems(String),
    /// Both fields and free keys.
    #[error("{0}.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive")]
    PropertiesAndAdditional(String),
    /// The pattern can't be compiled.
    #[error("{path}.pattern: Invalid value: {pattern:?}: must be a valid regular expression")]
    Pattern {
        /// Where.
        path: String,
        /// The pattern.
        pattern: String,
    },
    /// Nested too deep.
    #[error("{0}: Forbidden: nested too deep")]
    TooDeep(String),
    /// Not an object.
    #[error("{0}: Invalid value: a schema must be an object")]
    NotAnObject(String),
}

/// What a value must satisfy beside its type.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) nullable: bool,
    /// The type, where the node's kind can't tell it.
    pub(super) type_name: Option<String>,
    pub(super) format: Option<String>,
    pub(super) one_of_values: Option<Vec<Value>>,
    pub(super) pattern: Option<Regex>,
    pub(super) minimum: Option<(f64, bool)>,
    pub(super) maximum: Option<(f64, bool)>,
    pub(super) multiple_of: Option<f64>,
    pub(super) length: Bounds,
    pub(super) items: Bounds,
    pub(super) properties: Bounds,
    pub(super) unique: bool,
    pub(super) all_of: Vec<NodeId>,
    pub(super) any_of: Vec<NodeId>,
    pub(super) one_of: Vec<NodeId>,
    pub(super) not: Option<NodeId>,
}

/// At least and at most so many.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    pub(super) min: Option<usize>,
    pub(super) max: Option<usize>,
}

impl Schema {
    /// Reads the schema of a custom resource's version (`openAPIV3Schema`). The object's own `apiVersion`,
    /// `kind` and `metadata` are always part of it.
    pub fn from_openapi(schema: &Value) -> Result<Schema, SchemaError> {
        let mut builder = Builder { nodes: vec![Node::default()] };
        let root = builder.node(schema, &FieldPath::new("openAPIV3Schema"), 0)?;
        builder.embed(root);
        Ok(Schema { nodes: Arc::new(builder.nodes), root })
    }
}

struct Builder {
    nodes: Vec<Node>,
}

impl Builder {
    fn add(&mut self, kind: Kind) -> NodeId {
        self.nodes.push(Node { kind, ..Node::default() });
        NodeId(self.nodes.len() as u32 - 1)
    }

    fn node(&mut self, schema: &Value, path: &FieldPath<'_>, depth: usize) -> Result<NodeId, SchemaError> {
        let Value::Object(map) = schema else { return Err(SchemaError::NotAnObject(path.to_string())) };
        if depth > MAX_DEPTH {
            return Err(SchemaError::TooDeep(path.to_string()));
        }
        if map.contains_key("$ref") {
            return Err(SchemaError::Ref(path.to_string()));
        }
        let kind = self.kind(map, path, depth)?;
        let id = self.add(kind);
        let rules = self.rules(map, path, depth)?;
        self.nodes[id.0 as usize].rules = Some(Box::new(rules));
        if is_true(map, "x-kubernetes-embedded-resource") {
            self.embed(id);
        }
        Ok(id)
    }

    fn kind(
        &mut self,
        map: &Map<String, Value>,
        path: &FieldPath<'_>,
        depth: usize,
    ) -> Result<Kind, SchemaError> {
        if is_true(map, "x-kubernetes-int-or-string") {
            return Ok(Kind::IntOrString);
        }
        Ok(match map.get("type").and_then(Value::as_str).unwrap_or_default() {
            "object" => self.object(map, path, depth)?,
            "array" => {
                let items = map.get("items").ok_or_else(|| SchemaError::NoItems(path.to_string()))?;
                let item = self.node(items, &path.child("items"), depth + 1)?;
                Kind::List { item, shape: list_shape(map) }
            }
            "string" if map.get("format").and_then(Value::as_str) == Some("byte") => Kind::Bytes,
            "string" if map.get("format").and_then(Value::as_str) == Some("date-time") => Kind::Time,
            "string" => Kind::String,
            "integer" if map.get("format").and_then(Value::as_str) == Some("int32") => Kind::Integer(32),
            "integer" => Kind::Integer(64),
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            "" if ["properties", "required", "items"].iter().any(|key| map.contains_key(*key)) => {
                // Parts of a junctor leave the type to the whole.
                if depth == 0 {
                    return Err(SchemaError::NoType(path.to_string()));
                }
                self.untyped(map, path, depth)?
            }
            "" => Kind::Any,
            other => {
                return Err(SchemaError::Type { path: path.to_string(), found: other.to_string() });
            }
        })
    }

    /// A part of `allOf` and the like: it says more of fields that the whole already has.
    fn untyped(
        &mut self,
        map: &Map<String, Value>,
        path: &FieldPath<'_>,
        depth: usize,
    ) -> Result<Kind, SchemaError> {
        if let Some(items) = map.get("items") {
            let item = self.node(items, &path.child("items"), depth + 1)?;
            return Ok(Kind::List { item, shape: ListShape::Atomic });
        }
        match self.object(map, path, depth)? {
            Kind::Object(object) => Ok(Kind::Object(ObjectType { preserve_unknown: true, ..object })),
            other => Ok(other),
        }
    }

    fn object(
        &mut self,
        map: &Map<String, Value>,
        path: &FieldPath<'_>,
        depth: usize,
    ) -> Result<Kind, SchemaError> {
        let atomic = map.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic");
        let preserve_unknown = is_true(map, "x-kubernetes-preserve-unknown-fields");
        let properties = map.get("properties").and_then(Value::as_object).filter(|p| !p.is_empty());
        match map.get("additionalProperties") {
            Some(Value::Bool(false)) | None => {}
            Some(_) if properties.is_some() => {
                return Err(SchemaError::PropertiesAndAdditional(path.to_string()));
            }
            Some(Value::Bool(true)) => return Ok(Kind::Map { value: NodeId(0), atomic }),
            Some(value) => {
                let value = self.node(value, &path.child("additionalProperties"), depth + 1)?;
                return Ok(Kind::Map { value, atomic });
            }
        }
        let mut object = ObjectType {
            atomic,
            preserve_unknown,
            required: texts(map.get("required")),
            ..ObjectType::default()
        };
        let properties_path = path.child("properties");
        for (name, property) in properties.into_iter().flatten() {
            let node = self.node(property, &properties_path.key(name), depth + 1)?;
            let default = property.get("default").cloned();
            object.fields.insert(name.clone(), Field { node, default, ..Field::default() });
        }
        Ok(Kind::Object(object))
    }

    fn rules(
        &mut self,
        map: &Map<String, Value>,
        path: &FieldPath<'_>,
        depth: usize,
    ) -> Result<Rules, SchemaError> {
        let number = |key: &str| map.get(key).and_then(Value::as_f64);
        let count = |key: &str| map.get(key).and_then(Value::as_u64).map(|n| n as usize);
        let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_string);
        let int_or_string = is_true(map, "x-kubernetes-int-or-string");
        let mut parts = |key: &str| -> Result<Vec<NodeId>, SchemaError> {
            let list = map.get(key).and_then(Value::as_array);
            // The usual `anyOf` of an int-or-string only repeats what it is.
            let list = list.filter(|_| !(int_or_string && key == "anyOf"));
            let path = path.child(key);
            let read = |(i, part)| self.node(part, &path.index(i), depth + 1);
            list.into_iter().flatten().enumerate().map(read).collect()
        };
        let (all_of, any_of, one_of) = (parts("allOf")?, parts("anyOf")?, parts("oneOf")?);
        let not = match map.get("not") {
            Some(part) => Some(self.node(part, &path.child("not"), depth + 1)?),
            None => None,
        };
        let bounds = |min: &str, max: &str| Bounds { min: count(min), max: count(max) };
        Ok(Rules {
            nullable: is_true(map, "nullable"),
            type_name: text("type"),
            format: text("format"),
            one_of_values: map.get("enum").and_then(Value::as_array).cloned(),
            pattern: text("pattern").map(|p| compile(&p, path)).transpose()?,
            minimum: number("minimum").map(|n| (n, is_true(map, "exclusiveMinimum"))),
            maximum: number("maximum").map(|n| (n, is_true(map, "exclusiveMaximum"))),
            multiple_of: number("multipleOf"),
            length: bounds("minLength", "maxLength"),
            items: bounds("minItems", "maxItems"),
            properties: bounds("minProperties", "maxProperties"),
            unique: is_true(map, "uniqueItems"),
            all_of,
            any_of,
            one_of,
            not,
        })
    }

    /// Gives an object the fields that every object has.
    fn embed(&mut self, id: NodeId) {
        let text = self.add(Kind::String);
        let meta = schema_of(OBJECT_META).map_or(NodeId(0), |schema| self.graft(schema));
        if let Kind::Object(object) = &mut self.nodes[id.0 as usize].kind {
            object.embedded = true;
            for (name, node) in [("apiVersion", text), ("kind", text), ("metadata", meta)] {
                object.fields.insert(name.to_string(), Field { node, ..Field::default() });
            }
        }
    }

    /// Copies another schema's table in.
    fn graft(&mut self, schema: &Schema) -> NodeId {
        let offset = self.nodes.len() as u32;
        let moved = |id: NodeId| NodeId(id.0 + offset);
        for node in schema.nodes.iter() {
            let mut node = node.clone();
            match &mut node.kind {
                Kind::Object(object) => object.fields.values_mut().for_each(|f| f.node = moved(f.node)),
                Kind::Map { value, .. } => *value = moved(*value),
                Kind::List { item, .. } => *item = moved(*item),
                _ => {}
            }
            self.nodes.push(node);
        }
        moved(schema.root)
    }
}

fn compile(pattern: &str, path: &FieldPath<'_>) -> Result<Regex, SchemaError> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_PATTERN)
        .build()
        .map_err(|_| SchemaError::Pattern { path: path.to_string(), pattern: pattern.to_string() })
}

fn is_true(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key) == Some(&Value::Bool(true))
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|v| v.as_str().map(str::to_string)).collect()
}

fn list_shape(map: &Map<String, Value>) -> ListShape {
    match map.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListShape::Set,
        Some("map") => ListShape::Map(texts(map.get("x-kubernetes-list-map-keys"))),
        _ => ListShape::Atomic,
    }
}

#[cfg(test)]
#[path = "structural_tests.rs"]
mod tests;
