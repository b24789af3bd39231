//! Admission: plugins that may change or refuse a write, mutating first, then validating.
//!
//! One plugin a file, and [`all`]. A plugin from outside implements [`Admission`] and goes to
//! [`crate::pipeline::Builder::admit`]. Admission runs inside the write's retry loop: when another writer
//! came in between, all plugins run again on the new state.
//!
//! ```
//! use async_trait::async_trait;
//! use rkube_api::{admission::{Admission, AdmissionRequest}, error::ApiError};
//!
//! /// Marks what passes.
//! struct Mark;
//! #[async_trait]
//! impl Admission for Mark {
//!     fn name(&self) -> &'static str { "Mark" }
//!     async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
//!         if let Some(object) = request.object_mut() {
//!             object.meta_mut().labels.get_or_insert_default().insert("marked".into(), "yes".into());
//!         }
//!         Ok(())
//!     }
//! }
//! ```

mod default_storage_class;
mod default_toleration_seconds;
mod namespace_lifecycle;
mod persistent_volume_claim_resize;
mod priority;
mod service_account;
mod storage_object_in_use_protection;
mod undo;

use std::sync::Arc;

pub use default_storage_class::DefaultStorageClass;
pub use default_toleration_seconds::DefaultTolerationSeconds;
pub use namespace_lifecycle::NamespaceLifecycle;
pub use persistent_volume_claim_resize::PersistentVolumeClaimResize;
pub use priority::Priority;
pub use service_account::ServiceAccount;
pub use storage_object_in_use_protection::StorageObjectInUseProtection;

use async_trait::async_trait;
use rkube_store::Check;
use serde_json::Value;

use crate::{
    context::Context,
    error::{ApiError, Cause},
    object::{Kind, Object},
    pipeline::{Call, Reader, Undo, forbidden},
    registry::Definition,
    request::{Target, UserInfo},
};

/// Every built-in plugin, in the order in which they run.
pub fn all() -> Vec<Arc<dyn Admission>> {
    vec![
        Arc::new(NamespaceLifecycle),
        Arc::new(ServiceAccount),
        Arc::new(Priority::default()),
        Arc::new(DefaultTolerationSeconds),
        Arc::new(DefaultStorageClass),
        Arc::new(StorageObjectInUseProtection),
        Arc::new(PersistentVolumeClaimResize),
    ]
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is made. The body of a subresource that is none of the object itself (a binding, an eviction, a
    /// token request) is made too.
    Create,
    /// It is changed.
    Update,
    /// It is removed.
    Delete,
}

/// A plugin. Both phases default to letting everything pass.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Its name, for logs.
    fn name(&self) -> &'static str;

    /// Whether it has anything to say; asked first, so that a write does not wait for those that don't.
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        let _ = request;
        true
    }

    /// May change the object, or refuse.
    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let _ = request;
        Ok(())
    }

    /// May refuse the object as it will be stored.
    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let _ = request;
        Ok(())
    }
}

/// A write, as admission sees it.
pub struct AdmissionRequest<'a> {
    call: &'a Call<'a>,
    operation: Operation,
    dry_run: bool,
    old: Option<Object>,
    object: Option<Object>,
    changed: bool,
    warnings: Vec<String>,
    undo: Vec<Undo>,
    guards: Vec<Guard>,
}

/// What must still hold when the write is committed, and how it is refused if it does not.
pub(crate) struct Guard {
    pub(crate) check: Check,
    pub(crate) refusal: Refusal,
}

