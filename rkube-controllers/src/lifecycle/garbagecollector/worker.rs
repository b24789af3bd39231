//! Acts on what the graph points out.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, OwnerReference, Preconditions},
};
use rkube_api::{
    client::{Client, EventKind, EventRecorder},
    error::ApiError,
    meta::object_meta::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN},
    object::Object,
    request::{ApiResponse, Body, Options, Target, Verb, patch_type},
};
use serde_json::{Value, json};

use super::{
    Shared,
    graph::{Node, Task},
    plan::{self, Action, Owner},
};

/// When to look again at an object that was changed while it was looked at.
const SOON: Duration = Duration::from_millis(10);

pub(super) struct Worker {
    pub(super) client: Client,
    pub(super) shared: Arc<Shared>,
    pub(super) recorder: EventRecorder,
}

/// Why a task is tried again.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The kind of an owner is not served (yet): without it, nothing can be said of the owner.
    #[error("unknown kind of owner {0}")]
    UnknownKind(String),
}

impl Worker {
    pub(super) async fn run(self) {
        while let Some(task) = self.shared.queue.next().await {
            let settled = self.shared.settled.read().await;
            let result = match &task {
                Task::Check(uid) => self.check(uid).await,
                Task::Orphan(uid) => self.orphan(uid).await,
            };
            drop(settled);
            match result {
                Ok(()) => self.shared.queue.forget(&task),
                // Somebody else was quicker. That is no failure: what changes all the time goes as soon as
                // anything else.
                Err(Failure::Api(ApiError::Conflict { .. })) => {
                    self.shared.queue.forget(&task);
                    self.shared.queue.add_after(task.clone(), SOON);
                }
                Err(error) => {
                    tracing::debug!(?task, %error, "tried again");
                    self.shared.queue.add_rate_limited(task.clone());
                }
            }
            self.shared.queue.done(&task);
        }
    }

    fn node(&self, uid: &str) -> Option<Node> {
        self.shared.graph.lock().get(uid).cloned()
    }

    async fn check(&self, uid: &str) -> Result<(), Failure> {
        let Some(node) = self.node(uid) else { return Ok(()) };
        if node.deleting && !node.foreground {
            return Ok(());
        }
        if !node.foreground && self.shared.graph.lock().is_held(&node) {
            // Its owners' own events will tell when that ends.
            return Ok(());
        }
        let Some(latest) = self.live(&node).await? else {
            // The watch lags behind; it need not be waited for.
            let tasks = self.shared.graph.lock().remove(uid);
            tasks.into_iter().for_each(|task| self.shared.queue.add(task));
            return Ok(());
        };
        if node.foreground {
            let action = plan::waiting(&self.shared.graph.lock(), &node);
            return self.act(&node, latest.meta(), action).await;
        }
        let mut owners = Vec::new();
        for reference in latest.meta().owner_references.iter().flatten() {
            owners.push((reference.clone(), self.look_up(&node, reference).await?));
        }
        let action = plan::decide(&self.shared.graph.lock(), latest.meta(), &owners);
        self.act(&node, latest.meta(), action).await
    }

