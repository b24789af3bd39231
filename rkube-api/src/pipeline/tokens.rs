//! Tokens of service accounts, which say by themselves whose they are: any server of the cluster can check
//! them, as all sign with one key that the cluster keeps. Claims are those of Kubernetes.
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens>

use std::{collections::HashMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Pod, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::{
    Kept, Reader,
    jwt::{self, SecretKey, Signer},
};
use crate::{error::ApiError, request::UserInfo};

/// Who signs, and the audience that this server answers to.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// By so much clocks of servers may differ, and a token is good after its account is being deleted.
const LEEWAY: SignedDuration = SignedDuration::from_mins(1);

/// So many verified tokens are remembered at least, if there are as many, and at most twice as many.
const REMEMBERED: usize = 1024;

/// The name under which the key is kept.
const KEY: &str = "service-account-key";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) aud: Vec<String>,
    /// Seconds, as the other times.
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) iss: String,
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) subject: Subject,
    pub(crate) nbf: i64,
    pub(crate) sub: String,
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    pub(crate) namespace: String,
    /// The pod that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Bound>,
    #[serde(rename = "serviceaccount")]
    pub(crate) account: Bound,
}

/// An object by its name and UID: another one of the name is not meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Bound {
    fn is(&self, found: Option<&ObjectMeta>, now: Timestamp) -> bool {
        found.is_some_and(|meta| {
            let gone = meta.deletion_timestamp.as_ref().is_some_and(|Time(at)| now > later(*at));
            meta.uid.as_deref() == Some(&self.uid) && !gone
        })
    }
}

fn later(time: Timestamp) -> Timestamp {
    time.checked_add(LEEWAY).unwrap_or(Timestamp::MAX)
}

/// The name of the user that an account is.
pub(crate) fn user_name(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

/// Signs and checks tokens. The key is read or made when the first token is.
pub(crate) struct Tokens {
    kept: Kept,
    signer: OnceCell<Signer>,
    verified: Mutex<Verified>,
}

/// Checking a signature takes longer than all the rest of a small request. The older half is forgotten
/// whenever the newer one is full.
#[derive(Default)]
struct Verified {
    newer: HashMap<String, Arc<Claims>, foldhash::fast::FixedState>,
    older: HashMap<String, Arc<Claims>, foldhash::fast::FixedState>,
}

impl Verified {
    fn get(&self, token: &str) -> Option<Arc<Claims>> {
        self.newer.get(token).or_else(|| self.older.get(token)).cloned()
    }

    fn add(&mut self, token: &str, claims: Arc<Claims>) {
        if self.newer.len() >= REMEMBERED {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(token.to_owned(), claims);
    }
}

impl Tokens {
    pub(super) fn new(kept: Kept) -> Self {
        Self { kept, signer: OnceCell::new(), verified: Mutex::default() }
    }

    async fn signer(&self) -> Result<&Signer, ApiError> {
        let make = || async { Signer::new(&self.kept.get_or_make(KEY, SecretKey::generate).await?) };
        self.signer.get_or_try_init(make).await
    }

    /// A token that says this.
    pub(crate) async fn issue(&self, claims: &Claims) -> Result<String, ApiError> {
        self.signer().await?.sign(claims)
    }

    /// What a token says, if it is for this cluster and one of its servers has signed it.
    async fn claims(&self, token: &str) -> Result<Option<Arc<Claims>>, ApiError> {
        if let Some(claims) = self.verified.lock().get(token) {
            return Ok(Some(claims));
        }
        // Other tokens than ours never ask the store for a key.
        let is_for_us = |claims: &Claims| claims.iss == ISSUER && claims.aud.iter().any(|aud| aud == ISSUER);
        let Some(claims) = jwt::claims(token).filter(is_for_us) else { return Ok(None) };
        // Nor do they make one.
        if !self.signer.initialized() && self.kept.get::<SecretKey>(KEY).await?.is_none() {
            return Ok(None);
        }
        if !self.signer().await?.has_signed(token) {
            return Ok(None);
        }
        let claims = Arc::new(claims);
        self.verified.lock().add(token, claims.clone());
        Ok(Some(claims))
    }

    /// The user of a token, if it is one of these and still good: its time is not over, and its account, and
    /// the pod that it is bound to, are there.
    pub(crate) async fn user(
        &self,
        token: &str,
        now: Timestamp,
        reader: &Reader,
    ) -> Result<Option<Arc<UserInfo>>, ApiError> {
        let Some(claims) = self.claims(token).await? else { return Ok(None) };
        let from = Timestamp::from_second(claims.nbf).unwrap_or(Timestamp::MAX);
        let until = Timestamp::from_second(claims.exp).unwrap_or(Timestamp::MIN);
        if now > later(until) || later(now) < from {
            return Ok(None);
        }
        let Subject { namespace, pod, account } = &claims.subject;
        let found = reader.get::<ServiceAccount>(namespace, &account.name).await?;
        if !account.is(found.as_deref().map(|account| &account.metadata), now) {
            return Ok(None);
        }
        if let Some(pod) = pod {
            let found = reader.get::<Pod>(namespace, &pod.name).await?;
            if !pod.is(found.as_deref().map(|pod| &pod.metadata), now) {
                return Ok(None);
            }
        }
        Ok(Some(Arc::new(UserInfo {
            name: user_name(namespace, &account.name),
            groups: vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".into(),
            ],
            uid: Some(account.uid.clone()),
        })))
    }
}
