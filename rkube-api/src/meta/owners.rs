//! Owner references: who made an object, and who takes it along when deleted.
//!
//! ```
//! use k8s_openapi::api::apps::v1::ReplicaSet;
//! use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
//! use rkube_api::meta::owners;
//! let owner = ReplicaSet {
//!     metadata: ObjectMeta { name: Some("web".into()), uid: Some("u1".into()), ..Default::default() },
//!     ..Default::default()
//! };
//! let pod = ObjectMeta {
//!     owner_references: Some(vec![owners::controller_ref(&owner).expect("a stored owner")]),
//!     ..Default::default()
//! };
//! assert!(owners::is_controlled_by(&pod, "u1"));
//! ```

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::{Metadata, Resource};

use super::gvk::GroupVersionKind;

/// The owner that manages the object, if one does.
#[must_use]
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|r| r.controller == Some(true))
}

/// Is the object managed by the owner with this UID?
#[must_use]
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|r| r.uid == uid)
}

/// Has the object an owner with this UID?
#[must_use]
pub fn is_owned_by(meta: &ObjectMeta, uid: &str) -> bool {
    meta.owner_references.iter().flatten().any(|r| r.uid == uid)
}

/// A plain reference to an owner; none if the owner has no name or UID yet.
#[must_use]
pub fn owner_ref<K: Resource + Metadata<Ty = ObjectMeta>>(owner: &K) -> Option<OwnerReference> {
    owner_ref_for(&GroupVersionKind::of::<K>(), owner.metadata())
}

/// A plain reference to an owner of a kind known at run time.
#[must_use]
pub fn owner_ref_for(kind: &GroupVersionKind, owner: &ObjectMeta) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: kind.api_version(),
        kind: kind.kind.clone(),
        name: owner.name.clone().filter(|n| !n.is_empty())?,
        uid: owner.uid.clone().filter(|u| !u.is_empty())?,
        controller: None,
        block_owner_deletion: None,
    })
}

/// The reference of a managing owner, which waits for the object in foreground deletion.
#[must_use]
pub fn controller_ref<K: Resource + Metadata<Ty = ObjectMeta>>(owner: &K) -> Option<OwnerReference> {
    let plain = owner_ref(owner)?;
    Some(OwnerReference { controller: Some(true), block_owner_deletion: Some(true), ..plain })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use proptest::prelude::*;

    fn reference(uid: u8, controller: Option<bool>) -> OwnerReference {
        OwnerReference { uid: uid.to_string(), controller, ..OwnerReference::default() }
    }

    proptest! {
        /// Against a walk over plain pairs: at most the first controller manages, every reference owns.
        #[test]
        fn the_first_controller_manages(
            owners in prop::collection::vec((0..4_u8, any::<Option<bool>>()), 0..5),
            asked in 0..5_u8,
        ) {
            let references = owners.iter().map(|(uid, controller)| reference(*uid, *controller)).collect();
            let meta = ObjectMeta { owner_references: Some(references), ..ObjectMeta::default() };
            let mut manager = None;
            for (uid, controller) in &owners {
                if manager.is_none() && *controller == Some(true) {
                    manager = Some(*uid);
                }
            }
            let asked_for = asked.to_string();
            prop_assert_eq!(controller_of(&meta).map(|found| found.uid.clone()), manager.map(|uid| uid.to_string()));
            prop_assert_eq!(is_controlled_by(&meta, &asked_for), manager == Some(asked));
            prop_assert_eq!(is_owned_by(&meta, &asked_for), owners.iter().any(|(uid, _)| *uid == asked));
        }
    }

    #[test]
    fn references() {
        let mut owner = Deployment::default();
        assert_eq!(controller_ref(&owner), None);
        owner.metadata.name = Some("d".into());
        owner.metadata.uid = Some("1".into());
        let plain = owner_ref(&owner).unwrap();
        assert_eq!((plain.api_version.as_str(), plain.kind.as_str()), ("apps/v1", "Deployment"));
        let mut meta = ObjectMeta { owner_references: Some(vec![plain]), ..Default::default() };
        assert!(is_owned_by(&meta, "1") && !is_controlled_by(&meta, "1") && controller_of(&meta).is_none());
        meta.owner_references = Some(vec![controller_ref(&owner).unwrap()]);
        assert!(is_controlled_by(&meta, "1") && !is_controlled_by(&meta, "2"));
    }
}
