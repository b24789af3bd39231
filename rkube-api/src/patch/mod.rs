//! Changing objects: JSON patch, merge patch, strategic merge patch, apply, and the book of who owns
//! which field.
//!
//! All of it is pure: over JSON values and, where lists have keys, a [`SchemaRef`](crate::fields::SchemaRef).
//!
//! ```
//! use rkube_api::patch::merge;
//! use serde_json::json;
//! let mut object = json!({"spec": {"replicas": 1, "paused": true}});
//! merge::apply(&mut object, &json!({"spec": {"replicas": 2, "paused": null}}));
//! assert_eq!(object, json!({"spec": {"replicas": 2}}));
//! ```

pub mod apply;
pub mod compare;
pub mod field_set;
pub mod json;
mod last_applied;
pub mod managed;
pub mod merge;
pub mod strategic;
mod strategic_list;

pub use compare::{Comparison, compare};
pub use field_set::FieldSet;
