//! What the volume plugins have in common: a pod's claims, and what to say where something is missing.

use rkube_api::meta::validation::go_quoted;

use crate::{
    framework::{ClusterEvent, Handle, Listers, Status, Subject},
    snapshot::{PodClaim, PodInfo},
};

/// The resource of claims, as events name it.
pub(crate) const CLAIMS: &str = "persistentvolumeclaims";
/// The resource of volumes.
pub(crate) const VOLUMES: &str = "persistentvolumes";
/// The resource of storage classes.
pub(crate) const CLASSES: &str = "storageclasses";

/// The listers of plugins that look at pods with volumes only.
pub(crate) fn listers(handle: &Handle) -> Listers {
    handle.listers.for_pods(|pod| pod.volumes.is_some())
}

/// The claims of a pod.
pub(crate) fn claims_of(pod: &PodInfo) -> &[PodClaim] {
    pod.volumes.as_ref().map_or(&[], |volumes| &volumes.claims)
}

/// The refusal of a pod for whom something is not there, until it is.
pub(crate) fn not_found(resource: &str, name: &str) -> Status {
    Status::unresolvable(format!("{resource} {} not found", go_quoted(name)))
}

/// Whether an event about a claim is about one of the pod's.
pub(crate) fn is_of_pod(pod: &PodInfo, event: &ClusterEvent) -> bool {
    match &event.subject {
        Subject::Object(claim) => {
            claim.key.namespace == pod.key.namespace
                && claims_of(pod).iter().any(|mine| *mine.name == *claim.key.name)
        }
        // Which one is not known: it may be.
        _ => true,
    }
}
