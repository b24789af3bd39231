//! Lines 48 and 49: what is served, as clients read it.

use rkube_api::registry::Scope;
use serde_json::{Value, json};

use crate::http_support::{Wire, lamps};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

#[tokio::test(start_paused = true)]
async fn line_48_both_forms_of_discovery_say_the_same() {
    let wire = Wire::new().await;
    let mut seen = 0;
    for (root, core) in [("/api", true), ("/apis", false)] {
        let answer = wire.accept(root, AGGREGATED).await;
        assert_eq!(
            answer.header("content-type"),
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        );
        assert_eq!(answer.header("vary"), "Accept");
        let list = answer.json();
        assert_eq!(list["kind"], "APIGroupDiscoveryList");
        for group in list["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap_or_default();
            for version in group["versions"].as_array().unwrap() {
                let version_name = version["version"].as_str().unwrap();
                let path = if core {
                    format!("/api/{version_name}")
                } else {
                    format!("/apis/{name}/{version_name}")
                };
                let old = wire.get(&path).await.json();
                assert_eq!(old["kind"], "APIResourceList");
                for resource in version["resources"].as_array().unwrap() {
                    seen += 1;
                    compare(resource, &old);
                }
            }
        }
    }
    let served: usize = wire
        .world
        .server
        .registry()
        .snapshot()
        .definitions()
        .map(|definition| definition.versions.len())
        .sum();
    assert_eq!(seen, served);
}

/// A resource of aggregated discovery is in the old list too, with its subresources.
fn compare(resource: &Value, old: &Value) {
    let plural = resource["resource"].as_str().unwrap();
    let find = |name: &str| {
        let found = old["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == name);
        found.unwrap_or_else(|| panic!("{name}")).clone()
    };
    let entry = find(plural);
    assert_eq!(entry["kind"], resource["responseKind"]["kind"]);
    assert_eq!(entry["verbs"], resource["verbs"]);
    assert_eq!(entry["singularName"], resource["singularResource"]);
    assert_eq!(entry["namespaced"], resource["scope"] == "Namespaced");
    assert_eq!(entry["shortNames"], resource["shortNames"]);
    for subresource in resource["subresources"].as_array().into_iter().flatten() {
        let entry = find(&format!("{plural}/{}", subresource["subresource"].as_str().unwrap()));
        assert_eq!(entry["verbs"], subresource["verbs"]);
        assert_eq!(entry["kind"], subresource["responseKind"]["kind"]);
    }
}

#[tokio::test(start_paused = true)]
async fn discovery_is_not_sent_twice() {
    let wire = Wire::new().await;
    let first = wire.accept("/apis", AGGREGATED).await;
    let etag = first.header("etag").to_owned();
    assert!(etag.starts_with('"') && etag.len() > 10);
    let again = wire.ask("GET", "/apis", &[("accept", AGGREGATED), ("if-none-match", &etag)], "").await;
    assert_eq!((again.code, again.bytes.len(), again.header("etag")), (304, 0, &*etag));

    wire.world.server.registry().add(lamps(json!({"type": "object"}))).unwrap();
    let changed = wire.ask("GET", "/apis", &[("accept", AGGREGATED), ("if-none-match", &etag)], "").await;
    assert_eq!(changed.code, 200);
    assert_ne!(changed.header("etag"), etag);
    assert!(
        changed.json()["items"].as_array().unwrap().iter().any(|it| it["metadata"]["name"] == "example.com")
    );
}

#[tokio::test(start_paused = true)]
async fn the_old_discovery_names_groups_and_versions() {
    let wire = Wire::new().await;
    let core = wire.get("/api").await.json();
    assert_eq!((&core["kind"], &core["versions"]), (&json!("APIVersions"), &json!(["v1"])));
    let groups = wire.get("/apis").await.json();
    assert_eq!(groups["kind"], "APIGroupList");
    let apps = groups["groups"].as_array().unwrap().iter().find(|group| group["name"] == "apps").unwrap();
    assert_eq!(apps["preferredVersion"], json!({"groupVersion": "apps/v1", "version": "v1"}));
    assert_eq!(wire.get("/apis/apps").await.json()["kind"], "APIGroup");
    assert_eq!(wire.get("/apis/nowhere").await.refused().0, 404);
    let paths = wire.get("/").await.json();
    for path in paths["paths"].as_array().unwrap() {
        assert_eq!(wire.get(path.as_str().unwrap()).await.code, 200, "{path}");
    }
    let version = wire.get("/version").await.json();
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.37."));
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("37")));
}

