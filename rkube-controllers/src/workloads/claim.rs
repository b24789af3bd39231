//! Which objects a controller takes as its own: those that its selector matches and that nobody manages
//! are adopted; its own that the selector no longer matches are let go.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rkube_api::{
    client::{Api, Patch, PatchParams},
    error::ApiError,
    meta::{LabelSelector, owners},
    object::Kind,
};
use serde_json::json;

use crate::facts;

/// What to do with the candidates.
#[derive(Debug, PartialEq)]
pub(crate) struct Claim<K> {
    /// Managed already.
    pub(crate) owned: Vec<Arc<K>>,
    /// To be managed from now on.
    pub(crate) adopt: Vec<Arc<K>>,
    /// No longer to be managed.
    pub(crate) release: Vec<Arc<K>>,
}

/// Sorts the candidates. A controller that is being deleted changes nobody's owner.
pub(crate) fn claim<K: Kind>(
    controller: &ObjectMeta,
    selector: &LabelSelector,
    candidates: impl IntoIterator<Item = Arc<K>>,
) -> Claim<K> {
    let leaving = controller.deletion_timestamp.is_some();
    let mut claim = Claim { owned: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    for candidate in candidates {
        let meta = candidate.metadata();
        let matches = selector.matches_opt(meta.labels.as_ref());
        match owners::controller_of(meta) {
            Some(owner) if owner.uid != facts::uid(controller) => {}
            Some(_) if matches || leaving => claim.owned.push(candidate),
            Some(_) => claim.release.push(candidate),
            None if matches && !leaving && meta.deletion_timestamp.is_none() => claim.adopt.push(candidate),
            None => {}
        }
    }
    claim
}

/// Writes the changes of owners and gives all that is owned then. The owner itself is read anew before
/// anything is adopted: a cached one may be gone, and its name taken by another.
pub(crate) async fn settle<P: Kind, C: Kind>(
    parents: &Api<P>,
    children: &Api<C>,
    parent: &P,
    claim: Claim<C>,
) -> Result<Vec<Arc<C>>, ApiError> {
    let mut owned = claim.owned;
    for child in claim.release {
        release(children, parent.metadata(), &*child).await?;
    }
    if claim.adopt.is_empty() {
        return Ok(owned);
    }
    let live = parents.get_opt(facts::name(parent.metadata())).await?;
    let alive = live.filter(|live| {
        live.metadata().uid == parent.metadata().uid && live.metadata().deletion_timestamp.is_none()
    });
    let (Some(_), Some(owner)) = (alive, owners::controller_ref(parent)) else { return Ok(owned) };
    for child in claim.adopt {
        let meta = child.metadata();
        let patch = Patch::Strategic(json!({
            "metadata": {"ownerReferences": [owner], "uid": meta.uid}
        }));
        match children.patch(facts::name(meta), &PatchParams::default(), &patch).await {
            Ok(child) => owned.push(child),
            // It is gone, or somebody else was faster.
            Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(owned)
}

async fn release<C: Kind>(children: &Api<C>, parent: &ObjectMeta, child: &C) -> Result<(), ApiError> {
    let meta = child.metadata();
    let patch = Patch::Strategic(json!({
        "metadata": {"ownerReferences": [{"$patch": "delete", "uid": parent.uid}], "uid": meta.uid}
    }));
    match children.patch(facts::name(meta), &PatchParams::default(), &patch).await {
        // It is gone, or another object has its name now.
        Ok(_) | Err(ApiError::NotFound { .. } | ApiError::Invalid { .. } | ApiError::Conflict { .. }) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::{apps::v1::ReplicaSet, core::v1::Pod},
        apimachinery::pkg::apis::meta::v1::Time,
    };

    use super::*;

    fn owner(uid: &str) -> ReplicaSet {
        let mut set = ReplicaSet::default();
        set.metadata.name = Some("web".into());
        set.metadata.uid = Some(uid.into());
        set
    }

    fn pod(label: &str, owner: Option<&ReplicaSet>) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.labels = Some([("app".to_owned(), label.to_owned())].into());
        pod.metadata.owner_references = owner.and_then(owners::controller_ref).map(|owner| vec![owner]);
        Arc::new(pod)
    }

    #[test]
    fn selectors_and_owners_decide() {
        let (mine, other) = (owner("1"), owner("2"));
        let selector = LabelSelector::parse("app=web").unwrap();
        let pods = [
            pod("web", Some(&mine)),
            pod("web", None),
            pod("db", Some(&mine)),
            pod("web", Some(&other)),
            pod("db", None),
        ];
        let found = claim(&mine.metadata, &selector, pods.clone());
        assert_eq!(found.owned, pods[..1]);
        assert_eq!(found.adopt, pods[1..2]);
        assert_eq!(found.release, pods[2..3]);

        let mut leaving = mine.clone();
        leaving.metadata.deletion_timestamp = Some(Time(Default::default()));
        let found = claim(&leaving.metadata, &selector, pods.clone());
        assert_eq!(found.owned, [pods[0].clone(), pods[2].clone()]);
        assert!(found.adopt.is_empty() && found.release.is_empty());
    }

    #[test]
    fn a_leaving_orphan_is_not_adopted() {
        let mut orphan = (*pod("web", None)).clone();
        orphan.metadata.deletion_timestamp = Some(Time(Default::default()));
        let selector = LabelSelector::parse("app=web").unwrap();
        assert!(claim(&owner("1").metadata, &selector, [Arc::new(orphan)]).adopt.is_empty());
    }
}