    /// The object as the server has it; `None` if it is gone, or another by now.
    async fn live(&self, node: &Node) -> Result<Option<Object>, Failure> {
        match self.get(node.resource.one(&node.namespace, &node.name)).await {
            Ok(object) => Ok(object.filter(|object| object.uid() == node.uid)),
            // Its kind was taken away, and the objects with it.
            Err(Failure::Api(ApiError::NoSuchPath)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get(&self, target: Target) -> Result<Option<Object>, Failure> {
        match self.client.request(Verb::Get, target, Options::default(), Body::Empty).await {
            Ok(ApiResponse::Object { object, .. }) => Ok(Some(object)),
            Ok(other) => Err(ApiError::internal(format!("expected an object, got {other:?}")).into()),
            Err(ApiError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What a reference leads to.
    async fn look_up(&self, node: &Node, reference: &OwnerReference) -> Result<Owner, Failure> {
        let kinds = self.shared.kinds.lock().clone();
        let Some(resource) = kinds.find(&reference.api_version, &reference.kind) else {
            return Err(Failure::UnknownKind(format!("{}, {}", reference.api_version, reference.kind)));
        };
        if resource.namespaced && node.namespace.is_empty() {
            // Nobody can say where that owner would be: never a reason to delete.
            self.tell_invalid(node, reference);
            return Ok(Owner::Solid);
        }
        let elsewhere =
            self.shared.graph.lock().get(&reference.uid).is_some_and(|owner| !node.may_be_owned_by(owner));
        if elsewhere {
            self.tell_invalid(node, reference);
        }
        let owner = self.get(resource.one(&node.namespace, &reference.name)).await?;
        let Some(owner) = owner.filter(|owner| owner.uid() == reference.uid) else {
            return Ok(Owner::Dangling);
        };
        let meta = owner.meta();
        let waits = meta.deletion_timestamp.is_some()
            && meta.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER_FOREGROUND);
        Ok(if waits { Owner::Waiting } else { Owner::Solid })
    }

    fn tell_invalid(&self, node: &Node, reference: &OwnerReference) {
        let note = format!(
            "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {:?}",
            reference.api_version,
            reference.kind,
            node.namespace,
            reference.name,
            reference.uid,
            node.namespace
        );
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let regarding = ObjectReference {
            api_version: Some(node.resource.api_version()),
            kind: Some(node.resource.kind.clone()),
            name: some(&node.name),
            namespace: some(&node.namespace),
            uid: some(&node.uid),
            ..ObjectReference::default()
        };
        let reason = "OwnerRefInvalidNamespace";
        self.recorder.record_reference(regarding, EventKind::Warning, reason, "CheckOwner", note);
    }

    async fn act(&self, node: &Node, latest: &ObjectMeta, action: Action) -> Result<(), Failure> {
        match action {
            Action::Keep => Ok(()),
            Action::DropFinalizer(finalizer) => self.drop_finalizer(node, latest, finalizer).await,
            Action::CheckDependents(uids) => {
                uids.into_iter().for_each(|uid| self.shared.queue.add(Task::Check(uid)));
                Ok(())
            }
            Action::DropOwners(gone) => self.drop_owners(node, latest, &gone).await,
            Action::DeleteForeground { unblock } => {
                let unblocked = if unblock { self.unblock(node, latest).await? } else { None };
                self.delete(node, unblocked.as_ref().map_or(latest, Object::meta), "Foreground").await
            }
            Action::Delete { policy } => self.delete(node, latest, policy).await,
        }
    }

    async fn drop_finalizer(&self, node: &Node, latest: &ObjectMeta, finalizer: &str) -> Result<(), Failure> {
        let all = latest.finalizers.as_deref().unwrap_or_default();
        if !all.iter().any(|other| other == finalizer) {
            return Ok(());
        }
        let rest: Vec<&String> = all.iter().filter(|other| *other != finalizer).collect();
        self.patch(node, latest, json!({"finalizers": rest})).await.map(drop)
    }

    async fn drop_owners(
        &self,
        node: &Node,
        latest: &ObjectMeta,
        gone: &BTreeSet<String>,
    ) -> Result<(), Failure> {
        let all = latest.owner_references.as_deref().unwrap_or_default();
        let rest: Vec<&OwnerReference> = all.iter().filter(|owner| !gone.contains(&owner.uid)).collect();
        if rest.len() == all.len() {
            return Ok(());
        }
        self.patch(node, latest, json!({"ownerReferences": rest})).await.map(drop)
    }

    /// Makes the object's references non-blocking; gives it as it is then, unless nothing was to be done.
    async fn unblock(&self, node: &Node, latest: &ObjectMeta) -> Result<Option<Object>, Failure> {
        let mut owners = latest.owner_references.clone().unwrap_or_default();
        if owners.iter().all(|owner| owner.block_owner_deletion != Some(true)) {
            return Ok(None);
        }
        owners.iter_mut().for_each(|owner| owner.block_owner_deletion = Some(false));
        self.patch(node, latest, json!({"ownerReferences": owners})).await
    }

    /// Changes metadata, if the object is still the one that was read, and gives it; `None`: it is gone.
    /// A merge patch is understood of every kind, custom ones too.
    async fn patch(
        &self,
        node: &Node,
        latest: &ObjectMeta,
        mut metadata: Value,
    ) -> Result<Option<Object>, Failure> {
        metadata["uid"] = json!(latest.uid);
        metadata["resourceVersion"] = json!(latest.resource_version);
        let bytes = serde_json::to_vec(&json!({"metadata": metadata}))
            .map_err(|error| ApiError::internal(error.to_string()))?;
        let body = Body::Bytes { content_type: patch_type::MERGE.into(), bytes: bytes.into() };
        let target = node.resource.one(&node.namespace, &node.name);
        match self.client.request(Verb::Patch, target, Options::default(), body).await {
            Ok(ApiResponse::Object { object, .. }) => Ok(Some(object)),
            Ok(_) | Err(ApiError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the object as it was read: if somebody has changed it since, its owners for one, it is to be
    /// looked at again, which is what a failure brings about.
    async fn delete(&self, node: &Node, latest: &ObjectMeta, policy: &str) -> Result<(), Failure> {
        let options = DeleteOptions {
            propagation_policy: Some(policy.into()),
            preconditions: Some(Preconditions {
                uid: Some(node.uid.clone()),
                resource_version: latest.resource_version.clone(),
            }),
            ..DeleteOptions::default()
        };
        let target = node.resource.one(&node.namespace, &node.name);
        let body = Body::Delete(Box::new(options));
        match self.client.request(Verb::Delete, target, Options::default(), body).await {
            Ok(_) | Err(ApiError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes an object out of its dependents' owners, then lets it go.
    async fn orphan(&self, uid: &str) -> Result<(), Failure> {
        let Some(node) = self.node(uid) else { return Ok(()) };
        let dependents: Vec<Node> = self.shared.graph.lock().dependents(uid).cloned().collect();
        let gone = BTreeSet::from([uid.to_owned()]);
        for dependent in dependents {
            if let Some(latest) = self.live(&dependent).await? {
                self.drop_owners(&dependent, latest.meta(), &gone).await?;
            }
        }
        match self.live(&node).await? {
            Some(latest) => self.drop_finalizer(&node, latest.meta(), FINALIZER_ORPHAN).await,
            None => Ok(()),
        }
    }
}
