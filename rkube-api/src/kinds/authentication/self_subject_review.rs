//! SelfSubjectReview: who am I?

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, SelfSubjectReviewStatus};

use super::shown;
use crate::{
    error::ApiError,
    registry::{Definition, Oracle},
};

/// The definition of SelfSubjectReview.
pub fn definition() -> Definition {
    Definition::of::<SelfSubjectReview>()
        .cluster()
        .answered(|oracle, review| Box::pin(answer(oracle, review)))
        .build()
}

async fn answer(oracle: &dyn Oracle, mut review: SelfSubjectReview) -> Result<SelfSubjectReview, ApiError> {
    review.status = Some(SelfSubjectReviewStatus { user_info: Some(shown(oracle.user())) });
    Ok(review)
}
