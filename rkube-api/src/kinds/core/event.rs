//! Event: one resource, served in two groups. The core version is the hub; `events.k8s.io/v1` has the
//! same fields under other names. Semantics: KEP-383.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Event, EventSeries, ObjectReference},
        events::v1::{Event as NewEvent, EventSeries as NewSeries},
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use serde_json::{Value, json};

use crate::{
    kinds::shared::{checks, printing, text},
    meta::{ErrorList, FieldError, FieldPath, names},
    object::ObjectError,
    registry::{Cell, Definition},
};

/// How long an event is kept.
pub const TIME_TO_LIVE: Duration = Duration::from_secs(3600);

/// The definition of Event.
pub fn definition() -> Definition {
    let builder = Definition::of::<Event>()
        .short(&["ev"])
        .also::<NewEvent>(to_hub, from_hub)
        .time_to_live(TIME_TO_LIVE)
        .create_on_update()
        .validate_name(names::name_is_path_segment)
        .validate(validate)
        .selectable("reason", |event| event.reason.clone())
        .selectable("reportingComponent", |event| event.reporting_component.clone())
        .selectable("reportingController", |event| event.reporting_component.clone())
        .selectable("type", |event| event.type_.clone())
        .selectable("source", |event| Some(component(event).to_owned()));
    let mut definition = references(builder)
        .column("Last Seen", "string", "When it was last seen.", |event, at| json!(last_seen(event, at)))
        .column("Type", "string", "Normal or Warning.", |event, _| json!(text(&event.type_)))
        .column("Reason", "string", "Why it was made, in a word.", |event, _| json!(text(&event.reason)))
        .column("Object", "string", "What it is about.", |event, _| json!(object(event)))
        .wide("Subobject", "string", "Which part of the object it is about.", |event, _| {
            json!(text(&event.involved_object.field_path))
        })
        .wide("Source", "string", "Who made it.", |event, _| json!(source(event)))
        .column("Message", "string", "What happened.", |event, _| json!(text(&event.message).trim()))
        .wide("First Seen", "string", "When it was first seen.", |event, at| json!(first_seen(event, at)))
        .wide("Count", "string", "How often it was seen.", |event, _| count(event))
        .build();
    // The table of events ends with the name instead of beginning with it.
    let mut name = definition.columns.remove(0);
    name.priority = 1;
    definition.columns.push(name);
    definition
}

type EventBuilder = crate::registry::Builder<Event>;

/// The fields of the reference, under the names of both versions.
fn references(builder: EventBuilder) -> EventBuilder {
    macro_rules! both {
        ($builder:expr, $($field:ident $name:literal),*) => {
            $builder$(
                .selectable(concat!("involvedObject.", $name), |event| event.involved_object.$field.clone())
                .selectable(concat!("regarding.", $name), |event| event.involved_object.$field.clone())
            )*
        };
    }
    both!(
        builder,
        kind "kind", namespace "namespace", name "name", uid "uid", api_version "apiVersion",
        resource_version "resourceVersion", field_path "fieldPath"
    )
}

fn component(event: &Event) -> &str {
    match event.source.as_ref().map_or("", |source| text(&source.component)) {
        "" => text(&event.reporting_component),
        component => component,
    }
}

fn source(event: &Event) -> String {
    let instance = match event.source.as_ref().map_or("", |source| text(&source.host)) {
        "" => text(&event.reporting_instance),
        host => host,
    };
    match (component(event), instance) {
        (component, "") => component.to_owned(),
        (component, instance) => format!("{component}, {instance}"),
    }
}

