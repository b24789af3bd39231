//! `serviceaccounts/token`: bearer tokens of service accounts (TokenRequest). A token is a random text that
//! the server remembers until it expires; it is good for as long as its account, and the pod that it is
//! bound to, are there. <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/>

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestStatus},
        core::v1::{Pod, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use parking_lot::Mutex;

use super::{Handler, admit, check_place, typed_body};
use crate::{
    error::{ApiError, Cause},
    meta::{ErrorList, FieldError, FieldPath},
    object::Object,
    pipeline::{Call, Reader, read_object},
    request::{ApiResponse, Body, UserInfo},
};

/// The audience that this server answers to.
pub(crate) const AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";
const HOUR: i64 = 3600;
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;

/// The tokens that were given out and have not expired.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    given: Mutex<BTreeMap<String, Given>>,
}

#[derive(Clone, Debug)]
struct Given {
    namespace: String,
    name: String,
    uid: String,
    pod: Option<BoundObjectReference>,
    until: Timestamp,
}

impl Tokens {
    fn add(&self, token: String, given: Given, now: Timestamp) {
        let mut all = self.given.lock();
        // Expired ones go when their number has doubled, so that this costs next to nothing a token.
        if all.len().is_power_of_two() {
            all.retain(|_, given| given.until > now);
        }
        all.insert(token, given);
    }

    /// The user of a token, if it is one of these and still good.
    pub(crate) async fn user(
        &self,
        token: &str,
        now: Timestamp,
        reader: &Reader,
    ) -> Result<Option<Arc<UserInfo>>, ApiError> {
        let given = self.given.lock().get(token).cloned();
        let Some(given) = given.filter(|given| given.until > now) else { return Ok(None) };
        let account = reader.get::<ServiceAccount>(&given.namespace, &given.name).await?;
        if account.is_none_or(|account| account.metadata.uid.as_deref() != Some(&given.uid)) {
            return Ok(None);
        }
        if let Some(bound) = &given.pod {
            let name = bound.name.as_deref().unwrap_or_default();
            let pod = reader.get::<Pod>(&given.namespace, name).await?;
            if pod.is_none_or(|pod| bound.uid.is_some() && pod.metadata.uid != bound.uid) {
                return Ok(None);
            }
        }
        let Given { namespace, name, uid, .. } = given;
        Ok(Some(Arc::new(UserInfo {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".into(),
            ],
            uid: Some(uid),
        })))
    }
}

/// The handler.
pub(super) struct RequestToken;

#[async_trait]
impl Handler for RequestToken {
    fn serves(&self) -> (&str, &str, &str) {
        ("", "serviceaccounts", "token")
    }

    async fn serve(&self, call: &Call<'_>, body: Body) -> Result<ApiResponse, ApiError> {
        let mut request = typed_body::<TokenRequest>(body)?;
        check_place(call, &request.metadata, "TokenRequest")?;
        let account = read_object(call).await?;
        request.metadata.name = Some(account.name().to_owned());
        request.metadata.namespace = Some(account.namespace().to_owned());
        let mut warnings = Vec::new();
        let mut request = admit(call, request, call.options.dry_run, &mut warnings).await?;
        let mut spec = request.spec.take().unwrap_or_default();
        let seconds = check_duration(call, spec.expiration_seconds)?;
        let bound = bound_pod(call, &account, spec.bound_object_ref.as_ref()).await?;
        let audiences = spec.audiences.get_or_insert_default();
        if audiences.is_empty() {
            audiences.push(AUDIENCE.into());
        }
        let good_here = audiences.iter().any(|audience| audience == AUDIENCE);
        spec.expiration_seconds = Some(seconds);
        request.spec = Some(spec);
        let now = call.server.context().clock.now().0;
        let until = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
        let token = random_token()?;
        if good_here && !call.options.dry_run {
            let given = Given {
                namespace: account.namespace().to_owned(),
                name: account.name().to_owned(),
                uid: account.uid().to_owned(),
                pod: bound,
                until,
            };
            call.server.tokens().add(token.clone(), given, now);
        }
        request.metadata.creation_timestamp = Some(Time(now));
        request.status =
            Some(TokenRequestStatus { token: Some(token), expiration_timestamp: Some(Time(until)) });
        Ok(ApiResponse::Object { object: Object::new(request), code: 201, warnings })
    }
}

fn check_duration(call: &Call<'_>, asked: Option<i64>) -> Result<i64, ApiError> {
    let seconds = asked.unwrap_or(HOUR);
    let detail = match seconds {
        SHORTEST..=LONGEST => return Ok(seconds),
        ..SHORTEST => "may not specify a duration less than 10 minutes",
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let spec = FieldPath::new("spec");
    let error = FieldError::invalid(&spec.child("expirationSeconds"), seconds, detail);
    Err(ApiError::Invalid {
        group: "authentication.k8s.io".into(),
        kind: "TokenRequest".into(),
        name: call.name().to_owned(),
        causes: ErrorList::from(vec![error]).iter().map(Cause::from).collect(),
    })
}

/// The pod that the token is to be bound to, if it exists and runs as the account.
async fn bound_pod(
    call: &Call<'_>,
    account: &Object,
    bound: Option<&BoundObjectReference>,
) -> Result<Option<BoundObjectReference>, ApiError> {
    let Some(bound) = bound else { return Ok(None) };
    let (kind, version) = (bound.kind.as_deref().unwrap_or_default(), bound.api_version.as_deref());
    if (kind, version.unwrap_or_default()) != ("Pod", "v1") {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to object {kind:?}",
            account.name()
        )));
    }
    let name = bound.name.as_deref().unwrap_or_default();
    let pod = call.server.reader().get::<Pod>(account.namespace(), name).await?;
    let pod = pod.ok_or_else(|| ApiError::not_found("", "pods", name))?;
    let runs_as = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or_default();
    if runs_as != account.name() {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            account.name()
        )));
    }
    if bound.uid.as_ref().is_some_and(|uid| Some(uid) != pod.metadata.uid.as_ref()) {
        return Err(ApiError::Conflict {
            group: String::new(),
            resource: "pods".into(),
            name: name.to_owned(),
            message: "the UID in the bound object reference does not match the UID in record".into(),
            causes: Vec::new(),
        });
    }
    Ok(Some(BoundObjectReference { uid: pod.metadata.uid.clone(), ..bound.clone() }))
}

/// A text that nobody can guess. From the system, not from the context's seed: who has seen some of what a
/// seed gives could work out the rest.
fn random_token() -> Result<String, ApiError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| ApiError::Unavailable { message: format!("no randomness: {error}") })?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("rkube-{text}"))
}
