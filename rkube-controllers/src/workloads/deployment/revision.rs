//! What ties a deployment to its replica sets: the template's hash, equality of templates, and the
//! annotations that hold the history.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::PodTemplateSpec,
};
use serde_json::Value;

/// The revision of the template, on a deployment and its replica sets.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier revisions that a replica set stood for, joined by commas.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The deployment's size when the replica set was last sized.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The deployment's size with surge when the replica set was last sized.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// The label that sets the pods of one template apart from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";

/// Annotations that belong to one object alone.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// How long the history annotation may grow, in bytes.
const HISTORY_LIMIT: usize = 2000;

/// The characters that hashes are spelled in: Kubernetes' alphabet of generated names.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short name for a template: 32-bit FNV-1a over its JSON and the collision count. Kubernetes hashes a
/// Go-specific dump, so the same template gets another hash there; the label's value carries no meaning.
pub(crate) fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let json = serde_json::to_vec(template).unwrap_or_default();
    let salt = collisions.map(|count| i64::from(count).to_le_bytes());
    let hash = json
        .iter()
        .chain(salt.iter().flatten())
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

/// Whether two templates make the same pods: equal but for the hash label; an empty list is an absent one.
pub(crate) fn same_template(a: Option<&PodTemplateSpec>, b: Option<&PodTemplateSpec>) -> bool {
    let (a, b) = (without_hash(a), without_hash(b));
    a == b || pruned(&a) == pruned(&b)
}

fn without_hash(template: Option<&PodTemplateSpec>) -> PodTemplateSpec {
    let mut template = template.cloned().unwrap_or_default();
    let mut meta = template.metadata.take().unwrap_or_default();
    meta.creation_timestamp = None;
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
    }
    meta.labels = meta.labels.filter(|labels| !labels.is_empty());
    meta.annotations = meta.annotations.filter(|annotations| !annotations.is_empty());
    template.metadata = Some(meta);
    template
}

fn pruned(template: &PodTemplateSpec) -> Value {
    fn prune(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.values_mut().for_each(prune);
                map.retain(|_, value| {
                    !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
                });
            }
            Value::Array(list) => list.iter_mut().for_each(prune),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(template).unwrap_or_default();
    prune(&mut value);
    value
}

/// The revision in an object's annotations; 0 if there is none.
pub(crate) fn revision(annotations: Option<&BTreeMap<String, String>>) -> i64 {
    annotations.and_then(|all| all.get(REVISION)).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// A number in a replica set's annotations.
pub(crate) fn number(set: &ReplicaSet, annotation: &str) -> Option<i32> {
    set.metadata.annotations.as_ref()?.get(annotation)?.parse().ok()
}

/// Copies the deployment's annotations to a replica set and moves its revision up to `revision`.
pub(crate) fn annotate(deployment: &Deployment, set: &mut ReplicaSet, revision: i64) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    let Some(old_number) = old.as_deref().map_or(Some(0), |text| text.parse::<i64>().ok()) else { return };
    if old_number >= revision {
        return;
    }
    annotations.insert(REVISION.into(), revision.to_string());
    // The set stood for an earlier revision: this is a rollback to it, and the history remembers.
    if let Some(old) = old {
        let history = annotations.get(REVISION_HISTORY).filter(|history| !history.is_empty());
        let history = history.map_or(old.clone(), |history| format!("{history},{old}"));
        annotations.insert(REVISION_HISTORY.into(), shortened(&history));
    }
}

/// Drops the oldest revisions until the history fits.
fn shortened(history: &str) -> String {
    let mut rest = history;
    while rest.len() > HISTORY_LIMIT {
        let Some((_, tail)) = rest.split_once(',') else { break };
        rest = tail;
    }
    rest.to_owned()
}

/// Notes the deployment's size on a replica set.
pub(crate) fn annotate_size(set: &mut ReplicaSet, desired: i32, max: i32) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED_REPLICAS.into(), desired.to_string());
    annotations.insert(MAX_REPLICAS.into(), max.to_string());
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn template(image: &str) -> PodTemplateSpec {
        let container = Container { name: "a".into(), image: Some(image.into()), ..Default::default() };
        PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some([("app".to_owned(), "web".to_owned())].into()),
                ..Default::default()
            }),
            spec: Some(PodSpec { containers: vec![container], ..Default::default() }),
        }
    }

    #[test]
    fn the_hash_depends_on_the_template_and_on_collisions() {
        let hash = template_hash(&template("a:1"), None);
        assert_eq!(hash, template_hash(&template("a:1"), None));
        assert_ne!(hash, template_hash(&template("a:2"), None));
        assert_ne!(hash, template_hash(&template("a:1"), Some(1)));
        assert!(!hash.is_empty() && hash.bytes().all(|byte| ALPHABET.contains(&byte)));
    }

    #[test]
    fn the_hash_label_and_empty_lists_make_no_difference() {
        let plain = template("a:1");
        let mut labelled = plain.clone();
        labelled.metadata.as_mut().unwrap().labels.as_mut().unwrap().insert(HASH_LABEL.into(), "x".into());
        labelled.spec.as_mut().unwrap().volumes = Some(vec![]);
        assert!(same_template(Some(&plain), Some(&labelled)));
        assert!(!same_template(Some(&plain), Some(&template("a:2"))));
    }

    #[test]
    fn a_rollback_is_remembered() {
        let mut deployment = Deployment::default();
        deployment.metadata.annotations = Some(
            [
                ("kubernetes.io/change-cause".to_owned(), "because".to_owned()),
                (REVISION.to_owned(), "7".to_owned()),
            ]
            .into(),
        );
        let mut set = ReplicaSet::default();
        annotate(&deployment, &mut set, 1);
        annotate(&deployment, &mut set, 3);
        annotate(&deployment, &mut set, 5);
        annotate(&deployment, &mut set, 4);
        let annotations = set.metadata.annotations.unwrap();
        assert_eq!(annotations[REVISION], "5");
        assert_eq!(annotations[REVISION_HISTORY], "1,3");
        assert_eq!(annotations["kubernetes.io/change-cause"], "because");
        assert_eq!(annotations.len(), 3);
    }

    #[test]
    fn the_history_is_bounded() {
        let long: Vec<String> = (1000..2000).map(|n: i32| n.to_string()).collect();
        let short = shortened(&long.join(","));
        assert!(short.len() <= HISTORY_LIMIT && short.ends_with(",1999"));
    }
}
