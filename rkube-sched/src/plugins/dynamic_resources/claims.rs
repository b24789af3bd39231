//! The claims of pods, as informers show them and as this scheduler has written or is about to write them.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Pod, PodResourceClaim},
    resource::v1::{AllocationResult, ResourceClaim, ResourceClaimConsumerReference},
};
use parking_lot::Mutex;
use rkube_api::{
    client::{Cache, ObjectKey},
    meta::owners::is_controlled_by,
};

/// What keeps an allocated claim from going away.
pub(super) const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

/// Claims, and those that are under way.
#[derive(Debug)]
pub(super) struct Claims {
    cache: Cache<ResourceClaim>,
    /// There is nobody to write to, so that what is decided is so at once: in a simulation.
    pub(super) at_once: bool,
    mine: Mutex<Mine>,
}

/// By UID.
#[derive(Debug, Default)]
struct Mine {
    /// Decided and not written yet: as they will be.
    pending: BTreeMap<String, Arc<ResourceClaim>>,
    /// Written, and perhaps not seen yet.
    written: BTreeMap<String, Arc<ResourceClaim>>,
}

fn uid(claim: &ResourceClaim) -> &str {
    claim.metadata.uid.as_deref().unwrap_or_default()
}

/// Versions of one object can be compared as numbers (KEP-5504).
fn version(claim: &ResourceClaim) -> u64 {
    claim.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Whether a pod is among those that the claim is reserved for.
pub(super) fn is_reserved_for(claim: &ResourceClaim, pod: &Pod) -> bool {
    let reserved = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten());
    reserved.into_iter().any(|consumer| Some(&consumer.uid) == pod.metadata.uid.as_ref())
}

/// A pod as one that uses a claim.
pub(super) fn consumer(pod: &Pod) -> ResourceClaimConsumerReference {
    ResourceClaimConsumerReference {
        resource: "pods".into(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ..ResourceClaimConsumerReference::default()
    }
}

/// The name of a claim of a pod, and whether it was made for the pod. `None` within: there is none, on purpose.
fn name_of<'a>(pod: &'a Pod, claim: &'a PodResourceClaim) -> Result<Option<(&'a str, bool)>, String> {
    let of = ObjectKey::of(pod);
    match (&claim.resource_claim_name, &claim.resource_claim_template_name) {
        (Some(name), _) => Ok(Some((name, false))),
        (None, Some(_)) => {
            let status = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_ref());
            let mut made = status.into_iter().flatten().filter(|made| made.name == claim.name);
            match made.next() {
                Some(made) => Ok(made.resource_claim_name.as_deref().map(|name| (name, true))),
                None => Err(format!("pod \"{of}\": ResourceClaim not created yet")),
            }
        }
        (None, None) => Err(format!(
            "pod \"{of}\", spec.resourceClaim {:?}: none of the supported fields are set",
            claim.name
        )),
    }
}

impl Claims {
    pub(super) fn new(cache: Cache<ResourceClaim>, at_once: bool) -> Self {
        Self { cache, at_once, mine: Mutex::default() }
    }

