//! How many pods what manages them wants.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use rkube_api::{
    client::{Cache, Client},
    error::ApiError,
    meta::{GroupVersion, owners},
    object::{Kind, Object},
    request::{ApiResponse, Body, Options, Target, Verb},
};

use crate::{
    facts,
    resources::{ByKind, ResourceLister},
};

/// Why it cannot be said how many pods there should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScaleError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("no matches for kind {kind:?} in version {version:?}")]
    UnknownKind { kind: String, version: String },
    #[error("{resource} does not implement the scale subresource")]
    NoScale { resource: String },
    #[error("found no controllers for pod {pod:?}")]
    NoController { pod: String },
}

/// What pods are managed by, all together.
#[derive(Default)]
pub(super) struct Scale {
    /// The sum of what each wants.
    pub(super) replicas: i32,
    /// Whether there are pods that nothing manages.
    pub(super) unmanaged: bool,
}

/// One that manages pods.
struct Manager {
    uid: String,
    replicas: i32,
}

pub(super) struct Scales {
    pub(super) client: Client,
    pub(super) resources: Arc<dyn ResourceLister>,
    pub(super) deployments: Cache<Deployment>,
    pub(super) sets: Cache<ReplicaSet>,
}

impl Scales {
    /// Each that manages any of the pods counts once.
    pub(super) async fn of(&self, pods: &[Arc<Pod>]) -> Result<Scale, ScaleError> {
        let mut scale = Scale::default();
        let mut known = BTreeMap::new();
        let mut asked: Vec<&str> = Vec::new();
        for pod in pods {
            let Some(owner) = owners::controller_of(&pod.metadata) else {
                scale.unmanaged = true;
                continue;
            };
            if asked.contains(&owner.uid.as_str()) {
                continue;
            }
            asked.push(&owner.uid);
            let Some(manager) = self.manager(owner, facts::namespace(&pod.metadata)).await? else {
                return Err(ScaleError::NoController { pod: facts::name(&pod.metadata).to_owned() });
            };
            known.insert(manager.uid, manager.replicas);
        }
        scale.replicas = known.into_values().fold(0, i32::saturating_add);
        Ok(scale)
    }

    async fn manager(&self, owner: &OwnerReference, namespace: &str) -> Result<Option<Manager>, ScaleError> {
        if is_kind::<ReplicaSet>(owner) {
            return Ok(self.set(owner, namespace));
        }
        self.any(owner, namespace).await
    }

    /// The replica set, or the deployment that manages it.
    fn set(&self, owner: &OwnerReference, namespace: &str) -> Option<Manager> {
        let set = owned(&self.sets, owner, namespace)?;
        let above = owners::controller_of(&set.metadata).filter(|above| is_kind::<Deployment>(above));
        let above = above.and_then(|above| owned(&self.deployments, above, namespace));
        Some(match above {
            Some(above) => Manager {
                uid: facts::uid(&above.metadata).to_owned(),
                replicas: above.spec.replicas.unwrap_or(1),
            },
            None => Manager { uid: owner.uid.clone(), replicas: set.spec.replicas.unwrap_or(1) },
        })
    }

    /// Whatever has the subresource.
    async fn any(&self, owner: &OwnerReference, namespace: &str) -> Result<Option<Manager>, ScaleError> {
        let resources = ByKind::new(&self.resources.resources().await?.resources);
        let resource = resources.find(&owner.api_version, &owner.kind).ok_or_else(|| {
            ScaleError::UnknownKind { kind: owner.kind.clone(), version: owner.api_version.clone() }
        })?;
        let target = Target { subresource: Some("scale".into()), ..resource.one(namespace, &owner.name) };
        match self.client.request(Verb::Get, target, Options::default(), Body::Empty).await {
            Ok(ApiResponse::Object { object, .. }) => manager_of(&object, owner),
            Ok(other) => Err(ApiError::internal(format!("expected a Scale, got {other:?}")).into()),
            Err(ApiError::NotFound { .. }) => Ok(None),
            Err(ApiError::NoSuchPath) => {
                let group = Some(&resource.group).filter(|group| !group.is_empty());
                let group = group.map(|group| format!(".{group}")).unwrap_or_default();
                Err(ScaleError::NoScale { resource: format!("{}{group}", resource.resource) })
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn is_kind<K: Kind>(owner: &OwnerReference) -> bool {
    let group = GroupVersion::parse(&owner.api_version).map(|version| version.group);
    owner.kind == K::KIND && group.is_ok_and(|group| group == K::GROUP)
}

fn owned<K: Kind>(cache: &Cache<K>, owner: &OwnerReference, namespace: &str) -> Option<Arc<K>> {
    cache.get(namespace, &owner.name).filter(|found| facts::uid(found.metadata()) == owner.uid)
}

fn manager_of(scale: &Object, owner: &OwnerReference) -> Result<Option<Manager>, ScaleError> {
    if scale.uid() != owner.uid {
        return Ok(None);
    }
    let value = scale.to_value().map_err(ApiError::from)?;
    let replicas = value.pointer("/spec/replicas").and_then(serde_json::Value::as_i64).unwrap_or(0);
    let replicas = i32::try_from(replicas).unwrap_or(i32::MAX);
    Ok(Some(Manager { uid: owner.uid.clone(), replicas }))
}
