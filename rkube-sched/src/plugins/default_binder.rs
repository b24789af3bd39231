//! Binds pods through the API server's `binding` subresource.

use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{Binding, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use rkube_api::client::{Api, Client, PostParams};

use crate::{
    framework::{Args, Bind, ConfigError, CycleState, Handle, Interest, Plugin, PointSet, Points, Status},
    snapshot::PodInfo,
};

/// The plugin's name.
pub const NAME: &str = "DefaultBinder";

/// Binds pods. See the module's documentation.
#[derive(Debug)]
pub struct DefaultBinder {
    client: Option<Client>,
}

/// Makes the plugin; it has no arguments.
pub fn make(_: &Args, handle: &Handle) -> Result<PointSet, ConfigError> {
    Ok(Points::of(DefaultBinder { client: handle.client.clone() }).bind().done())
}

/// The object that binds a pod to a node: it carries the pod's UID, so that a pod made anew under the
/// same name is not bound by mistake.
pub fn binding(pod: &PodInfo, node: &str) -> Binding {
    Binding {
        metadata: ObjectMeta {
            name: Some(pod.key.name.clone()),
            namespace: Some(pod.key.namespace.clone()),
            uid: pod.pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.into()),
            ..ObjectReference::default()
        },
    }
}

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        Vec::new()
    }
}

#[async_trait]
impl Bind for DefaultBinder {
    async fn bind(&self, _: &CycleState, pod: &PodInfo, node: &str) -> Status {
        let Some(client) = &self.client else {
            return Status::error("no API server to bind through");
        };
        let pods = Api::<Pod>::namespaced(client.clone(), &pod.key.namespace);
        let body = binding(pod, node);
        match pods.create_subresource(&pod.key.name, "binding", &PostParams::default(), body).await {
            Ok(_) => Status::success(),
            Err(error) => Status::error(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn without_a_server_it_says_so() {
        let set = make(&Args::default(), &Handle::default()).unwrap();
        let pod = testing::pod("p", serde_json::json!({}));
        let status = set.bind.unwrap().bind(&CycleState::default(), &pod, "n").await;
        assert_eq!(status, Status::error("no API server to bind through"));
        assert_eq!(binding(&pod, "n").target.name.as_deref(), Some("n"));
    }
}
