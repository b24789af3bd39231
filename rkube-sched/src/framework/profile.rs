//! A profile: which plugins run, in which order, with which weights and arguments.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Args, Bind, ClusterEvent, ConfigError, CycleState, Filter, Handle, Hint, Interest, Permission, Permit,
    Plugin, PluginRegistry, Point, PointSet, PostBind, PostFilter, PreBind, PreEnqueue, PreFilter, PreScore,
    QueueSort, Reserve, Score, Status, contained,
};
use crate::{
    queue::QueuedPod,
    snapshot::{NodeView, PodInfo},
};

/// The scheduler name of pods that name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// One plugin of a profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PluginConfig {
    /// Its name in the registry.
    pub name: String,
    /// The weight of its score; 0 means the default, 1.
    pub weight: i64,
    /// Its arguments.
    pub args: Args,
    /// Points that it has but does not serve in this profile.
    pub disabled: BTreeSet<Point>,
}

/// The settings of a profile, as a host or a configuration file writes them.
///
/// ```
/// use rkube_sched::framework::ProfileConfig;
///
/// let profile = ProfileConfig::standard()
///     .named("packer")
///     .without("NodeResourcesBalancedAllocation")
///     .args("NodeResourcesFit", serde_json::json!({"scoringStrategy": {
///         "type": "MostAllocated", "resources": [{"name": "cpu", "weight": 1}]
///     }}))
///     .with("NightShift", 5);
/// assert_eq!(profile.plugins.last().unwrap().name, "NightShift");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileConfig {
    /// The `schedulerName` of the pods that it serves.
    pub scheduler_name: String,
    /// Its plugins, in the order in which they run.
    pub plugins: Vec<PluginConfig>,
    /// The plugins that run before all others at a point, by name.
    pub first: BTreeMap<Point, Vec<String>>,
}

impl Default for ProfileConfig {
    fn default() -> Self {
        Self::standard()
    }
}

impl ProfileConfig {
    /// The built-in plugins with kube-scheduler's default weights.
    pub fn standard() -> Self {
        let plugins = crate::plugins::default_weights()
            .map(|(name, weight)| PluginConfig { name: name.into(), weight, ..PluginConfig::default() })
            .collect();
        Self { scheduler_name: DEFAULT_SCHEDULER.into(), plugins, first: BTreeMap::new() }
    }

    /// The same profile under another scheduler name.
    #[must_use]
    pub fn named(mut self, scheduler_name: impl Into<String>) -> Self {
        self.scheduler_name = scheduler_name.into();
        self
    }

    /// Adds a plugin at the end, or changes the weight of one that is there.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, weight: i64) -> Self {
        self.entry(name.into()).weight = weight;
        self
    }

    /// Sets a plugin's arguments; adds it if it is not there.
    #[must_use]
    pub fn args(mut self, name: impl Into<String>, args: serde_json::Value) -> Self {
        self.entry(name.into()).args = Args(args);
        self
    }

    /// Takes a plugin out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.plugins.retain(|plugin| plugin.name != name);
        self
    }

    /// Takes one point of a plugin out.
    #[must_use]
    pub fn disable(mut self, name: &str, point: Point) -> Self {
        if let Some(plugin) = self.plugins.iter_mut().find(|plugin| plugin.name == name) {
            plugin.disabled.insert(point);
        }
        self
    }

    fn entry(&mut self, name: String) -> &mut PluginConfig {
        let index = self.plugins.iter().position(|plugin| plugin.name == name).unwrap_or_else(|| {
            self.plugins.push(PluginConfig { name, ..PluginConfig::default() });
            self.plugins.len() - 1
        });
        &mut self.plugins[index]
    }
}

/// A score plugin with its weight.
#[derive(Clone)]
pub(crate) struct Weighted {
    pub(crate) plugin: Arc<dyn Score>,
    pub(crate) weight: i64,
}

