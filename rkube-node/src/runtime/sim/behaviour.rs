//! How simulated pods behave: data, chosen a pod.
//!
//! ```
//! use rkube_node::runtime::sim::Behaviour;
//! let behaviour: Behaviour = serde_json::from_str(
//!     r#"{"pull": {"time": "2s"}, "main": {"runs": [{"after": "1s", "code": 1}]}}"#,
//! ).unwrap();
//! assert_eq!(behaviour.main.runs[0].code, 1);
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use rkube_api::context::{LONGEST_WAIT, Rng};
use serde::{Deserialize, Serialize};

use crate::runtime::{Role, RuntimeError};

/// The annotation that names a pod's profile.
pub const PROFILE_ANNOTATION: &str = "sim.rkube.dev/profile";
/// The annotation that holds a pod's whole [`Behaviour`], as JSON.
pub const BEHAVIOUR_ANNOTATION: &str = "sim.rkube.dev/behaviour";

/// How long something takes: at least `duration`, and up to `jitter` more. As text, `"1s"` (also
/// `"1m 30s"`, `"PT1S"`) or `{"duration": "1s", "jitter": "500ms"}`. What is longer than [`LONGEST_WAIT`] is
/// read as that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "DelayText", into = "DelayText")]
pub struct Delay {
    /// At least.
    pub duration: Duration,
    /// And up to this more, evenly.
    pub jitter: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum DelayText {
    Plain(SignedDuration),
    Full {
        #[serde(default)]
        duration: SignedDuration,
        #[serde(default)]
        jitter: SignedDuration,
    },
}

impl From<DelayText> for Delay {
    fn from(text: DelayText) -> Self {
        let (duration, jitter) = match text {
            DelayText::Plain(duration) => (duration, SignedDuration::ZERO),
            DelayText::Full { duration, jitter } => (duration, jitter),
        };
        // Time does not run backwards: a negative delay is none.
        let bounded = |span: SignedDuration| Duration::try_from(span).unwrap_or_default().min(LONGEST_WAIT);
        Self { duration: bounded(duration), jitter: bounded(jitter) }
    }
}

impl From<Delay> for DelayText {
    fn from(delay: Delay) -> Self {
        let signed = |span: Duration| SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
        match (signed(delay.duration), signed(delay.jitter)) {
            (duration, SignedDuration::ZERO) => Self::Plain(duration),
            (duration, jitter) => Self::Full { duration, jitter },
        }
    }
}

impl Delay {
    /// Exactly this long.
    pub const fn of(duration: Duration) -> Self {
        Self { duration, jitter: Duration::ZERO }
    }

    /// The delay for one occasion. It depends on the source's seed and the occasion's name only, not on
    /// what else goes on, so that one more pod does not change the others.
    pub fn draw(&self, rng: &Rng, occasion: impl FnOnce() -> String) -> Duration {
        if self.jitter.is_zero() {
            return self.duration;
        }
        self.duration.saturating_add(self.jitter.mul_f64(rng.fork(&occasion()).fraction()))
    }
}

/// Which tries fail: `"never"`, `"always"`, `{"first": 2}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fail {
    /// None.
    #[default]
    Never,
    /// So many, then none.
    First(u32),
    /// All.
    Always,
}

impl Fail {
    /// Whether the try after `earlier` ones fails.
    pub fn fails(self, earlier: u32) -> bool {
        match self {
            Self::Never => false,
            Self::First(count) => earlier < count,
            Self::Always => true,
        }
    }
}

/// Pulling images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Pull {
    /// How long it takes.
    pub time: Delay,
    /// Which images this is about: those that begin with one of these; none: all.
    pub images: Vec<String>,
    /// Which of a pod's pulls of an image fail. What another pod has pulled is of no use to it then.
    pub fail: Fail,
    /// What a failure says; empty: that the image was not found.
    pub error: String,
}

impl Pull {
    /// Whether the pull of an image after so many others of it fails.
    pub fn fails(&self, image: &str, earlier: u32) -> bool {
        let concerned = self.images.is_empty() || self.images.iter().any(|start| image.starts_with(start));
        concerned && self.fail.fails(earlier)
    }
}

/// One run of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Run {
    /// How long it runs; absent: until it is stopped.
    pub after: Option<Delay>,
    /// Its exit code.
    pub code: i32,
    /// `OOMKilled`, say; empty: `Completed` or `Error` by the code.
    pub reason: String,
    /// What it says last.
    pub message: String,
}

