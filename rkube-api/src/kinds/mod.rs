//! The built-in kinds: one file a kind, each with a function that builds its
//! [`Definition`], and one list of them all.
//!
//! ```
//! assert!(rkube_api::kinds::all().iter().any(|definition| definition.names.kind == "ConfigMap"));
//! ```

pub mod apps;
pub mod authentication;
pub mod authorization;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod policy;
pub mod resource;
pub mod scheduling;
mod shared;
pub mod storage;

use bytes::Bytes;
use serde::Deserialize;

use crate::{
    object::{Object, ObjectError},
    registry::Definition,
};

/// Every built-in kind. A kind that is not in this list is not served.
pub fn all() -> Vec<Definition> {
    vec![
        apps::deployment::definition(),
        apps::replica_set::definition(),
        authentication::self_subject_review::definition(),
        authentication::token_review::definition(),
        authorization::local_subject_access_review::definition(),
        authorization::self_subject_access_review::definition(),
        authorization::self_subject_rules_review::definition(),
        authorization::subject_access_review::definition(),
        coordination::lease::definition(),
        core::config_map::definition(),
        core::event::definition(),
        core::namespace::definition(),
        core::node::definition(),
        core::persistent_volume::definition(),
        core::persistent_volume_claim::definition(),
        core::pod::definition(),
        core::secret::definition(),
        core::service::definition(),
        core::service_account::definition(),
        discovery::endpoint_slice::definition(),
        policy::pod_disruption_budget::definition(),
        resource::device_class::definition(),
        resource::device_taint_rule::definition(),
        resource::resource_claim::definition(),
        resource::resource_claim_template::definition(),
        resource::resource_slice::definition(),
        scheduling::pod_group::definition(),
        scheduling::priority_class::definition(),
        scheduling::workload::definition(),
        storage::csi_driver::definition(),
        storage::csi_node::definition(),
        storage::csi_storage_capacity::definition(),
        storage::storage_class::definition(),
        storage::volume_attachment::definition(),
    ]
}

/// The part of an object that says what it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeMeta<'a> {
    #[serde(borrow)]
    api_version: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    kind: std::borrow::Cow<'a, str>,
}

/// Reads a stored object: typed if a built-in kind has it as its hub version, else dynamic.
pub fn decode(bytes: &Bytes) -> Result<Object, ObjectError> {
    use std::{collections::BTreeMap, sync::LazyLock};

    use crate::registry::Decode;
    static HUBS: LazyLock<BTreeMap<(String, String), Decode>> = LazyLock::new(|| {
        all()
            .into_iter()
            .map(|definition| {
                let group = &definition.names.group;
                let version = &definition.hub().name;
                let api_version =
                    if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
                ((api_version, definition.names.kind.clone()), definition.hub().decode.clone())
            })
            .collect()
    });
    let message = |error: serde_json::Error| ObjectError::Decode { message: error.to_string() };
    let what: TypeMeta<'_> = serde_json::from_slice(bytes).map_err(message)?;
    let value = serde_json::from_slice(bytes).map_err(message)?;
    match HUBS.get(&(what.api_version.into_owned(), what.kind.into_owned())) {
        Some(decode) => decode(value),
        None => Object::dynamic_from_value(value),
    }
}

#[cfg(test)]
mod tests;
