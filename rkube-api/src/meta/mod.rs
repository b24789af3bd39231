//! Object metadata and the small value types that the whole API speaks.
//!
//! Everything here is pure: values in, values out, no clock, no IO.
//!
//! ```
//! use rkube_api::meta::{LabelSelector, Quantity};
//! let memory: Quantity = "1.5Gi".parse()?;
//! assert_eq!(memory.to_string(), "1536Mi");
//! let selector = LabelSelector::parse("app in (a,b),!canary")?;
//! assert!(selector.matches(&[("app".to_string(), "a".to_string())].into()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod conditions;
pub mod field_selector;
pub mod gvk;
pub mod intstr;
pub mod label_parser;
pub mod labels;
pub mod names;
pub mod object_meta;
pub mod owners;
pub mod quantity;
pub mod validation;

pub use field_selector::FieldSelector;
pub use gvk::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use labels::LabelSelector;
pub use object_meta::{validate_object_meta, validate_object_meta_update};
pub use quantity::Quantity;
pub use validation::{ErrorList, FieldError, FieldPath, Reason};
