//! One table of types: what fields a kind has, of what type, and how its lists and maps merge.
//!
//! Strict validation, strategic merge, apply, OpenAPI and custom resources read it. The built-in types come
//! from k8s-openapi's own schemas, joined with the list types and keys that those lack (`facts.txt`);
//! custom types from the OpenAPI v3 schema of their definition.
//!
//! ```
//! use rkube_api::fields::{schema_of, ListShape};
//! let pod = schema_of("io.k8s.api.core.v1.Pod").expect("a built-in type").root();
//! let containers = pod.child("spec").and_then(|s| s.child("containers")).expect("a field");
//! assert_eq!(containers.list_shape(), &ListShape::Map(vec!["name".into()]));
//! ```

mod builtin;
pub mod facts;
mod normalize;
pub mod openapi;
mod schema;
mod shape;
mod strict;
mod structural;
mod validate;

pub use builtin::{schema_of, type_names};
#[cfg(feature = "server")]
pub(crate) use normalize::go_value;
pub use normalize::{Unreadable, normalize, normalize_metadata};
pub use schema::{Field, Kind, ListShape, NodeId, ObjectType, Patch, Schema, SchemaRef};
pub use strict::unknown_fields;
pub use structural::SchemaError;
