//! The group `authorization.k8s.io`: questions about rights, which are answered and never stored.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access>

pub mod local_subject_access_review;
pub mod self_subject_access_review;
pub mod self_subject_rules_review;
pub mod subject_access_review;

use k8s_openapi::{
    api::authorization::v1::{
        NonResourceAttributes, ResourceAttributes, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    meta::{ErrorList, FieldError, FieldPath},
    registry::Oracle,
    request::UserInfo,
};

/// A question has no name, no labels, nothing.
fn check_metadata(metadata: &ObjectMeta, detail: &str, errors: &mut ErrorList) {
    let metadata = ObjectMeta { managed_fields: None, ..metadata.clone() };
    if metadata != ObjectMeta::default() {
        errors.push(FieldError::invalid(&FieldPath::new("metadata"), metadata, detail));
    }
}

/// It is about a resource or about a path.
fn check_attributes(
    resource: Option<&ResourceAttributes>,
    path: Option<&NonResourceAttributes>,
    errors: &mut ErrorList,
) {
    let spec = FieldPath::new("spec");
    match (resource, path) {
        (Some(_), Some(path)) => {
            let detail = "cannot be specified in combination with resourceAttributes";
            errors.push(FieldError::invalid(&spec.child("nonResourceAttributes"), path, detail));
        }
        (None, None) => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid(&spec.child("resourceAttributes"), (), detail));
        }
        _ => {}
    }
}

/// It is about somebody.
fn check_spec(spec: &SubjectAccessReviewSpec, errors: &mut ErrorList) {
    check_attributes(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref(), errors);
    let user = spec.user.as_deref().unwrap_or_default();
    if user.is_empty() && spec.groups.as_deref().unwrap_or_default().is_empty() {
        let path = FieldPath::new("spec");
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&path.child("user"), user, detail));
    }
}

/// Whom it is about.
fn user(spec: &SubjectAccessReviewSpec) -> UserInfo {
    UserInfo {
        name: spec.user.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
        uid: spec.uid.clone(),
    }
}

/// Whether they may.
async fn decide(
    oracle: &dyn Oracle,
    user: &UserInfo,
    resource: Option<&ResourceAttributes>,
    path: Option<&NonResourceAttributes>,
) -> SubjectAccessReviewStatus {
    let allowed = match (resource, path) {
        (Some(resource), _) => oracle.may_use(user, resource).await,
        (None, Some(path)) => oracle.may_reach(user, path).await,
        (None, None) => false,
    };
    SubjectAccessReviewStatus { allowed, ..SubjectAccessReviewStatus::default() }
}
