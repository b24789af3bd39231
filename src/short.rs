//! Short ways to say what examples and tests say all the time.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec},
        core::v1::{Container, Pod, PodSpec, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};

/// A pod of one container, labelled `app=NAME`.
///
/// ```
/// let pod = rkube::pod("web", "nginx");
/// assert_eq!(pod.metadata.name.as_deref(), Some("web"));
/// ```
pub fn pod(name: &str, image: &str) -> Pod {
    Pod {
        metadata: ObjectMeta { name: Some(name.into()), labels: Some(labels(name)), ..ObjectMeta::default() },
        spec: Some(pod_spec(name, image)),
        ..Pod::default()
    }
}

/// A deployment of such pods.
///
/// ```
/// let web = rkube::deployment("web", "nginx", 3);
/// assert_eq!(web.spec.replicas, Some(3));
/// ```
pub fn deployment(name: &str, image: &str, replicas: i32) -> Deployment {
    Deployment {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        spec: DeploymentSpec {
            replicas: Some(replicas),
            selector: LabelSelector { match_labels: Some(labels(name)), ..LabelSelector::default() },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels(name)), ..ObjectMeta::default() }),
                spec: Some(pod_spec(name, image)),
            },
            ..DeploymentSpec::default()
        },
        ..Deployment::default()
    }
}

fn labels(name: &str) -> BTreeMap<String, String> {
    [("app".to_owned(), name.to_owned())].into()
}

fn pod_spec(name: &str, image: &str) -> PodSpec {
    let container = Container { name: name.into(), image: Some(image.into()), ..Container::default() };
    PodSpec { containers: vec![container], ..PodSpec::default() }
}

/// Whether the pod's condition `Ready` is true.
///
/// ```
/// assert!(!rkube::is_ready(&rkube::pod("web", "nginx")));
/// ```
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The node that the pod is bound to.
///
/// ```
/// assert_eq!(rkube::node_of(&rkube::pod("web", "nginx")), None);
/// ```
pub fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}
