//! Who may read the paths that belong to no resource.

use async_trait::async_trait;

use crate::{error::ApiError, pipeline::Server, request::Credentials};

/// Knows who asks, and who may read a path such as `/apis` or `/metrics`. The paths of health and version
/// are open to everyone and never asked about.
#[async_trait]
pub trait PathAccess: Send + Sync + 'static {
    /// Finds out who asks, before anything of the request is read: 401 for nobody, and for credentials
    /// that are wrong. What it gives is what the rest of the way sees, so that a token is checked once.
    async fn identify(&self, credentials: Credentials) -> Result<Credentials, ApiError>;

    /// Passes, or says why not: 401 for credentials that are wrong, 403 for a user who may not.
    async fn check(&self, credentials: &Credentials, path: &str) -> Result<(), ApiError>;
}

/// Lets through whom the connection itself vouches for: a verified certificate, or a caller in this
/// process. Tokens are refused, since nobody here can check them.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifiedOnly;

#[async_trait]
impl PathAccess for VerifiedOnly {
    async fn identify(&self, credentials: Credentials) -> Result<Credentials, ApiError> {
        // The transport behind asks who it is.
        Ok(credentials)
    }

    async fn check(&self, credentials: &Credentials, path: &str) -> Result<(), ApiError> {
        match credentials {
            Credentials::Certificate { .. } | Credentials::InProcess(_) => Ok(()),
            Credentials::Token(_) => Err(ApiError::Unauthorized),
            Credentials::Anonymous => Err(ApiError::Forbidden {
                group: String::new(),
                resource: String::new(),
                name: String::new(),
                message: format!("forbidden: User \"system:anonymous\" cannot get path {path:?}"),
                causes: Vec::new(),
            }),
        }
    }
}

#[async_trait]
impl PathAccess for Server {
    async fn identify(&self, credentials: Credentials) -> Result<Credentials, ApiError> {
        self.authenticate(&credentials).await.map(Credentials::InProcess)
    }

    async fn check(&self, credentials: &Credentials, path: &str) -> Result<(), ApiError> {
        let user = self.authenticate(credentials).await?;
        self.authorize_path(&user, path).await
    }
}
