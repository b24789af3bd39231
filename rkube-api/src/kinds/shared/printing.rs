//! Words that several tables use.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::PodSpec,
    apimachinery::pkg::apis::meta::v1::{LabelSelector as ApiSelector, MicroTime, Time},
};
use serde_json::{Value, json};

use super::text;
use crate::{meta::LabelSelector, registry::human_duration};

/// What stands for an absent value.
pub(crate) const NONE: &str = "<none>";
/// What stands for an unknown value.
pub(crate) const UNKNOWN: &str = "<unknown>";

/// The text as a cell, or the stand-in if it is empty.
pub(crate) fn or<'a>(value: &'a str, stand_in: &'a str) -> Value {
    Value::String(if value.is_empty() { stand_in } else { value }.to_owned())
}

/// How long ago, `5m10s`; unknown if there is no time.
pub(crate) fn since(time: Option<&Time>, now: Timestamp) -> String {
    time.map_or_else(|| UNKNOWN.into(), |time| human_duration(now.duration_since(time.0)))
}

/// How long ago, `5m10s`; unknown if there is no time.
pub(crate) fn since_micro(time: Option<&MicroTime>, now: Timestamp) -> String {
    time.map_or_else(|| UNKNOWN.into(), |time| human_duration(now.duration_since(time.0)))
}

/// `a=1,b=2`, or `<none>`.
pub(crate) fn labels(labels: Option<&BTreeMap<String, String>>) -> Value {
    let pairs: Vec<String> =
        labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    or(&pairs.join(","), NONE)
}

/// A selector as text; empty for one that selects everything.
pub(crate) fn selector_text(selector: &ApiSelector) -> String {
    LabelSelector::from_api(Some(selector)).map_or_else(|_| "<error>".into(), |selector| selector.to_string())
}

/// A selector as a cell.
pub(crate) fn selector(selector: &ApiSelector) -> Value {
    or(&selector_text(selector), NONE)
}

/// The containers' names, joined.
pub(crate) fn container_names(spec: Option<&PodSpec>) -> Value {
    let names: Vec<&str> =
        spec.iter().flat_map(|spec| &spec.containers).map(|container| &*container.name).collect();
    json!(names.join(","))
}

/// The containers' images, joined.
pub(crate) fn images(spec: Option<&PodSpec>) -> Value {
    let images: Vec<&str> =
        spec.iter().flat_map(|spec| &spec.containers).map(|container| text(&container.image)).collect();
    json!(images.join(","))
}

/// Up to three items, and how many more there are.
pub(crate) fn up_to_three(all: impl Iterator<Item = String>) -> String {
    let mut shown: Vec<String> = Vec::with_capacity(3);
    let mut more = 0;
    for item in all {
        if shown.len() < 3 { shown.push(item) } else { more += 1 }
    }
    match (shown.join(","), more) {
        (list, more) if more > 0 => format!("{list} + {more} more..."),
        (list, _) if list.is_empty() => "<unset>".into(),
        (list, _) => list,
    }
}
