//! A simulated container: pure steps from created to exited.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rkube_api::context::Rng;

use super::behaviour::ContainerBehaviour;
use crate::runtime::{ContainerState, Exit, Role, RuntimeContainer};

/// What a timer makes of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It runs.
    Run,
    /// It is ready.
    Ready,
    /// Its run is over.
    End,
    /// It has stopped as asked.
    Stopped,
    /// Its grace is over.
    Killed,
}

/// FNV-1a over parts, for ids that depend on what they name only.
pub(super) fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Sixty-four hexadecimal digits, as container runtimes have them.
pub(super) fn long_id(id: u64) -> String {
    let spread = |turn: u32| id.rotate_left(turn).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{id:016x}{:016x}{:016x}{:016x}", spread(13), spread(29), spread(47))
}

/// The number of a long id.
pub(super) fn short_id(id: &str) -> Option<u64> {
    u64::from_str_radix(id.get(..16)?, 16).ok()
}

#[derive(Clone, Debug)]
enum State {
    Created,
    Running { since: Timestamp, ready: bool },
    Exited(Box<Exit>),
}

#[derive(Clone, Debug)]
pub(super) struct SimContainer {
    pub(super) id: u64,
    pub(super) name: Arc<str>,
    pub(super) attempt: u32,
    pub(super) role: Role,
    image: Arc<str>,
    state: State,
}

/// What a container needs to take a step: who it is, how it behaves, and when it is.
pub(super) struct Scene<'a> {
    pub(super) uid: &'a str,
    pub(super) behaviour: &'a ContainerBehaviour,
    pub(super) rng: &'a Rng,
    pub(super) now: Timestamp,
}

impl SimContainer {
    pub(super) fn new(uid: &str, name: Arc<str>, attempt: u32, role: Role, image: Arc<str>) -> Self {
        let id = hash(&[uid, &name, &attempt.to_string()]);
        Self { id, name, attempt, role, image, state: State::Created }
    }

    pub(super) fn exited(&self) -> bool {
        matches!(self.state, State::Exited(_))
    }

    pub(super) fn ready(&self) -> bool {
        matches!(self.state, State::Running { ready: true, .. })
    }

    fn draw(&self, scene: &Scene<'_>, delay: super::Delay, what: &str) -> Duration {
        delay.draw(scene.rng, || format!("{}/{}/{}/{what}", scene.uid, self.name, self.attempt))
    }

    /// How long until it runs.
    pub(super) fn start_delay(&self, scene: &Scene<'_>) -> Duration {
        self.draw(scene, scene.behaviour.start, "start")
    }

    /// Takes a step. `None`: it came too late, nothing changed. Else the steps that follow, and when.
    pub(super) fn step(&mut self, scene: &Scene<'_>, step: Step) -> Option<Vec<(Duration, Step)>> {
        match (step, &mut self.state) {
            (Step::Run, State::Created) => {
                self.state = State::Running { since: scene.now, ready: false };
                Some(self.plans(scene))
            }
            (Step::Ready, State::Running { ready: ready @ false, .. }) => {
                *ready = true;
                Some(Vec::new())
            }
            (Step::End, State::Running { .. }) => {
                let run = scene.behaviour.run(self.attempt).cloned().unwrap_or_default();
                let text = |text: String| (!text.is_empty()).then(|| text.into());
                self.exit(scene.now, run.code, text(run.reason), text(run.message));
                Some(Vec::new())
            }
            (Step::Stopped, State::Created | State::Running { .. }) => {
                self.exit(scene.now, scene.behaviour.stop.code, None, None);
                Some(Vec::new())
            }
            (Step::Killed, State::Created | State::Running { .. }) => {
                self.exit(scene.now, 137, None, None);
                Some(Vec::new())
            }
            _ => None,
        }
    }

    /// What follows when it has begun to run.
    fn plans(&self, scene: &Scene<'_>) -> Vec<(Duration, Step)> {
        let mut plans = Vec::new();
        if !scene.behaviour.never_ready {
            plans.push((self.draw(scene, scene.behaviour.ready, "ready"), Step::Ready));
        }
        if let Some(after) = scene.behaviour.run(self.attempt).and_then(|run| run.after) {
            plans.push((self.draw(scene, after, "run"), Step::End));
        }
        plans
    }

    /// How it answers a request to stop within `grace`.
    pub(super) fn stop(&self, scene: &Scene<'_>, grace: Duration) -> (Duration, Step) {
        let after = self.draw(scene, scene.behaviour.stop.after, "stop");
        if after > grace { (grace, Step::Killed) } else { (after, Step::Stopped) }
    }

    fn exit(&mut self, now: Timestamp, code: i32, reason: Option<Arc<str>>, message: Option<Arc<str>>) {
        let started_at = match self.state {
            State::Running { since, .. } => Some(since),
            State::Created | State::Exited(_) => None,
        };
        self.state = State::Exited(Box::new(Exit { started_at, finished_at: now, code, reason, message }));
    }

    /// As the agent sees it.
    pub(super) fn observed(&self) -> RuntimeContainer {
        RuntimeContainer {
            id: long_id(self.id),
            name: self.name.clone(),
            attempt: self.attempt,
            image: self.image.clone(),
            image_id: image_id(&self.image),
            state: match &self.state {
                State::Created => ContainerState::Created,
                State::Running { since, .. } => ContainerState::Running { since: *since },
                State::Exited(exit) => ContainerState::Exited((**exit).clone()),
            },
        }
    }
}

/// The digest that stands for an image.
pub(super) fn image_id(image: &str) -> Arc<str> {
    format!("{}@sha256:{}", repository(image), long_id(hash(&[image]))).into()
}

/// An image's name without tag and digest. A colon before the last slash belongs to a port.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    match name.get(start..).and_then(|last| last.find(':')) {
        Some(colon) => name.get(..start + colon).unwrap_or(name),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_long_and_come_back() {
        let id = hash(&["a", "b"]);
        assert_ne!(id, hash(&["ab", ""]));
        assert_eq!(long_id(id).len(), 64);
        assert_eq!(short_id(&long_id(id)), Some(id));
        assert_eq!(short_id("nonsense"), None);
    }

    #[test]
    fn a_digest_replaces_the_tag() {
        assert!(image_id("nginx:1.27").starts_with("nginx@sha256:"));
        assert!(image_id("host:5000/a/b").starts_with("host:5000/a/b@sha256:"));
        assert_ne!(image_id("nginx:1"), image_id("nginx:2"));
    }
}
