//! Watch framing: one JSON object a chunk, ended by a newline.

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};

use super::{
    media::Shape,
    render::{Renderer, json_text},
};
use crate::{
    context::Clock,
    error::ApiError,
    object::Object,
    registry::{Table, partial_metadata},
    request::{WatchEvent, WatchStream},
};

/// Makes frames of events.
pub(super) struct Framer {
    renderer: Renderer,
    clock: Clock,
    table: Option<Table>,
    /// Column definitions go out once.
    columns_sent: bool,
    api_version: String,
    kind: String,
}

impl Framer {
    pub(super) fn new(renderer: Renderer, clock: Clock) -> Self {
        let table = (renderer.wanted.shape == Shape::Table).then(|| renderer.table());
        Self {
            table,
            clock,
            columns_sent: false,
            api_version: renderer.resolved.api_version(),
            kind: renderer.resolved.definition.names.kind.clone(),
            renderer,
        }
    }

    /// The frame of an event.
    pub(super) fn frame(&mut self, event: &WatchEvent) -> Result<Bytes, ApiError> {
        Ok(match event {
            WatchEvent::Added(object) => frame("ADDED", &self.object(object)?),
            WatchEvent::Modified(object) => frame("MODIFIED", &self.object(object)?),
            WatchEvent::Deleted(object) => frame("DELETED", &self.object(object)?),
            WatchEvent::Bookmark { resource_version, initial_events_end } => {
                frame("BOOKMARK", &self.bookmark(resource_version, *initial_events_end)?)
            }
            WatchEvent::Error(error) => frame("ERROR", &json_text(&error.to_status())?),
        })
    }

    fn object(&mut self, object: &Object) -> Result<Bytes, ApiError> {
        match (&self.table, self.renderer.wanted.shape) {
            (Some(table), _) => {
                let table = table.at(self.clock.timestamp());
                let metadata = json!({"resourceVersion": object.resource_version()});
                let row = self.renderer.row(&table, object)?;
                json_text(&table.render(
                    metadata,
                    vec![row],
                    !std::mem::replace(&mut self.columns_sent, true),
                ))
            }
            (None, Shape::Metadata) => json_text(&partial_metadata(object)?),
            (None, _) => Ok(object.encode()?),
        }
    }

    fn bookmark(&mut self, resource_version: &str, initial_events_end: bool) -> Result<Bytes, ApiError> {
        let mut metadata = json!({"resourceVersion": resource_version});
        if initial_events_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let bookmark: Value = match (&self.table, self.renderer.wanted.shape) {
            (Some(table), _) => {
                let row = table.bookmark_row(metadata);
                let metadata = json!({"resourceVersion": resource_version});
                table.render(metadata, vec![row], !std::mem::replace(&mut self.columns_sent, true))
            }
            (None, Shape::Metadata) => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            }),
            (None, _) => json!({"kind": self.kind, "apiVersion": self.api_version, "metadata": metadata}),
        };
        json_text(&bookmark)
    }
}

fn frame(kind: &str, object: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(object.len() + kind.len() + 24);
    frame.extend_from_slice(b"{\"type\":\"");
    frame.extend_from_slice(kind.as_bytes());
    frame.extend_from_slice(b"\",\"object\":");
    frame.extend_from_slice(object);
    frame.put_slice(b"}\n");
    frame.freeze()
}

/// The frames of a watch; `sent` sees each event. An error event is the last, and so is an event that
/// cannot be encoded, in whose place an error event goes out.
pub(super) fn frames(
    events: WatchStream,
    framer: Framer,
    sent: impl FnMut(&WatchEvent) + Send + 'static,
) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + 'static {
    stream::unfold((events, framer, sent, false), |(mut events, mut framer, mut sent, over)| async move {
        if over {
            return None;
        }
        let event = events.next().await?;
        let (frame, over) = match framer.frame(&event) {
            Ok(frame) => (frame, matches!(event, WatchEvent::Error(_))),
            Err(error) => (framer.frame(&WatchEvent::Error(error)).ok()?, true),
        };
        sent(&event);
        Some((Ok(frame), (events, framer, sent, over)))
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::{
        http::media::{Format, Wanted},
        registry::{Definition, Include, Registry},
    };

    fn framer(shape: Shape) -> Framer {
        let registry = Registry::new([Definition::of::<ConfigMap>().build()]).unwrap();
        let clock = Clock::simulated();
        let renderer = Renderer {
            wanted: Wanted { format: Format::Json, shape },
            include: Include::Metadata,
            resolved: registry.snapshot().resolve("", "v1", "configmaps").unwrap(),
            pretty: false,
            gzip: false,
            now: clock.timestamp(),
        };
        Framer::new(renderer, clock)
    }

    fn map(name: &str) -> Object {
        let mut map = Object::new(ConfigMap::default());
        map.meta_mut().name = Some(name.into());
        map.meta_mut().resource_version = Some("7".into());
        map
    }

    fn value(framer: &mut Framer, event: &WatchEvent) -> Value {
        let frame = framer.frame(event).unwrap();
        assert!(frame.ends_with(b"\n") && frame.iter().filter(|byte| **byte == b'\n').count() == 1);
        serde_json::from_slice(&frame).unwrap()
    }

    #[tokio::test]
    async fn an_event_is_one_line() {
        let mut framer = framer(Shape::Whole);
        let added = value(&mut framer, &WatchEvent::Added(map("a")));
        assert_eq!(added["type"], "ADDED");
        assert_eq!(added["object"]["metadata"]["name"], "a");
        let gone = ApiError::Expired { message: "too old".into(), continue_token: None };
        let error = value(&mut framer, &WatchEvent::Error(gone));
        assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
        let mark = WatchEvent::Bookmark { resource_version: "9".into(), initial_events_end: false };
        assert_eq!(
            value(&mut framer, &mark)["object"],
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}})
        );
    }

    #[tokio::test]
    async fn a_table_watch_sends_its_columns_once() {
        let mut framer = framer(Shape::Table);
        let first = value(&mut framer, &WatchEvent::Added(map("a")));
        assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
        let second = value(&mut framer, &WatchEvent::Modified(map("a")));
        assert_eq!(second["object"]["columnDefinitions"], Value::Null);
        assert_eq!(second["object"]["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    }

    #[tokio::test]
    async fn an_error_ends_the_watch() {
        let gone = ApiError::Expired { message: "too old".into(), continue_token: None };
        let events = stream::iter([WatchEvent::Error(gone), WatchEvent::Added(map("late"))])
            .chain(stream::pending())
            .boxed();
        let frames: Vec<_> = frames(events, framer(Shape::Whole), |_| {}).collect().await;
        assert_eq!(frames.len(), 1);
    }
}
