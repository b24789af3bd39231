//! Writes to claims what was decided: devices and for whom.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{AllocationResult, ResourceClaim},
};
use rkube_api::{
    client::{Api, Client, EventKind, EventRecorder, ObjectKey, PostParams},
    error::ApiError,
};
use tokio::time::{sleep, timeout};

use super::{
    Cycle, DynamicResources, State, allocation,
    claims::{FINALIZER, consumer, is_reserved_for},
    conditions::{Readiness, has_conditions, is_overdue, readiness},
};
use crate::{
    framework::{CycleState, PreBind, Status},
    lost::{newest, says_nothing},
    plugins::volume_binding::bind::still_wanted,
    snapshot::{PodInfo, node_of},
};

/// How often a write is tried when others come in between: many pods can share a claim.
const TRIES: usize = 32;
/// How soon it is looked whether devices are ready, and how rarely at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Why a claim was not written.
#[derive(Debug, thiserror::Error)]
enum BindError {
    #[error("claim {0} got deleted in the meantime")]
    Deleted(ObjectKey),
    #[error("claim {0} got allocated elsewhere in the meantime")]
    Allocated(ObjectKey),
    #[error("get updated claim {0} after conflict: {1}")]
    Read(ObjectKey, ApiError),
    #[error("add finalizer to claim {0}: {1}")]
    Finalizer(ObjectKey, ApiError),
    #[error("add allocation and reservation to claim {0}: {1}")]
    Allocation(ObjectKey, ApiError),
    #[error("add reservation to claim {0}: {1}")]
    Reservation(ObjectKey, ApiError),
}

impl BindError {
    fn of_write(&self) -> Option<&ApiError> {
        match self {
            Self::Finalizer(_, error) | Self::Allocation(_, error) | Self::Reservation(_, error) => {
                Some(error)
            }
            _ => None,
        }
    }

    fn is_conflict(&self) -> bool {
        matches!(self.of_write(), Some(ApiError::Conflict { .. }))
    }

    /// Whether it may have been written all the same.
    fn says_nothing(&self) -> bool {
        self.of_write().is_some_and(says_nothing)
    }
}

#[async_trait]
impl PreBind for DynamicResources {
    fn waits(&self, state: &CycleState, _: &PodInfo) -> bool {
        state.read::<State>().is_some_and(|State(cycle)| self.has_to_wait(cycle))
    }

    async fn pre_bind(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Status {
        let Some(State(cycle)) = state.read::<State>() else { return Status::success() };
        let Some(client) = &self.client else { return Status::error("no API server to write claims to") };
        for (index, claim) in cycle.claims.iter().enumerate() {
            if is_reserved_for(claim, &pod.pod) {
                continue;
            }
            let mut decided = self.claims.pending(claim);
            if let (Some(decided), Some(context)) = (&mut decided, &self.context) {
                decided.allocation_timestamp = Some(context.clock.now());
            }
            match write(client, claim.clone(), decided, &pod.pod).await {
                Ok(written) => {
                    self.claims.settle(claim, Some(written.clone()));
                    cycle.written.lock().insert(index, written);
                }
                Err(error) => {
                    self.claims.settle(claim, None);
                    return Status::error(error.to_string());
                }
            }
        }
        if !self.has_to_wait(cycle) {
            return Status::success();
        }
        let name = pod.scheduler_name().to_owned();
        let note = format!("waiting for binding conditions for device on node {node}");
        let recorder = EventRecorder::new(client, name.clone()).new_form(name);
        recorder.record(&*pod.pod, EventKind::Normal, "BindingConditionsPending", "Scheduling", note);
        match timeout(self.patience, self.until_ready(cycle, client, pod)).await {
            Ok(Ok(())) => Status::success(),
            Ok(Err(why)) => Status::error(why),
            Err(_) => Status::error("device binding timeout"),
        }
    }
}

impl DynamicResources {
    /// Whether some device of the pod's claims, as they are or are about to be, has to be made ready.
    fn has_to_wait(&self, cycle: &Cycle) -> bool {
        cycle.claims.iter().enumerate().any(|(index, claim)| {
            let written = cycle.written.lock().get(&index).cloned();
            let known = written.as_deref().and_then(allocation).or_else(|| allocation(claim));
            match known {
                Some(known) => has_conditions(known),
                None => self.claims.pending(claim).is_some_and(|pending| has_conditions(&pending)),
            }
        })
    }

    /// Waits until the devices of all claims are ready, as long as the pod is there.
    async fn until_ready(&self, cycle: &Cycle, client: &Client, pod: &PodInfo) -> Result<(), String> {
        let (mut pause, longest) = PAUSES;
        while !self.is_ready(cycle)? {
            sleep(pause).await;
            if pause == longest {
                still_wanted(client, pod).await?;
            }
            pause = (pause * 2).min(longest);
        }
        Ok(())
    }