/// A profile ready to run: its plugins, made and sorted by extension point.
#[derive(Clone)]
pub struct Profile {
    pub(crate) scheduler_name: Arc<str>,
    pub(crate) pre_enqueue: Vec<Arc<dyn PreEnqueue>>,
    pub(crate) queue_sort: Arc<dyn QueueSort>,
    pub(crate) pre_filter: Vec<Arc<dyn PreFilter>>,
    pub(crate) filter: Vec<Arc<dyn Filter>>,
    pub(crate) post_filter: Vec<Arc<dyn PostFilter>>,
    pub(crate) pre_score: Vec<Arc<dyn PreScore>>,
    pub(crate) score: Vec<Weighted>,
    pub(crate) reserve: Vec<Arc<dyn Reserve>>,
    pub(crate) permit: Vec<Arc<dyn Permit>>,
    pub(crate) pre_bind: Vec<Arc<dyn PreBind>>,
    pub(crate) bind: Vec<Arc<dyn Bind>>,
    pub(crate) post_bind: Vec<Arc<dyn PostBind>>,
    /// The plugins that take part in a decision, in order.
    pub(crate) parts: Vec<Part>,
    hints: Vec<PluginHints>,
}

/// A plugin's part in a decision.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) plugin: Arc<dyn Plugin>,
    pub(crate) pre_filter: Option<Arc<dyn PreFilter>>,
    pub(crate) filter: Option<Arc<dyn Filter>>,
    pub(crate) pre_score: Option<Arc<dyn PreScore>>,
    pub(crate) score: Option<Weighted>,
}

impl Part {
    fn of(weight: i64, set: &PointSet) -> Option<Self> {
        let part = Self {
            plugin: set.plugin.clone(),
            pre_filter: set.pre_filter.clone(),
            filter: set.filter.clone(),
            pre_score: set.pre_score.clone(),
            score: set.score.clone().map(|plugin| Weighted { plugin, weight }),
        };
        let idle = part.pre_filter.is_none() && part.filter.is_none();
        (!idle || part.pre_score.is_some() || part.score.is_some()).then_some(part)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        self.plugin.name()
    }
}

#[derive(Clone)]
struct PluginHints {
    plugin: Arc<dyn Plugin>,
    events: Vec<Interest>,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plugins: Vec<_> = self.hints.iter().map(|hints| hints.plugin.name()).collect();
        write!(f, "Profile({}, {plugins:?})", self.scheduler_name)
    }
}

