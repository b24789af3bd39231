//! Tests over the definitions as the server uses them: JSON in, defaults, rules and cells out.

mod columns;
mod defaults;
mod pods;
mod properties;
mod resource;
mod services;
mod updates;
mod validation;
mod volumes;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::registry::{Cell, Registry};

/// The definition of a kind.
fn definition(kind: &str) -> Definition {
    all().into_iter().find(|definition| definition.names.kind == kind).unwrap()
}

/// An object of a hub version, as it is.
fn read(kind: &str, mut value: Value) -> Object {
    let definition = definition(kind);
    let group = &definition.names.group;
    let version = &definition.hub().name;
    let api_version = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
    value["apiVersion"] = json!(api_version);
    value["kind"] = json!(kind);
    (definition.hub().decode)(value).unwrap()
}

/// An object with its defaults.
fn defaulted(kind: &str, value: Value) -> Object {
    let mut object = read(kind, value);
    if let Some(default) = &definition(kind).strategy.default {
        default(&mut object);
    }
    object
}

/// An object as a create makes it.
fn created(kind: &str, value: Value) -> Object {
    let mut object = defaulted(kind, value);
    if let Some(prepare) = &definition(kind).strategy.prepare_create {
        prepare(&mut object);
    }
    object.meta_mut().resource_version = Some("1".into());
    object
}

/// What a create finds wrong.
fn create_errors(kind: &str, value: Value) -> Vec<String> {
    let errors = definition(kind).validate_create(&created(kind, value));
    errors.iter().map(ToString::to_string).collect()
}

/// What an update finds wrong; the object as it would be stored, too.
fn update(kind: &str, new: Value, old: Value) -> (Object, Vec<String>) {
    let (definition, old) = (definition(kind), created(kind, old));
    let mut new = defaulted(kind, new);
    new.meta_mut().resource_version = Some("1".into());
    if let Some(prepare) = &definition.strategy.prepare_update {
        prepare(&mut new, &old);
    }
    let errors = definition.validate_update(&new, &old);
    (new, errors.iter().map(ToString::to_string).collect())
}

/// What a write of the status finds wrong; the object as it would be stored, too.
fn update_status(kind: &str, new: Value, old: Value) -> (Object, Vec<String>) {
    let (definition, mut old_object) = (definition(kind), created(kind, old.clone()));
    if let (Some(status), Ok(mut whole)) = (old.get("status"), old_object.to_value()) {
        whole["status"] = status.clone();
        old_object = read(kind, whole);
    }
    let mut new = defaulted(kind, new);
    new.meta_mut().resource_version = Some("1".into());
    let strategy = definition.status().unwrap();
    strategy.prepare_update.as_ref().unwrap()(&mut new, &old_object);
    let errors = definition.validate_status_update(&new, &old_object);
    (new, errors.iter().map(ToString::to_string).collect())
}

/// The cells of a row, as text.
fn row(kind: &str, value: Value) -> Vec<String> {
    let object = read(kind, value);
    let at = Cell { now: "2026-01-01T01:00:00Z".parse::<Timestamp>().unwrap() };
    let cell = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    definition(kind).columns.iter().map(|column| cell((column.cell)(&object, &at))).collect()
}

/// A namespaced object's metadata.
fn meta(name: &str) -> Value {
    json!({"name": name, "namespace": "default"})
}

/// `base` with the fields of `patch` put in, maps merged, `null` removed.
fn with(mut base: Value, patch: Value) -> Value {
    match (&mut base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                let old = base.remove(&key).unwrap_or(Value::Null);
                let new = with(old, value);
                if !new.is_null() {
                    base.insert(key, new);
                }
            }
        }
        (base, patch) => *base = patch,
    }
    base
}

