//! What a server says that it serves.

use http::{Request, header};
use kube::core::discovery::v2::{ACCEPT_AGGREGATED_DISCOVERY_V2, APIGroupDiscovery, APIGroupDiscoveryList};
use serde_json::Value;

use super::{Body, Remote};
use crate::{error::ApiError, request::Verb};

impl Remote {
    /// The groups that the server serves, the core one first, each with its versions and their resources; the
    /// preferred version of a group is its first. A version whose server cannot be asked at the time is marked
    /// `Stale`. It is what aggregated discovery tells (KEP-3352), which Kubernetes has since 1.26.
    ///
    /// # Errors
    /// When the server cannot be asked, refuses, or has no aggregated discovery.
    pub async fn discover(&self) -> Result<Vec<APIGroupDiscovery>, ApiError> {
        let mut groups = self.groups("/api").await?;
        groups.extend(self.groups("/apis").await?);
        Ok(groups)
    }

    async fn groups(&self, path: &str) -> Result<Vec<APIGroupDiscovery>, ApiError> {
        let request = Request::get(path)
            .header(header::ACCEPT, ACCEPT_AGGREGATED_DISCOVERY_V2)
            .body(Body::empty())
            .map_err(|error| ApiError::internal(error.to_string()))?;
        let response =
            self.client.send(request).await.map_err(|error| Self::unreachable(Verb::Get, &error))?;
        let bytes = Self::text(Verb::Get, response).await?;
        let broken = |error: serde_json::Error| {
            ApiError::internal(format!("the server's answer could not be read: {error}"))
        };
        let document: Value = serde_json::from_slice(&bytes).map_err(broken)?;
        if document["kind"] != "APIGroupDiscoveryList" {
            // An older form: it names no resources, which must not be taken for there being none.
            return Err(ApiError::internal(format!("{path}: the server has no aggregated discovery")));
        }
        Ok(serde_json::from_value::<APIGroupDiscoveryList>(document).map_err(broken)?.items)
    }
}
