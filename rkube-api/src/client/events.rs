//! The event recorder: tells users, by Event objects, what a component did to an object.
//!
//! Repeats of one event become a count on one object, and one source cannot flood an object with them
//! (25 at once, then one in five minutes), as in client-go's correlator.
//!
//! Kubernetes' components write events of two forms, and kubectl sorts by a time that only the older one has
//! (`lastTimestamp`, in whole seconds), then as the server lists them: by name. So names follow time, and
//! each component writes the form that it has in Kubernetes: what the scheduler says of a pod
//! ([`EventRecorder::new_form`]) stands before what the kubelet says a moment later.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::{Api, Client, Patch, PatchParams, PostParams};
use crate::{context::Context, error::ApiError, object::Kind};

/// `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// As things should be.
    Normal,
    /// As things should not be.
    Warning,
}

impl EventKind {
    /// As in the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// How many events may wait to be written before further ones are dropped.
const WAITING: usize = 1000;
/// How many different events are remembered to count repeats.
const REMEMBERED: usize = 4096;
/// Events that one source may write of one object at once, and how long until it may write one more.
const BURST: (u32, Duration) = (25, Duration::from_secs(300));

/// Records events for one component. Clones share the queue; recording never waits.
///
/// ```no_run
/// # use k8s_openapi::api::core::v1::Pod;
/// # use rkube_api::client::{Client, EventKind, EventRecorder};
/// # fn example(client: &Client, pod: &Pod) {
/// let recorder = EventRecorder::new(client, "my-controller");
/// recorder.record(pod, EventKind::Normal, "Created", "Create", "Created it".into());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct EventRecorder {
    sender: mpsc::Sender<Event>,
    component: Arc<str>,
    /// The machine it works on, if that matters.
    host: Option<Arc<str>>,
    /// The instance of the component that reports, where events have the newer form.
    instance: Option<Arc<str>>,
    /// The number in the last event's name.
    last: Arc<AtomicI64>,
    context: Context,
}

impl EventRecorder {
    /// A recorder that writes with `client`. It starts a task, so it needs a tokio runtime.
    pub fn new(client: &Client, component: impl Into<Arc<str>>) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let component = component.into();
        let writer = Writer {
            client: client.clone(),
            seen: BTreeMap::new(),
            budgets: BTreeMap::new(),
            sweep_at: REMEMBERED,
        };
        client.context().spawner.spawn("event-recorder", writer.run(receiver));
        Self {
            sender,
            component,
            host: None,
            instance: None,
            last: Arc::default(),
            context: client.context().clone(),
        }
    }

    /// The same recorder for what the component does on one machine: `source.host` of its events, and the
    /// instance that reports them.
    pub fn on_host(&self, host: impl Into<Arc<str>>) -> Self {
        Self { host: Some(host.into()), ..self.clone() }
    }

    /// The same recorder with events in the form of `events.k8s.io/v1`, as this instance of the component
    /// reports them: one time in microseconds, repeats as a series. They need an action.
    pub fn new_form(&self, instance: impl Into<Arc<str>>) -> Self {
        Self { instance: Some(instance.into()), ..self.clone() }
    }

    /// Records that something happened to `regarding`. `action` says what the component did, `note` is
    /// the sentence for people.
    pub fn record<K: Kind>(&self, regarding: &K, kind: EventKind, reason: &str, action: &str, note: String) {
        self.record_reference(reference_to(regarding), kind, reason, action, note);
    }

    /// As [`EventRecorder::record`], of an object whose kind is known at run time only, or of a part of one
    /// (`fieldPath`).
    pub fn record_reference(
        &self,
        regarding: ObjectReference,
        kind: EventKind,
        reason: &str,
        action: &str,
        note: String,
    ) {
        let namespace = regarding.namespace.clone().filter(|namespace| !namespace.is_empty());
        let namespace = namespace.unwrap_or_else(|| "default".into());
        let mut event = Event {
            metadata: ObjectMeta {
                namespace: Some(namespace),
                name: Some(event_name(&regarding, self.number())),
                ..ObjectMeta::default()
            },
            involved_object: regarding,
            type_: Some(kind.as_str().into()),
            reason: Some(reason.into()),
            action: (!action.is_empty()).then(|| action.into()),
            message: Some(note),
            reporting_component: Some(self.component.to_string()),
            reporting_instance: self.instance.as_ref().or(self.host.as_ref()).map(ToString::to_string),
            ..Event::default()
        };
        match self.instance {
            Some(_) => event.event_time = Some(self.context.clock.now_micro()),
            None => {
                let now = self.context.clock.now();
                event.source = Some(EventSource {
                    component: Some(self.component.to_string()),
                    host: self.host.as_deref().map(Into::into),
                });
                (event.count, event.first_timestamp) = (Some(1), Some(now.clone()));
                event.last_timestamp = Some(now);
            }
        }
        if self.sender.try_send(event).is_err() {
            tracing::debug!(component = %self.component, reason, "too many events wait; one was dropped");
        }
    }

    /// The time, or one more than the last number if that is later: names in the order of time.
    fn number(&self) -> i64 {
        let now = self.context.clock.timestamp().as_nanosecond();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let next = |last: i64| Some(now.max(last.saturating_add(1)));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        now.max(last.saturating_add(1))
    }
}

