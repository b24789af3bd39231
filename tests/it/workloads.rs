//! What happens to workloads in a whole cluster.

use std::time::Duration;

use rkube::{
    api::{error::ApiError, request::UserInfo},
    k8s_openapi::api::core::v1::{Event, ServiceAccount},
    prelude::*,
};

pub(crate) fn ready(count: i32) -> impl Fn(Option<&Deployment>) -> bool {
    move |web| {
        web.and_then(|web| web.status.as_ref()).is_some_and(|status| {
            status.ready_replicas == Some(count)
                && status.replicas == Some(count)
                && status.updated_replicas == Some(count)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_runs_scales_rolls_out_and_goes() {
    let cluster = Cluster::builder().simulated(1).nodes(3).start().await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), "default");
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    deployments.create(&PostParams::default(), rkube::deployment("web", "nginx:1", 3)).await.unwrap();
    cluster.wait_for(&deployments, "web", ready(3)).await.unwrap();

    let scale = Patch::Merge(serde_json::json!({"spec": {"replicas": 5}}));
    deployments.patch("web", &PatchParams::default(), &scale).await.unwrap();
    cluster.wait_for(&deployments, "web", ready(5)).await.unwrap();

    let image = Patch::Strategic(
        serde_json::json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:2"}]}}}}),
    );
    let patched = deployments.patch("web", &PatchParams::default(), &image).await.unwrap();
    let generation = patched.metadata.generation;
    let rolled_out = |web: Option<&Deployment>| {
        ready(5)(web)
            && web.and_then(|web| web.status.as_ref()).and_then(|status| status.observed_generation)
                == generation
    };
    cluster.wait_for(&deployments, "web", rolled_out).await.unwrap();
    for pod in pods.list(&ListParams::default().labels("app=web")).await.unwrap().items {
        if pod.metadata.deletion_timestamp.is_none() {
            assert_eq!(pod.spec.as_ref().unwrap().containers[0].image.as_deref(), Some("nginx:2"));
        }
    }

    let params = DeleteParams::default().propagation("Foreground");
    assert!(deployments.delete("web", &params).await.unwrap().is_some(), "it waits for its dependents");
    cluster.wait_gone(&deployments, "web").await.unwrap();
    let sets: Api<ReplicaSet> = Api::namespaced(cluster.client(), "default");
    assert!(sets.list(&ListParams::default()).await.unwrap().items.is_empty());
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_dead_node_are_replaced() {
    let cluster = Cluster::builder().simulated(2).nodes(2).start().await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), "default");
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    deployments.create(&PostParams::default(), rkube::deployment("web", "nginx", 4)).await.unwrap();
    cluster.wait_for(&deployments, "web", ready(4)).await.unwrap();
    cluster.nodes().get("node-1").unwrap().power_off();
    let nodes: Api<Node> = Api::all(cluster.client());
    let unknown = |node: Option<&Node>| {
        let status = node.and_then(|node| node.status.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "Unknown")
    };
    cluster.wait_for(&nodes, "node-1", unknown).await.unwrap();
    // The default toleration of an unreachable node is five minutes.
    tokio::time::sleep(std::time::Duration::from_secs(420)).await;
    let alive = pods.list(&ListParams::default().fields("spec.nodeName=node-2")).await.unwrap().items;
    assert_eq!(alive.iter().filter(|pod| rkube::is_ready(pod)).count(), 4);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn errors_are_those_of_kubernetes() {
    let cluster = Cluster::builder().simulated(3).start().await.unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    let error = pods.get("nope").await.unwrap_err();
    assert_eq!(error.to_string(), "pods \"nope\" not found");
    let error = pods.create(&PostParams::default(), Pod::default()).await.unwrap_err();
    assert!(matches!(error, ApiError::Invalid { .. } | ApiError::BadRequest { .. }), "{error:?}");
    let elsewhere: Api<Pod> = Api::namespaced(cluster.client(), "nowhere");
    let error = elsewhere.create(&PostParams::default(), rkube::pod("a", "b")).await.unwrap_err();
    assert_eq!(error.to_string(), "namespaces \"nowhere\" not found");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_cannot_borrow_the_rights_of_an_account() {
    let cluster = Cluster::builder().simulated(4).start().await.unwrap();
    let node = cluster.client_as(UserInfo::node("n1"), "kubelet");
    let accounts: Api<ServiceAccount> = Api::namespaced(node.clone(), "kube-system");
    let token = ServiceAccount::default();
    let refused = accounts.create_subresource("default", "token", &PostParams::default(), token).await;
    assert!(matches!(refused, Err(ApiError::Forbidden { .. })), "{refused:?}");
    let pods: Api<Pod> = Api::namespaced(node, "kube-system");
    let refused = pods.create(&PostParams::default(), rkube::pod("a", "b")).await;
    assert!(matches!(refused, Err(ApiError::Forbidden { .. })), "{refused:?}");
    let account = UserInfo::component("system:serviceaccount:kube-system:default");
    let secrets: Api<Secret> = Api::namespaced(cluster.client_as(account, "pod"), "kube-system");
    let refused = secrets.list(&ListParams::default()).await;
    assert!(matches!(refused, Err(ApiError::Forbidden { .. })), "{refused:?}");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_in_an_object_of_the_clusters_scope_is_passed_over() {
    let cluster = Cluster::builder().simulated(5).start().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let wanted = serde_json::json!({"metadata": {"name": "a", "namespace": "default"}});
    let target = rkube::api::request::Target {
        version: "v1".into(),
        resource: "namespaces".into(),
        ..Default::default()
    };
    let body = rkube::api::request::Body::Bytes {
        content_type: "application/json".into(),
        bytes: serde_json::to_vec(&wanted).unwrap().into(),
    };
    cluster
        .client()
        .request(rkube::api::request::Verb::Create, target, Default::default(), body)
        .await
        .unwrap();
    assert_eq!(namespaces.get("a").await.unwrap().metadata.namespace, None);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_cluster_leaves_nothing_running() {
    let cluster = Cluster::builder().simulated(6).nodes(1).start().await.unwrap();
    let spawner = cluster.context().spawner.clone();
    drop(cluster);
    spawner.stop().await;
    assert_eq!(spawner.running(), 0);
}

/// What the controller says of a budget, evictions and preemption follow.
#[tokio::test(start_paused = true)]
async fn a_budget_holds_evictions_and_turns_preemption_to_other_pods() {
    use rkube::k8s_openapi::api::policy::v1::{Eviction, PodDisruptionBudget};

    let from = |value| serde_json::from_value::<Pod>(value).unwrap();
    let cluster = Cluster::builder().simulated(7).nodes(2).start().await.unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    let pod = |name: &str, node: &str, class: &str| {
        // One fills a node but for a little.
        from(serde_json::json!({
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "nodeName": node, "priorityClassName": class, "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "31"}}}],
            },
        }))
    };
    let is_running = |pod: Option<&Pod>| pod.is_some_and(rkube::is_ready);
    // Whoever is younger would go first, if there were no budget.
    pods.create(&PostParams::default(), pod("free", "node-1", "")).await.unwrap();
    cluster.wait_for(&pods, "free", is_running).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    pods.create(&PostParams::default(), pod("kept", "node-2", "")).await.unwrap();
    cluster.wait_for(&pods, "kept", is_running).await.unwrap();
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(cluster.client(), "default");
    let make = |least: i32| {
        serde_json::from_value::<PodDisruptionBudget>(serde_json::json!({
            "metadata": {"name": "keep"},
            "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": "kept"}}},
        }))
        .unwrap()
    };
    budgets.create(&PostParams::default(), make(1)).await.unwrap();
    let allows = |count: i32| {
        move |budget: Option<&PodDisruptionBudget>| {
            budget.is_some_and(|budget| {
                let status = budget.status.clone().unwrap_or_default();
                status.observed_generation == budget.metadata.generation
                    && status.disruptions_allowed == Some(count)
            })
        }
    };
    cluster.wait_for(&budgets, "keep", allows(0)).await.unwrap();
    let evict = async || {
        pods.create_subresource("kept", "eviction", &PostParams::default(), Eviction::default()).await
    };
    assert!(matches!(evict().await, Err(ApiError::TooManyRequests { .. })));

    pods.create(&PostParams::default(), pod("urgent", "", "system-node-critical")).await.unwrap();
    cluster.wait_for(&pods, "urgent", is_running).await.unwrap();
    assert!(pods.get_opt("free").await.unwrap().is_none(), "it made room");
    assert!(pods.get_opt("kept").await.unwrap().is_some());

    let patch = Patch::Merge(serde_json::json!({"spec": {"minAvailable": 0}}));
    budgets.patch("keep", &PatchParams::default(), &patch).await.unwrap();
    cluster.wait_for(&budgets, "keep", allows(1)).await.unwrap();
    evict().await.unwrap();
    cluster.wait_gone(&pods, "kept").await.unwrap();
    cluster.stop().await;
}

/// As `kubectl describe` shows them: by the time that only events of the older form have, else as listed.
#[tokio::test(start_paused = true)]
async fn what_the_scheduler_says_of_a_pod_stands_before_what_its_node_says() {
    let cluster = Cluster::builder().simulated(5).nodes(1).start().await.unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    pods.create(&PostParams::default(), rkube::pod("web", "nginx")).await.unwrap();
    let events: Api<Event> = Api::namespaced(cluster.client(), "default");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let mut told = events.list(&ListParams::default()).await.unwrap().items;
    told.retain(|event| event.involved_object.name.as_deref() == Some("web"));
    told.sort_by(|one, other| one.last_timestamp.cmp(&other.last_timestamp));
    let reasons: Vec<_> = told.iter().filter_map(|event| event.reason.as_deref()).collect();
    assert_eq!(reasons, ["Scheduled", "Pulling", "Pulled", "Created", "Started"]);
    cluster.stop().await;
}