/// How a container takes a request to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Stop {
    /// How long it takes; past the grace period it is killed, exit code 137.
    pub after: Delay,
    /// Its exit code.
    pub code: i32,
}

/// How a container behaves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ContainerBehaviour {
    /// From created to running.
    pub start: Delay,
    /// From running to ready.
    pub ready: Delay,
    /// It never becomes ready.
    pub never_ready: bool,
    /// Its runs, one a start; the last one repeats. Empty: it runs until it is stopped.
    pub runs: Vec<Run>,
    /// How it stops.
    pub stop: Stop,
    /// What it writes at each start.
    pub log: String,
}

impl ContainerBehaviour {
    /// The run of a start.
    pub fn run(&self, attempt: u32) -> Option<&Run> {
        let at = usize::try_from(attempt).unwrap_or(usize::MAX);
        self.runs.get(at).or_else(|| self.runs.last())
    }
}

/// How a pod behaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Behaviour {
    /// Image pulls.
    pub pull: Pull,
    /// Which tries to make the sandbox fail.
    pub sandbox_fail: Fail,
    /// Containers and sidecars.
    pub main: ContainerBehaviour,
    /// Init containers; they end well at once unless said otherwise.
    pub init: ContainerBehaviour,
    /// Containers by name, instead of the two above.
    pub containers: BTreeMap<String, ContainerBehaviour>,
}

impl Default for Behaviour {
    fn default() -> Self {
        let at_once = Run { after: Some(Delay::default()), ..Run::default() };
        Self {
            pull: Pull::default(),
            sandbox_fail: Fail::Never,
            main: ContainerBehaviour::default(),
            init: ContainerBehaviour { runs: vec![at_once], ..ContainerBehaviour::default() },
            containers: BTreeMap::new(),
        }
    }
}

impl Behaviour {
    /// How a container behaves.
    pub fn container(&self, name: &str, role: Role) -> &ContainerBehaviour {
        match (self.containers.get(name), role) {
            (Some(own), _) => own,
            (None, Role::Init) => &self.init,
            (None, Role::Main | Role::Sidecar | Role::Ephemeral) => &self.main,
        }
    }

    fn with_runs(runs: Vec<Run>) -> Self {
        Self { main: ContainerBehaviour { runs, ..ContainerBehaviour::default() }, ..Self::default() }
    }
}

/// Which pods a rule is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Rule {
    /// Only pods of this namespace, if it is given.
    pub namespace: Option<String>,
    /// Only pods with these labels.
    pub labels: BTreeMap<String, String>,
    /// The profile for them.
    pub profile: String,
}

impl Rule {
    fn matches(&self, pod: &Pod) -> bool {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let labels = pod.metadata.labels.as_ref();
        self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
            && self.labels.iter().all(|(key, value)| labels.and_then(|have| have.get(key)) == Some(value))
    }
}

/// The behaviours of all pods: named profiles, and which pod has which. A pod's annotations come first
/// ([`BEHAVIOUR_ANNOTATION`], then [`PROFILE_ANNOTATION`]), then the first rule that matches, then the
/// profile `default`.
///
/// Profiles that are always there, unless replaced: `default` (runs until stopped), `complete` (ends well
/// after a second), `fail` (exit code 1 after a second, also the crash loop of a pod that restarts),
/// `image-error` (no image can be had as long as the pod says so), `unready` (runs, never ready).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Profiles {
    /// By name.
    pub profiles: BTreeMap<String, Behaviour>,
    /// In order.
    pub rules: Vec<Rule>,
}

impl Profiles {
    /// Every pod behaves like this unless a rule or an annotation says otherwise.
    pub fn all(behaviour: Behaviour) -> Self {
        Self { profiles: [("default".to_owned(), behaviour)].into(), rules: Vec::new() }
    }
}

