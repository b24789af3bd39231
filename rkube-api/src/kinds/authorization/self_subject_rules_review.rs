//! SelfSubjectRulesReview: what may I, in a namespace?

use k8s_openapi::api::authorization::v1::SelfSubjectRulesReview;

use crate::{
    error::ApiError,
    registry::{Definition, Oracle},
};

/// The definition of SelfSubjectRulesReview.
pub fn definition() -> Definition {
    Definition::of::<SelfSubjectRulesReview>()
        .cluster()
        .answered(|oracle, review| Box::pin(answer(oracle, review)))
        .build()
}

async fn answer(
    oracle: &dyn Oracle,
    mut review: SelfSubjectRulesReview,
) -> Result<SelfSubjectRulesReview, ApiError> {
    let namespace = review.spec.namespace.as_deref().unwrap_or_default();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    review.status = Some(oracle.rules(oracle.user(), namespace).await);
    Ok(review)
}
