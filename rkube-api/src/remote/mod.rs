//! A [`Transport`] to any API server, over the `kube` crate: the components of rkube run on a real
//! cluster unchanged.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use rkube_api::{client::Client, context::Context, remote::Remote, request::Credentials};
//!
//! # let kube: kube::Client = todo!();
//! let remote = Arc::new(Remote::new(kube));
//! // Who asks is what the kube client shows the server; the credentials here are not sent.
//! let client = Client::new(remote, Credentials::Anonymous, "my-controller", Context::system(1));
//! # Ok(())
//! # }
//! ```

mod answer;
mod ask;
mod discovery;
mod events;

use async_trait::async_trait;
use http::header;
use kube::client::Body as KubeBody;

use crate::{
    error::ApiError,
    request::{ApiRequest, ApiResponse, Transport, Verb},
};

/// A server that is reached through a `kube::Client`, which brings the address, the credentials and TLS.
#[derive(Clone)]
pub struct Remote {
    client: kube::Client,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remote")
    }
}

impl Remote {
    /// The server that `client` talks to.
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// The text of an answer, or the failure that it tells.
    async fn text(verb: Verb, response: http::Response<Body>) -> Result<Bytes, ApiError> {
        let code = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
        let bytes = answer::collect(response.into_body())
            .await
            .map_err(|error| Self::unreachable(verb, &kube::Error::Service(error)))?;
        if code >= 400 { Err(answer::error(code, &bytes, retry_after)) } else { Ok(bytes) }
    }

    /// What kept the request from being answered. A write may have happened all the same.
    fn unreachable(verb: Verb, error: &kube::Error) -> ApiError {
        let message = format!("the server could not be asked: {error}");
        if verb.writes() { ApiError::Timeout { message } } else { ApiError::Unavailable { message } }
    }
}

#[async_trait]
impl Transport for Remote {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let verb = request.verb;
        let request = ask::http_request(request)?;
        let response = self.client.send(request).await.map_err(|error| Self::unreachable(verb, &error))?;
        let code = response.status().as_u16();
        let warnings = answer::warnings(response.headers());
        if code < 400 && verb == Verb::Watch {
            return Ok(ApiResponse::Watch(events::stream(response.into_body())));
        }
        let bytes = Self::text(verb, response).await?;
        answer::success(verb, code, &bytes, warnings)
    }
}

type Bytes = bytes::Bytes;
type Body = KubeBody;
