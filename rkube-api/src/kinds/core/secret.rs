//! Secret. Semantics: <https://kubernetes.io/docs/concepts/configuration/secret/>

use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::json;

use crate::{
    kinds::shared::{fill, text},
    registry::Definition,
};

/// The definition of Secret.
pub fn definition() -> Definition {
    Definition::of::<Secret>()
        .default(default)
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
