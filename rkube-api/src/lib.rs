//! Kubernetes' API machinery: kinds, client, informers and, behind features, the API server.
//!
//! The rooms, in the order in which a write passes them: [`client`] builds an [`request::ApiRequest`],
//! a [`request::Transport`] carries it (in process or remote), and the answer comes back as an
//! [`request::ApiResponse`]. What the server knows of a resource is a [`registry::Definition`], a value.
//!
//! ```
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use rkube_api::object::Object;
//!
//! let object = Object::new(ConfigMap::default());
//! assert_eq!(object.kind(), "ConfigMap");
//! assert!(object.as_kind::<ConfigMap>().is_some());
//! ```

#[cfg(feature = "server")]
pub mod admission;
#[cfg(feature = "server")]
pub mod alloc;
pub mod client;
pub mod codec;
pub mod context;
#[cfg(feature = "crd")]
pub mod dynamic;
pub mod error;
pub mod fields;
pub mod helpers;
#[cfg(feature = "http")]
pub mod http;
pub mod kinds;
pub mod meta;
pub mod object;
pub mod patch;
#[cfg(feature = "server")]
pub mod pipeline;
pub mod registry;
#[cfg(feature = "remote")]
pub mod remote;
pub mod request;
#[cfg(feature = "server")]
mod subresources;

pub use k8s_openapi;
