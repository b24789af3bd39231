//! OpenAPI: the types and the paths of what is served, derived from the definitions.
//!
//! Semantics: <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition>
//!
//! ```
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use rkube_api::registry::{Definition, Registry, openapi};
//!
//! let registry = Registry::new([Definition::of::<ConfigMap>().build()]).unwrap();
//! let document = openapi::v3(&registry.snapshot(), "api/v1").unwrap();
//! let patch = &document["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]["patch"];
//! assert_eq!(patch["x-kubernetes-action"], "patch");
//! ```

mod operations;
mod paths;
mod proto;
mod schemas;

pub use proto::encode;

use serde_json::{Value, json};

use super::{Resolved, Snapshot};
use crate::fields::openapi::Dialect;

/// What is served at one group and version, and the path under which OpenAPI v3 describes it.
fn groups(snapshot: &Snapshot) -> impl Iterator<Item = (String, Vec<Resolved>)> + '_ {
    snapshot.groups().iter().flat_map(move |(group, versions)| {
        versions.iter().map(move |(version, resources)| {
            let path =
                if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            let served = resources.keys().filter_map(|plural| snapshot.resolve(group, version, plural));
            (path, served.collect())
        })
    })
}

/// The paths that OpenAPI v3 has a document for: `api/v1`, `apis/apps/v1`.
pub fn v3_paths(snapshot: &Snapshot) -> Vec<String> {
    groups(snapshot).map(|(path, _)| path).collect()
}

/// The OpenAPI v3 document of a path of [`v3_paths`].
pub fn v3(snapshot: &Snapshot, path: &str) -> Option<Value> {
    let (_, served) = groups(snapshot).find(|(found, _)| found == path)?;
    Some(json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths::of(&served, Dialect::V3),
        "components": {"schemas": schemas::all(&served, Dialect::V3)},
    }))
}

/// The OpenAPI v2 document of all that is served.
pub fn v2(snapshot: &Snapshot) -> Value {
    let served: Vec<Resolved> = groups(snapshot).flat_map(|(_, served)| served).collect();
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths::of(&served, Dialect::V2),
        "definitions": schemas::all(&served, Dialect::V2),
    })
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.37.0"})
}
