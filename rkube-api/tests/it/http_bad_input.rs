//! "Bad input" of the semantics: what a hostile or careless client may send.

use std::{sync::Arc, time::Duration};

use h2::client;
use http::Request;
use rkube_api::{
    http::Bounds,
    request::{Credentials, UserInfo},
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http_support::{MAPS, Wire, lamps};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const YAML: &[(&str, &str)] = &[("content-type", "application/yaml")];

#[tokio::test(start_paused = true)]
async fn nested_and_aliased_bodies_cost_little() {
    let wire = Wire::new().await;
    let deep_json = format!("{{\"data\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_yaml = format!("a: {}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let mut aliased = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        aliased.push_str(&format!("a{level}: &a{level} [{}]\n", before.trim_end_matches(", ")));
    }
    for (headers, body) in [(JSON, deep_json), (YAML, deep_yaml), (YAML, aliased)] {
        let answer = wire.ask("POST", MAPS, headers, body).await;
        assert!(matches!(answer.refused().0, 400 | 413), "{answer:?}");
    }
}

/// Each round of such a patch doubles how deep the object nests; a thousand levels more, and whoever drops it
/// has no stack left.
#[tokio::test(start_paused = true)]
async fn a_patch_cannot_nest_without_bound() {
    let wire = Wire::new().await;
    wire.post(MAPS, &json!({"metadata": {"name": "a"}})).await;
    let mut patch = vec![json!({"op": "add", "path": "/x", "value": [[[[[[[[0]]]]]]]]})];
    for round in 0..14 {
        let bottom = "/0".repeat(8 << round);
        patch.push(json!({"op": "copy", "from": "/x", "path": "/y"}));
        patch.push(json!({"op": "move", "from": "/y", "path": format!("/x{bottom}")}));
    }
    let answer = wire.patch(&format!("{MAPS}/a"), "application/json-patch+json", &patch.into()).await;
    assert_eq!(answer.refused(), (413, "RequestEntityTooLarge".into()));
    assert_eq!(wire.get(&format!("{MAPS}/a")).await.code, 200);
}

#[tokio::test(start_paused = true)]
async fn a_large_body_is_413() {
    let wire = Wire::new().await;
    let map = json!({"metadata": {"name": "a"}, "data": {"a": "x".repeat(3 * 1024 * 1024)}});
    let answer = wire.post(MAPS, &map).await;
    assert_eq!(answer.refused(), (413, "RequestEntityTooLarge".into()));
    assert!(answer.json()["message"].as_str().unwrap().contains("limit is 3145728"));
    let answer = wire.patch(&format!("{MAPS}/a"), "application/merge-patch+json", &map).await;
    assert_eq!(answer.refused().0, 413);
    assert_eq!(wire.get(&format!("{MAPS}/a")).await.code, 404);
}

/// Python's http.client and many others send all before they read anything.
#[tokio::test(start_paused = true)]
async fn who_sends_all_before_reading_sees_the_refusal() {
    let wire = Wire::new().await;
    let body = "x".repeat(4 << 20);
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let sized = format!("content-length: {}\r\n\r\n{body}", body.len());
    for (token, rest, code) in [
        ("admin", sized.clone(), "413 "),
        ("admin", format!("transfer-encoding: chunked\r\n\r\n{chunked}"), "413 "),
        ("wrong", sized, "401 "),
    ] {
        let mut connection = wire.connect(Bounds::default(), 64 * 1024);
        let head = format!(
            "POST {MAPS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\n"
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(rest.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{answer}");
        assert!(answer.contains("\"kind\":\"Status\""), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_decoded_after_authorization() {
    let wire = Wire::new().await;
    let stranger = Credentials::InProcess(Arc::new(UserInfo::component("stranger")));
    for content_type in ["application/vnd.kubernetes.protobuf", "application/json", "application/yaml"] {
        let headers = [("content-type", content_type)];
        let answer = wire.ask_as(stranger.clone(), "POST", MAPS, &headers, "k8s\0\u{1}[").await;
        assert_eq!(answer.refused().0, 403, "{content_type}");
        let answer = wire.ask("POST", MAPS, &headers, "k8s\0\u{1}[").await;
        assert_eq!(answer.refused().0, 400, "{content_type}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_of_the_wrong_type_is_named() {
    let wire = Wire::new().await;
    for (uri, body, wanted) in [
        (
            "/apis/apps/v1/namespaces/default/deployments",
            json!({"metadata": {"name": "a"}, "spec": {"replicas": "3"}}),
            "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go \
             struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "/api/v1/namespaces/default/secrets",
            json!({"metadata": {"name": "a"}, "data": {"key": "plain text"}}),
            "Secret in version \"v1\" cannot be handled as a Secret: data.key: illegal base64 data at input byte 5",
        ),
    ] {
        let answer = wire.post(uri, &body).await;
        assert_eq!(answer.refused(), (400, "BadRequest".into()));
        assert_eq!(answer.json()["message"], wanted);
    }
    wire.config_map("a", "x").await;
    let patch = json!({"data": {"text": 7}});
    let answer = wire.patch(&format!("{MAPS}/a"), "application/merge-patch+json", &patch).await;
    assert_eq!(answer.refused().0, 422);
    let message = answer.json()["message"].take();
    let wanted = "json: cannot unmarshal number into Go struct field ConfigMap.data of type string";
    assert!(message.as_str().unwrap().contains(wanted), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_encoded_name_reaches_no_other_object() {
    let wire = Wire::new().await;
    wire.config_map("a", "kept").await;
    wire.world.namespace("other").await;
    for name in [
        "..%2fconfigmaps%2fa",
        "%2e%2e",
        "%2e%2e%2fconfigmaps%2fa",
        "x%2f..%2fa",
        "a%2f",
        "%2fa",
        "a%00",
        ".",
    ] {
        for space in ["default", "other", "default%2f..%2fdefault", "..%2fdefault", "%2e%2e"] {
            let uri = format!("/api/v1/namespaces/{space}/configmaps/{name}");
            for (method, body) in [
                ("GET", json!(null)),
                ("PUT", json!({"metadata": {"name": "a"}, "data": {"text": "changed"}})),
                ("DELETE", json!(null)),
            ] {
                let body = if body.is_null() { String::new() } else { body.to_string() };
                let answer = wire.ask(method, &uri, JSON, body).await;
                assert!(matches!(answer.refused().0, 404 | 422), "{method} {uri}: {answer:?}");
            }
        }
    }
    for name in ["..", "a/b", "../../nodes/n", "%2e%2e"] {
        let answer = wire.post(MAPS, &json!({"metadata": {"name": name}})).await;
        assert_eq!(answer.refused(), (422, "Invalid".into()), "{name}");
    }
    assert_eq!(wire.get(&format!("{MAPS}/a")).await.json()["data"]["text"], "kept");
    assert_eq!(wire.get(MAPS).await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_scoped_kind_is_in_no_namespace() {
    let wire = Wire::new().await;
    wire.world.server.registry().add(lamps(json!({"type": "object"}))).unwrap();
    let lamp = json!({"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": "a"}});
    let answer = wire.post("/apis/example.com/v1/namespaces/default/lamps", &lamp).await;
    assert_eq!(answer.refused(), (404, "NotFound".into()));
    assert_eq!(wire.post("/apis/example.com/v1/lamps", &lamp).await.code, 201);
    for uri in ["/apis/example.com/v1/namespaces/default/lamps/a", "/api/v1/namespaces/default/nodes"] {
        assert_eq!(wire.get(uri).await.refused().0, 404);
    }
    assert_eq!(wire.get("/apis/example.com/v1/lamps/a").await.code, 200);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_object_is_400() {
    let wire = Wire::new().await;
    for body in [
        &b"{\"metadata\":{\"name\":\"a\xff\"}}"[..],
        b"[]",
        b"null",
        b"\"text\"",
        b"7",
        b"",
        b"{\"metadata\":",
        b"{\"metadata\":[]}",
        b"{\"kind\":7}",
        b"{\"kind\":\"Secret\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\"}}",
        b"{\"metadata\":{\"name\":\"a\"},\"data\":7}",
    ] {
        for headers in [JSON, YAML] {
            let answer = wire.ask("POST", MAPS, headers, body).await;
            assert_eq!(answer.refused(), (400, "BadRequest".into()), "{body:?}: {answer:?}");
        }
    }
    wire.config_map("a", "x").await;
    for content_type in ["application/json-patch+json", "application/merge-patch+json"] {
        let uri = format!("{MAPS}/a");
        let answer = wire.ask("PATCH", &uri, &[("content-type", content_type)], "\"no patch\"").await;
        assert_eq!(answer.refused().0, 400, "{content_type}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_another_type_is_415_and_an_answer_of_another_406() {
    let wire = Wire::new().await;
    for content_type in ["text/plain", "application/xml", "application/json-patch+json"] {
        let answer = wire.ask("POST", MAPS, &[("content-type", content_type)], "{}").await;
        assert_eq!(answer.refused(), (415, "UnsupportedMediaType".into()));
    }
    let uri = format!("{MAPS}/a");
    assert_eq!(wire.ask("PATCH", &uri, JSON, "{}").await.refused().0, 415);
    for accept in
        ["text/html", "application/vnd.kubernetes.protobuf", "application/json;as=Poem;g=meta.k8s.io;v=v1"]
    {
        for uri in [MAPS, "/apis", "/openapi/v3/api/v1"] {
            if uri == MAPS || !accept.contains("as=") {
                assert_eq!(
                    wire.accept(uri, accept).await.refused(),
                    (406, "NotAcceptable".into()),
                    "{uri} {accept}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_query_is_refused() {
    let wire = Wire::new().await;
    for (method, uri, code) in [
        ("GET", format!("{MAPS}?limit=many"), 400),
        ("GET", format!("{MAPS}?timeout=never"), 400),
        ("GET", format!("{MAPS}?labelSelector=%3D%3D"), 400),
        ("GET", format!("{MAPS}?fieldSelector=spec.nothing%3Da"), 400),
        ("GET", format!("{MAPS}?resourceVersion=x"), 400),
        ("GET", format!("{MAPS}?includeObject=All"), 400),
        ("GET", format!("{MAPS}?resourceVersionMatch=Near&resourceVersion=1"), 422),
        ("POST", format!("{MAPS}?dryRun=Some"), 422),
        ("POST", format!("{MAPS}?fieldValidation=Lax"), 422),
        ("PUT", MAPS.to_owned(), 405),
        ("GET", "/api/v1/namespaces/default/lamps".to_owned(), 404),
        ("GET", "/apis/nowhere/v1/lamps".to_owned(), 404),
        ("GET", "/nowhere".to_owned(), 404),
    ] {
        let answer = wire.ask(method, &uri, JSON, "{\"metadata\":{\"name\":\"a\"}}").await;
        assert_eq!(answer.refused().0, code, "{method} {uri}: {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn head_is_answered_without_a_body() {
    let wire = Wire::new().await;
    for (uri, code) in [("/livez", 200), ("/readyz", 200), (MAPS, 405)] {
        let answer = wire.ask("HEAD", uri, JSON, "").await;
        assert_eq!((answer.code, answer.bytes.len()), (code, 0), "{uri}: {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_flood_keeps_nobody_else_from_being_served() {
    let wire = Wire::new().await;
    let (mut flood, connection) =
        client::handshake(wire.connect(Bounds::default(), 64 * 1024)).await.unwrap();
    let flooded = tokio::join!(
        // Ends when the server sends the flooder away, or the flooder leaves.
        async { connection.await.is_err() },
        async {
            let mut opened = 0;
            for _ in 0..5_000 {
                let Ok(ready) = flood.clone().ready().await else { break };
                flood = ready;
                let request = Request::get(format!("http://x{MAPS}")).header("authorization", "Bearer admin");
                let Ok((answer, mut stream)) = flood.send_request(request.body(()).unwrap(), true) else {
                    break;
                };
                stream.send_reset(h2::Reason::CANCEL);
                drop(answer);
                opened += 1;
                if opened % 100 == 0 {
                    // Meanwhile somebody else asks.
                    let answer = ask_once(&wire).await;
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                }
            }
            drop(flood);
            opened
        }
    );
    assert!(flooded.1 >= 100, "{flooded:?}");
    assert!(ask_once(&wire).await.starts_with("HTTP/1.1 200"));
    assert!(!wire.service.metrics().text().contains("apiserver_longrunning_requests{"));
}

async fn ask_once(wire: &Wire) -> String {
    let mut other = wire.connect(Bounds::default(), 64 * 1024);
    let request =
        format!("GET {MAPS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer admin\r\nconnection: close\r\n\r\n");
    other.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_reads_nothing_is_closed_and_stops_no_writer() {
    let wire = Wire::new().await;
    let bounds = Bounds { stall: Duration::from_secs(60), ..Bounds::default() };
    let mut watcher = wire.connect(bounds, 4096);
    let request = format!("GET {MAPS}?watch=1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer admin\r\n\r\n");
    watcher.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 15];
    watcher.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");

    let text = "x".repeat(10_000);
    let began = tokio::time::Instant::now();
    for at in 0..500 {
        wire.config_map(&format!("m{at}"), &text).await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "no writer waited");

    tokio::time::sleep(Duration::from_secs(61)).await;
    let mut rest = Vec::new();
    watcher.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() < 2_000_000, "what it never read was not kept for it: {}", rest.len());
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the response was cut off, not ended");
    assert!(
        wire.service
            .metrics()
            .text()
            .contains("resource=\"configmaps\",subresource=\"\",scope=\"namespace\"} 0")
    );
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_too_large_or_too_slow_ends_the_connection() {
    let wire = Wire::new().await;
    let mut large = wire.connect(Bounds::default(), 1024 * 1024);
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(300_000));
    large.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    large.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");

    for start in ["", "GET / HTTP/1.1\r\nhost:"] {
        let mut slow = wire.connect(Bounds::default(), 1024);
        slow.write_all(start.as_bytes()).await.unwrap();
        let mut answer = String::new();
        slow.read_to_string(&mut answer).await.unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}
