//! SubjectAccessReview: may somebody?

use k8s_openapi::api::authorization::v1::SubjectAccessReview;

use super::{check_metadata, check_spec, decide, user};
use crate::{
    error::ApiError,
    meta::ErrorList,
    registry::{Definition, Oracle},
};

/// The definition of SubjectAccessReview.
pub fn definition() -> Definition {
    Definition::of::<SubjectAccessReview>()
        .cluster()
        .validate(validate)
        .answered(|oracle, review| Box::pin(answer(oracle, review)))
        .build()
}

fn validate(review: &SubjectAccessReview) -> ErrorList {
    let mut errors = ErrorList::new();
    check_spec(&review.spec, &mut errors);
    check_metadata(&review.metadata, "must be empty", &mut errors);
    errors
}

async fn answer(
    oracle: &dyn Oracle,
    mut review: SubjectAccessReview,
) -> Result<SubjectAccessReview, ApiError> {
    let (user, spec) = (user(&review.spec), &review.spec);
    let (resource, path) = (spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref());
    review.status = Some(decide(oracle, &user, resource, path).await);
    Ok(review)
}
