//! Discovery: what is served, as clients read it, derived from the definitions.
//!
//! Semantics: <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>
//!
//! ```
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use rkube_api::registry::{Definition, Registry, discovery};
//!
//! let registry = Registry::new([Definition::of::<ConfigMap>().build()]).unwrap();
//! let list = discovery::resource_list(&registry.snapshot(), "", "v1").unwrap();
//! assert_eq!(list["resources"][0]["name"], "configmaps");
//! ```

use serde_json::{Map, Value, json};

use super::{Definition, Resolved, Scope, Snapshot, Subresource, SubresourceKind};
use crate::request::Verb;

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The versions of a group, the preferred one first: as Kubernetes ranks them, `v2`, `v1`, `v1beta1`,
/// `v1alpha1`, then names of another form in alphabetic order.
pub fn versions(snapshot: &Snapshot, group: &str) -> Vec<String> {
    let mut versions: Vec<String> =
        snapshot.groups().get(group).map(|versions| versions.keys().cloned().collect()).unwrap_or_default();
    versions.sort_by_key(|version| rank(version));
    versions
}

/// Sorts first what is preferred.
fn rank(version: &str) -> (u8, std::cmp::Reverse<u64>, std::cmp::Reverse<u64>, String) {
    let other = || (3, std::cmp::Reverse(0), std::cmp::Reverse(0), version.to_owned());
    let Some(rest) = version.strip_prefix('v') else {
        return other();
    };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let Ok(major) = rest[..digits].parse::<u64>() else {
        return other();
    };
    let stage = &rest[digits..];
    let minor = |stage: &str| stage.parse::<u64>().ok();
    match (stage, stage.strip_prefix("beta").and_then(minor), stage.strip_prefix("alpha").and_then(minor)) {
        ("", ..) => (0, std::cmp::Reverse(major), std::cmp::Reverse(0), String::new()),
        (_, Some(minor), _) => (1, std::cmp::Reverse(major), std::cmp::Reverse(minor), String::new()),
        (_, _, Some(minor)) => (2, std::cmp::Reverse(major), std::cmp::Reverse(minor), String::new()),
        _ => other(),
    }
}

/// `GET /api`: the versions of the core group. `address` is where clients reach this server.
pub fn core_versions(snapshot: &Snapshot, address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": versions(snapshot, ""),
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

fn group_body(snapshot: &Snapshot, group: &str) -> Map<String, Value> {
    let versions: Vec<Value> = versions(snapshot, group)
        .iter()
        .map(|version| json!({"groupVersion": group_version(group, version), "version": version}))
        .collect();
    let mut body = Map::new();
    body.insert("name".into(), group.into());
    body.insert("preferredVersion".into(), versions.first().cloned().unwrap_or_default());
    body.insert("versions".into(), versions.into());
    body
}

/// `GET /apis`: the groups beside the core group.
pub fn group_list(snapshot: &Snapshot) -> Value {
    let groups: Vec<Value> = snapshot
        .groups()
        .keys()
        .filter(|group| !group.is_empty())
        .map(|group| group_body(snapshot, group).into())
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `GET /apis/<group>`; `None` if the group is not served.
pub fn group(snapshot: &Snapshot, group: &str) -> Option<Value> {
    if group.is_empty() || !snapshot.groups().contains_key(group) {
        return None;
    }
    let mut body = group_body(snapshot, group);
    body.insert("kind".into(), "APIGroup".into());
    body.insert("apiVersion".into(), "v1".into());
    Some(body.into())
}

fn resolved<'a>(
    snapshot: &'a Snapshot,
    group: &'a str,
    version: &'a str,
) -> Option<impl Iterator<Item = Resolved> + 'a> {
    let resources = snapshot.groups().get(group)?.get(version)?;
    Some(resources.keys().filter_map(move |plural| snapshot.resolve(group, version, plural)))
}

fn verb_names(verbs: &[Verb]) -> Value {
    let mut names: Vec<&str> = verbs.iter().map(|verb| verb.as_str()).collect();
    names.sort_unstable();
    names.into()
}

/// Group, version and kind that a subresource speaks, and what it can.
fn subresource_face(resolved: &Resolved, subresource: &Subresource) -> ((String, String, String), Value) {
    let own = || {
        (resolved.group().to_owned(), resolved.version().name.clone(), resolved.definition.names.kind.clone())
    };
    let read_write = || verb_names(&[Verb::Get, Verb::Patch, Verb::Update]);
    match &subresource.kind {
        SubresourceKind::Status(_) => (own(), read_write()),
        SubresourceKind::Scale(_) => (("autoscaling".into(), "v1".into(), "Scale".into()), read_write()),
        SubresourceKind::Handler { body, verbs } => (body.clone(), verb_names(verbs)),
    }
}

