//! Devices in a whole cluster: from a template to a claim to its devices, and back.

use rkube::{
    k8s_openapi::api::resource::v1::{
        DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice,
    },
    prelude::*,
};
use serde_json::{Value, json};

const DRIVER: &str = "gpu.example.com";

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A class of GPUs, a template that asks for one, and a node each with a GPU and something else.
async fn offer(client: &Client, nodes: &[&str]) {
    let params = PostParams::default();
    let expression = format!("device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].kind == 'gpu'");
    let class =
        json!({"metadata": {"name": "gpu"}, "spec": {"selectors": [{"cel": {"expression": expression}}]}});
    Api::<DeviceClass>::all(client.clone()).create(&params, read(class)).await.unwrap();
    let request = json!({"name": "one", "exactly": {"deviceClassName": "gpu"}});
    let template =
        json!({"metadata": {"name": "gpu"}, "spec": {"spec": {"devices": {"requests": [request]}}}});
    let templates = Api::<ResourceClaimTemplate>::namespaced(client.clone(), "default");
    templates.create(&params, read(template)).await.unwrap();
    let slices = Api::<ResourceSlice>::all(client.clone());
    for node in nodes {
        let device = |name: &str, kind: &str| json!({"name": name, "attributes": {"kind": {"string": kind}}});
        let slice = json!({"metadata": {"name": node}, "spec": {
            "driver": DRIVER, "nodeName": node, "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": [device("fpga-0", "fpga"), device("gpu-0", "gpu")]
        }});
        slices.create(&params, read(slice)).await.unwrap();
    }
}

fn pod(name: &str) -> Pod {
    read(json!({"metadata": {"name": name}, "spec": {
        "containers": [{"name": "c", "image": "i", "resources": {"claims": [{"name": "gpu"}]}}],
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "gpu"}]
    }}))
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn claim_of(pod: &Pod) -> &str {
    let made = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_ref()).unwrap();
    made[0].resource_claim_name.as_deref().unwrap()
}

fn waits(pod: Option<&Pod>) -> Option<&str> {
    let conditions = pod?.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|it| it.type_ == "PodScheduled" && it.status == "False")?;
    condition.message.as_deref()
}

#[tokio::test(start_paused = true)]
async fn two_of_three_pods_get_a_device_and_the_third_one_when_one_has_gone() {
    let cluster = Cluster::builder().simulated(21).nodes(2).start().await.unwrap();
    let client = cluster.client();
    offer(&client, &["node-1", "node-2"]).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let claims: Api<ResourceClaim> = Api::namespaced(client.clone(), "default");
    let mut running = Vec::new();
    for name in ["a", "b"] {
        pods.create(&PostParams::default(), pod(name)).await.unwrap();
        cluster.wait_for(&pods, name, |pod| pod.is_some_and(rkube::is_ready)).await.unwrap();
        running.push(pods.get(name).await.unwrap());
    }
    assert_ne!(node_of(&running[0]), node_of(&running[1]));
    for pod in &running {
        let claim = claims.get(claim_of(pod)).await.unwrap();
        assert!(claim_of(pod).starts_with(&format!("{}-gpu-", pod.metadata.name.as_deref().unwrap())));
        let finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
        assert_eq!(finalizers, ["resource.kubernetes.io/delete-protection"]);
        let status = serde_json::to_value(&claim.status).unwrap();
        let node = node_of(pod).unwrap();
        let result = &status["allocation"]["devices"]["results"][0];
        assert_eq!(result, &json!({"request": "one", "driver": DRIVER, "pool": node, "device": "gpu-0"}));
        let terms = &status["allocation"]["nodeSelector"]["nodeSelectorTerms"];
        assert_eq!(terms[0]["matchFields"][0]["values"], json!([node]));
        let user = json!({"resource": "pods", "name": pod.metadata.name, "uid": pod.metadata.uid});
        assert_eq!(status["reservedFor"], json!([user]));
    }

    pods.create(&PostParams::default(), pod("c")).await.unwrap();
    cluster.wait_for(&pods, "c", |pod| waits(pod).is_some()).await.unwrap();
    let third = pods.get("c").await.unwrap();
    assert_eq!(
        waits(Some(&third)),
        Some(
            "0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, preemption: 0/2 nodes \
             are available: 2 Preemption is not helpful for scheduling."
        )
    );

    pods.delete("a", &DeleteParams::default()).await.unwrap();
    cluster.wait_for(&pods, "c", |pod| pod.is_some_and(rkube::is_ready)).await.unwrap();
    assert_eq!(node_of(&pods.get("c").await.unwrap()), node_of(&running[0]));
    cluster.wait_gone(&claims, claim_of(&running[0])).await.unwrap();
    cluster.stop().await;
}

