//! Pods with devices, and what comes in between.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use rkube_api::{
    client::{Api, Client, PostParams},
    error::ApiError,
    k8s_openapi::{
        api::{
            core::v1::{Binding, Pod},
            resource::v1::{DeviceClass, ResourceClaim, ResourceSlice},
        },
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    },
    pipeline::Server,
    request::{ApiRequest, ApiResponse, Transport},
};
use rkube_sched::{
    Config,
    framework::{CycleState, Plugin, Points, PreBind, Status},
    snapshot::PodInfo,
};
use serde_json::json;

use crate::support::{World, after, from, with_plugins};

/// Another scheduler, which binds each pod in the last moment.
struct Rival(Client);

impl Plugin for Rival {
    fn name(&self) -> &'static str {
        "Rival"
    }
}

#[async_trait]
impl PreBind for Rival {
    async fn pre_bind(&self, _: &CycleState, pod: &PodInfo, node: &str) -> Status {
        let target = from_node(node);
        let name = pod.key.name.clone();
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let pods = Api::<Pod>::namespaced(self.0.clone(), &pod.key.namespace);
        let binding = Binding { metadata, target };
        pods.create_subresource(&name, "binding", &PostParams::default(), binding).await.unwrap();
        Status::success()
    }
}

fn from_node(node: &str) -> rkube_api::k8s_openapi::api::core::v1::ObjectReference {
    serde_json::from_value(json!({"kind": "Node", "name": node})).unwrap()
}

/// Carries everything out, and loses the first answer about a claim's status.
struct Forgetful {
    server: Arc<Server>,
    lost: AtomicBool,
}

#[async_trait]
impl Transport for Forgetful {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let target = &request.target;
        let of_status =
            target.resource == "resourceclaims" && target.subresource.as_deref() == Some("status");
        let loses = of_status && !self.lost.swap(true, Ordering::Relaxed);
        let answer = self.server.send(request).await?;
        if loses { Err(ApiError::Timeout { message: "too late".into() }) } else { Ok(answer) }
    }
}

/// A node with one device, and a claim to it.
async fn world() -> (World, Api<ResourceClaim>) {
    let world = World::new(1).await;
    world.node("a", "4").await;
    let class = from(json!({"metadata": {"name": "gpu"}, "spec": {}}));
    world.api::<DeviceClass>().create(&PostParams::default(), class).await.unwrap();
    let slice = from(json!({"metadata": {"name": "a"}, "spec": {
        "driver": "gpu.example.com", "nodeName": "a", "devices": [{"name": "d"}],
        "pool": {"name": "a", "generation": 1, "resourceSliceCount": 1}
    }}));
    world.api::<ResourceSlice>().create(&PostParams::default(), slice).await.unwrap();
    let claims = Api::<ResourceClaim>::namespaced(world.client.clone(), "default");
    let requests = json!([{"name": "r", "exactly": {"deviceClassName": "gpu"}}]);
    let claim = from(json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": requests}}}));
    claims.create(&PostParams::default(), claim).await.unwrap();
    (world, claims)
}

async fn claiming_pod(world: &World) {
    let claimed = json!({"resourceClaims": [{"name": "d", "resourceClaimName": "c"}]});
    world.pod_with("p", "1", claimed).await;
    after(10).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_somebody_else_has_bound_keeps_its_devices() {
    let (world, claims) = world().await;
    let client = world.client.clone();
    let scheduler = world.scheduler(with_plugins(&["Rival"], move |plugins| {
        let make = move |_: &_, _: &_| Ok(Points::of(Rival(client.clone())).pre_bind().done());
        plugins.add("Rival", make).unwrap();
    }));
    claiming_pod(&world).await;
    assert_eq!(world.node_of("p").await.as_deref(), Some("a"));
    assert_eq!((scheduler.stats.bound(), scheduler.stats.errors()), (0, 1));
    let status = claims.get("c").await.unwrap().status.clone().unwrap();
    assert!(status.allocation.is_some());
    assert_eq!(status.reserved_for.unwrap_or_default().len(), 1);
}

/// The devices are taken, whatever became of the answer: nobody else gets them in between.
#[tokio::test(start_paused = true)]
async fn an_allocation_counts_though_its_answer_was_lost() {
    let (world, claims) = world().await;
    let way = |server| Forgetful { server, lost: AtomicBool::new(false) };
    let scheduler = world.scheduler_over(Config::default(), way);
    claiming_pod(&world).await;
    assert_eq!(world.node_of("p").await.as_deref(), Some("a"));
    assert_eq!((scheduler.stats.bound(), scheduler.stats.errors()), (1, 0));
    let status = claims.get("c").await.unwrap().status.clone().unwrap();
    assert_eq!(status.reserved_for.unwrap_or_default().len(), 1);
}
