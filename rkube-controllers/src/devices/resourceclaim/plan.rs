//! Which claims a pod needs, and what becomes of a claim.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{Pod, PodResourceClaim},
        resource::v1::{
            ResourceClaim, ResourceClaimConsumerReference, ResourceClaimStatus, ResourceClaimTemplate,
        },
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use rkube_api::meta::owners;

use super::owned_by;
use crate::facts;

/// The claim of a pod that a claim was made for.
pub const ANNOTATION: &str = "resource.kubernetes.io/pod-claim-name";
/// What keeps an allocated claim from going away.
pub const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Where a generated name is cut, so that five random characters fit into a label.
const LONGEST_BASE: usize = 57;

/// Why a claim cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is no such template.
    #[error("resource claim template {0:?}: resourceclaimtemplate.resource.k8s.io {0:?} not found")]
    NoTemplate(String),
}

/// What comes of one of a pod's claims.
#[derive(Clone, Debug, PartialEq)]
pub enum Made {
    /// It is there, under this name.
    Known(String),
    /// It is to be made.
    Now(Box<ResourceClaim>),
    /// None is needed.
    Not,
}

fn asked(pod: &Pod) -> &[PodResourceClaim] {
    pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref()).unwrap_or_default()
}

fn recorded<'a>(pod: &'a Pod, name: &str) -> Option<Option<&'a str>> {
    let statuses = pod.status.as_ref()?.resource_claim_statuses.as_deref()?;
    statuses.iter().find(|status| status.name == name).map(|status| status.resource_claim_name.as_deref())
}

/// Whether a pod has claims at all.
pub fn uses_claims(pod: &Pod) -> bool {
    !asked(pod).is_empty()
}

/// Whether a claim of a pod is to be made from this template.
pub fn names_template(pod: &Pod, template: &str) -> bool {
    asked(pod).iter().any(|claim| claim.resource_claim_template_name.as_deref() == Some(template))
}

/// Whether the pod has been told the name of a claim.
pub fn is_recorded(pod: &Pod, name: &str, claim: &str) -> bool {
    recorded(pod, name) == Some(Some(claim))
}

/// The names of a pod's claims, as far as they are known.
pub fn claim_names(pod: &Pod) -> impl Iterator<Item = &str> {
    let made = |claim: &PodResourceClaim| recorded(pod, &claim.name).flatten();
    asked(pod).iter().filter_map(move |claim| claim.resource_claim_name.as_deref().or_else(|| made(claim)))
}

/// Whether none of a pod's containers runs, nor ever will.
pub fn is_done(pod: &Pod) -> bool {
    facts::is_finished(pod) || (pod.metadata.deletion_timestamp.is_some() && facts::node(pod).is_empty())
}

/// Whether there is nothing to make for a pod.
pub fn needs_nothing(pod: &Pod) -> bool {
    !uses_claims(pod) || facts::is_finished(pod) || pod.metadata.deletion_timestamp.is_some()
}

/// What each of a pod's claims needs, in their order, by the name that the pod gives it. `owned` are the claims
/// that the pod manages.
pub fn for_pod(
    pod: &Pod,
    owned: &[Arc<ResourceClaim>],
    claim: impl Fn(&str) -> Option<Arc<ResourceClaim>>,
    template: impl Fn(&str) -> Option<Arc<ResourceClaimTemplate>>,
) -> Vec<(String, Result<Made, PlanError>)> {
    let uid = facts::uid(&pod.metadata);
    let plan = |asked: &PodResourceClaim| {
        let Some(from) = &asked.resource_claim_template_name else { return Ok(Made::Not) };
        let is_mine =
            |name: &str| claim(name).is_some_and(|claim| owners::is_controlled_by(&claim.metadata, uid));
        match recorded(pod, &asked.name) {
            Some(None) => return Ok(Made::Not),
            Some(Some(name)) if is_mine(name) => return Ok(Made::Known(name.to_owned())),
            _ => {}
        }
        // It may have been made when the pod could not be told.
        let mine = |claim: &&Arc<ResourceClaim>| {
            let annotations = claim.metadata.annotations.as_ref();
            annotations.and_then(|all| all.get(ANNOTATION)) == Some(&asked.name)
        };
        if let Some(found) = owned.iter().find(mine) {
            return Ok(Made::Known(facts::name(&found.metadata).to_owned()));
        }
        let template = template(from).ok_or_else(|| PlanError::NoTemplate(from.clone()))?;
        Ok(Made::Now(Box::new(made_from(&template, pod, &asked.name))))
    };
    asked(pod).iter().map(|asked| (asked.name.clone(), plan(asked))).collect()
}