/// A claim that a user made outlives its pods; its devices do not stay with it.
#[tokio::test(start_paused = true)]
async fn a_claim_is_shared_and_given_back_when_its_last_pod_has_ended() {
    let cluster = Cluster::builder().simulated(22).nodes(2).start().await.unwrap();
    let client = cluster.client();
    offer(&client, &["node-2"]).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let claims: Api<ResourceClaim> = Api::namespaced(client.clone(), "default");
    let spec = json!({"devices": {"requests": [{"name": "one", "exactly": {"deviceClassName": "gpu"}}]}});
    // The pods come first, and wait for it.
    for name in ["a", "b"] {
        let mut pod = pod(name);
        pod.spec.as_mut().unwrap().resource_claims =
            read(json!([{"name": "gpu", "resourceClaimName": "shared"}]));
        pods.create(&PostParams::default(), pod).await.unwrap();
    }
    let claim = json!({"metadata": {"name": "shared"}, "spec": spec});
    claims.create(&PostParams::default(), read(claim)).await.unwrap();
    for name in ["a", "b"] {
        cluster.wait_for(&pods, name, |pod| pod.is_some_and(rkube::is_ready)).await.unwrap();
        assert_eq!(node_of(&pods.get(name).await.unwrap()), Some("node-2"));
    }
    let users = |claim: &ResourceClaim| {
        claim.status.as_ref().and_then(|status| status.reserved_for.as_ref()).map_or(0, Vec::len)
    };
    assert_eq!(users(&claims.get("shared").await.unwrap()), 2);
    // It is kept while somebody uses it.
    claims.delete("shared", &DeleteParams::default()).await.unwrap();
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    let one_left = |claim: Option<&ResourceClaim>| claim.is_some_and(|claim| users(claim) == 1);
    cluster.wait_for(&claims, "shared", one_left).await.unwrap();
    assert!(claims.get("shared").await.unwrap().status.clone().unwrap().allocation.is_some());
    pods.delete("b", &DeleteParams::default()).await.unwrap();
    cluster.wait_gone(&claims, "shared").await.unwrap();
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_taints_devices_keeps_them_from_pods_until_it_goes() {
    let cluster = Cluster::builder().simulated(23).nodes(1).start().await.unwrap();
    let client = cluster.client();
    let rules = Api::<DeviceTaintRule>::all(client.clone());
    let rule = json!({"metadata": {"name": "ill"}, "spec": {
        "deviceSelector": {"driver": DRIVER, "device": "gpu-0"}, "taint": {"key": "ill", "effect": "NoSchedule"}
    }});
    rules.create(&PostParams::default(), read(rule)).await.unwrap();
    offer(&client, &["node-1"]).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    pods.create(&PostParams::default(), pod("a")).await.unwrap();
    let refused = |pod: Option<&Pod>| waits(pod).is_some_and(|it| it.contains("cannot allocate all claims"));
    cluster.wait_for(&pods, "a", refused).await.unwrap();
    rules.delete("ill", &DeleteParams::default()).await.unwrap();
    cluster.wait_for(&pods, "a", |pod| pod.is_some_and(rkube::is_ready)).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_pods_share_a_device_and_the_third_waits_for_its_part() {
    let cluster = Cluster::builder().simulated(24).nodes(1).start().await.unwrap();
    let client = cluster.client();
    offer(&client, &["node-1"]).await;
    let slices = Api::<ResourceSlice>::all(client.clone());
    let capacity = json!({"memory": {"value": "10Gi", "requestPolicy": {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}}}});
    let slice = json!({"metadata": {"name": "shared"}, "spec": {
        "driver": DRIVER, "nodeName": "node-1", "pool": {"name": "shared", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "big", "allowMultipleAllocations": true, "attributes": {"kind": {"string": "gpu"}}, "capacity": capacity}]
    }});
    slices.create(&PostParams::default(), read(slice)).await.unwrap();
    let asks = json!({"deviceClassName": "gpu", "capacity": {"requests": {"memory": "4500Mi"}}});
    let template = json!({"metadata": {"name": "part"}, "spec": {"spec": {"devices": {"requests": [{"name": "one", "exactly": asks}]}}}});
    let templates = Api::<ResourceClaimTemplate>::namespaced(client.clone(), "default");
    templates.create(&PostParams::default(), read(template)).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let claims: Api<ResourceClaim> = Api::namespaced(client.clone(), "default");
    let part = |name: &str| {
        let mut pod = pod(name);
        let claims = pod.spec.as_mut().unwrap().resource_claims.as_mut().unwrap();
        claims[0].resource_claim_template_name = Some("part".into());
        pod
    };
    let mut shares = std::collections::BTreeSet::new();
    for name in ["a", "b"] {
        pods.create(&PostParams::default(), part(name)).await.unwrap();
        cluster.wait_for(&pods, name, |pod| pod.is_some_and(rkube::is_ready)).await.unwrap();
        let claim = claims.get(claim_of(&pods.get(name).await.unwrap())).await.unwrap();
        let allocation = claim.status.as_ref().unwrap().allocation.as_ref().unwrap();
        let result = &allocation.devices.as_ref().unwrap().results.as_ref().unwrap()[0];
        assert_eq!(
            (&*result.device, &*result.consumed_capacity.as_ref().unwrap()["memory"].0),
            ("big", "5Gi")
        );
        assert!(shares.insert(result.share_id.clone().unwrap()), "each share has an ID of its own");
    }
    pods.create(&PostParams::default(), part("c")).await.unwrap();
    let refused = |pod: Option<&Pod>| waits(pod).is_some_and(|it| it.contains("cannot allocate all claims"));
    cluster.wait_for(&pods, "c", refused).await.unwrap();
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    cluster.wait_for(&pods, "c", |pod| pod.is_some_and(rkube::is_ready)).await.unwrap();
    cluster.stop().await;
}