/// A short stable fingerprint of where a resource's objects are stored, base64 as in Kubernetes.
fn storage_version_hash(definition: &Definition) -> String {
    let text = format!("{}/{}/{}", definition.names.group, definition.hub().name, definition.names.kind);
    let hash = super::fingerprint(text.as_bytes());
    // ByteString's JSON form is base64 in quotes.
    serde_json::to_value(k8s_openapi::ByteString(hash.to_be_bytes().to_vec()))
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// `GET /api/v1`, `GET /apis/<group>/<version>`; `None` if that is not served.
pub fn resource_list(snapshot: &Snapshot, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for resolved in resolved(snapshot, group, version)? {
        let definition = &resolved.definition;
        let names = &definition.names;
        let namespaced = definition.scope == Scope::Namespaced;
        let mut entry = Map::new();
        entry.insert("name".into(), names.plural.clone().into());
        entry.insert("singularName".into(), names.singular.clone().into());
        entry.insert("namespaced".into(), namespaced.into());
        entry.insert("kind".into(), names.kind.clone().into());
        entry.insert("verbs".into(), verb_names(&definition.verbs));
        if !names.short.is_empty() {
            entry.insert("shortNames".into(), names.short.clone().into());
        }
        if !names.categories.is_empty() {
            entry.insert("categories".into(), names.categories.clone().into());
        }
        entry.insert("storageVersionHash".into(), storage_version_hash(definition).into());
        resources.push(entry.into());
        for subresource in &definition.subresources {
            let ((sub_group, sub_version, kind), verbs) = subresource_face(&resolved, subresource);
            let mut entry = Map::new();
            entry.insert("name".into(), format!("{}/{}", names.plural, subresource.name).into());
            entry.insert("singularName".into(), "".into());
            entry.insert("namespaced".into(), namespaced.into());
            if (sub_group.as_str(), sub_version.as_str()) != (group, version) {
                entry.insert("group".into(), sub_group.into());
                entry.insert("version".into(), sub_version.into());
            }
            entry.insert("kind".into(), kind.into());
            entry.insert("verbs".into(), verbs);
            resources.push(Value::Object(entry));
        }
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version(group, version),
        "resources": resources,
    }))
}

fn response_kind((group, version, kind): (String, String, String)) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn aggregated_resource(resolved: &Resolved) -> Value {
    let names = &resolved.definition.names;
    let own = (resolved.group().to_owned(), resolved.version().name.clone(), names.kind.clone());
    let mut entry = Map::new();
    entry.insert("resource".into(), names.plural.clone().into());
    entry.insert("responseKind".into(), response_kind(own));
    let scope = match resolved.definition.scope {
        Scope::Namespaced => "Namespaced",
        Scope::Cluster => "Cluster",
    };
    entry.insert("scope".into(), scope.into());
    entry.insert("singularResource".into(), names.singular.clone().into());
    entry.insert("verbs".into(), verb_names(&resolved.definition.verbs));
    if !names.short.is_empty() {
        entry.insert("shortNames".into(), names.short.clone().into());
    }
    if !names.categories.is_empty() {
        entry.insert("categories".into(), names.categories.clone().into());
    }
    let subresources: Vec<Value> = resolved
        .definition
        .subresources
        .iter()
        .map(|subresource| {
            let (face, verbs) = subresource_face(resolved, subresource);
            json!({
                "subresource": subresource.name,
                "responseKind": response_kind(face),
                "verbs": verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        entry.insert("subresources".into(), subresources.into());
    }
    entry.into()
}

/// Aggregated discovery, of the core group (`GET /api`) or of all others (`GET /apis`), in
/// `apidiscovery.k8s.io` of the version given (`v2`, `v2beta1`: they look the same).
pub fn aggregated(snapshot: &Snapshot, core: bool, discovery_version: &str) -> Value {
    let items: Vec<Value> = snapshot
        .groups()
        .keys()
        .filter(|group| group.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> = versions(snapshot, group)
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = resolved(snapshot, group, version)
                        .into_iter()
                        .flatten()
                        .map(|resolved| aggregated_resource(&resolved))
                        .collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{discovery_version}"),
        "metadata": {},
        "items": items,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_rank_as_kubernetes_ranks_them() {
        let mut versions =
            ["foo1", "v1alpha1", "v11alpha2", "v10", "v2", "v1", "v3beta1", "v12alpha1", "v11beta2", "foo10"];
        versions.sort_by_key(|version| rank(version));
        assert_eq!(
            versions,
            ["v10", "v2", "v1", "v11beta2", "v3beta1", "v12alpha1", "v11alpha2", "v1alpha1", "foo1", "foo10"]
        );
    }
}
