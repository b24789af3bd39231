//! TokenReview: whose token is this?

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewStatus};

use super::shown;
use crate::{
    error::ApiError,
    registry::{Definition, Oracle},
};

/// The definition of TokenReview.
pub fn definition() -> Definition {
    Definition::of::<TokenReview>()
        .cluster()
        .answered(|oracle, review| Box::pin(answer(oracle, review)))
        .build()
}

async fn answer(oracle: &dyn Oracle, mut review: TokenReview) -> Result<TokenReview, ApiError> {
    let token = &review.spec.token;
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let mine = oracle.audience();
    let asked = review.spec.audiences.as_deref().unwrap_or_default();
    let meant = asked.is_empty() || asked.iter().any(|audience| audience == mine);
    let user = if meant { oracle.token(token).await? } else { None };
    review.status = Some(match user {
        Some(user) => TokenReviewStatus {
            authenticated: Some(true),
            user: Some(shown(&user)),
            audiences: Some(vec![mine.into()]),
            error: None,
        },
        None => TokenReviewStatus {
            authenticated: Some(false),
            error: Some("invalid bearer token".into()),
            ..TokenReviewStatus::default()
        },
    });
    Ok(review)
}