impl Profile {
    /// Makes the plugins that the settings name.
    pub fn build(
        config: &ProfileConfig,
        registry: &PluginRegistry,
        handle: &Handle,
    ) -> Result<Self, ConfigError> {
        let profile = &config.scheduler_name;
        let mut sets: Vec<(i64, PointSet)> = Vec::new();
        for plugin in &config.plugins {
            let mut set = registry.make(&plugin.name, &plugin.args, handle).ok_or_else(|| {
                ConfigError::UnknownPlugin { profile: profile.clone(), plugin: plugin.name.clone() }
            })??;
            for point in &plugin.disabled {
                set.disable(*point);
            }
            sets.push((plugin.weight.max(1), set));
        }
        let wrong =
            |message: &str| ConfigError::Profile { profile: profile.clone(), message: message.into() };
        fn pick<T: ?Sized>(
            sets: &[(i64, PointSet)],
            first: &BTreeMap<Point, Vec<String>>,
            point: Point,
            field: impl Fn(&PointSet) -> &Option<Arc<T>>,
        ) -> Vec<Arc<T>> {
            let first = first.get(&point).map(Vec::as_slice).unwrap_or_default();
            let place = |set: &PointSet| {
                first.iter().position(|name| name == set.plugin.name()).unwrap_or(first.len())
            };
            let mut sets: Vec<&PointSet> = sets.iter().map(|(_, set)| set).collect();
            sets.sort_by_key(|set| place(set));
            sets.into_iter().filter_map(|set| field(set).clone()).collect()
        }
        let first = &config.first;
        let mut sorts = pick(&sets, first, Point::QueueSort, |set| &set.queue_sort);
        let queue_sort = match (sorts.pop(), sorts.is_empty()) {
            (Some(sort), true) => sort,
            (None, _) => return Err(wrong("a queue sort plugin is needed")),
            _ => return Err(wrong("only one queue sort plugin can be enabled")),
        };
        let bind = pick(&sets, first, Point::Bind, |set| &set.bind);
        if bind.is_empty() {
            return Err(wrong("at least one bind plugin is needed"));
        }
        let weighted = |(weight, set): &(i64, PointSet)| {
            set.score.clone().map(|plugin| Weighted { plugin, weight: *weight })
        };
        Ok(Self {
            scheduler_name: profile.as_str().into(),
            queue_sort,
            bind,
            pre_enqueue: pick(&sets, first, Point::PreEnqueue, |set| &set.pre_enqueue),
            pre_filter: pick(&sets, first, Point::PreFilter, |set| &set.pre_filter),
            filter: pick(&sets, first, Point::Filter, |set| &set.filter),
            post_filter: pick(&sets, first, Point::PostFilter, |set| &set.post_filter),
            pre_score: pick(&sets, first, Point::PreScore, |set| &set.pre_score),
            score: sets.iter().filter_map(weighted).collect(),
            reserve: pick(&sets, first, Point::Reserve, |set| &set.reserve),
            permit: pick(&sets, first, Point::Permit, |set| &set.permit),
            pre_bind: pick(&sets, first, Point::PreBind, |set| &set.pre_bind),
            post_bind: pick(&sets, first, Point::PostBind, |set| &set.post_bind),
            parts: sets.iter().filter_map(|(weight, set)| Part::of(*weight, set)).collect(),
            hints: sets
                .iter()
                .map(|(_, set)| PluginHints { events: set.plugin.events(), plugin: set.plugin.clone() })
                .collect(),
        })
    }

    /// The `schedulerName` of the pods that it serves.
    pub fn scheduler_name(&self) -> &str {
        &self.scheduler_name
    }

    /// The names of its plugins, in their order.
    pub fn plugin_names(&self) -> impl Iterator<Item = &'static str> {
        self.hints.iter().map(|hints| hints.plugin.name())
    }

    /// Whether any plugin wants to hear of the event.
    pub(crate) fn is_of_interest(&self, event: &ClusterEvent) -> bool {
        event.is_wildcard() || self.hints.iter().any(|hints| hints.wants(event))
    }

    /// Whether a plugin wants to hear of the event.
    pub(crate) fn asks_for(&self, plugin: &str, event: &ClusterEvent) -> bool {
        let asked = || self.hints.iter().filter(|hints| hints.plugin.name() == plugin);
        event.is_wildcard() || asked().any(|hints| hints.wants(event))
    }

    /// Whether a pod that `plugin` refused is worth another try after the event.
    pub(crate) fn hint(&self, plugin: &str, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        if event.is_wildcard() {
            return Hint::Queue;
        }
        let asked = self.hints.iter().find(|hints| hints.plugin.name() == plugin);
        match asked {
            // One that cannot tell is taken to hope: the next try shows.
            Some(hints) if hints.wants(event) => {
                contained(hints.plugin.name(), "a queueing hint", || hints.plugin.hint(pod, event))
                    .unwrap_or(Hint::Queue)
            }
            Some(_) => Hint::Skip,
            // Who rejected a pod that Permit held need not be a plugin: nobody knows what helps.
            None => Hint::Queue,
        }
    }
}

/// The points between a decision and its binding.
impl Profile {
    /// Runs Reserve up to the first plugin that does not succeed; then [`Profile::unreserve`] has to follow.
    pub(crate) fn reserve(&self, state: &mut CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        for plugin in &self.reserve {
            let reserve = || plugin.reserve(state, pod, node);
            let status = contained(plugin.name(), "Reserve", reserve).unwrap_or_else(|status| status);
            if !status.is_success() {
                return status.from_plugin(plugin.name());
            }
        }
        Status::success()
    }

