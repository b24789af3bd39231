//! What is worth telling people: the events of a pod, with the kubelet's reasons.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus};
use rkube_api::client::EventKind;

use super::{Action, Memory};

/// One event to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Normal or Warning.
    pub kind: EventKind,
    /// `Pulling`, `Started`, `BackOff`, ...
    pub reason: Cow<'static, str>,
    /// The sentence.
    pub text: String,
    /// The part of the pod that it is about, `spec.containers{name}`; absent: the pod as a whole.
    pub part: Option<String>,
}

impl Note {
    pub(crate) fn of_pod(kind: EventKind, reason: impl Into<Cow<'static, str>>, text: String) -> Self {
        Self { kind, reason: reason.into(), text, part: None }
    }
}

/// Makes the notes about one container.
pub(crate) fn about(pod: &Pod, container: &str) -> impl Fn(EventKind, &'static str, String) -> Note + use<> {
    let part = part_of(pod, container);
    move |kind, reason, text| Note { part: part.clone(), ..Note::of_pod(kind, reason, text) }
}

/// Where a container is in the pod's spec.
fn part_of(pod: &Pod, container: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let named = |one: &&Container| one.name == container;
    let list = if spec.containers.iter().any(|one| named(&one)) {
        "containers"
    } else if spec.init_containers.iter().flatten().any(|one| named(&one)) {
        "initContainers"
    } else if spec.ephemeral_containers.iter().flatten().any(|one| one.name == container) {
        "ephemeralContainers"
    } else {
        return None;
    };
    Some(format!("spec.{list}{{{container}}}"))
}

/// What an action that was taken is worth telling.
pub(crate) fn of_action(pod: &Pod, action: &Action, memory: &Memory) -> Vec<Note> {
    match action {
        Action::Pull { container, image, .. } => {
            let note = about(pod, container);
            vec![note(EventKind::Normal, "Pulling", format!("Pulling image \"{image}\""))]
        }
        Action::Start { container, attempt, image, .. } => {
            let note = about(pod, container);
            let pulled = memory.container(container).and_then(|memory| memory.pull);
            let text = match pulled {
                Some(pull) if pull.attempt == *attempt => format!("Successfully pulled image \"{image}\""),
                _ => format!("Container image \"{image}\" already present on machine"),
            };
            vec![
                note(EventKind::Normal, "Pulled", text),
                note(EventKind::Normal, "Created", format!("Created container: {container}")),
                note(EventKind::Normal, "Started", format!("Started container {container}")),
            ]
        }
        Action::Stop { container, reason, .. } => {
            vec![about(pod, container)(EventKind::Normal, "Killing", reason.clone())]
        }
        _ => Vec::new(),
    }
}

fn image_of<'a>(pod: &'a Pod, container: &str) -> &'a str {
    let mut all = pod.spec.iter().flat_map(super::images);
    all.find(|(name, _)| *name == container).map(|(_, image)| image).unwrap_or_default()
}

/// What the change of a status is worth telling.
pub fn notes(pod: &Pod, old: &PodStatus, new: &PodStatus) -> Vec<Note> {
    let all = |status| {
        let PodStatus {
            init_container_statuses: inits,
            container_statuses: mains,
            ephemeral_container_statuses: ephemeral,
            ..
        }: &PodStatus = status;
        inits.iter().chain(mains).chain(ephemeral).flatten()
    };
    let mut notes = Vec::new();
    for container in all(new) {
        let before = all(old).find(|old| old.name == container.name).and_then(waiting);
        if waiting(container) != before {
            of_waiting(pod, container, &mut notes);
        }
    }
    let deadline = |status: &PodStatus| status.reason.as_deref() == Some("DeadlineExceeded");
    if deadline(new) && !deadline(old) {
        let text = new.message.clone().unwrap_or_default();
        notes.push(Note::of_pod(EventKind::Normal, "DeadlineExceeded", text));
    }
    notes
}

fn waiting(status: &ContainerStatus) -> Option<&str> {
    status.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

fn of_waiting(pod: &Pod, container: &ContainerStatus, notes: &mut Vec<Note>) {
    let message = container
        .state
        .as_ref()
        .and_then(|state| state.waiting.as_ref()?.message.clone())
        .unwrap_or_default();
    let meta = &pod.metadata;
    let note = about(pod, &container.name);
    match waiting(container) {
        Some("CrashLoopBackOff") => {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            let place = format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid));
            let text = format!("Back-off restarting failed container {} in pod {place}", container.name);
            notes.push(note(EventKind::Warning, "BackOff", text));
        }
        Some("ErrImagePull") => {
            let image = image_of(pod, &container.name);
            let text = format!("Failed to pull image \"{image}\": {message}");
            notes.push(note(EventKind::Warning, "Failed", text));
            notes.push(note(EventKind::Warning, "Failed", "Error: ErrImagePull".into()));
        }
        Some("ImagePullBackOff") => {
            let image = image_of(pod, &container.name);
            notes.push(note(EventKind::Normal, "BackOff", format!("Back-off pulling image \"{image}\"")));
            notes.push(note(EventKind::Warning, "Failed", "Error: ImagePullBackOff".into()));
        }
        Some("ErrImageNeverPull") => {
            notes.push(note(EventKind::Warning, "ErrImageNeverPull", message));
        }
        _ => {}
    }
}
