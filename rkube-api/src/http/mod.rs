//! The wire: HTTP requests in, HTTP responses out, around any [`Transport`](crate::request::Transport).
//!
//! [`ApiService`] is a `tower::Service` over `http` types. [`HttpServer`] puts it behind TLS and hyper;
//! [`kube_client`] puts a `kube::Client` on it with no socket at all. Both meet the in-process client at
//! [`ApiRequest`](crate::request::ApiRequest): nothing behind it knows which of them asked.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use http::Request;
//! use rkube_api::{
//!     context::Context,
//!     error::ApiError,
//!     http::ApiService,
//!     kinds,
//!     registry::Registry,
//!     request::{ApiRequest, ApiResponse, Transport},
//! };
//!
//! struct Nothing;
//! #[async_trait::async_trait]
//! impl Transport for Nothing {
//!     async fn send(&self, _: ApiRequest) -> Result<ApiResponse, ApiError> {
//!         Err(ApiError::NoSuchPath)
//!     }
//! }
//!
//! let registry = Registry::new(kinds::all()).unwrap().into();
//! let service = ApiService::builder(std::sync::Arc::new(Nothing), registry, Context::simulated(1)).build();
//! let request = Request::get("/healthz").body(String::new()).unwrap();
//! assert_eq!(service.respond(request).await.status(), 200);
//! # });
//! ```

mod access;
mod body;
mod health;
mod io;
#[cfg(feature = "remote")]
mod kube;
mod media;
mod metrics;
mod page;
mod private;
mod query;
mod render;
mod router;
mod server;
mod service;
mod storage;
mod tls;
mod version;
mod watch;

pub use access::{PathAccess, VerifiedOnly};
pub use body::{BoxError, ResponseBody};
pub use health::Health;
#[cfg(feature = "remote")]
pub use kube::kube_client;
pub use metrics::Metrics;
pub use private::write_private;
pub use server::{Bounds, HttpServer};
pub use service::{ApiService, Limits, ServiceBuilder};
pub use tls::{Authority, Identity, Kubeconfig, ServerTls, TlsError};
pub use version::VersionInfo;