/// An event's name: its object's, and when it was, so that a list by name is one by time.
fn event_name(regarding: &ObjectReference, number: i64) -> String {
    let mut object = regarding.name.clone().unwrap_or_default();
    // A name has 253 bytes at most, of which the suffix takes 17; names of objects are ASCII.
    object.truncate(object.floor_char_boundary(236));
    format!("{object}.{number:016x}")
}

/// A reference to an object as it is now, as an event regards it.
pub fn reference_to<K: Kind>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.into()),
        kind: Some(K::KIND.into()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

type Repeat = (String, String, String, String, String);

/// What makes two events repeats of one: object and part of it, component, type, reason and message.
fn repeat_key(event: &Event) -> Repeat {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    (
        [subject(event), text(&event.involved_object.field_path)].join("/"),
        text(&event.reporting_component),
        text(&event.type_),
        text(&event.reason),
        text(&event.message),
    )
}

fn subject(event: &Event) -> String {
    let object = &event.involved_object;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let host = event.reporting_instance.clone();
    let parts = [&object.kind, &object.namespace, &object.name, &object.uid, &host].map(text);
    parts.join("/")
}

/// Writes an event under the next free name: other components tell of the same object at the same time.
async fn create(api: &Api<Event>, mut event: Event) -> Result<Arc<Event>, ApiError> {
    const TRIES: usize = 16;
    for _ in 1..TRIES {
        match api.create(&PostParams::default(), event.clone()).await {
            Err(ApiError::AlreadyExists { .. }) => {}
            written => return written,
        }
        let name = event.metadata.name.as_deref().unwrap_or_default();
        let (_, number) = name.rsplit_once('.').unwrap_or_default();
        let number = i64::from_str_radix(number, 16).unwrap_or_default().saturating_add(1);
        event.metadata.name = Some(event_name(&event.involved_object, number));
    }
    api.create(&PostParams::default(), event).await
}

/// What an event becomes that has happened so many times.
fn repeated(event: &Event, count: i32) -> Value {
    match &event.event_time {
        Some(MicroTime(_)) => json!({"series": {"count": count, "lastObservedTime": event.event_time}}),
        None => json!({"count": count, "lastTimestamp": event.last_timestamp}),
    }
}

struct Known {
    namespace: String,
    name: String,
    count: i32,
    last: Instant,
}

struct Writer {
    client: Client,
    seen: BTreeMap<Repeat, Known>,
    budgets: BTreeMap<String, (u32, Instant)>,
    /// How many budgets there are when those that are full again are next dropped.
    sweep_at: usize,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Event>) {
        while let Some(event) = receiver.recv().await {
            if !self.within_budget(subject(&event)) {
                continue;
            }
            if let Err(error) = self.write(event).await {
                // As in client-go: an event that the server refuses is not worth a retry.
                tracing::debug!(%error, "an event was not written");
            }
        }
    }

    fn within_budget(&mut self, subject: String) -> bool {
        let now = Instant::now();
        if self.budgets.len() >= self.sweep_at {
            self.budgets.retain(|_, (used, since)| now.duration_since(*since) < BURST.1 * *used);
            // The next sweep comes when as many again are there, so that sweeps cost little each.
            self.sweep_at = (self.budgets.len() * 2).max(REMEMBERED);
        }
        let (used, since) = self.budgets.entry(subject).or_insert((0, now));
        let regained = (now.duration_since(*since).as_secs() / BURST.1.as_secs()).min(u64::from(*used));
        *used -= u32::try_from(regained).unwrap_or(*used);
        *since += BURST.1 * u32::try_from(regained).unwrap_or_default();
        if *used >= BURST.0 {
            return false;
        }
        *used += 1;
        true
    }

    async fn write(&mut self, event: Event) -> Result<(), ApiError> {
        let key = repeat_key(&event);
        if let Some(known) = self.seen.get_mut(&key) {
            known.count += 1;
            known.last = Instant::now();
            let changes = Patch::Merge(repeated(&event, known.count));
            let api: Api<Event> = Api::namespaced(self.client.clone(), known.namespace.clone());
            match api.patch(&known.name, &PatchParams::default(), &changes).await {
                // It went away by its time to live: begin anew.
                Err(ApiError::NotFound { .. }) => {}
                other => return other.map(|_| ()),
            }
        }
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        if self.seen.len() >= REMEMBERED {
            self.forget_oldest();
        }
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace.clone());
        let created = create(&api, event).await?;
        let name = created.metadata.name.clone().unwrap_or_default();
        self.seen.insert(key, Known { namespace, name, count: 1, last: Instant::now() });
        Ok(())
    }

    /// Drops the older half of what is remembered.
    fn forget_oldest(&mut self) {
        let mut times: Vec<Instant> = self.seen.values().map(|known| known.last).collect();
        times.sort_unstable();
        if let Some(&middle) = times.get(times.len() / 2) {
            self.seen.retain(|_, known| known.last > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use parking_lot::Mutex;

    use super::*;
    use crate::request::{ApiRequest, ApiResponse, Body, Credentials, Transport, Verb};

    /// Takes every create, and has no object to patch.
    #[derive(Default)]
    struct Taker {
        names: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl Transport for Taker {
        async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
            let (Verb::Create, Body::Object(object)) = (request.verb, request.body) else {
                return Err(ApiError::not_found("", "events", ""));
            };
            self.names.lock().push(object.name().to_owned());
            Ok(ApiResponse::Object { object, code: 201, warnings: Vec::new() })
        }
    }

    fn writer() -> (Writer, Arc<Taker>) {
        let (taker, context) = (Arc::new(Taker::default()), Context::simulated(1));
        let client = Client::new(taker.clone(), Credentials::Anonymous, "test", context);
        let (seen, budgets) = (BTreeMap::new(), BTreeMap::new());
        (Writer { client, seen, budgets, sweep_at: REMEMBERED }, taker)
    }

    fn of(name: impl Into<String>) -> Event {
        let involved_object = ObjectReference { name: Some(name.into()), ..ObjectReference::default() };
        let metadata = ObjectMeta {
            namespace: Some("default".into()),
            name: Some(event_name(&involved_object, 1)),
            ..ObjectMeta::default()
        };
        Event { involved_object, metadata, ..Event::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn budgets_that_are_full_again_are_forgotten() {
        let (mut writer, _) = writer();
        for at in 0..REMEMBERED {
            assert!(writer.within_budget(at.to_string()));
        }
        assert!(writer.within_budget("0".into()), "a second one of this object");
        assert_eq!((writer.budgets.len(), writer.sweep_at), (REMEMBERED, 2 * REMEMBERED), "all are in use");
        tokio::time::advance(BURST.1).await;
        writer.sweep_at = REMEMBERED;
        assert!(writer.within_budget("new".into()));
        let mut left: Vec<_> = writer.budgets.keys().map(String::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["0", "new"], "what it may write again is what nobody knows of");
        assert_eq!(writer.sweep_at, REMEMBERED);
    }

    #[tokio::test(start_paused = true)]
    async fn one_object_is_not_flooded() {
        let (mut writer, _) = writer();
        let written = |writer: &mut Writer| (0..100).filter(|_| writer.within_budget("a".into())).count();
        assert_eq!(written(&mut writer), 25);
        tokio::time::advance(BURST.1 * 2).await;
        assert_eq!(written(&mut writer), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_older_half_of_what_is_known_is_forgotten() {
        let (mut writer, taker) = writer();
        for at in 0..=REMEMBERED {
            writer.write(of(at.to_string())).await.unwrap();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(taker.names.lock().len(), REMEMBERED + 1);
        assert!(writer.seen.len() <= REMEMBERED / 2 + 1, "{} are known", writer.seen.len());
        assert!(writer.seen.contains_key(&repeat_key(&of(REMEMBERED.to_string()))));
        assert!(!writer.seen.contains_key(&repeat_key(&of("0"))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_of_a_long_name_has_a_name_that_is_allowed() {
        let (mut writer, taker) = writer();
        for name in ["web".to_owned(), "a".repeat(253), "é".repeat(200)] {
            writer.write(of(name)).await.unwrap();
        }
        let names = taker.names.lock();
        assert!(names[0].starts_with("web.") && names[0].len() == 20, "{}", names[0]);
        assert_eq!(names[1].len(), 253);
        assert!(
            names.iter().all(|name| name.len() <= 253 && name[..].rsplit('.').next().unwrap().len() == 16)
        );
    }
}
