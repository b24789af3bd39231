//! What a remote cluster serves.

use http::{Request, Response};
use kube::client::Body;
use rkube_api::{error::ApiError, meta::GroupVersion, remote::Remote, request::Verb};
use rkube_controllers::resources::{ApiResource, DiscoveryResources, ResourceLister, Served};
use serde_json::{Value, json};

use super::support::{InProcess, OverHttp, Way, World};

#[tokio::test]
async fn discovery_tells_what_the_registry_does() {
    let world = World::server_only();
    let served = OverHttp::resources(&world.server).resources().await.unwrap();
    let mut known = InProcess::resources(&world.server).resources().await.unwrap().resources;
    // The registry has Events, which are in two groups, once.
    let events = known.iter().find(|resource| resource.resource == "events").unwrap().clone();
    let groups = ["", "events.k8s.io"].map(String::from);
    let other = groups.into_iter().find(|group| *group != events.group).unwrap();
    known.push(ApiResource { group: other, ..events });
    let sorted = |mut list: Vec<ApiResource>| {
        list.iter_mut().for_each(|resource| resource.verbs.sort());
        list.sort();
        list
    };
    assert_eq!(sorted(served.resources), sorted(known));
    assert!(served.untold.is_empty());
}

/// What is told of a server that answers like this at `/apis`, and at `/api` with nothing.
async fn told(apis: Value) -> Result<Served, ApiError> {
    let service = tower::service_fn(move |request: Request<Body>| {
        let nothing = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2"});
        let document = if request.uri().path() == "/api" { nothing } else { apis.clone() };
        let code = document["code"].as_u64().map_or(200, |code| u16::try_from(code).unwrap());
        let body = Body::from(serde_json::to_vec(&document).unwrap());
        async move { Ok::<_, std::io::Error>(Response::builder().status(code).body(body).unwrap()) }
    });
    DiscoveryResources::new(Remote::new(kube::Client::new(service, "default"))).resources().await
}

fn resource(name: &str, kind: &str, scope: &str) -> Value {
    json!({
        "resource": name, "scope": scope, "verbs": ["list", "get", "proxy"],
        "responseKind": {"group": "", "version": "", "kind": kind},
    })
}

#[tokio::test]
async fn the_preferred_version_counts_and_what_nobody_can_tell_is_told() {
    let only_subresources = json!({"resource": "ghosts", "scope": "Namespaced", "verbs": []});
    let served = told(json!({
        "kind": "APIGroupDiscoveryList",
        "items": [
            {"metadata": {"name": "example.com"}, "versions": [
                {"version": "v2", "freshness": "Current", "resources": [
                    resource("lamps", "Lamp", "Namespaced"), only_subresources,
                ]},
                {"version": "v1", "freshness": "Current", "resources": [
                    resource("lamps", "OldLamp", "Namespaced"), resource("wires", "Wire", "Cluster"),
                ]},
            ]},
            {"metadata": {"name": "metrics.k8s.io"}, "versions": [
                {"version": "v1beta1", "freshness": "Stale", "resources": [resource("old", "Old", "Cluster")]},
            ]},
        ],
    }))
    .await
    .unwrap();
    let short: Vec<_> = served
        .resources
        .iter()
        .map(|it| (&*it.version, &*it.resource, &*it.kind, it.namespaced, &*it.verbs))
        .collect();
    let verbs = &[Verb::Get, Verb::List][..];
    assert_eq!(short, [("v2", "lamps", "Lamp", true, verbs), ("v1", "wires", "Wire", false, verbs)]);
    assert_eq!(served.untold, [GroupVersion::new("metrics.k8s.io", "v1beta1")]);
}

#[tokio::test]
async fn a_document_that_names_no_resources_is_not_taken_for_there_being_none() {
    let error = told(json!({"kind": "APIGroupList", "groups": [{"name": "apps"}]})).await.unwrap_err();
    assert!(error.to_string().contains("no aggregated discovery"), "{error}");
    let refusal = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden",
        "message": "no",
    });
    assert!(matches!(told(refusal).await.unwrap_err(), ApiError::Forbidden { .. }));
}
