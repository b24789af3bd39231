//! What became of a write whose answer was lost: it may have been carried out.

use std::{sync::Arc, time::Duration};

use rkube_api::{client::Api, error::ApiError, object::Kind};
use tokio::time::sleep;

/// First and longest pause between questions.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Whether a request that failed so may have been carried out.
pub(crate) fn says_nothing(error: &ApiError) -> bool {
    error.code() >= 500
}

/// The object as it is, as soon as the server can say; `None`: it is gone. Only one that does not let us look is
/// taken at its first word.
pub(crate) async fn newest<K: Kind>(api: &Api<K>, name: &str) -> Result<Option<Arc<K>>, ApiError> {
    let mut pause = PAUSE.0;
    loop {
        match api.get_opt(name).await {
            Ok(found) => return Ok(found),
            Err(error @ (ApiError::Unauthorized | ApiError::Forbidden { .. })) => return Err(error),
            Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}
