//! From the lines of a watch to its events.

use bytes::BytesMut;
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::Value;

use super::{Body, answer};
use crate::{
    error::ApiError,
    request::{WatchEvent, WatchStream},
};

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

fn event(line: &[u8]) -> WatchEvent {
    let broken = |error: &dyn std::fmt::Display| {
        WatchEvent::Error(ApiError::internal(format!("a watch event could not be read: {error}")))
    };
    let Line { kind, object } = match serde_json::from_slice(line) {
        Ok(line) => line,
        Err(error) => return broken(&error),
    };
    let with = |make: fn(crate::object::Object) -> WatchEvent, object| match answer::object(object) {
        Ok(object) => make(object),
        Err(error) => broken(&error),
    };
    match kind.as_str() {
        "ADDED" => with(WatchEvent::Added, object),
        "MODIFIED" => with(WatchEvent::Modified, object),
        "DELETED" => with(WatchEvent::Deleted, object),
        "BOOKMARK" => WatchEvent::Bookmark {
            resource_version: object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
            initial_events_end: object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true",
        },
        "ERROR" => match serde_json::from_value(object) {
            Ok(status) => WatchEvent::Error(ApiError::from_status(status)),
            Err(error) => broken(&error),
        },
        other => broken(&format!("unknown type {other:?}")),
    }
}

/// The events of a watch. A connection that breaks ends them, as a server does that has no more to say:
/// the watcher resumes from the last version that it saw.
pub(super) fn stream(body: Body) -> WatchStream {
    stream::unfold(Some((body, BytesMut::new(), 0)), |state| async move {
        let (mut body, mut text, mut searched) = state?;
        loop {
            if let Some(end) = text[searched..].iter().position(|byte| *byte == b'\n') {
                let line = text.split_to(searched + end + 1);
                searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let event = event(&line);
                let over = matches!(event, WatchEvent::Error(_));
                return Some((event, (!over).then_some((body, text, searched))));
            }
            searched = text.len();
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        text.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "watch broke off");
                    return None;
                }
                // A last line without its end is an event cut short: it was not delivered.
                None => return None,
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    #[tokio::test]
    async fn lines_become_events_however_they_are_cut() {
        let text = concat!(
            r#"{"type":"ADDED","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}}"#,
            "\n\n",
            r#"{"type":"BOOKMARK","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
            "\n",
            r#"{"type":"ERROR","object":{"apiVersion":"v1","kind":"Status","code":410,"reason":"Expired","message":"old"}}"#,
            "\n",
            r#"{"type":"ADDED","object":{"#,
        );
        let events: Vec<_> = stream(Body::from(text.as_bytes().to_vec())).collect().await;
        let [
            WatchEvent::Added(map),
            WatchEvent::Bookmark { resource_version, initial_events_end: true },
            WatchEvent::Error(error),
        ] = events.as_slice()
        else {
            panic!("{events:?}");
        };
        assert!(map.as_kind::<ConfigMap>().is_some());
        assert_eq!((resource_version.as_str(), error.code()), ("9", 410));
    }
}
