//! Services find their pods.

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Service, ServicePort, ServiceSpec},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use rkube_api::client::DeleteParams;
use serde_json::json;

use crate::support::{World, deployment, labels, until};

fn service(name: &str) -> Service {
    Service {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("default".into()),
            ..Default::default()
        },
        spec: Some(ServiceSpec {
            selector: Some(labels(name)),
            ports: Some(vec![ServicePort {
                port: 80,
                target_port: Some(IntOrString::String("web".into())),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        status: None,
    }
}

#[tokio::test(start_paused = true)]
async fn slices_follow_the_pods() {
    let world = World::new().await;
    world.create(service("web")).await;
    let slices = async || world.list::<EndpointSlice>().await;
    let ready = async || {
        let slices = slices().await;
        let all = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        all.filter(|endpoint| endpoint.conditions.as_ref().and_then(|it| it.ready) == Some(true)).count()
    };
    until("an empty slice is there", async || slices().await.len() == 1).await;
    world.create(deployment("web", 3, "a:1")).await;
    until("three endpoints are ready", async || ready().await == 3).await;
    let [slice] = &slices().await[..] else { panic!() };
    assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(8080));
    assert_eq!(slice.address_type, "IPv4");
    let endpoint = &slice.endpoints.as_ref().unwrap()[0];
    assert_eq!(endpoint.node_name.as_deref(), Some("n1"));
    assert_eq!(endpoint.target_ref.as_ref().unwrap().kind.as_deref(), Some("Pod"));

    world.patch::<Deployment>("web", json!({"spec": {"replicas": 1}})).await;
    until("one endpoint is left", async || {
        ready().await == 1 && slices().await[0].endpoints.as_ref().unwrap().len() == 1
    })
    .await;
    world.set_image("web", "a:bad").await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert_eq!(ready().await, 1, "a pod that isn't ready is listed but gets nothing");
    world.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
    until("the slices go with the service", async || slices().await.is_empty()).await;
}