    /// The newest that is known of a claim.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<ResourceClaim>> {
        self.cache.get(namespace, name).map(|claim| self.newest(claim))
    }

    fn newest(&self, claim: Arc<ResourceClaim>) -> Arc<ResourceClaim> {
        let mine = &mut *self.mine.lock();
        if let Some(decided) = mine.pending.get(uid(&claim)).filter(|_| self.at_once) {
            return decided.clone();
        }
        let written = &mut mine.written;
        match written.get(uid(&claim)) {
            Some(newer) if version(newer) > version(&claim) => newer.clone(),
            Some(_) => {
                written.remove(uid(&claim));
                claim
            }
            None => claim,
        }
    }

    /// The claims of a pod, in its order; why it has to wait, if one is missing.
    pub(super) fn of(&self, pod: &Pod) -> Result<Vec<Arc<ResourceClaim>>, String> {
        let key = ObjectKey::of(pod);
        let mut claims = Vec::new();
        let asked = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref());
        for asked in asked.into_iter().flatten() {
            let Some((name, made)) = name_of(pod, asked)? else { continue };
            let of_claim = ObjectKey::new(&key.namespace, name);
            let Some(claim) = self.get(&key.namespace, name) else {
                return Err(format!("could not find ResourceClaim \"{of_claim}\""));
            };
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("resourceclaim {name:?} is being deleted"));
            }
            let owner = pod.metadata.uid.as_deref().unwrap_or_default();
            if made && !is_controlled_by(&claim.metadata, owner) {
                return Err(format!(
                    "ResourceClaim {of_claim} was not created for Pod {key} (Pod is not owner)"
                ));
            }
            claims.push(claim);
        }
        Ok(claims)
    }

    /// All claims, each as it is or is about to be.
    pub(super) fn all(&self) -> Vec<Arc<ResourceClaim>> {
        let mut all = self.cache.list();
        let mine = &mut *self.mine.lock();
        if mine.pending.is_empty() && mine.written.is_empty() {
            return all;
        }
        let seen: BTreeMap<&str, u64> = all.iter().map(|claim| (uid(claim), version(claim))).collect();
        // What was seen since, or is gone, speaks for itself.
        mine.written.retain(|uid, claim| seen.get(&**uid).is_some_and(|seen| *seen < version(claim)));
        drop(seen);
        for claim in &mut all {
            let newer = mine.pending.get(uid(claim)).or_else(|| mine.written.get(uid(claim)));
            if let Some(newer) = newer {
                *claim = newer.clone();
            }
        }
        all
    }

    /// Whether the claim's devices are decided and not written yet.
    pub(super) fn is_pending(&self, claim: &ResourceClaim) -> bool {
        self.mine.lock().pending.contains_key(uid(claim))
    }

    /// The claim's devices are decided.
    pub(super) fn pend(&self, claim: &ResourceClaim, allocation: AllocationResult) {
        let mut claim = claim.clone();
        claim.status.get_or_insert_default().allocation = Some(allocation);
        self.mine.lock().pending.insert(uid(&claim).to_owned(), Arc::new(claim));
    }

    /// What the decision was about a claim.
    pub(super) fn pending(&self, claim: &ResourceClaim) -> Option<AllocationResult> {
        let mine = self.mine.lock();
        mine.pending.get(uid(claim))?.status.as_ref()?.allocation.clone()
    }

    /// Where there is nobody to write to: a pod uses a claim from now on.
    pub(super) fn use_by(&self, claim: &Arc<ResourceClaim>, pod: &Pod) {
        let mine = &mut *self.mine.lock();
        let claim = Arc::make_mut(mine.pending.entry(uid(claim).to_owned()).or_insert_with(|| claim.clone()));
        if !is_reserved_for(claim, pod) {
            claim.status.get_or_insert_default().reserved_for.get_or_insert_default().push(consumer(pod));
        }
    }

    /// It uses it no more. What nobody uses is as it was before.
    pub(super) fn leave_by(&self, claim: &ResourceClaim, pod: &Pod) {
        let mine = &mut *self.mine.lock();
        let Some(kept) = mine.pending.get_mut(uid(claim)) else { return };
        let users = Arc::make_mut(kept).status.get_or_insert_default().reserved_for.get_or_insert_default();
        users.retain(|user| Some(&user.uid) != pod.metadata.uid.as_ref());
        if users.is_empty() {
            mine.pending.remove(uid(claim));
        }
    }

    /// The decision is written down, or given up.
    pub(super) fn settle(&self, claim: &ResourceClaim, written: Option<Arc<ResourceClaim>>) {
        let mine = &mut *self.mine.lock();
        mine.pending.remove(uid(claim));
        if let Some(written) = written {
            mine.written.insert(uid(&written).to_owned(), written);
        }
    }
}
