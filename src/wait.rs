//! Waiting for an object to be as wanted.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use rkube_api::{
    client::{Api, KindWatchEvent, WatchParams},
    error::ApiError,
    object::Kind,
};
use tokio::time::timeout;

use crate::Error;

/// Follows one object until `wanted` holds of it; `None` stands for an object that does not exist.
/// Gives the object, or `None` if what was wanted is that it does not exist.
pub(crate) async fn until<K: Kind>(
    api: &Api<K>,
    name: &str,
    wanted: impl Fn(Option<&K>) -> bool,
    bound: Duration,
) -> Result<Option<Arc<K>>, Error> {
    let following = async {
        loop {
            match follow(api, name, &wanted).await {
                Ok(Some(found)) => return Ok(found),
                // The server ended the watch, or the version is no longer held: look anew.
                Ok(None) | Err(ApiError::Expired { .. }) => {}
                Err(error) => return Err(Error::Api(error)),
            }
        }
    };
    timeout(bound, following).await.map_err(|_| Error::NotInTime {
        kind: K::KIND,
        name: name.to_owned(),
        seconds: bound.as_secs(),
    })?
}

async fn follow<K: Kind>(
    api: &Api<K>,
    name: &str,
    wanted: &impl Fn(Option<&K>) -> bool,
) -> Result<Option<Option<Arc<K>>>, ApiError> {
    let field = format!("metadata.name={name}");
    let list = api.list(&rkube_api::client::ListParams::default().fields(field.clone())).await?;
    let now = list.items.into_iter().next();
    if wanted(now.as_deref()) {
        return Ok(Some(now));
    }
    let params = WatchParams { fields: field, ..WatchParams::after(list.resource_version) };
    let mut events = api.watch(&params).await?;
    while let Some(event) = events.next().await {
        let now = match event? {
            KindWatchEvent::Added(object) | KindWatchEvent::Modified(object) => Some(object),
            KindWatchEvent::Deleted(_) => None,
            KindWatchEvent::Bookmark { .. } => continue,
        };
        if wanted(now.as_deref()) {
            return Ok(Some(now));
        }
    }
    Ok(None)
}
