//! The pods that somebody is about to make.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{
    kinds::Known,
    manifest::{LoadError, Place, TypeOf, each_object, read},
};

/// The kinds whose controllers make pods of a template, with the field that says how many.
const WORKLOADS: [(&str, &str, &str); 5] = [
    ("apps/v1", "Deployment", "spec.replicas"),
    ("apps/v1", "ReplicaSet", "spec.replicas"),
    ("apps/v1", "StatefulSet", "spec.replicas"),
    ("v1", "ReplicationController", "spec.replicas"),
    ("batch/v1", "Job", "spec.parallelism"),
];

/// The pods that a text asks for: those in it, and those that controllers would make of its Deployments,
/// ReplicaSets, StatefulSets, ReplicationControllers and Jobs. Other objects are passed over.
///
/// ```
/// use rkube_sched::simulator::{Simulator, new_pods};
///
/// let web = "
/// apiVersion: apps/v1
/// kind: Deployment
/// metadata: {name: web}
/// spec:
///   replicas: 3
///   template:
///     metadata: {labels: {app: web}}
///     spec: {containers: [{name: web, image: nginx, resources: {requests: {cpu: 2}}}]}
/// ";
/// let node = "{apiVersion: v1, kind: Node, metadata: {name: a}, status: {allocatable: {cpu: 5, memory: 4Gi, pods: 9}}}";
/// let mut simulator = Simulator::builder().load(node)?.build()?;
/// let mut fit = 0;
/// for pod in new_pods(web)? {
///     fit += usize::from(simulator.place(pod)?.choice.node().is_some());
/// }
/// assert_eq!(fit, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn new_pods(text: impl AsRef<[u8]>) -> Result<Vec<Pod>, LoadError> {
    let mut pods = Vec::new();
    each_object(text.as_ref(), &mut |type_of, value, place| {
        let is_workload =
            |known: &&(&str, &str, &str)| known.0 == type_of.api_version && known.1 == type_of.kind;
        if let Some((_, _, count)) = WORKLOADS.iter().find(is_workload) {
            let (pod, count) = (template(&type_of, &value, place)?, replicas(&value, count, place)?);
            pods.extend(std::iter::repeat_n(pod, count));
        } else if (&*type_of.api_version, &*type_of.kind) == ("v1", "Pod") {
            pods.push(pod(value, place)?);
        }
        Ok(())
    })?;
    Ok(pods)
}

fn pod(value: Value, place: Place) -> Result<Pod, LoadError> {
    let wrong = || LoadError::Shape { place, field: "kind", wanted: "a text such as Pod" };
    let known = Known::find("v1", "Pod").ok_or_else(wrong)?;
    let object = read(known, value, place)?;
    object.as_kind::<Pod>().cloned().ok_or_else(wrong)
}

/// How many pods a workload is to have: one, if it does not say.
fn replicas(workload: &Value, field: &'static str, place: Place) -> Result<usize, LoadError> {
    let value = field.split('.').try_fold(workload, |value, name| value.get(name));
    match value.filter(|value| !value.is_null()) {
        None => Ok(1),
        Some(value) => {
            let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
            count.ok_or(LoadError::Shape { place, field, wanted: "a number" })
        }
    }
}

/// A pod as the workload's controller makes it.
fn template(type_of: &TypeOf, workload: &Value, place: Place) -> Result<Pod, LoadError> {
    let template = &workload["spec"]["template"];
    if !template.is_object() {
        return Err(LoadError::Shape { place, field: "spec.template", wanted: "an object" });
    }
    let meta = &workload["metadata"];
    let name = meta["name"].as_str().or(meta["generateName"].as_str()).unwrap_or("pod");
    let mut value = json!({"metadata": template["metadata"], "spec": template["spec"]});
    if !value["metadata"].is_object() {
        value["metadata"] = json!({});
    }
    value["metadata"]["generateName"] = json!(format!("{}-", name.trim_end_matches('-')));
    value["metadata"]["namespace"] = meta["namespace"].clone();
    value["metadata"]["ownerReferences"] = json!([{
        "apiVersion": type_of.api_version, "kind": type_of.kind, "name": name, "controller": true,
        "uid": meta["uid"].as_str().unwrap_or(name)
    }]);
    pod(value, place)
}
