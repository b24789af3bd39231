//! The group `authentication.k8s.io`: questions about users, which are answered and never stored.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/>

pub mod self_subject_review;
pub mod token_review;

use k8s_openapi::api::authentication::v1;

use crate::request::UserInfo;

/// A user as reviews show one.
fn shown(user: &UserInfo) -> v1::UserInfo {
    v1::UserInfo {
        username: Some(user.name.clone()),
        groups: Some(user.groups.clone()),
        uid: user.uid.clone(),
        extra: None,
    }
}