/// Clients of another network see where this server is from what they themselves said.
#[tokio::test(start_paused = true)]
async fn discovery_names_the_host_that_the_client_asked() {
    let wire = Wire::new().await;
    let address = |answer: Value| answer["serverAddressByClientCIDRs"].clone();
    for host in ["api.example:6443", "127.0.0.1:1"] {
        let answer = wire.ask("GET", "/api", &[("host", host)], "").await.json();
        assert_eq!(address(answer), json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]));
        // HTTP/2 says it in the URI instead.
        let answer = wire.get(&format!("https://{host}/api")).await.json();
        assert_eq!(address(answer), json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]));
    }
}

#[tokio::test(start_paused = true)]
async fn line_49_openapi_describes_what_is_served_and_its_hash_follows() {
    let wire = Wire::new().await;
    wire.world.server.registry().add(lamps(json!({"type": "object"}))).unwrap();
    let before = wire.get("/openapi/v3").await.json();
    let url =
        |index: &Value, path: &str| index["paths"][path]["serverRelativeURL"].as_str().unwrap().to_owned();
    let lamp_url = url(&before, "apis/example.com/v1");
    let document = wire.get(&lamp_url).await;
    assert_eq!(document.header("cache-control"), "public, immutable");
    assert_eq!(document.json()["openapi"], "3.0.0");

    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "colour": {"type": "string"}}}}});
    wire.world.server.registry().add(lamps(schema)).unwrap();
    let after = wire.get("/openapi/v3").await.json();
    assert_ne!(url(&after, "apis/example.com/v1"), lamp_url);
    assert_eq!(url(&after, "api/v1"), url(&before, "api/v1"), "what has not changed keeps its hash");
    let moved = wire.get(&lamp_url).await;
    assert_eq!((moved.code, moved.header("location")), (301, &*url(&after, "apis/example.com/v1")));
    let document = wire.get(moved.header("location")).await.json();
    let lamp = &document["components"]["schemas"]["com.example.v1.Lamp"];
    assert_eq!(lamp["properties"]["spec"]["properties"]["colour"]["type"], "string");
    assert_eq!(wire.get("/openapi/v3/apis/nowhere/v1").await.refused().0, 404);

    let v2 = wire.get("/openapi/v2").await;
    let definitions = v2.json()["definitions"].take();
    assert!(
        definitions["io.k8s.api.core.v1.Pod"].is_object() && definitions["com.example.v1.Lamp"].is_object()
    );
    let proto =
        wire.accept("/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf").await;
    assert_eq!(proto.header("content-type"), "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    assert!(proto.bytes.starts_with(b"\x0a\x032.0"));
    let again = wire.ask("GET", "/openapi/v2", &[("if-none-match", v2.header("etag"))], "").await;
    assert_eq!(again.code, 304);
}

#[tokio::test(start_paused = true)]
async fn every_served_path_is_in_openapi() {
    let wire = Wire::new().await;
    let document = wire.get("/openapi/v2").await.json();
    for definition in wire.world.server.registry().snapshot().definitions() {
        let group = &definition.names.group;
        let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
        let space = if definition.scope == Scope::Namespaced { "/namespaces/{namespace}" } else { "" };
        let version = &definition.hub().name;
        let all = format!("{root}/{version}{space}/{}", definition.names.plural);
        if definition.answer.is_some() {
            assert!(document["paths"][&all]["post"].is_object(), "{all}");
            continue;
        }
        let item = format!("{all}/{{name}}");
        assert!(document["paths"][&item]["get"].is_object(), "{item}");
        for subresource in &definition.subresources {
            assert!(document["paths"][format!("{item}/{}", subresource.name)].is_object(), "{item}");
        }
    }
}
