//! A real `kube::Client` with no socket under it.

use std::sync::Arc;

use ::kube::client::Body;
use http::Request;
use tower::ServiceExt;

use super::ApiService;
use crate::request::{Credentials, UserInfo};

/// A `kube::Client` that asks `service` in this process, as `user`. kube-rs' `Api`, `watcher`,
/// `reflector` and `Controller` work on it unchanged.
///
/// Call it inside a tokio runtime: the client keeps a task of its own there.
///
/// ```no_run
/// # use rkube_api::{http::{ApiService, kube_client}, request::UserInfo};
/// # async fn example(service: &ApiService) -> Result<(), kube::Error> {
/// use k8s_openapi::api::core::v1::Pod;
/// use kube::api::{Api, ListParams};
///
/// let client = kube_client(service, UserInfo::admin("me"));
/// let pods = Api::<Pod>::all(client).list(&ListParams::default()).await?;
/// # Ok(())
/// # }
/// ```
pub fn kube_client(service: &ApiService, user: UserInfo) -> ::kube::Client {
    let credentials = Credentials::InProcess(Arc::new(user));
    let service = service.clone().map_request(move |mut request: Request<Body>| {
        request.extensions_mut().insert(credentials.clone());
        request
    });
    ::kube::Client::new(service, "default")
}
