//! Secret. Semantics: <https://kubernetes.io/docs/concepts/configuration/secret/>

use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::{Value, json};

use super::config_map::{IMMUTABLE, MAX_BYTES};
use crate::{
    kinds::shared::{fill, semantic, text, yes},
    meta::{ErrorList, FieldError, FieldPath, names},
    registry::Definition,
};

const ACCOUNT_ANNOTATION: &str = "kubernetes.io/service-account.name";

/// The definition of Secret.
pub fn definition() -> Definition {
    Definition::of::<Secret>()
        .default(default)
        .prepare_update(keep_type)
        .validate(validate)
        .validate_update(validate_update)
        .selectable("type", |secret| Some(text(&secret.type_).to_owned()))
        .column("Type", "string", "How programs read the secret.", |secret, _| json!(text(&secret.type_)))
        .column("Data", "string", "How many entries it has.", |secret, _| {
            json!(secret.data.as_ref().map_or(0, |data| data.len()))
        })
        .age()
        .build()
}

/// `stringData` is only for writing: it goes into `data`, over what is there.
fn default(secret: &mut Secret) {
    if let Some(texts) = secret.string_data.take()
        && !texts.is_empty()
    {
        let data = secret.data.get_or_insert_default();
        data.extend(texts.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))));
    }
    fill(&mut secret.type_, "Opaque");
}

/// A secret keeps its type, should an update not say it.
fn keep_type(new: &mut Secret, old: &Secret) {
    if text(&new.type_).is_empty() {
        new.type_.clone_from(&old.type_);
    }
}

fn validate(secret: &Secret) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = FieldPath::new("data");
    let mut bytes = 0;
    for (key, value) in secret.data.iter().flatten() {
        errors.push_messages(&path.key(key), key, names::config_map_key(key));
        bytes += value.0.len();
    }
    if bytes > MAX_BYTES {
        errors.push(FieldError::too_long(&path, MAX_BYTES));
    }
    validate_type(secret, &path, &mut errors);
    errors
}

/// What a secret of a known type must hold.
fn validate_type(secret: &Secret, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let value = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|value| &value.0);
    let mut need = |keys: &[&str]| {
        for key in keys {
            errors.push(FieldError::required(&path.key(key), ""));
        }
    };
    match text(&secret.type_) {
        "kubernetes.io/service-account-token" => {
            let annotations = secret.metadata.annotations.as_ref();
            let account = annotations.and_then(|annotations| annotations.get(ACCOUNT_ANNOTATION));
            if account.is_none_or(|account| account.is_empty()) {
                let metadata = FieldPath::new("metadata");
                let annotations = metadata.child("annotations");
                errors.push(FieldError::required(&annotations.key(ACCOUNT_ANNOTATION), ""));
            }
        }
        "kubernetes.io/dockercfg" => validate_json(value(".dockercfg"), &path.key(".dockercfg"), errors),
        "kubernetes.io/dockerconfigjson" => {
            validate_json(value(".dockerconfigjson"), &path.key(".dockerconfigjson"), errors);
        }
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            need(&["username", "password"]);
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(Vec::is_empty) => {
            need(&["ssh-privatekey"]);
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if value(key).is_none() {
                    need(&[key]);
                }
            }
        }
        _ => {}
    }
}

fn validate_json(value: Option<&Vec<u8>>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    match value.map(|bytes| serde_json::from_slice::<serde_json::Map<String, Value>>(bytes)) {
        None => errors.push(FieldError::required(path, "")),
        Some(Err(error)) => {
            errors.push(FieldError::invalid(path, "<secret contents redacted>", redacted(&error)));
        }
        Some(Ok(_)) => {}
    }
}

/// Where the JSON is wrong, without what stands there.
fn redacted(error: &serde_json::Error) -> String {
    format!("invalid JSON at line {}, column {}", error.line(), error.column())
}

fn validate_update(new: &Secret, old: &Secret) -> ErrorList {
    let mut errors = ErrorList::new();
    errors.immutable(&FieldPath::new("type"), text(&new.type_), text(&old.type_));
    if yes(&old.immutable) {
        for (field, changed) in
            [("immutable", !yes(&new.immutable)), ("data", !semantic::equal(&new.data, &old.data))]
        {
            if changed {
                errors.push(FieldError::forbidden(&FieldPath::new(field), IMMUTABLE));
            }
        }
    }
    errors
}
