//! What all stages after authorization share: who asks what of which resource, and how to answer.

use std::sync::Arc;

use rkube_store::{CommitError, Key, StoreError, WatchError};

use super::{Server, keys};
use crate::{
    error::{ApiError, Cause},
    meta::{ErrorList, object_meta::MAX_FIELD_MANAGER_BYTES},
    object::Object,
    registry::{Definition, Resolved, Scope},
    request::{Options, Target, UserInfo, Verb},
};

/// One request on its way through the stages.
pub(crate) struct Call<'s> {
    pub(crate) server: &'s Server,
    pub(crate) user: Arc<UserInfo>,
    pub(crate) verb: Verb,
    pub(crate) target: Target,
    pub(crate) resource: Resolved,
    pub(crate) options: Options,
    pub(crate) user_agent: Arc<str>,
}

impl<'s> Call<'s> {
    /// What the request writes besides, to an object of its namespace; `None` if the kind is not served.
    pub(crate) fn beside(&self, group: &str, plural: &str, name: &str) -> Option<Call<'s>> {
        let snapshot = self.server.registry().snapshot();
        let definition = snapshot.definition(group, plural)?;
        let target = Target {
            group: group.to_owned(),
            version: definition.hub().name.clone(),
            resource: plural.to_owned(),
            namespace: self.target.namespace.clone(),
            name: Some(name.to_owned()),
            subresource: None,
        };
        Some(Call {
            server: self.server,
            user: self.user.clone(),
            verb: Verb::Update,
            resource: snapshot.resolve(group, &target.version, plural)?,
            target,
            options: Options::default(),
            user_agent: self.user_agent.clone(),
        })
    }
}

impl Call<'_> {
    pub(crate) fn definition(&self) -> &Definition {
        &self.resource.definition
    }

    /// The namespace of the request; empty at the cluster scope and for all namespaces.
    pub(crate) fn namespace(&self) -> &str {
        self.target.namespace.as_deref().unwrap_or_default()
    }

    /// The name in the request, empty if there is none.
    pub(crate) fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn subresource(&self) -> Option<&str> {
        self.target.subresource.as_deref()
    }

    /// The key of the object that the request names. What cannot be a name is not found.
    pub(crate) fn key(&self) -> Result<Key, ApiError> {
        let (namespace, name) = (self.namespace(), self.name());
        let namespaced = self.definition().scope == Scope::Namespaced;
        if !keys::is_segment(name) || (namespaced && !keys::is_segment(namespace)) {
            return Err(self.not_found());
        }
        Ok(keys::object(self.definition(), namespace, name))
    }

    /// The name under which fields are managed: as asked, or the user agent up to its first `/`, cut to what
    /// is allowed.
    pub(crate) fn manager(&self) -> &str {
        match self.options.field_manager.as_deref() {
            Some(manager) if !manager.is_empty() => manager,
            _ => {
                let agent = self.user_agent.split('/').next().unwrap_or_default();
                &agent[..agent.floor_char_boundary(MAX_FIELD_MANAGER_BYTES)]
            }
        }
    }

    pub(crate) fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.definition().names.group, &self.definition().names.plural, self.name())
    }

    pub(crate) fn already_exists(&self, name: &str) -> ApiError {
        let names = &self.definition().names;
        ApiError::AlreadyExists {
            group: names.group.clone(),
            resource: names.plural.clone(),
            name: name.to_owned(),
        }
    }

    pub(crate) fn conflict(&self, name: &str, message: impl Into<String>) -> ApiError {
        let names = &self.definition().names;
        ApiError::Conflict {
            group: names.group.clone(),
            resource: names.plural.clone(),
            name: name.to_owned(),
            message: message.into(),
            causes: Vec::new(),
        }
    }

    /// 409: somebody else was faster.
    pub(crate) fn modified(&self, name: &str) -> ApiError {
        self.conflict(
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(crate) fn invalid(&self, name: &str, errors: &ErrorList) -> ApiError {
        self.definition().invalid(name, errors)
    }

    /// Lets go of managedFields where an object is too large with them to be stored, as Kubernetes does.
    pub(crate) fn fit(&self, object: &mut Object) -> Result<(), ApiError> {
        let limit = self.server.store().limits().value_bytes;
        if object.length_bound() > limit && object.length()? > limit {
            object.keep_managed_fields(Vec::new());
        }
        Ok(())
    }

    /// An object of the hub version in the version that was asked for.
    pub(crate) fn outgoing(&self, object: Object) -> Result<Object, ApiError> {
        outgoing(&self.resource, object)
    }
}

/// An object of the hub version in a version of its resource.
pub(crate) fn outgoing(resource: &Resolved, object: Object) -> Result<Object, ApiError> {
    match &resource.version().from_hub {
        Some(convert) => Ok(convert(object)?),
        None => Ok(object),
    }
}

/// 403 for an object of a resource, in the words of a registry: `pods "a" is forbidden: ...`.
pub(crate) fn forbidden(definition: &Definition, name: &str, why: &str, causes: Vec<Cause>) -> ApiError {
    let names = &definition.names;
    let qualified = match names.group.as_str() {
        "" => names.plural.clone(),
        group => format!("{}.{group}", names.plural),
    };
    ApiError::Forbidden {
        group: names.group.clone(),
        resource: names.plural.clone(),
        name: name.to_owned(),
        message: format!("{qualified} {name:?} is forbidden: {why}"),
        causes,
    }
}

/// What the store's refusal means to a client.
pub(crate) fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Compacted { .. } => ApiError::Expired {
            message: "The resourceVersion for the provided list is too old.".into(),
            continue_token: None,
        },
        StoreError::Future { requested, current } => {
            ApiError::VersionTooLarge { requested: requested.0, current: current.0 }
        }
        StoreError::TooLarge { .. } | StoreError::TooManyOperations { .. } => {
            ApiError::TooLarge { message: format!("Request entity too large: {error}") }
        }
        StoreError::NoSpace | StoreError::ReadOnly(_) | StoreError::Unavailable(_) => {
            ApiError::Unavailable { message: error.to_string() }
        }
        _ => ApiError::internal(error.to_string()),
    }
}

/// What a failed commit means, apart from a conflict, which the caller has looked at.
pub(crate) fn commit_error(error: CommitError<Object>) -> ApiError {
    match error {
        CommitError::Store(error) => store_error(error),
        CommitError::Unknown(reason) => {
            ApiError::Timeout { message: format!("the outcome of the write is not known: {reason}") }
        }
        CommitError::Conflict(conflict) => ApiError::internal(conflict.to_string()),
    }
}

/// What ends a watch.
pub(crate) fn watch_error(error: WatchError) -> ApiError {
    match error {
        WatchError::Slow { delivered, compacted } => expired_watch(delivered.0, compacted.0),
        WatchError::Store(StoreError::Compacted { requested, compacted }) => {
            expired_watch(requested.0, compacted.0)
        }
        WatchError::Store(error) => store_error(error),
        error => ApiError::internal(error.to_string()),
    }
}

/// 410 for a watch.
pub(crate) fn expired_watch(requested: u64, oldest: u64) -> ApiError {
    ApiError::Expired {
        message: format!("too old resource version: {requested} ({oldest})"),
        continue_token: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_takes_no_writes_is_unavailable_and_no_fault_of_the_server() {
        let errors = [
            StoreError::NoSpace,
            StoreError::ReadOnly("the disk is gone".into()),
            StoreError::Unavailable("x".into()),
        ];
        for error in errors {
            let error = store_error(error);
            assert_eq!((error.code(), error.reason()), (503, "ServiceUnavailable"), "{error}");
        }
    }
}