fn made_from(template: &ResourceClaimTemplate, pod: &Pod, name: &str) -> ResourceClaim {
    let spec = template.spec.clone().unwrap_or_default();
    let meta = spec.metadata.unwrap_or_default();
    let mut annotations: BTreeMap<String, String> = meta.annotations.unwrap_or_default();
    annotations.insert(ANNOTATION.into(), name.into());
    ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(generate_name(facts::name(&pod.metadata), name)),
            namespace: pod.metadata.namespace.clone(),
            owner_references: owned_by(pod),
            annotations: Some(annotations),
            labels: meta.labels,
            ..ObjectMeta::default()
        },
        spec: spec.spec,
        ..ResourceClaim::default()
    }
}

/// What the name of a generated claim begins with; of long names both parts are cut in proportion.
fn generate_name(pod: &str, claim: &str) -> String {
    let base = format!("{pod}-{claim}-");
    if base.len() <= LONGEST_BASE {
        return base;
    }
    // Names are ASCII.
    let cut = |part: &str| part.get(..part.len() * LONGEST_BASE / base.len()).unwrap_or(part).to_owned();
    format!("{}-{}", cut(pod), cut(claim))
}

/// The claims that a pod with a node uses without being noted in them, of those that are allocated.
pub fn to_reserve(pod: &Pod, claim: impl Fn(&str) -> Option<Arc<ResourceClaim>>) -> Vec<Arc<ResourceClaim>> {
    if facts::node(pod).is_empty() {
        return Vec::new();
    }
    let uid = facts::uid(&pod.metadata);
    let lacks = |claim: &Arc<ResourceClaim>| {
        let allocated = claim.status.as_ref().is_some_and(|status| status.allocation.is_some());
        allocated
            && claim.metadata.deletion_timestamp.is_none()
            && !reserved_for(claim).any(|consumer| consumer.uid == uid)
    };
    claim_names(pod).filter_map(claim).filter(lacks).collect()
}

/// For whom a claim is reserved.
pub fn reserved_for(claim: &ResourceClaim) -> impl Iterator<Item = &ResourceClaimConsumerReference> {
    claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten())
}

/// The pod that a claim was made for.
pub fn owning_pod(claim: &ResourceClaim) -> Option<&OwnerReference> {
    owners::controller_of(&claim.metadata).filter(|owner| owner.api_version == "v1" && owner.kind == "Pod")
}

fn is_protected(claim: &ResourceClaim) -> bool {
    claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// The claim without what keeps it from going away; `None` if it has none, or has got devices again.
pub fn without_protection(claim: &ResourceClaim) -> Option<ResourceClaim> {
    let allocated = claim.status.as_ref().is_some_and(|status| status.allocation.is_some());
    if !is_protected(claim) || allocated {
        return None;
    }
    let mut claim = claim.clone();
    claim.metadata.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
    Some(claim)
}

/// What becomes of a claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClaimPlan {
    /// Its status, if it changes.
    pub status: Option<ResourceClaimStatus>,
    /// Whether nothing has to keep it any more.
    pub unprotect: bool,
    /// Whether it goes: it was made for a pod that has ended.
    pub delete: bool,
}

/// Plans for a claim. `users` are those that it is reserved for, and whether they still use it; `owner` is the
/// pod of the name that it was made for, if there is one.
pub fn for_claim(
    claim: &ResourceClaim,
    users: &[(&ResourceClaimConsumerReference, bool)],
    owner: Option<&Pod>,
) -> ClaimPlan {
    let valid: Vec<_> = users.iter().filter(|(_, uses)| *uses).map(|(user, _)| (*user).clone()).collect();
    let mut plan = ClaimPlan::default();
    let protected = is_protected(claim);
    let allocated = claim.status.as_ref().is_some_and(|status| status.allocation.is_some());
    let unused = valid.is_empty();
    let last_left = unused && !users.is_empty();
    let going = unused && claim.metadata.deletion_timestamp.is_some();
    // A claim that was never used keeps its devices: whoever allocated it may still want to use it.
    let give_back = protected && (last_left || going);
    if valid.len() < users.len() || (give_back && allocated) {
        let mut status = claim.status.clone().unwrap_or_default();
        status.reserved_for = (!unused).then_some(valid);
        if give_back {
            (status.allocation, status.devices) = (None, None);
        }
        plan.status = Some(status);
    }
    plan.unprotect = give_back;
    plan.delete = unused
        && owning_pod(claim)
            .zip(owner)
            .is_some_and(|(reference, pod)| reference.uid != facts::uid(&pod.metadata) || is_done(pod));
    plan
}
