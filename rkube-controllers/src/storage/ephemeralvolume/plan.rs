//! Which claims a pod still needs, as a pure function.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use rkube_api::helpers::volumes::{claim_of, is_made_for};

use crate::facts;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Makes the claim.
    Make(Box<PersistentVolumeClaim>),
    /// The claim of this name is somebody else's: the user is told.
    Refuse(String),
}

/// What a pod's volumes need; `claim` finds the claims of its namespace.
pub fn plan(pod: &Pod, claim: impl Fn(&str) -> Option<Arc<PersistentVolumeClaim>>) -> Vec<Action> {
    if pod.metadata.deletion_timestamp.is_some() || facts::is_finished(pod) {
        return Vec::new();
    }
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut actions = Vec::new();
    for volume in volumes {
        let template = volume.ephemeral.as_ref().and_then(|source| source.volume_claim_template.as_ref());
        let (Some(template), Some((name, _))) = (template, claim_of(facts::name(&pod.metadata), volume))
        else {
            continue;
        };
        match claim(&name) {
            Some(there) if is_made_for(&there, pod) => {}
            Some(_) => actions.push(Action::Refuse(name.into_owned())),
            None => {
                let meta = template.metadata.clone().unwrap_or_default();
                actions.push(Action::Make(Box::new(PersistentVolumeClaim {
                    metadata: ObjectMeta {
                        name: Some(name.into_owned()),
                        namespace: pod.metadata.namespace.clone(),
                        labels: meta.labels,
                        annotations: meta.annotations,
                        owner_references: Some(vec![owner(pod)]),
                        ..ObjectMeta::default()
                    },
                    spec: Some(template.spec.clone()),
                    status: None,
                })));
            }
        }
    }
    actions
}

fn owner(pod: &Pod) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: facts::name(&pod.metadata).into(),
        uid: facts::uid(&pod.metadata).into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_claim_is_made_once_and_only_for_its_pod() {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec});
        let mut pod: Pod =
            from_value(json!({"metadata": {"name": "p", "namespace": "d", "uid": "1"}, "spec": {
            "containers": [], "volumes": [{"name": "tmp", "emptyDir": {}},
                {"name": "data", "ephemeral": {"volumeClaimTemplate": template}}]}}))
            .unwrap();
        let made = plan(&pod, |_| None);
        let [Action::Make(claim)] = &made[..] else { panic!("{made:?}") };
        assert_eq!(facts::name(&claim.metadata), "p-data");
        assert_eq!(claim.metadata.labels.as_ref().unwrap()["a"], "b");
        assert!(is_made_for(claim, &pod));
        let there = Arc::new((**claim).clone());
        assert_eq!(plan(&pod, |name| (name == "p-data").then(|| there.clone())), []);
        pod.metadata.uid = Some("2".into());
        assert_eq!(plan(&pod, |_| Some(there.clone())), [Action::Refuse("p-data".into())]);
        pod.metadata.deletion_timestamp = from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(plan(&pod, |_| None), []);
    }
}
