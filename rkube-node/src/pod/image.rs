//! Whether a container's image is there, and what to do about it.

use std::time::Duration;

use jiff::Timestamp;

use super::{Input, later, life::View};
use crate::runtime::ImageState;

/// How long a failed pull is shown as ErrImagePull before it is shown as waiting for the next try.
const FRESH: Duration = Duration::from_secs(2);

/// What a container that is to start can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ImageGate {
    /// Start.
    Go,
    /// Pull first; the last try failed, or not.
    Pull { failed: bool },
    /// Wait for the pull.
    Wait,
    /// Wait for the next try, if there will be one.
    Failed { reason: &'static str, message: String, again: Option<Timestamp>, look: Option<Timestamp> },
}

/// `Always` unless the image has a tag other than latest, or a digest.
fn policy<'a>(view: &View<'a>) -> &'a str {
    if let Some(policy) = view.spec.image_pull_policy.as_deref() {
        return policy;
    }
    let image = view.spec.image.as_deref().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        _ if image.contains('@') => "IfNotPresent",
        Some((_, tag)) if tag != "latest" => "IfNotPresent",
        _ => "Always",
    }
}

pub(super) fn gate(input: &Input<'_>, view: &View<'_>, attempt: u32) -> ImageGate {
    let image = view.spec.image.as_deref().unwrap_or_default();
    let pull = input.memory.of_image(view.name(), image).and_then(|memory| memory.pull);
    let asked = pull.filter(|pull| pull.attempt == attempt);
    match (policy(view), input.observed.image(image)) {
        ("Never" | "IfNotPresent", ImageState::Present { .. }) => ImageGate::Go,
        ("Never", _) => ImageGate::Failed {
            reason: "ErrImageNeverPull",
            message: format!("Container image \"{image}\" is not present with pull policy of Never"),
            again: None,
            look: None,
        },
        // Always: a pull since this start was first wanted will do.
        (_, ImageState::Present { at, .. }) if asked.is_some_and(|pull| pull.asked <= at) => ImageGate::Go,
        (_, ImageState::Pulling) => ImageGate::Wait,
        (_, ImageState::Failed { error, at }) => match asked {
            Some(pull) if pull.asked <= at => failed(input.now, image, &error, at, pull.wait),
            _ => ImageGate::Pull { failed: false },
        },
        (_, ImageState::Present { .. } | ImageState::Absent) => ImageGate::Pull { failed: false },
    }
}

fn failed(now: Timestamp, image: &str, error: &str, at: Timestamp, wait: Duration) -> ImageGate {
    let again = later(at, wait);
    if now >= again {
        return ImageGate::Pull { failed: true };
    }
    let fresh = later(at, FRESH);
    if now < fresh {
        return ImageGate::Failed {
            reason: "ErrImagePull",
            message: error.to_owned(),
            again: Some(again),
            look: Some(fresh.min(again)),
        };
    }
    ImageGate::Failed {
        reason: "ImagePullBackOff",
        message: format!("Back-off pulling image \"{image}\": ErrImagePull: {error}"),
        again: Some(again),
        look: Some(again),
    }
}
