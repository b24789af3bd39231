//! Whether a claim is protected, as a pure function.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use rkube_api::helpers::volumes::{CLAIM_PROTECTION, claim_of, is_made_for};

use crate::facts;

/// What is to be done with the finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The claim gets it: it was made without.
    Protect,
    /// It goes: nobody uses the claim.
    Release,
}

/// What is to be done with a claim; `pods` are at least those of its namespace that may use it.
pub fn plan(claim: &PersistentVolumeClaim, pods: &[Arc<Pod>]) -> Option<Action> {
    let finalizers = claim.metadata.finalizers.as_deref().unwrap_or_default();
    let protected = finalizers.iter().any(|finalizer| finalizer == CLAIM_PROTECTION);
    match (claim.metadata.deletion_timestamp.is_some(), protected) {
        (false, false) => Some(Action::Protect),
        (true, true) if !pods.iter().any(|pod| uses(pod, claim)) => Some(Action::Release),
        _ => None,
    }
}

/// Whether a pod uses the claim. One that has no node yet does not: no node would begin it with a claim that is
/// on its way out.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let name = facts::name(&claim.metadata);
    let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    !facts::node(pod).is_empty()
        && pod.metadata.namespace == claim.metadata.namespace
        && volumes.any(|volume| match claim_of(facts::name(&pod.metadata), volume) {
            Some((used, true)) => used == name && is_made_for(claim, pod) && !facts::is_finished(pod),
            Some((used, false)) => used == name,
            None => false,
        })
}

/// The claim with the action done.
pub fn changed(claim: &PersistentVolumeClaim, action: Action) -> PersistentVolumeClaim {
    let mut claim = claim.clone();
    let finalizers = claim.metadata.finalizers.get_or_insert_default();
    match action {
        Action::Protect => finalizers.push(CLAIM_PROTECTION.into()),
        Action::Release => finalizers.retain(|finalizer| finalizer != CLAIM_PROTECTION),
    }
    claim
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn claim(deleted: bool, finalizers: &[&str]) -> PersistentVolumeClaim {
        let time = if deleted { json!("2026-01-01T00:00:00Z") } else { Value::Null };
        let owners =
            json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": true}]);
        from_value(json!({"metadata": {"name": "p-v", "namespace": "d", "deletionTimestamp": time,
            "finalizers": finalizers, "ownerReferences": owners}}))
        .unwrap()
    }

    fn pod(node: &str, volume: Value, phase: &str) -> Arc<Pod> {
        let mut with_name = json!({"name": "v"});
        with_name.as_object_mut().unwrap().extend(volume.as_object().unwrap().clone());
        let spec = json!({"containers": [], "nodeName": node, "volumes": [with_name]});
        let meta = json!({"name": "p", "namespace": "d", "uid": "1"});
        Arc::new(from_value(json!({"metadata": meta, "spec": spec, "status": {"phase": phase}})).unwrap())
    }

    #[test]
    fn a_claim_goes_when_no_pod_on_a_node_uses_it() {
        let named = json!({"persistentVolumeClaim": {"claimName": "p-v"}});
        let other = json!({"persistentVolumeClaim": {"claimName": "x"}});
        let going = claim(true, &[CLAIM_PROTECTION]);
        let free = Some(Action::Release);
        for (pod, wanted) in [
            (pod("n", named.clone(), "Running"), None),
            (pod("n", named.clone(), "Succeeded"), None),
            (pod("", named, "Pending"), free),
            (pod("n", other, "Running"), free),
            (pod("n", json!({"ephemeral": {}}), "Running"), None),
            (pod("n", json!({"ephemeral": {}}), "Succeeded"), free),
        ] {
            assert_eq!(plan(&going, std::slice::from_ref(&pod)), wanted, "{pod:?}");
        }
        assert_eq!(plan(&claim(false, &["x"]), &[]), Some(Action::Protect));
        assert_eq!(plan(&claim(false, &[CLAIM_PROTECTION]), &[]), None);
        assert_eq!(plan(&claim(true, &["x"]), &[]), None);
        let changed = changed(&claim(true, &["x", CLAIM_PROTECTION]), Action::Release);
        assert_eq!(changed.metadata.finalizers, Some(vec!["x".into()]));
    }
}
