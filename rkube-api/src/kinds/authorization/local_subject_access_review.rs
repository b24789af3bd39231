//! LocalSubjectAccessReview: may somebody, in one namespace?

use k8s_openapi::api::authorization::v1::LocalSubjectAccessReview;

use super::{check_metadata, check_spec, decide, user};
use crate::{
    error::ApiError,
    meta::{ErrorList, FieldError, FieldPath},
    registry::{Definition, Oracle},
};

/// The definition of LocalSubjectAccessReview.
pub fn definition() -> Definition {
    Definition::of::<LocalSubjectAccessReview>()
        .validate(validate)
        .answered(|oracle, review| Box::pin(answer(oracle, review)))
        .build()
}

fn validate(review: &LocalSubjectAccessReview) -> ErrorList {
    let (mut errors, spec) = (ErrorList::new(), &review.spec);
    check_spec(spec, &mut errors);
    let mut metadata = review.metadata.clone();
    let place = metadata.namespace.take().unwrap_or_default();
    check_metadata(&metadata, "must be empty except for namespace", &mut errors);
    let path = FieldPath::new("spec");
    if let Some(asked) = &spec.resource_attributes
        && asked.namespace.as_deref().unwrap_or_default() != place
    {
        let path = path.child("resourceAttributes");
        let asked = asked.namespace.as_deref().unwrap_or_default();
        errors.push(FieldError::invalid(&path.child("namespace"), asked, "must match metadata.namespace"));
    }
    if let Some(asked) = &spec.non_resource_attributes {
        let detail = "disallowed on this kind of request";
        errors.push(FieldError::invalid(&path.child("nonResourceAttributes"), asked, detail));
    }
    errors
}

async fn answer(
    oracle: &dyn Oracle,
    mut review: LocalSubjectAccessReview,
) -> Result<LocalSubjectAccessReview, ApiError> {
    let (user, spec) = (user(&review.spec), &review.spec);
    let (resource, path) = (spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref());
    review.status = Some(decide(oracle, &user, resource, path).await);
    Ok(review)
}
