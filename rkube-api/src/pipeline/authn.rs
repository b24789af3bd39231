//! Stage 1: who asks.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::RwLock;

use crate::{
    error::ApiError,
    request::{Credentials, UserInfo},
};

/// Knows the users of bearer tokens. The first of the server's authenticators that knows a token decides.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// The user of a token; `None` if the token is not of this authenticator.
    async fn token(&self, token: &str) -> Result<Option<Arc<UserInfo>>, ApiError>;
}

/// Tokens held in memory; they may come and go while the server runs.
///
/// ```
/// use rkube_api::{pipeline::StaticTokens, request::UserInfo};
/// let tokens = StaticTokens::default();
/// tokens.insert("secret", UserInfo::admin("me"));
/// ```
#[derive(Debug, Default)]
pub struct StaticTokens {
    users: RwLock<BTreeMap<String, Arc<UserInfo>>>,
}

impl StaticTokens {
    /// Begins to accept a token.
    pub fn insert(&self, token: impl Into<String>, user: UserInfo) {
        self.users.write().insert(token.into(), Arc::new(user));
    }

    /// Ends accepting a token; whether it was accepted.
    pub fn remove(&self, token: &str) -> bool {
        self.users.write().remove(token).is_some()
    }
}

#[async_trait]
impl Authenticator for StaticTokens {
    async fn token(&self, token: &str) -> Result<Option<Arc<UserInfo>>, ApiError> {
        Ok(self.users.read().get(token).cloned())
    }
}

/// The user of these credentials, or 401.
pub(super) async fn user(
    authenticators: &[Arc<dyn Authenticator>],
    credentials: &Credentials,
) -> Result<Arc<UserInfo>, ApiError> {
    match credentials {
        Credentials::InProcess(user) => Ok(user.clone()),
        Credentials::Anonymous => Err(ApiError::Unauthorized),
        Credentials::Certificate { common_name, organizations } => {
            if common_name.is_empty() {
                return Err(ApiError::Unauthorized);
            }
            let mut groups = organizations.clone();
            groups.push(AUTHENTICATED.into());
            Ok(Arc::new(UserInfo { name: common_name.clone(), groups, uid: None }))
        }
        Credentials::Token(token) => {
            for authenticator in authenticators {
                if let Some(user) = authenticator.token(token).await? {
                    return Ok(authenticated(user));
                }
            }
            Err(ApiError::Unauthorized)
        }
    }
}

const AUTHENTICATED: &str = "system:authenticated";

/// Every user who was authenticated is in one group, whatever the authenticator said.
fn authenticated(user: Arc<UserInfo>) -> Arc<UserInfo> {
    if user.in_group(AUTHENTICATED) {
        return user;
    }
    let mut user = Arc::unwrap_or_clone(user);
    user.groups.push(AUTHENTICATED.into());
    Arc::new(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_known_or_refused() {
        let tokens = Arc::new(StaticTokens::default());
        tokens.insert("t", UserInfo { name: "u".into(), ..UserInfo::default() });
        let all: Vec<Arc<dyn Authenticator>> = vec![tokens.clone()];
        let found = user(&all, &Credentials::Token("t".into())).await.unwrap();
        assert!(found.name == "u" && found.in_group(AUTHENTICATED));
        for wrong in
            [Credentials::Token("x".into()), Credentials::Token(String::new()), Credentials::Anonymous]
        {
            assert_eq!(user(&all, &wrong).await, Err(ApiError::Unauthorized));
        }
        assert!(tokens.remove("t"));
        assert_eq!(user(&all, &Credentials::Token("t".into())).await, Err(ApiError::Unauthorized));
    }

    #[tokio::test]
    async fn a_certificate_names_the_user_and_its_groups() {
        let certificate = |name: &str| Credentials::Certificate {
            common_name: name.into(),
            organizations: vec!["system:masters".into()],
        };
        let found = user(&[], &certificate("admin")).await.unwrap();
        assert_eq!(*found, UserInfo::admin("admin"));
        assert_eq!(user(&[], &certificate("")).await, Err(ApiError::Unauthorized));
    }
}
