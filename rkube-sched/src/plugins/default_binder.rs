//! Binds pods through the API server's `binding` subresource.
//!
//! An error need not mean that nothing happened: an answer can get lost after the deed. As long as that is not
//! known the pod keeps its place on the node, because another one put there in its stead would be one too many
//! (kube-scheduler takes the risk, and the node's agent sends one of the two away).

use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{Binding, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use rkube_api::client::{Api, Client, PostParams};

use crate::{
    framework::{Args, Bind, ConfigError, CycleState, Handle, Interest, Plugin, PointSet, Points, Status},
    lost::{newest, says_nothing},
    snapshot::{PodInfo, node_of},
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
            Err(error) if says_nothing(&error) && is_bound(&pods, pod, node).await => Status::success(),
            Err(error) => Status::error(error.to_string()),
        }
    }
}

/// Whether the pod is on the node, as far as the server lets us know.
async fn is_bound(pods: &Api<Pod>, pod: &PodInfo, node: &str) -> bool {
    let found = newest(pods, &pod.key.name).await.ok().flatten();
    found.is_some_and(|found| found.metadata.uid == pod.pod.metadata.uid && node_of(&found) == Some(node))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use rkube_api::{
        context::Context,
        error::ApiError,
        object::Object,
        request::{ApiRequest, ApiResponse, Credentials, Transport, Verb},
    };
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn without_a_server_it_says_so() {
        let set = make(&Args::default(), &Handle::default()).unwrap();
        let pod = testing::pod("p", json!({}));
        let status = set.bind.unwrap().bind(&CycleState::default(), &pod, "n").await;
        assert_eq!(status, Status::error("no API server to bind through"));
        assert_eq!(binding(&pod, "n").target.name.as_deref(), Some("n"));
    }

    /// Loses the answer to each binding, and has prepared answers, the last one first, to who asks for the pod.
    struct Forgetful(Mutex<Vec<Result<Pod, ApiError>>>);

    #[async_trait]
    impl Transport for Forgetful {
        async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
            if request.verb == Verb::Create {
                return Err(ApiError::Timeout { message: "too late".into() });
            }
            let pod = self.0.lock().pop().unwrap()?;
            Ok(ApiResponse::Object { object: Object::new(pod), code: 200, warnings: Vec::new() })
        }
    }

    async fn bound(answers: Vec<Result<Pod, ApiError>>) -> Status {
        let transport = Arc::new(Forgetful(Mutex::new(answers)));
        let client = Client::new(transport.clone(), Credentials::Anonymous, "test", Context::simulated(1));
        let binder = DefaultBinder { client: Some(client) };
        let status = binder.bind(&CycleState::default(), &testing::pod("p", json!({})), "n").await;
        assert!(transport.0.lock().is_empty(), "every answer was asked for");
        status
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_is_asked_for_until_it_is_known() {
        let on = |uid: &str, node: &str| -> Pod {
            let spec = json!({"nodeName": node, "containers": []});
            serde_json::from_value(json!({"metadata": {"name": "p", "uid": uid}, "spec": spec})).unwrap()
        };
        let unavailable = || Err(ApiError::Unavailable { message: "not now".into() });
        assert!(bound(vec![Ok(on("uid-p", "n")), unavailable(), unavailable()]).await.is_success());
        let late = Status::error("too late");
        assert_eq!(bound(vec![Ok(on("uid-p", "other"))]).await, late);
        assert_eq!(bound(vec![Ok(on("uid-of-another", "n"))]).await, late);
        assert_eq!(bound(vec![Ok(on("uid-p", ""))]).await, late);
        assert_eq!(bound(vec![Err(ApiError::not_found("", "pods", "p")), unavailable()]).await, late);
        assert_eq!(bound(vec![Err(ApiError::Unauthorized)]).await, late);
        // Whatever else is wrong with the question, it is no answer.
        let odd = || Err(ApiError::BadRequest { message: "what?".into() });
        assert!(bound(vec![Ok(on("uid-p", "n")), odd()]).await.is_success());
    }
}