/// `config_map` for ConfigMap: the name of a kind's file.
fn file_name(kind: &str) -> String {
    let mut name = String::new();
    let lower = |at: usize| kind.as_bytes().get(at).is_some_and(u8::is_ascii_lowercase);
    for (at, letter) in kind.char_indices() {
        // `CSINode` is of two words.
        if letter.is_ascii_uppercase() && at > 0 && (lower(at - 1) || lower(at + 1)) {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[test]
fn every_file_of_a_kind_is_in_the_list() {
    let mut files = Vec::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kinds");
    for group in std::fs::read_dir(root).unwrap().map(Result::unwrap) {
        if !group.file_type().unwrap().is_dir()
            || group.file_name() == "shared"
            || group.file_name() == "tests"
        {
            continue;
        }
        for file in std::fs::read_dir(group.path()).unwrap().map(Result::unwrap) {
            let name = file.file_name().into_string().unwrap();
            let name = name.trim_end_matches(".rs").to_owned();
            if name != "mod" {
                files.push(name);
            }
        }
    }
    let mut listed: Vec<String> = all().iter().map(|definition| file_name(&definition.names.kind)).collect();
    files.sort();
    listed.sort();
    assert_eq!(files, listed);
}

#[test]
fn all_kinds_fit_in_one_registry() {
    let registry = Registry::new(all()).unwrap();
    assert!(registry.snapshot().resolve("events.k8s.io", "v1", "events").is_some());
    assert!(registry.snapshot().resolve("", "v1", "events").unwrap().is_hub());
}

#[test]
fn the_names_are_those_of_kubernetes() {
    let names: Vec<String> = all()
        .iter()
        .map(|definition| {
            let (names, scope) = (&definition.names, definition.scope);
            let subresources: Vec<&str> =
                definition.subresources.iter().map(|sub| sub.name.as_str()).collect();
            format!(
                "{}/{} {} {:?} [{}] [{}] {}",
                names.group,
                names.plural,
                names.singular,
                scope,
                names.short.join(","),
                names.categories.join(","),
                subresources.join(",")
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            "apps/deployments deployment Namespaced [deploy] [all] status,scale",
            "apps/replicasets replicaset Namespaced [rs] [all] status,scale",
            "authentication.k8s.io/selfsubjectreviews selfsubjectreview Cluster [] [] ",
            "authentication.k8s.io/tokenreviews tokenreview Cluster [] [] ",
            "authorization.k8s.io/localsubjectaccessreviews localsubjectaccessreview Namespaced [] [] ",
            "authorization.k8s.io/selfsubjectaccessreviews selfsubjectaccessreview Cluster [] [] ",
            "authorization.k8s.io/selfsubjectrulesreviews selfsubjectrulesreview Cluster [] [] ",
            "authorization.k8s.io/subjectaccessreviews subjectaccessreview Cluster [] [] ",
            "coordination.k8s.io/leases lease Namespaced [] [] ",
            "/configmaps configmap Namespaced [cm] [] ",
            "/events event Namespaced [ev] [] ",
            "/namespaces namespace Cluster [ns] [] status,finalize",
            "/nodes node Cluster [no] [] status",
            "/persistentvolumes persistentvolume Cluster [pv] [] status",
            "/persistentvolumeclaims persistentvolumeclaim Namespaced [pvc] [] status",
            "/pods pod Namespaced [po] [all] status,binding,eviction,ephemeralcontainers",
            "/secrets secret Namespaced [] [] ",
            "/services service Namespaced [svc] [all] status",
            "/serviceaccounts serviceaccount Namespaced [sa] [] token",
            "discovery.k8s.io/endpointslices endpointslice Namespaced [] [] ",
            "policy/poddisruptionbudgets poddisruptionbudget Namespaced [pdb] [] status",
            "resource.k8s.io/deviceclasses deviceclass Cluster [] [] ",
            "resource.k8s.io/devicetaintrules devicetaintrule Cluster [] [] status",
            "resource.k8s.io/resourceclaims resourceclaim Namespaced [] [] status",
            "resource.k8s.io/resourceclaimtemplates resourceclaimtemplate Namespaced [] [] ",
            "resource.k8s.io/resourceslices resourceslice Cluster [] [] ",
            "scheduling.k8s.io/podgroups podgroup Namespaced [] [] status",
            "scheduling.k8s.io/priorityclasses priorityclass Cluster [pc] [] ",
            "scheduling.k8s.io/workloads workload Namespaced [] [] ",
            "storage.k8s.io/csidrivers csidriver Cluster [] [] ",
            "storage.k8s.io/csinodes csinode Cluster [] [] ",
            "storage.k8s.io/csistoragecapacities csistoragecapacity Namespaced [] [] ",
            "storage.k8s.io/storageclasses storageclass Cluster [sc] [] ",
            "storage.k8s.io/volumeattachments volumeattachment Cluster [] [] status",
        ]
    );
}
