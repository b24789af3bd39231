//! SelfSubjectAccessReview: may I?

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;

use super::{check_attributes, check_metadata, decide};
use crate::{
    error::ApiError,
    meta::ErrorList,
    registry::{Definition, Oracle},
};

/// The definition of SelfSubjectAccessReview.
pub fn definition() -> Definition {
    Definition::of::<SelfSubjectAccessReview>()
        .cluster()
        .validate(validate)
        .answered(|oracle, review| Box::pin(answer(oracle, review)))
        .build()
}

fn validate(review: &SelfSubjectAccessReview) -> ErrorList {
    let (mut errors, spec) = (ErrorList::new(), &review.spec);
    check_attributes(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref(), &mut errors);
    check_metadata(&review.metadata, "must be empty", &mut errors);
    errors
}

async fn answer(
    oracle: &dyn Oracle,
    mut review: SelfSubjectAccessReview,
) -> Result<SelfSubjectAccessReview, ApiError> {
    let (resource, path) = (&review.spec.resource_attributes, &review.spec.non_resource_attributes);
    review.status = Some(decide(oracle, oracle.user(), resource.as_ref(), path.as_ref()).await);
    Ok(review)
}