/// What the one who makes devices ready says of the device that a claim has.
async fn say(claims: &Api<ResourceClaim>, name: &str, condition: &str) {
    let mut claim = (*claims.get(name).await.unwrap()).clone();
    let status = claim.status.as_mut().unwrap();
    let result = &status.allocation.as_ref().unwrap().devices.as_ref().unwrap().results.as_ref().unwrap()[0];
    let condition = json!({"type": condition, "status": "True", "reason": "Said", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    status.devices = read(
        json!([{"driver": result.driver, "pool": result.pool, "device": result.device, "conditions": [condition]}]),
    );
    claims.update_status(&PostParams::default(), claim).await.unwrap();
}

/// Two devices that have to be made ready for the node that was chosen.
async fn offer_fabric(client: &Client) -> Api<ResourceSlice> {
    offer(client, &[]).await;
    let slices = Api::<ResourceSlice>::all(client.clone());
    let device = |name: &str| {
        json!({"name": name, "attributes": {"kind": {"string": "gpu"}}, "bindsToNode": true,
            "bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]})
    };
    let slice = json!({"metadata": {"name": "fabric"}, "spec": {
        "driver": DRIVER, "allNodes": true, "pool": {"name": "fabric", "generation": 1, "resourceSliceCount": 1},
        "devices": [device("gpu-0"), device("gpu-1")]
    }});
    slices.create(&PostParams::default(), read(slice)).await.unwrap();
    slices
}

fn has_claim(pod: Option<&Pod>) -> bool {
    pod.is_some_and(|pod| pod.status.as_ref().is_some_and(|it| it.resource_claim_statuses.is_some()))
}

fn device_of(claim: Option<&ResourceClaim>) -> Option<&str> {
    let allocation = claim?.status.as_ref()?.allocation.as_ref()?;
    Some(&allocation.devices.as_ref()?.results.as_ref()?.first()?.device)
}

/// Makes the pod `a`, which is given the first device; the name of its claim.
async fn given_the_first(cluster: &Cluster, pods: &Api<Pod>, claims: &Api<ResourceClaim>) -> String {
    pods.create(&PostParams::default(), pod("a")).await.unwrap();
    let name = claim_of(&cluster.wait_for(pods, "a", has_claim).await.unwrap()).to_owned();
    cluster.wait_for(claims, &name, |claim| device_of(claim) == Some("gpu-0")).await.unwrap();
    name
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_until_its_device_is_ready_and_gets_another_one_if_that_fails() {
    let cluster = Cluster::builder().simulated(25).nodes(1).start().await.unwrap();
    let client = cluster.client();
    let slices = offer_fabric(&client).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let claims: Api<ResourceClaim> = Api::namespaced(client.clone(), "default");
    let name = given_the_first(&cluster, &pods, &claims).await;
    let claim = claims.get(&name).await.unwrap();
    let allocation = claim.status.as_ref().unwrap().allocation.as_ref().unwrap();
    assert!(allocation.allocation_timestamp.is_some());
    let node =
        &allocation.node_selector.as_ref().unwrap().node_selector_terms[0].match_fields.as_ref().unwrap()[0];
    assert_eq!(node.values, Some(vec!["node-1".to_owned()]), "it is the node's from now on");
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(node_of(&pods.get("a").await.unwrap()), None, "nobody has said that it is ready");
    // It is broken, and says so, lest it is chosen again.
    let mut slice = (*slices.get("fabric").await.unwrap()).clone();
    slice.spec.devices.as_mut().unwrap()[0].taints = read(json!([{"key": "broken", "effect": "NoSchedule"}]));
    slices.update(&PostParams::default(), slice).await.unwrap();
    say(&claims, &name, "Broken").await;
    cluster.wait_for(&claims, &name, |claim| device_of(claim) == Some("gpu-1")).await.unwrap();
    assert_eq!(node_of(&pods.get("a").await.unwrap()), None);
    say(&claims, &name, "Attached").await;
    cluster.wait_for(&pods, "a", |pod| pod.is_some_and(rkube::is_ready)).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_goes_while_its_device_is_made_ready_leaves_its_room_at_once() {
    let cluster = Cluster::builder().simulated(26).nodes(1).start().await.unwrap();
    let client = cluster.client();
    offer_fabric(&client).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let claims: Api<ResourceClaim> = Api::namespaced(client.clone(), "default");
    let on_port = |mut pod: Pod| {
        let ports = read(json!([{"containerPort": 80, "hostPort": 80}]));
        pod.spec.as_mut().unwrap().containers[0].ports = ports;
        pod
    };
    // One that stays when its pod goes.
    let request = json!({"name": "one", "exactly": {"deviceClassName": "gpu"}});
    let claim = json!({"metadata": {"name": "kept"}, "spec": {"devices": {"requests": [request]}}});
    claims.create(&PostParams::default(), read(claim)).await.unwrap();
    let mut waiting = pod("a");
    waiting.spec.as_mut().unwrap().resource_claims =
        read(json!([{"name": "gpu", "resourceClaimName": "kept"}]));
    pods.create(&PostParams::default(), on_port(waiting)).await.unwrap();
    cluster.wait_for(&claims, "kept", |claim| device_of(claim).is_some()).await.unwrap();
    let plain = json!({"metadata": {"name": "b"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    pods.create(&PostParams::default(), on_port(read(plain))).await.unwrap();
    cluster.wait_for(&pods, "b", |pod| waits(pod).is_some()).await.unwrap();
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    // Long before the patience with the device ends.
    let soon = std::time::Duration::from_secs(60);
    let ready = cluster.wait_for(&pods, "b", |pod| pod.is_some_and(rkube::is_ready));
    tokio::time::timeout(soon, ready).await.unwrap().unwrap();
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_not_made_ready_in_time_is_given_back() {
    let cluster = Cluster::builder().simulated(27).nodes(1).start().await.unwrap();
    let client = cluster.client();
    let slices = offer_fabric(&client).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let claims: Api<ResourceClaim> = Api::namespaced(client.clone(), "default");
    let name = given_the_first(&cluster, &pods, &claims).await;
    // The next one is taken, once the first has had its ten minutes.
    let mut slice = (*slices.get("fabric").await.unwrap()).clone();
    slice.spec.devices.as_mut().unwrap().remove(0);
    slices.update(&PostParams::default(), slice).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(590)).await;
    assert_eq!(device_of(Some(&claims.get(&name).await.unwrap())), Some("gpu-0"));
    cluster.wait_for(&claims, &name, |claim| device_of(claim) == Some("gpu-1")).await.unwrap();
    say(&claims, &name, "Attached").await;
    cluster.wait_for(&pods, "a", |pod| pod.is_some_and(rkube::is_ready)).await.unwrap();
    cluster.stop().await;
}
