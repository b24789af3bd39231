//! Rules of environment variables.

use k8s_openapi::{
    api::core::v1::{EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector},
    apimachinery::pkg::api::resource::Quantity as Api,
};

use super::{Context, each_container};
use crate::{
    kinds::shared::{checks, text},
    meta::{ErrorList, FieldError, FieldPath, Quantity, names},
};

const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// The fields that a file of a volume can show.
pub(super) const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const BYTE_DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// Checks variables.
pub(super) fn variables(variables: &[EnvVar], path: &FieldPath<'_>, errors: &mut ErrorList) {
    for (at, variable) in variables.iter().enumerate() {
        let path = path.index(at);
        if variable.name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else {
            errors.push_messages(&path.child("name"), &variable.name, names::env_var_name(&variable.name));
        }
        if let Some(from) = &variable.value_from {
            value_from(from, text(&variable.value), &path.child("valueFrom"), errors);
        }
    }
}

fn value_from(from: &EnvVarSource, value: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut sources = 0;
    if let Some(field) = &from.field_ref {
        sources += 1;
        field_ref(field, &FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = &from.resource_field_ref {
        sources += 1;
        resource_ref(resource, false, &path.child("resourceFieldRef"), errors);
    }
    if let Some(map) = &from.config_map_key_ref {
        sources += 1;
        key_ref(&map.name, &map.key, &path.child("configMapKeyRef"), errors);
    }
    if let Some(secret) = &from.secret_key_ref {
        sources += 1;
        key_ref(&secret.name, &secret.key, &path.child("secretKeyRef"), errors);
    }
    if let Some(file) = &from.file_key_ref {
        sources += 1;
        let path = path.child("fileKeyRef");
        checks::required(&file.key, &path.child("key"), errors);
        if !file.key.is_empty() {
            errors.push_messages(&path.child("key"), &file.key, names::env_var_name(&file.key));
        }
        checks::required(&file.volume_name, &path.child("volumeName"), errors);
        if !file.volume_name.is_empty() {
            checks::label(&file.volume_name, &path.child("volumeName"), errors);
        }
        checks::required(&file.path, &path.child("path"), errors);
        checks::no_backsteps(&file.path, &path.child("path"), errors);
    }
    let complaint = match sources {
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        _ if !value.is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(path, "", complaint));
}

fn key_ref(name: &str, key: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    checks::subdomain(name, &path.child("name"), errors);
    if key.is_empty() {
        errors.push(FieldError::required(&path.child("key"), ""));
    } else {
        errors.push_messages(&path.child("key"), key, names::config_map_key(key));
    }
}

/// Checks a reference to a field of the pod.
pub(super) fn field_ref(
    selector: &ObjectFieldSelector,
    allowed: &[&str],
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let field = selector.field_path.as_str();
    if text(&selector.api_version).is_empty() {
        errors.push(FieldError::required(&path.child("apiVersion"), ""));
    } else if field.is_empty() {
        errors.push(FieldError::required(&path.child("fieldPath"), ""));
    } else if let Some((field, key)) = subscript(field) {
        match field {
            "metadata.annotations" => checks::qualified(&key.to_lowercase(), path, errors),
            "metadata.labels" => checks::qualified(key, path, errors),
            _ => errors.push(FieldError::invalid(path, field, "does not support subscript")),
        }
    } else if !FIELDS.contains(&field) && !FILE_FIELDS.contains(&field) {
        let detail = format!("error converting fieldPath: field label not supported: {field}");
        errors.push(FieldError::invalid(&path.child("fieldPath"), field, detail));
    } else {
        checks::supported(field, allowed, &path.child("fieldPath"), errors);
    }
}

/// `metadata.labels['a']` as (`metadata.labels`, `a`).
fn subscript(field: &str) -> Option<(&str, &str)> {
    let (field, key) = field.strip_suffix("']")?.split_once("['")?;
    (!field.is_empty()).then_some((field, key))
}

/// Checks a reference to what a container asks for or may take.
pub(super) fn resource_ref(
    selector: &ResourceFieldSelector,
    in_file: bool,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let resource = selector.resource.as_str();
    let huge = resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if in_file && text(&selector.container_name).is_empty() {
        errors.push(FieldError::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(FieldError::required(&path.child("resource"), ""));
    } else if !huge {
        checks::supported(resource, &RESOURCES, &path.child("resource"), errors);
    }
    if let Some(divisor) = &selector.divisor {
        resource_divisor(resource, huge, divisor, &path.child("divisor"), errors);
    }
}

fn resource_divisor(resource: &str, huge: bool, divisor: &Api, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let parsed = match Quantity::try_from(divisor) {
        Ok(divisor) if divisor.is_zero() => return,
        Ok(divisor) => divisor.to_string(),
        Err(error) => {
            errors.push(FieldError::invalid(path, &divisor.0, error.to_string()));
            return;
        }
    };
    let (allowed, what): (&[&str], &str) = match resource.rsplit_once('.').map(|(_, name)| name) {
        Some("cpu") => {
            if !["1m", "1"].contains(&parsed.as_str()) {
                let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.push(FieldError::invalid(path, resource, detail));
            }
            return;
        }
        Some("memory") => (&BYTE_DIVISORS, "memory"),
        Some("ephemeral-storage") => (&BYTE_DIVISORS, "local ephemeral storage"),
        _ if huge => (&BYTE_DIVISORS, "hugepages"),
        _ => return,
    };
    if !allowed.contains(&parsed.as_str()) {
        let list = allowed.join(", ");
        let detail = format!("only divisor's values {list} are supported with the {what} resource");
        errors.push(FieldError::invalid(path, resource, detail));
    }
}

/// Checks sources of many variables.
pub(super) fn sources(sources: &[EnvFromSource], path: &FieldPath<'_>, errors: &mut ErrorList) {
    for (at, source) in sources.iter().enumerate() {
        let prefix = text(&source.prefix);
        let at = path.index(at);
        if !prefix.is_empty() {
            errors.push_messages(&at.child("prefix"), prefix, names::env_var_name(prefix));
        }
        let map = source.config_map_ref.as_ref().map(|map| ("configMapRef", &map.name));
        let secret = source.secret_ref.as_ref().map(|secret| ("secretRef", &secret.name));
        for (field, name) in map.iter().chain(&secret) {
            let (source, name) = (at.child(field), name.as_str());
            if name.is_empty() {
                errors.push(FieldError::required(&source.child("name"), ""));
            } else {
                errors.push_messages(&source.child("name"), name, names::name_is_subdomain(name, true));
            }
        }
        match (map, secret) {
            (None, None) => errors.push(FieldError::invalid(
                path,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            )),
            (Some(_), Some(_)) => errors.push(FieldError::invalid(
                path,
                "",
                "may not have more than one field specified at a time",
            )),
            _ => {}
        }
    }
}

/// A variable from a file needs a volume that containers can write to (KEP-3721).
pub(super) fn file_volumes(context: &Context<'_>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    each_container(context.spec, path, |view, path| {
        for (at, variable) in view.env.iter().enumerate() {
            let Some(file) = variable.value_from.as_ref().and_then(|from| from.file_key_ref.as_ref()) else {
                continue;
            };
            let (env, name) = (path.child("env"), file.volume_name.as_str());
            let (at, from, key) = (env.index(at), "valueFrom", "fileKeyRef");
            let (from, name_field) = (at.child(from), "volumeName");
            let key = from.child(key);
            match context.volumes.get(name) {
                None => errors.push(FieldError::not_found(&key.child(name_field), name)),
                Some(volume) if volume.empty_dir.is_none() => errors.push(FieldError::invalid(
                    &key.child(name_field),
                    name,
                    "referenced volume must be of type emptyDir",
                )),
                Some(_) => {}
            }
        }
    });
}
