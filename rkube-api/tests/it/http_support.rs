//! A server behind HTTP: asked in process, or over a pipe.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use rkube_api::{
    context::{Context, Spawner},
    http::{ApiService, Bounds, HttpServer},
    pipeline::StaticTokens,
    registry::Definition,
    request::{Credentials, UserInfo},
};
use serde_json::{Value, json};
use tokio::io::DuplexStream;

use crate::support::World;

/// A world and its wire. The token `admin` is a user who may do everything.
pub(crate) struct Wire {
    pub(crate) world: World,
    pub(crate) service: ApiService,
    spawner: Spawner,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The code and reason of the Status that every error is.
    #[track_caller]
    pub(crate) fn refused(&self) -> (u16, String) {
        let status = self.json();
        assert_eq!((&status["kind"], &status["apiVersion"]), (&json!("Status"), &json!("v1")), "{self:?}");
        assert_eq!(status["code"], self.code, "{self:?}");
        assert_eq!(status["status"], "Failure");
        (self.code, status["reason"].as_str().unwrap_or_default().to_owned())
    }
}

impl Wire {
    pub(crate) async fn new() -> Self {
        let tokens = StaticTokens::default();
        tokens.insert("admin", UserInfo::admin("admin"));
        let world = World::with(|builder| builder.authenticator(Arc::new(tokens))).await;
        let registry = world.server.registry().clone();
        let context = Context::simulated(2);
        let spawner = context.spawner.child();
        let service = ApiService::builder(world.server.clone(), registry, context)
            .access(world.server.clone())
            .storage(world.server.clone())
            .build();
        Self { world, service, spawner }
    }

    /// Asks as a user who may do everything.
    pub(crate) async fn ask(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.ask_as(Credentials::InProcess(Arc::new(UserInfo::admin("admin"))), method, uri, headers, body)
            .await
    }

    pub(crate) async fn ask_as(
        &self,
        credentials: Credentials,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(uri).header("user-agent", "test/1.0");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(body.into())).unwrap();
        request.extensions_mut().insert(credentials);
        let response = self.service.respond(request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    pub(crate) async fn get(&self, uri: &str) -> Answer {
        self.ask("GET", uri, &[], "").await
    }

    pub(crate) async fn accept(&self, uri: &str, accept: &str) -> Answer {
        self.ask("GET", uri, &[("accept", accept)], "").await
    }

    pub(crate) async fn post(&self, uri: &str, body: &Value) -> Answer {
        self.ask("POST", uri, &[("content-type", "application/json")], body.to_string()).await
    }

    pub(crate) async fn patch(&self, uri: &str, content_type: &str, body: &Value) -> Answer {
        self.ask("PATCH", uri, &[("content-type", content_type)], body.to_string()).await
    }

    /// Makes a config map in `default` and gives it as it came back.
    pub(crate) async fn config_map(&self, name: &str, text: &str) -> Value {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": text},
        });
        let answer = self.post(MAPS, &map).await;
        assert_eq!(answer.code, 201, "{answer:?}");
        answer.json()
    }

    /// A connection to the server, through a pipe that holds so many bytes.
    pub(crate) fn connect(&self, bounds: Bounds, holds: usize) -> DuplexStream {
        let (near, far) = tokio::io::duplex(holds);
        let server = HttpServer::new(self.service.clone(), self.spawner.clone()).bounds(bounds);
        self.spawner.spawn("connection", async move { server.serve_connection(far).await });
        near
    }
}

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A kind defined at run time: `lamps.example.com`, cluster-scoped.
pub(crate) fn lamps(schema: Value) -> Definition {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "lamps.example.com"},
        "spec": {
            "group": "example.com", "scope": "Cluster",
            "names": {"plural": "lamps", "singular": "lamp", "kind": "Lamp", "listKind": "LampList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
            }],
        },
    });
    rkube_api::dynamic::definition(&serde_json::from_value(definition).unwrap()).unwrap()
}