fn object(event: &Event) -> String {
    let kind = text(&event.involved_object.kind).to_lowercase();
    match text(&event.involved_object.name) {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn first_seen(event: &Event, at: &Cell) -> String {
    match &event.first_timestamp {
        Some(first) => printing::since(Some(first), at.now),
        None => printing::since_micro(event.event_time.as_ref(), at.now),
    }
}

fn last_seen(event: &Event, at: &Cell) -> String {
    match (&event.series, &event.last_timestamp) {
        (Some(series), _) => printing::since_micro(series.last_observed_time.as_ref(), at.now),
        (None, Some(last)) => printing::since(Some(last), at.now),
        (None, None) => first_seen(event, at),
    }
}

fn count(event: &Event) -> Value {
    let count = match &event.series {
        Some(series) => series.count.unwrap_or(0),
        // An event of the newer API that happened once has no count.
        None => event.count.filter(|&count| count != 0).unwrap_or(1),
    };
    json!(count)
}

#[expect(clippy::unnecessary_wraps, reason = "conversions may fail")]
fn to_hub(event: NewEvent) -> Result<Event, ObjectError> {
    Ok(Event {
        action: event.action,
        count: event.deprecated_count,
        event_time: event.event_time,
        first_timestamp: event.deprecated_first_timestamp,
        involved_object: event.regarding.unwrap_or_default(),
        last_timestamp: event.deprecated_last_timestamp,
        message: event.note,
        metadata: event.metadata,
        reason: event.reason,
        related: event.related,
        reporting_component: event.reporting_controller,
        reporting_instance: event.reporting_instance,
        series: event.series.map(|series| EventSeries {
            count: Some(series.count),
            last_observed_time: Some(series.last_observed_time),
        }),
        source: event.deprecated_source,
        type_: event.type_,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "conversions may fail")]
fn from_hub(event: &Event) -> Result<NewEvent, ObjectError> {
    let event = event.clone();
    let nothing = ObjectReference::default();
    Ok(NewEvent {
        action: event.action,
        deprecated_count: event.count,
        deprecated_first_timestamp: event.first_timestamp,
        deprecated_last_timestamp: event.last_timestamp,
        deprecated_source: event.source,
        event_time: event.event_time,
        metadata: event.metadata,
        note: event.message,
        reason: event.reason,
        regarding: (event.involved_object != nothing).then_some(event.involved_object),
        related: event.related,
        reporting_controller: event.reporting_component,
        reporting_instance: event.reporting_instance,
        series: event.series.map(|series| NewSeries {
            count: series.count.unwrap_or(0),
            last_observed_time: series.last_observed_time.unwrap_or(MicroTime(Timestamp::UNIX_EPOCH)),
        }),
        type_: event.type_,
    })
}

const MAX_TEXT: usize = 128;
const MAX_NOTE: usize = 1024;

/// Events of before KEP-383 have no `eventTime`, and fewer rules.
fn validate(event: &Event) -> ErrorList {
    let mut errors = ErrorList::new();
    let own = text(&event.metadata.namespace);
    let about = text(&event.involved_object.namespace);
    let new = event.event_time.is_some();
    let agrees = match (new, about) {
        (false, "") => matches!(own, "" | "default"),
        (false, about) => own == about,
        (true, "") => matches!(own, "default" | "kube-system"),
        (true, _) => true,
    };
    if !agrees {
        let object = FieldPath::new("involvedObject");
        let detail = "does not match event.namespace";
        errors.push(FieldError::invalid(&object.child("namespace"), about, detail));
    }
    if new {
        let controller = text(&event.reporting_component);
        let path = FieldPath::new("reportingController");
        checks::required(controller, &path, &mut errors);
        checks::qualified(controller, &path, &mut errors);
        for (field, value) in [
            ("reportingInstance", &event.reporting_instance),
            ("action", &event.action),
            ("reason", &event.reason),
        ] {
            let path = FieldPath::new(field);
            checks::required(text(value), &path, &mut errors);
            at_most(text(value), MAX_TEXT, &path, &mut errors);
        }
        at_most(text(&event.message), MAX_NOTE, &FieldPath::new("message"), &mut errors);
    }
    errors
}

fn at_most(value: &str, most: usize, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if value.len() > most {
        errors.push(FieldError::invalid(path, "", format!("can have at most {most} characters")));
    }
}
