//! Create of a kind that is a question: it is answered, and nothing is stored.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectRulesReviewStatus,
};

use super::{Action, Attributes, call::Call, decode};
use crate::{
    admission::{self, AdmissionRequest, Operation},
    error::ApiError,
    registry::{AnswerFn, Oracle},
    request::{ApiResponse, Body, Credentials, Target, UserInfo, Verb},
};

/// Answers the question in the body of a request.
pub(super) async fn answer(call: &Call<'_>, body: Body, answer: &AnswerFn) -> Result<ApiResponse, ApiError> {
    let decode::Decoded { mut object, warnings } = decode::object(call, body)?;
    decode::place_new(call, &mut object)?;
    let plugins = call.server.admission();
    let mut request = AdmissionRequest::new(call, Operation::Create, None, Some(object));
    admission::mutate(plugins, &mut request).await?;
    admission::validate(plugins, &mut request).await?;
    let warnings = request.take_warnings(warnings);
    let question = request.take_object()?;
    let errors = call.definition().strategy.validate.as_ref().map(|validate| validate(&question));
    if let Some(errors) = errors.filter(|errors| !errors.is_empty()) {
        return Err(call.invalid(question.name(), &errors));
    }
    let object = answer(&Asker(call), question).await?;
    Ok(ApiResponse::Object { object: call.outgoing(object)?, code: 201, warnings })
}

/// The one who asks, before the server that knows.
struct Asker<'a>(&'a Call<'a>);

impl Asker<'_> {
    async fn allows(&self, user: &UserInfo, action: Action<'_>) -> bool {
        self.0.server.authorizer().allows(&Attributes { user, action }).await
    }

    async fn allows_all(&self, user: &UserInfo, target: &Target) -> bool {
        for verb in Verb::ALL {
            if !self.allows(user, Action::Resource { verb, target }).await {
                return false;
            }
        }
        true
    }
}

/// Every resource of every group.
fn everything() -> Target {
    Target { group: "*".into(), resource: "*".into(), ..Target::default() }
}

#[async_trait]
impl Oracle for Asker<'_> {
    fn user(&self) -> &UserInfo {
        &self.0.user
    }

    fn audience(&self) -> &str {
        super::ISSUER
    }

    async fn may_use(&self, user: &UserInfo, what: &ResourceAttributes) -> bool {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let set = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        let target = Target {
            group: text(&what.group),
            version: text(&what.version),
            resource: text(&what.resource),
            namespace: set(&what.namespace),
            name: set(&what.name),
            subresource: set(&what.subresource),
        };
        let asked = text(&what.verb);
        match Verb::ALL.into_iter().find(|verb| verb.as_str() == asked) {
            Some(verb) => self.allows(user, Action::Resource { verb, target: &target }).await,
            None if asked == "*" => self.allows_all(user, &target).await,
            None => self.allows_all(user, &everything()).await,
        }
    }

    async fn may_reach(&self, user: &UserInfo, what: &NonResourceAttributes) -> bool {
        let path = what.path.as_deref().unwrap_or_default();
        match what.verb.as_deref().unwrap_or_default() {
            "get" | "head" => self.allows(user, Action::Path(path)).await,
            _ => self.allows_all(user, &everything()).await,
        }
    }

    async fn rules(&self, user: &UserInfo, namespace: &str) -> SubjectRulesReviewStatus {
        self.0.server.authorizer().rules(user, namespace).await
    }

    async fn token(&self, token: &str) -> Result<Option<Arc<UserInfo>>, ApiError> {
        match self.0.server.authenticate(&Credentials::Token(token.into())).await {
            Ok(user) => Ok(Some(user)),
            Err(ApiError::Unauthorized) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
