//! Lines 16 to 18 and 54, and what goes over the wire with every answer.

use std::io::Read;

use futures::StreamExt;
use rkube_api::{http::Bounds, request::Credentials};
use rkube_store::Store as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

use crate::http_support::{MAPS, Wire};

/// A watch over HTTP/1.1, chunk by chunk.
struct Chunks(BufReader<DuplexStream>);

impl Chunks {
    async fn of(wire: &Wire, uri: &str, accept: &str) -> Self {
        let mut pipe = wire.connect(Bounds::default(), 1024 * 1024);
        let request = format!(
            "GET {uri} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer admin\r\naccept: {accept}\r\n\r\n"
        );
        pipe.write_all(request.as_bytes()).await.unwrap();
        let mut chunks = Self(BufReader::new(pipe));
        let status = chunks.line().await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        let mut head = String::new();
        loop {
            match chunks.line().await {
                line if line.is_empty() => break,
                line => head.push_str(&line.to_lowercase()),
            }
        }
        assert!(
            head.contains("transfer-encoding: chunked") && head.contains("content-type: application/json")
        );
        chunks
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    /// The next chunk, or none at the end of the response.
    async fn next(&mut self) -> Option<String> {
        let size = usize::from_str_radix(&self.line().await, 16).unwrap();
        let mut chunk = vec![0; size];
        self.0.read_exact(&mut chunk).await.unwrap();
        assert_eq!(self.line().await, "");
        (size > 0).then(|| String::from_utf8(chunk).unwrap())
    }

    /// The next chunk, which is one event and a newline.
    async fn event(&mut self) -> Value {
        let chunk = self.next().await.unwrap();
        assert!(chunk.ends_with('\n') && chunk.matches('\n').count() == 1, "{chunk}");
        serde_json::from_str(&chunk).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn line_16_a_watch_is_one_object_a_chunk_sent_at_once() {
    let wire = Wire::new().await;
    wire.config_map("a", "x").await;
    let uri = format!("{MAPS}?watch=true&timeoutSeconds=30&allowWatchBookmarks=true");
    let mut watch = Chunks::of(&wire, &uri, "*/*").await;
    assert_eq!(watch.event().await["object"]["metadata"]["name"], "a");
    for name in ["b", "c"] {
        let made = wire.config_map(name, "x").await;
        // It is there although the watch goes on, and it is the object as the write gave it.
        assert_eq!(watch.event().await, json!({"type": "ADDED", "object": made}));
    }
    let gone = wire.ask("DELETE", &format!("{MAPS}/b"), &[], "").await;
    assert_eq!(gone.code, 200);
    assert_eq!(watch.event().await["type"], "DELETED");
    assert_eq!(watch.next().await, None, "the watch ends when its time is over");
}

#[tokio::test(start_paused = true)]
async fn line_05_a_watch_from_the_past_is_one_error() {
    let wire = Wire::new().await;
    let first = wire.config_map("a", "x").await;
    let last = wire.config_map("b", "x").await;
    let revision = |map: &Value| map["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    rkube_store::Store::compact(&wire.world.store, rkube_store::Revision(revision(&last))).await.unwrap();
    let uri = format!("{MAPS}?watch=1&resourceVersion={}", revision(&first));
    let mut watch = Chunks::of(&wire, &uri, "*/*").await;
    let error = watch.event().await;
    assert_eq!((&error["type"], &error["object"]["kind"]), (&json!("ERROR"), &json!("Status")));
    assert_eq!((&error["object"]["code"], &error["object"]["reason"]), (&json!(410), &json!("Expired")));
    assert_eq!(watch.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn line_07_a_bookmark_carries_its_version_alone() {
    let wire = Wire::new().await;
    let map = wire.config_map("a", "x").await;
    let uri = format!(
        "{MAPS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    );
    let mut watch = Chunks::of(&wire, &uri, "*/*").await;
    assert_eq!(watch.event().await["type"], "ADDED");
    assert_eq!(
        watch.event().await,
        json!({"type": "BOOKMARK", "object": {
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {
                "resourceVersion": map["metadata"]["resourceVersion"],
                "annotations": {"k8s.io/initial-events-end": "true"},
            },
        }})
    );
}

#[tokio::test(start_paused = true)]
async fn line_17_a_table_watch_sends_its_columns_once() {
    let wire = Wire::new().await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let mut watch = Chunks::of(&wire, &format!("{MAPS}?watch=1"), accept).await;
    wire.config_map("a", "x").await;
    wire.config_map("b", "x").await;
    let first = watch.event().await["object"].take();
    assert_eq!((&first["kind"], &first["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    let names: Vec<_> = first["columnDefinitions"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["Name", "Data", "Age"]);
    assert_eq!(first["rows"][0]["cells"], json!(["a", 1, "0s"]));
    let second = watch.event().await["object"].take();
    assert_eq!(second["columnDefinitions"], Value::Null);
    assert_eq!(second["rows"][0]["object"]["metadata"]["name"], "b");
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_in_order_when_the_server_stops() {
    let wire = Wire::new().await;
    let mut watch = Chunks::of(&wire, &format!("{MAPS}?watch=1"), "*/*").await;
    wire.config_map("a", "x").await;
    watch.event().await;
    wire.service.stop();
    assert_eq!(watch.next().await, None);
    assert_eq!(wire.get("/readyz").await.code, 500);
    assert_eq!(wire.get("/livez").await.code, 200);
}

#[tokio::test(start_paused = true)]
async fn line_18_the_client_says_what_it_takes() {
    let wire = Wire::new().await;
    wire.config_map("a", "x").await;
    let uri = format!("{MAPS}/a");
    let yaml = wire.accept(&uri, "application/yaml").await;
    assert_eq!(yaml.header("content-type"), "application/yaml");
    assert!(yaml.bytes.starts_with(b"apiVersion: v1\n"), "{yaml:?}");
    let both = wire.accept(&uri, "application/vnd.kubernetes.protobuf,application/json").await;
    assert_eq!(both.header("content-type"), "application/json");
    let error = wire.accept(&format!("{MAPS}/b"), "application/yaml").await;
    assert_eq!((error.code, error.header("content-type")), (404, "application/yaml"));
    let pretty = wire.get(&format!("{uri}?pretty=true")).await;
    assert!(pretty.bytes.starts_with(b"{\n  \"apiVersion\""));
    assert!(!wire.get(&uri).await.bytes.contains(&b'\n'));
}

#[tokio::test(start_paused = true)]
async fn yaml_and_json_say_the_same() {
    let wire = Wire::new().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: '0644'}\n";
    let made = wire.ask("POST", MAPS, &[("content-type", "application/yaml")], yaml).await;
    assert_eq!(made.code, 201, "{made:?}");
    assert_eq!(made.json()["data"], json!({"k": "0644"}));
}

#[tokio::test(start_paused = true)]
async fn unknown_fields_are_a_warning_unless_the_client_says_otherwise() {
    let wire = Wire::new().await;
    let map = |name: &str| json!({"metadata": {"name": name}, "colour": "red"});
    let warned = wire.post(MAPS, &map("a")).await;
    assert_eq!(warned.code, 201);
    assert_eq!(warned.header("warning"), "299 - \"unknown field \\\"colour\\\"\"");
    let ignored = wire.post(&format!("{MAPS}?fieldValidation=Ignore"), &map("b")).await;
    assert_eq!((ignored.code, ignored.header("warning")), (201, ""));
    let mut many = map("many");
    for at in 0..1000 {
        many[format!("field{at}")] = json!(1);
    }
    let many = wire.post(MAPS, &many).await;
    let told: usize = many.headers.get_all("warning").iter().map(|value| value.len()).sum();
    assert!(many.code == 201 && (3_000..=4_096).contains(&told), "{told}");
    let strict = wire.post(&format!("{MAPS}?fieldValidation=Strict"), &map("c")).await;
    assert_eq!(strict.refused(), (400, "BadRequest".into()));
}

#[tokio::test(start_paused = true)]
async fn line_54_every_answer_can_be_found_again() {
    let wire = Wire::new().await;
    for (method, uri) in
        [("GET", MAPS), ("GET", "/apis"), ("GET", "/healthz"), ("GET", "/nowhere"), ("PUT", MAPS)]
    {
        let first = wire.ask(method, uri, &[], "").await;
        let second = wire.ask(method, uri, &[], "").await;
        assert_eq!(first.header("audit-id").len(), 36, "{uri}");
        assert_ne!(first.header("audit-id"), second.header("audit-id"));
        assert_eq!(first.header("cache-control"), "no-cache, private");
    }
    let given = wire.ask("GET", MAPS, &[("audit-id", "mine")], "").await;
    assert_eq!(given.header("audit-id"), "mine");
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_is_compressed_for_who_takes_it() {
    let wire = Wire::new().await;
    for at in 0..20 {
        wire.config_map(&format!("m{at}"), &"x".repeat(10_000)).await;
    }
    let plain = wire.get(MAPS).await;
    assert_eq!((plain.header("content-encoding"), plain.json()["items"].as_array().unwrap().len()), ("", 20));
    let packed = wire.ask("GET", MAPS, &[("accept-encoding", "br, gzip")], "").await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.bytes.len() < plain.bytes.len() / 10);
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&*packed.bytes).read_to_end(&mut text).unwrap();
    assert_eq!(text, plain.bytes);
    let short = wire.ask("GET", &format!("{MAPS}?limit=1"), &[("accept-encoding", "gzip")], "").await;
    assert_eq!(short.header("content-encoding"), "");
}

#[tokio::test(start_paused = true)]
async fn strangers_see_that_the_server_is_well_and_no_more() {
    let wire = Wire::new().await;
    for uri in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(wire.ask_as(Credentials::Anonymous, "GET", uri, &[], "").await.code, 200, "{uri}");
    }
    let wrong = Credentials::Token("wrong".into());
    for uri in ["/api", "/apis", "/openapi/v2", "/openapi/v3", "/metrics", MAPS] {
        let answer = wire.ask_as(Credentials::Anonymous, "GET", uri, &[], "").await;
        assert!(matches!(answer.refused().0, 401 | 403), "{uri}: {answer:?}");
        let answer = wire.ask_as(wrong.clone(), "GET", uri, &[], "").await;
        assert_eq!(answer.refused(), (401, "Unauthorized".into()), "{uri}");
    }
    // Nothing of a stranger's request is read: neither what is wrong with it, nor its body.
    for (method, uri) in [("POST", MAPS), ("PUT", MAPS), ("GET", "/nowhere"), ("GET", "/api/v1/pods?limit=x")]
    {
        let answer = wire.ask_as(wrong.clone(), method, uri, &[], vec![b'x'; 4_000_000]).await;
        assert_eq!(answer.refused(), (401, "Unauthorized".into()), "{uri}");
    }
    let someone_else = wire.ask("GET", MAPS, &[("impersonate-user", "jane")], "").await;
    assert_eq!(someone_else.refused().0, 400, "who asks is never mistaken");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_given_up() {
    let wire = Wire::new().await;
    let body = futures::stream::once(async {
        Ok::<_, std::io::Error>(http_body::Frame::data(bytes::Bytes::from("{")))
    })
    .chain(futures::stream::pending());
    let request = http::Request::post(MAPS)
        .header("authorization", "Bearer admin")
        .body(http_body_util::StreamBody::new(body))
        .unwrap();
    let response = wire.service.respond(request).await;
    assert_eq!(response.status(), 504);
}

#[tokio::test(start_paused = true)]
async fn metrics_tell_of_the_store() {
    let wire = Wire::new().await;
    let before = wire.world.store.stats();
    for name in ["a", "b", "c"] {
        wire.config_map(name, "x").await;
    }
    wire.ask("DELETE", &format!("{MAPS}/c"), &[], "").await;
    let text = String::from_utf8(wire.get("/metrics").await.bytes.to_vec()).unwrap();
    let stats = wire.world.store.stats();
    assert_eq!(stats.commits.count, before.commits.count + 4);
    let lines = [
        "apiserver_storage_objects{resource=\"configmaps\"} 2".to_owned(),
        "apiserver_storage_objects{resource=\"deployments.apps\"} 0".to_owned(),
        format!("apiserver_storage_size_bytes {}", stats.sizes.entry_bytes),
        format!("rkube_store_revision {}", stats.revision),
        format!("rkube_store_history_revisions {}", stats.sizes.revisions),
        "rkube_store_watch_lag_batches 0".to_owned(),
        format!("etcd_request_duration_seconds_count{{operation=\"commit\"}} {}", stats.commits.count),
        format!(
            "etcd_request_duration_seconds_bucket{{le=\"+Inf\",operation=\"commit\"}} {}",
            stats.commits.count
        ),
    ];
    for line in lines {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
}