/// Makes the error of a refused write from its call and the object's name.
pub(crate) type Refusal = fn(&Call<'_>, &str) -> ApiError;

impl<'a> AdmissionRequest<'a> {
    pub(crate) fn new(
        call: &'a Call<'a>,
        operation: Operation,
        old: Option<Object>,
        object: Option<Object>,
    ) -> Self {
        Self {
            call,
            operation,
            dry_run: call.options.dry_run,
            old,
            object,
            changed: false,
            warnings: Vec::new(),
            undo: Vec::new(),
            guards: Vec::new(),
        }
    }

    /// A dry run, whatever the options in the URL say: those of a body may say so too.
    pub(crate) fn dry(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// What is done.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    pub(crate) fn call(&self) -> &'a Call<'a> {
        self.call
    }

    /// Who does it.
    pub fn user(&self) -> &'a UserInfo {
        &self.call.user
    }

    /// To what.
    pub fn target(&self) -> &'a Target {
        &self.call.target
    }

    /// The resource.
    pub fn definition(&self) -> &'a Definition {
        self.call.definition()
    }

    /// Whether it is about this resource itself, no subresource of it.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.definition().resource() == (group, plural) && self.call.subresource().is_none()
    }

    /// The namespace of the request; empty at the cluster scope.
    pub fn namespace(&self) -> &str {
        self.call.namespace()
    }

    /// The object's name, or the one in the URL (the body of a subresource need not have one).
    pub fn name(&self) -> &str {
        let object = self.object.as_ref().or(self.old.as_ref());
        object.map(Object::name).filter(|name| !name.is_empty()).unwrap_or_else(|| self.call.name())
    }

    /// Whether nothing will be kept.
    pub fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// The object as it was, on update and delete.
    pub fn old(&self) -> Option<&Object> {
        self.old.as_ref()
    }

    /// The object as it is to be, on create and update; the hub version.
    pub fn object(&self) -> Option<&Object> {
        self.object.as_ref()
    }

    /// The object to change; its defaults are filled in again afterwards.
    pub fn object_mut(&mut self) -> Option<&mut Object> {
        self.changed = true;
        self.object.as_mut()
    }

    /// The object as a `K`, if it is one.
    pub fn as_kind<K: Kind>(&self) -> Option<&K> {
        self.object.as_ref()?.as_kind()
    }

    /// The object as a `K` to change, if it is one.
    pub fn as_kind_mut<K: Kind>(&mut self) -> Option<&mut K> {
        self.as_kind::<K>()?;
        self.object_mut()?.as_kind_mut()
    }

    /// Reads of what is stored.
    pub fn reader(&self) -> &'a Reader {
        self.call.server.reader()
    }

    /// Time, randomness and tasks.
    pub fn context(&self) -> &'a Context {
        self.call.server.context()
    }

    /// Tells the user something besides.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// 403 for this write: `pods "a" is forbidden: <why>`.
    pub fn forbidden(&self, why: &str) -> ApiError {
        self.forbidden_because(why, Vec::new())
    }

    /// 403 with causes.
    pub fn forbidden_because(&self, why: &str, causes: Vec<Cause>) -> ApiError {
        forbidden(self.definition(), self.name(), why, causes)
    }

    /// Says how to take back, in JSON of the version asked for, what the plugin has added to the object:
    /// nobody owns that in managedFields. What a plugin does not say so of belongs to the user.
    pub fn unowned(&mut self, undo: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.undo.push(Box::new(undo));
    }

    /// The create goes through only if this holds when it is committed.
    pub(crate) fn guard(&mut self, check: Check, refusal: Refusal) {
        self.guards.push(Guard { check, refusal });
    }

    /// What plugins want checked in the commit.
    pub(crate) fn take_guards(&mut self) -> Vec<Guard> {
        std::mem::take(&mut self.guards)
    }

    /// The object after the mutating phase, with its defaults, and how to take back what plugins added.
    pub(crate) fn admitted(mut self) -> Result<(Object, Vec<Undo>), ApiError> {
        let mut object = self.take_object()?;
        if self.changed
            && let Some(default) = &self.definition().strategy.default
        {
            default(&mut object);
        }
        Ok((object, self.undo))
    }

    /// The object out of the request.
    pub(crate) fn take_object(&mut self) -> Result<Object, ApiError> {
        self.object.take().ok_or_else(|| ApiError::internal("admission lost the object"))
    }

    /// What plugins tell the user, behind what is there already.
    pub(crate) fn take_warnings(&mut self, mut before: Vec<String>) -> Vec<String> {
        for warning in self.warnings.drain(..) {
            if !before.contains(&warning) {
                before.push(warning);
            }
        }
        before
    }
}

/// Runs the mutating phase.
pub(crate) async fn mutate(
    plugins: &[Arc<dyn Admission>],
    request: &mut AdmissionRequest<'_>,
) -> Result<(), ApiError> {
    for plugin in plugins {
        if plugin.handles(request) {
            plugin.admit(request).await?;
        }
    }
    Ok(())
}

/// Runs the validating phase.
pub(crate) async fn validate(
    plugins: &[Arc<dyn Admission>],
    request: &mut AdmissionRequest<'_>,
) -> Result<(), ApiError> {
    for plugin in plugins {
        if plugin.handles(request) {
            plugin.validate(request).await?;
        }
    }
    Ok(())
}