    /// Gives back what Reserve took, last first.
    pub(crate) fn unreserve(&self, state: &mut CycleState, pod: &PodInfo, node: &str) {
        for plugin in self.reserve.iter().rev() {
            // A panic is logged; the others get their turn.
            let _ = contained(plugin.name(), "Unreserve", || plugin.unreserve(state, pod, node));
        }
    }

    /// Runs Permit: which plugins want to hold the pod and how long, the least patient first. None: it may go.
    pub(crate) fn permit(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        node: &str,
    ) -> Result<Vec<(Duration, &'static str)>, Status> {
        let mut holders = Vec::new();
        for plugin in &self.permit {
            match contained(plugin.name(), "Permit", || plugin.permit(state, pod, node))? {
                Permission::Allow => {}
                Permission::Deny(status) => return Err(status.from_plugin(plugin.name())),
                Permission::Wait(patience) => holders.push((patience, plugin.name())),
            }
        }
        holders.sort_unstable();
        Ok(holders)
    }
}

impl PluginHints {
    fn wants(&self, event: &ClusterEvent) -> bool {
        self.events.iter().any(|interest| interest.matches(event))
    }
}

/// The profiles of one scheduler, by the scheduler name of their pods.
///
/// ```
/// let profiles = rkube_sched::framework::Profiles::standard();
/// assert!(profiles.named("default-scheduler").is_some());
/// assert!(profiles.named("other").is_none());
/// ```
#[derive(Clone, Debug)]
pub struct Profiles {
    list: Vec<Arc<Profile>>,
}

impl Profiles {
    /// Makes the profiles. There must be at least one, no two of one name, and all must sort the queue
    /// by the same plugin.
    pub fn build(
        configs: &[ProfileConfig],
        registry: &PluginRegistry,
        handle: &Handle,
    ) -> Result<Self, ConfigError> {
        let wrong = |config: &ProfileConfig, message: &str| ConfigError::Profile {
            profile: config.scheduler_name.clone(),
            message: message.into(),
        };
        let mut list: Vec<Arc<Profile>> = Vec::new();
        for config in configs {
            let profile = Profile::build(config, registry, handle)?;
            if let Some(first) = list.first()
                && first.queue_sort.name() != profile.queue_sort.name()
            {
                return Err(wrong(config, "different queue sort plugins"));
            }
            if list.iter().any(|other| other.scheduler_name == profile.scheduler_name) {
                return Err(wrong(config, "duplicate profile"));
            }
            list.push(Arc::new(profile));
        }
        if list.is_empty() {
            return Err(wrong(&ProfileConfig::standard().named(""), "at least one profile is needed"));
        }
        Ok(Self { list })
    }

    /// The default profile alone, without an API server: for engines and tests.
    ///
    /// It always succeeds; were the built-in plugins ever at odds with each other, a test says so.
    #[expect(clippy::expect_used, reason = "constant input, covered by a test")]
    pub fn standard() -> Self {
        let config = [ProfileConfig::standard()];
        Self::build(&config, &crate::plugins::all(), &Handle::default()).expect("the built-in profile")
    }

    /// The profiles, in the order of their configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.list.iter()
    }

    /// The profile of a scheduler name.
    pub fn named(&self, scheduler_name: &str) -> Option<&Arc<Profile>> {
        self.list.iter().find(|profile| &*profile.scheduler_name == scheduler_name)
    }

    /// The profile that serves a pod.
    pub fn of(&self, pod: &PodInfo) -> Option<&Arc<Profile>> {
        self.named(pod.scheduler_name())
    }

    pub(crate) fn sort(&self, a: &QueuedPod, b: &QueuedPod) -> std::cmp::Ordering {
        // All profiles sort by the same plugin, and there is at least one.
        self.list.first().map_or(std::cmp::Ordering::Equal, |profile| profile.queue_sort.compare(a, b))
    }
}
