//! Devices of pods that somebody else takes away.

use async_trait::async_trait;
use rkube_api::{
    client::{Api, Client, PostParams},
    k8s_openapi::{
        api::{
            core::v1::{Binding, Pod},
            resource::v1::{DeviceClass, ResourceClaim, ResourceSlice},
        },
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    },
};
use rkube_sched::{
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

#[tokio::test(start_paused = true)]
async fn a_pod_that_somebody_else_has_bound_keeps_its_devices() {
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

    let client = world.client.clone();
    let scheduler = world.scheduler(with_plugins(&["Rival"], move |plugins| {
        let make = move |_: &_, _: &_| Ok(Points::of(Rival(client.clone())).pre_bind().done());
        plugins.add("Rival", make).unwrap();
    }));
    let claimed = json!({"resourceClaims": [{"name": "d", "resourceClaimName": "c"}]});
    world.pod_with("p", "1", claimed).await;
    after(10).await;
    assert_eq!(world.node_of("p").await.as_deref(), Some("a"));
    assert_eq!((scheduler.stats.bound(), scheduler.stats.errors()), (0, 1));
    let status = claims.get("c").await.unwrap().status.clone().unwrap();
    assert!(status.allocation.is_some());
    assert_eq!(status.reserved_for.unwrap_or_default().len(), 1);
}
