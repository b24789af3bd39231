//! `serviceaccounts/token`: bearer tokens of service accounts (TokenRequest). A token is good until it
//! expires, for as long as its account, and the pod that it is bound to, are there.
//! <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/>

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{Handler, admit, check_place, typed_body};
use crate::{
    error::{ApiError, Cause},
    meta::{ErrorList, FieldError, FieldPath},
    object::Object,
    pipeline::{Bound, Call, Claims, ISSUER, Subject, read_object, user_name},
    request::{ApiResponse, Body},
};

const HOUR: i64 = 3600;
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;

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
        let pod = bound_pod(call, &account, spec.bound_object_ref.as_ref()).await?;
        let audiences = spec.audiences.get_or_insert_default();
        if audiences.is_empty() {
            audiences.push(ISSUER.into());
        }
        spec.expiration_seconds = Some(seconds);
        let now = call.server.context().clock.now().0;
        let until = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
        let (namespace, name) = (account.namespace().to_owned(), account.name().to_owned());
        let claims = Claims {
            aud: audiences.clone(),
            exp: until.as_second(),
            iat: now.as_second(),
            iss: ISSUER.into(),
            jti: call.server.context().rng.uid().to_string(),
            nbf: now.as_second(),
            sub: user_name(&namespace, &name),
            subject: Subject { namespace, pod, account: Bound { name, uid: account.uid().to_owned() } },
        };
        let token = call.server.tokens().issue(&claims).await?;
        request.spec = Some(spec);
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
) -> Result<Option<Bound>, ApiError> {
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
    Ok(Some(Bound { name: name.to_owned(), uid: pod.metadata.uid.clone().unwrap_or_default() }))
}