fn builtin() -> [(&'static str, Behaviour); 5] {
    let second = |code| Run { after: Some(Delay::of(Duration::from_secs(1))), code, ..Run::default() };
    [
        ("default", Behaviour::default()),
        ("complete", Behaviour::with_runs(vec![second(0)])),
        ("fail", Behaviour::with_runs(vec![second(1)])),
        (
            "image-error",
            Behaviour { pull: Pull { fail: Fail::Always, ..Pull::default() }, ..Behaviour::default() },
        ),
        (
            "unready",
            Behaviour {
                main: ContainerBehaviour { never_ready: true, ..ContainerBehaviour::default() },
                ..Behaviour::default()
            },
        ),
    ]
}

/// [`Profiles`] as the simulation uses them: pods of one profile share it.
pub(super) struct Table {
    profiles: BTreeMap<String, Arc<Behaviour>>,
    rules: Vec<Rule>,
}

impl Table {
    pub(super) fn new(own: Profiles) -> Self {
        let builtin = builtin().into_iter().map(|(name, behaviour)| (name.to_owned(), behaviour));
        let profiles = builtin.chain(own.profiles).map(|(name, one)| (name, Arc::new(one))).collect();
        Self { profiles, rules: own.rules }
    }

    /// The behaviour of a pod. An annotation or a rule that cannot be followed is an error.
    pub(super) fn of(&self, pod: &Pod) -> Result<Arc<Behaviour>, RuntimeError> {
        let annotation = |key| pod.metadata.annotations.as_ref().and_then(|all| all.get(key));
        if let Some(text) = annotation(BEHAVIOUR_ANNOTATION) {
            return serde_json::from_str(text).map(Arc::new).map_err(|error| RuntimeError::Invalid {
                message: format!("annotation {BEHAVIOUR_ANNOTATION}: {error}"),
            });
        }
        let rule = || self.rules.iter().find(|rule| rule.matches(pod)).map(|rule| &rule.profile);
        let name = annotation(PROFILE_ANNOTATION).or_else(rule).map_or("default", String::as_str);
        self.profiles.get(name).cloned().ok_or_else(|| RuntimeError::Invalid {
            message: format!("there is no simulation profile {name:?}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_read_as_text_and_come_back() {
        let delay: Delay = serde_json::from_str(r#"{"duration": "1m 30s", "jitter": "500ms"}"#).unwrap();
        assert_eq!((delay.duration.as_secs(), delay.jitter.as_millis()), (90, 500));
        let text = serde_json::to_string(&delay).unwrap();
        assert_eq!(serde_json::from_str::<Delay>(&text).unwrap(), delay);
        assert_eq!(serde_json::from_str::<Delay>(r#""250ms""#).unwrap().duration.as_millis(), 250);
        assert_eq!(serde_json::from_str::<Delay>(r#""-1s""#).unwrap(), Delay::default());
    }

    #[test]
    fn no_delay_is_longer_than_time_has_room_for() {
        let text = r#"{"duration": "2562047788015215h30m", "jitter": "2562047788015215h30m"}"#;
        let delay: Delay = serde_json::from_str(text).unwrap();
        assert_eq!(delay, Delay { duration: LONGEST_WAIT, jitter: LONGEST_WAIT });
        let endless = Delay { duration: Duration::MAX, jitter: Duration::MAX };
        assert_eq!(endless.draw(&Rng::seeded(1), || "a".into()), Duration::MAX);
    }

    #[test]
    fn jitter_depends_on_the_occasion_alone() {
        let rng = Rng::seeded(3);
        let delay = Delay { duration: Duration::from_secs(1), jitter: Duration::from_secs(1) };
        let a = delay.draw(&rng, || "a".into());
        rng.next_u64();
        assert_eq!(a, delay.draw(&rng, || "a".into()));
        assert_ne!(a, delay.draw(&rng, || "b".into()));
        assert!(a >= Duration::from_secs(1) && a < Duration::from_secs(2));
    }

    #[test]
    fn annotations_come_before_rules_before_the_default() {
        let rule = Rule { labels: [("app".into(), "job".into())].into(), ..Rule::default() };
        let rules = vec![Rule { profile: "complete".into(), ..rule }];
        let profiles = Table::new(Profiles { rules, ..Profiles::default() });
        let mut pod = Pod::default();
        assert_eq!(*profiles.of(&pod).unwrap(), Behaviour::default());
        pod.metadata.labels = Some([("app".into(), "job".into())].into());
        assert_eq!(profiles.of(&pod).unwrap().main.runs[0].code, 0);
        pod.metadata.annotations = Some([(PROFILE_ANNOTATION.into(), "fail".into())].into());
        assert_eq!(profiles.of(&pod).unwrap().main.runs[0].code, 1);
        pod.metadata.annotations = Some([(PROFILE_ANNOTATION.into(), "nope".into())].into());
        assert!(profiles.of(&pod).is_err());
        pod.metadata.annotations = Some([(BEHAVIOUR_ANNOTATION.into(), "{\"bogus\": 1}".into())].into());
        assert!(profiles.of(&pod).is_err());
    }
}
