//! Waits that clients ask for, longer than any clock runs, harm nobody.

use k8s_openapi::api::core::v1::Pod;
use rkube_api::client::{DeleteParams, PostParams};
use rkube_node::runtime::sim::BEHAVIOUR_ANNOTATION;
use serde_json::json;

use crate::world::World;

const ENDLESS: &str = "2562047788015215h30m";

/// Something that needs the simulation's timers still goes its way.
async fn others_go_on(world: &World, name: &str) {
    world.pod(name, "node-0", "complete", json!({"restartPolicy": "Never"})).await;
    world.until_phase(name, "Succeeded").await;
}

async fn pod_that_behaves(world: &World, name: &str, behaviour: serde_json::Value) {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": {BEHAVIOUR_ANNOTATION: behaviour.to_string()}},
        "spec": {"nodeName": "node-0", "containers": [{"name": "c", "image": "a"}]},
    }))
    .unwrap();
    world.pods().create(&PostParams::default(), pod).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_wait_of_a_client_ends_the_simulation() {
    let world = World::new(1).await;
    let run = json!({"after": ENDLESS});
    let main = json!({"start": "1ms", "runs": [run], "stop": {"after": ENDLESS}});
    pod_that_behaves(&world, "patient", json!({"main": main})).await;
    world.until_phase("patient", "Running").await;
    others_go_on(&world, "a").await;
    pod_that_behaves(&world, "slow-pull", json!({"pull": {"time": ENDLESS}})).await;
    others_go_on(&world, "b").await;
    // Its containers may take as long as they like to stop, and they do.
    world.delete("patient", &DeleteParams { grace_period: Some(i64::MAX), ..DeleteParams::default() }).await;
    others_go_on(&world, "c").await;
    assert_eq!(world.phase("patient").await, "Running");
    world.delete("patient", &DeleteParams::now()).await;
    world.until_phase("patient", "Gone").await;
}