    fn is_ready(&self, cycle: &Cycle) -> Result<bool, String> {
        for claim in &cycle.claims {
            let key = ObjectKey::of(&**claim);
            let claim = self.claims.get(&key.namespace, &key.name);
            let claim = claim.ok_or_else(|| format!("could not find ResourceClaim \"{key}\""))?;
            match readiness(&claim) {
                Readiness::Ready => {}
                Readiness::Failed(why) => return Err(why),
                Readiness::Pending if self.is_overdue(&claim) => {
                    return Err(format!("claim {} binding timeout", key.name));
                }
                Readiness::Pending => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether the devices of an allocated claim will not be made ready any more.
    pub(super) fn is_stuck(&self, claim: &ResourceClaim) -> bool {
        match readiness(claim) {
            Readiness::Ready => false,
            Readiness::Failed(_) => true,
            Readiness::Pending => self.is_overdue(claim),
        }
    }

    fn is_overdue(&self, claim: &ResourceClaim) -> bool {
        let now = self.context.as_ref().map(|context| context.clock.now().0);
        now.is_some_and(|now| is_overdue(claim, self.patience, now))
    }
}

fn api(client: &Client, claim: &ResourceClaim) -> Api<ResourceClaim> {
    Api::namespaced(client.clone(), claim.metadata.namespace.as_deref().unwrap_or_default())
}

/// Writes devices, if they were decided now, and the pod to a claim. If an answer is lost it is found out whether
/// that was done: until then nobody else must get the devices.
async fn write(
    client: &Client,
    mut claim: Arc<ResourceClaim>,
    decided: Option<AllocationResult>,
    pod: &Pod,
) -> Result<Arc<ResourceClaim>, BindError> {
    let (key, claims) = (ObjectKey::of(&*claim), api(client, &claim));
    for tried in 1.. {
        match write_once(&claims, &claim, decided.as_ref(), pod).await {
            Err(error) if error.is_conflict() && tried < TRIES => {
                let read = claims.get(&key.name).await;
                claim = read.map_err(|error| BindError::Read(key.clone(), error))?;
            }
            Err(error) if error.says_nothing() => {
                let now = newest(&claims, &key.name).await.ok().flatten();
                let mine = |now: &Arc<ResourceClaim>| {
                    is_reserved_for(now, pod) && now.metadata.uid == claim.metadata.uid
                };
                return now.filter(mine).ok_or(error);
            }
            other => return other,
        }
    }
    Ok(claim)
}

async fn write_once(
    claims: &Api<ResourceClaim>,
    claim: &Arc<ResourceClaim>,
    decided: Option<&AllocationResult>,
    pod: &Pod,
) -> Result<Arc<ResourceClaim>, BindError> {
    let key = ObjectKey::of(&**claim);
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(BindError::Deleted(key));
    }
    if is_reserved_for(claim, pod) {
        return Ok(claim.clone());
    }
    let mut new = (**claim).clone();
    if let Some(decided) = decided {
        if allocation(claim).is_some() {
            return Err(BindError::Allocated(key));
        }
        let finalizers = new.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.into());
            let updated = claims.update(&PostParams::default(), new).await;
            new = (*updated.map_err(|error| BindError::Finalizer(key.clone(), error))?).clone();
        }
        new.status.get_or_insert_default().allocation = Some(decided.clone());
    }
    new.status.get_or_insert_default().reserved_for.get_or_insert_default().push(consumer(pod));
    claims.update_status(&PostParams::default(), new).await.map_err(|error| match decided {
        Some(_) => BindError::Allocation(key, error),
        None => BindError::Reservation(key, error),
    })
}

/// Takes a pod off a claim again, unless somebody else has bound it: then it needs its devices.
pub(super) async fn unreserve(client: Client, claim: Arc<ResourceClaim>, pod: Arc<Pod>) {
    let key = ObjectKey::of(&*pod);
    match Api::<Pod>::namespaced(client.clone(), &key.namespace).get_opt(&key.name).await {
        Ok(Some(found)) if found.metadata.uid == pod.metadata.uid && node_of(&found).is_some() => return,
        Ok(_) => {}
        // It is not known: what is reserved too long the controller gives back when the pod is gone.
        Err(error) => return tracing::warn!(pod = %key, %error, "a claim was not given back"),
    }
    change(client, claim, |claim| {
        let status = claim.status.as_mut()?;
        let reserved = status.reserved_for.as_mut()?;
        let before = reserved.len();
        reserved.retain(|consumer| Some(&consumer.uid) != pod.metadata.uid.as_ref());
        (reserved.len() < before).then_some(())
    })
    .await;
}

/// Gives the devices of a claim back that nobody uses; not if somebody has come to use it, or it was allocated
/// anew.
pub(super) async fn deallocate(client: Client, claim: Arc<ResourceClaim>) {
    let idle = claim.clone();
    change(client, claim, move |claim| {
        let same = allocation(claim).is_some() && allocation(claim) == allocation(&idle);
        let users =
            |claim: &ResourceClaim| claim.status.as_ref().and_then(|status| status.reserved_for.clone());
        if !same || users(claim) != users(&idle) {
            return None;
        }
        let status = claim.status.as_mut()?;
        (status.allocation, status.reserved_for, status.devices) = (None, None, None);
        Some(())
    })
    .await;
}

/// Changes the status of a claim, unless it is made anew or `make` sees nothing to change.
async fn change(
    client: Client,
    mut claim: Arc<ResourceClaim>,
    make: impl Fn(&mut ResourceClaim) -> Option<()>,
) {
    let (key, claims, uid) = (ObjectKey::of(&*claim), api(&client, &claim), claim.metadata.uid.clone());
    for _ in 0..TRIES {
        let mut new = (*claim).clone();
        if make(&mut new).is_none() {
            return;
        }
        match claims.update_status(&PostParams::default(), new).await {
            Ok(_) | Err(ApiError::NotFound { .. }) => return,
            Err(ApiError::Conflict { .. }) => {}
            Err(error) => return tracing::warn!(claim = %key, %error, "a claim was not given back"),
        }
        match claims.get_opt(&key.name).await {
            Ok(Some(newest)) if newest.metadata.uid == uid => claim = newest,
            Ok(_) => return,
            Err(error) => return tracing::warn!(claim = %key, %error, "a claim was not given back"),
        }
    }
}
