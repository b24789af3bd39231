//! kube-scheduler's configuration file: `KubeSchedulerConfiguration` of `kubescheduler.config.k8s.io/v1`.
//!
//! Semantics: <https://kubernetes.io/docs/reference/scheduling/config/>. Fields that mean nothing here
//! (`percentageOfNodesToScore`: every node is looked at; `parallelism`: a decision takes microseconds) are
//! read, checked and left alone; extenders are refused, so that nobody relies on one that is never asked.
//!
//! ```
//! use rkube_sched::Configuration;
//!
//! let file = "
//! apiVersion: kubescheduler.config.k8s.io/v1
//! kind: KubeSchedulerConfiguration
//! profiles:
//! - schedulerName: packer
//!   plugins:
//!     multiPoint:
//!       disabled:
//!       - name: ImageLocality
//!     score:
//!       enabled:
//!       - {name: NodeResourcesFit, weight: 5}
//!   pluginConfig:
//!   - name: NodeResourcesFit
//!     args:
//!       scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}
//! ";
//! let config = Configuration::read(file)?.config();
//! assert_eq!(config.profiles[0].scheduler_name, "packer");
//! assert!(config.profiles[0].plugins.iter().all(|plugin| plugin.name != "ImageLocality"));
//! # Ok::<(), rkube_sched::ConfigurationError>(())
//! ```

use std::{collections::BTreeSet, time::Duration};

use jiff::SignedDuration;
use rkube_api::{
    client::leader::LeaderConfig,
    codec::yaml,
    context::LONGEST_WAIT,
    meta::validation::{ErrorList, FieldError, FieldPath},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    driver::Config,
    framework::{Args, DEFAULT_SCHEDULER, PluginConfig, Point, ProfileConfig},
    queue::QueueConfig,
};

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";
/// What stands for every plugin in a list of disabled ones.
const ALL: &str = "*";

/// Why a configuration file is refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum ConfigurationError {
    /// It is not YAML.
    #[error("the configuration is not YAML: {message}")]
    Syntax {
        /// What is wrong.
        message: String,
    },
    /// It is of another kind.
    #[error(
        "the configuration is a {kind} of {api_version:?}, not a KubeSchedulerConfiguration of kubescheduler.config.k8s.io/v1"
    )]
    Kind {
        /// Its version.
        api_version: String,
        /// Its kind.
        kind: String,
    },
    /// A field is unknown, or its value is of the wrong type.
    #[error("the configuration cannot be read: {message}")]
    Field {
        /// What is wrong.
        message: String,
    },
    /// A value is out of range.
    #[error("the configuration is invalid: {0}")]
    Invalid(ErrorList),
}

/// A configuration file, read and checked.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Configuration {
    api_version: String,
    kind: String,
    /// How many nodes kube-scheduler looks at at once.
    pub parallelism: i32,
    /// How the scheduler elects a leader: for the host, which runs the election.
    pub leader_election: LeaderElection,
    /// How the scheduler reaches the API server: for the host, which makes the client.
    pub client_connection: Value,
    /// Whether the host is to serve profiles of the process.
    pub enable_profiling: bool,
    /// And of its locks.
    pub enable_contention_profiling: bool,
    /// How many of the nodes kube-scheduler scores, in percent.
    pub percentage_of_nodes_to_score: Option<i32>,
    /// The first backoff of a pod, in seconds.
    pub pod_initial_backoff_seconds: i64,
    /// The longest backoff of a pod, in seconds.
    pub pod_max_backoff_seconds: i64,
    /// The profiles; none means the default one.
    pub profiles: Vec<ProfileFile>,
    extenders: Vec<Value>,
    /// Whether a standby is to fill its caches only when it leads: for the host.
    pub delay_cache_until_active: bool,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.into(),
            kind: KIND.into(),
            parallelism: 16,
            leader_election: LeaderElection::default(),
            client_connection: Value::Null,
            enable_profiling: true,
            enable_contention_profiling: true,
            percentage_of_nodes_to_score: None,
            pod_initial_backoff_seconds: 1,
            pod_max_backoff_seconds: 10,
            profiles: Vec::new(),
            extenders: Vec::new(),
            delay_cache_until_active: false,
        }
    }
}

/// `leaderElection` of the file; durations as Go writes them, such as `15s`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LeaderElection {
    /// Whether there is an election at all.
    pub leader_elect: bool,
    /// How long a lease holds.
    pub lease_duration: String,
    /// How long the leader tries to renew it.
    pub renew_deadline: String,
    /// How often it is tried.
    pub retry_period: String,
    /// What the lease is: `leases`.
    pub resource_lock: String,
    /// The lease's name.
    pub resource_name: String,
    /// The lease's namespace.
    pub resource_namespace: String,
}

impl Default for LeaderElection {
    fn default() -> Self {
        Self {
            leader_elect: true,
            lease_duration: "15s".into(),
            renew_deadline: "10s".into(),
            retry_period: "2s".into(),
            resource_lock: "leases".into(),
            resource_name: "kube-scheduler".into(),
            resource_namespace: "kube-system".into(),
        }
    }
}

impl LeaderElection {
    /// The durations, each with the name of its field.
    fn durations(&self) -> [(&'static str, &str); 3] {
        [
            ("leaseDuration", &self.lease_duration),
            ("renewDeadline", &self.renew_deadline),
            ("retryPeriod", &self.retry_period),
        ]
    }

    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::default();
        let path = FieldPath::new("leaderElection");
        if self.resource_lock != "leases" {
            let text = "resourceLock value must be \"leases\"";
            errors.push(FieldError::invalid(&path.child("resourceLock"), &self.resource_lock, text));
        }
        for (name, value) in
            [("resourceName", &self.resource_name), ("resourceNamespace", &self.resource_namespace)]
        {
            if value.is_empty() {
                errors.push(FieldError::required(&path.child(name), ""));
            }
        }
        for (name, value) in self.durations() {
            if duration(value).is_none_or(|duration| duration.is_zero()) {
                let text = "must be a duration greater than zero, such as 15s";
                errors.push(FieldError::invalid(&path.child(name), value, text));
            }
        }
        let [lease, deadline, _] = self.durations().map(|(_, value)| duration(value));
        if errors.is_empty() && lease < deadline {
            let text = "LeaseDuration must be greater than RenewDeadline";
            errors.push(FieldError::invalid(&path.child("leaseDuration"), &self.renew_deadline, text));
        }
        errors
    }

    /// What a [`LeaderElector`](rkube_api::client::leader::LeaderElector) needs to take part as `identity`.
    ///
    /// ```
    /// let election = rkube_sched::Configuration::default().leader_election.config("host-1")?;
    /// assert_eq!((&*election.namespace, &*election.name), ("kube-system", "kube-scheduler"));
    /// assert_eq!(election.lease_duration.as_secs(), 15);
    /// # Ok::<(), rkube_sched::ConfigurationError>(())
    /// ```
    pub fn config(&self, identity: impl Into<String>) -> Result<LeaderConfig, ConfigurationError> {
        self.validate().into_result().map_err(ConfigurationError::Invalid)?;
        let [lease_duration, renew_deadline, retry_period] =
            self.durations().map(|(_, value)| duration(value).unwrap_or_default());
        Ok(LeaderConfig {
            lease_duration,
            renew_deadline,
            retry_period,
            ..LeaderConfig::new(&*self.resource_namespace, &*self.resource_name, identity)
        })
    }
}

/// Reads a duration as Go writes it: `1m30s`, `500ms`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    // ISO's form is none of Go's.
    let duration = text.parse::<SignedDuration>().ok().filter(|_| !text.contains(['P', 'p', ' ', ',']))?;
    Duration::try_from(duration).ok()
}

/// A profile of the file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProfileFile {
    scheduler_name: Option<String>,
    percentage_of_nodes_to_score: Option<i32>,
    plugins: PluginsFile,
    plugin_config: Vec<PluginConfigFile>,
}

/// A list of plugins a point, and one for all points.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PluginsFile {
    multi_point: PluginSetFile,
    pre_enqueue: PluginSetFile,
    queue_sort: PluginSetFile,
    pre_filter: PluginSetFile,
    filter: PluginSetFile,
    post_filter: PluginSetFile,
    pre_score: PluginSetFile,
    score: PluginSetFile,
    reserve: PluginSetFile,
    permit: PluginSetFile,
    pre_bind: PluginSetFile,
    bind: PluginSetFile,
    post_bind: PluginSetFile,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct PluginSetFile {
    enabled: Vec<PluginFile>,
    disabled: Vec<PluginFile>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct PluginFile {
    name: String,
    weight: i32,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct PluginConfigFile {
    name: String,
    args: Value,
}

impl PluginSetFile {
    fn disables(&self, name: &str) -> bool {
        self.disabled.iter().any(|plugin| plugin.name == name || plugin.name == ALL)
    }
}

impl PluginsFile {
    fn points(&self) -> [(Point, &PluginSetFile); 12] {
        [
            (Point::PreEnqueue, &self.pre_enqueue),
            (Point::QueueSort, &self.queue_sort),
            (Point::PreFilter, &self.pre_filter),
            (Point::Filter, &self.filter),
            (Point::PostFilter, &self.post_filter),
            (Point::PreScore, &self.pre_score),
            (Point::Score, &self.score),
            (Point::Reserve, &self.reserve),
            (Point::Permit, &self.permit),
            (Point::PreBind, &self.pre_bind),
            (Point::Bind, &self.bind),
            (Point::PostBind, &self.post_bind),
        ]
    }
}

impl ProfileFile {
    fn name(&self) -> &str {
        self.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER)
    }

    fn config(&self) -> ProfileConfig {
        let every = &self.plugins.multi_point;
        let mut profile = ProfileConfig::standard().named(self.name());
        profile.plugins.retain(|plugin| !every.disables(&plugin.name));
        for plugin in &every.enabled {
            profile = profile.with(&plugin.name, plugin.weight.into());
        }
        for (point, set) in self.plugins.points() {
            for plugin in &mut profile.plugins {
                if set.disables(&plugin.name) {
                    plugin.disabled.insert(point);
                }
            }
        }
        let everywhere = profile.plugins.len();
        for (point, set) in self.plugins.points() {
            set.enabled.iter().for_each(|plugin| enable(&mut profile, everywhere, point, plugin));
        }
        for config in &self.plugin_config {
            // Arguments alone enable nothing.
            if let Some(plugin) = profile.plugins.iter_mut().find(|plugin| plugin.name == config.name) {
                plugin.args = Args(config.args.clone());
            }
        }
        profile
    }
}

/// Enables one point of a plugin, which may have no other. One that is enabled at all points, as the first
/// `everywhere` plugins are, and at this one by itself, comes before the others here.
fn enable(profile: &mut ProfileConfig, everywhere: usize, point: Point, file: &PluginFile) {
    let known = profile.plugins.iter().position(|plugin| plugin.name == file.name);
    let place = known.unwrap_or(profile.plugins.len());
    if place < everywhere {
        profile.first.entry(point).or_default().push(file.name.clone());
    } else if known.is_none() {
        let disabled: BTreeSet<Point> = PluginsFile::default().points().map(|(point, _)| point).into();
        profile.plugins.push(PluginConfig { name: file.name.clone(), disabled, ..PluginConfig::default() });
    }
    let plugin = &mut profile.plugins[place];
    plugin.disabled.remove(&point);
    // Only scores have a weight; none is the least.
    if point == Point::Score {
        plugin.weight = file.weight.into();
    }
}

/// The value without fields that are null: those are as good as absent.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let said = fields.into_iter().filter(|(_, value)| !value.is_null());
            said.map(|(name, value)| (name, without_nulls(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

impl Configuration {
    /// Reads a file. A field that is unknown, or a value out of range, is an error; arguments of plugins
    /// are read by the plugins, when the profiles are built.
    pub fn read(text: &str) -> Result<Self, ConfigurationError> {
        let (value, problems) = yaml::parse_value(text.as_bytes())
            .map_err(|error| ConfigurationError::Syntax { message: error.to_string() })?;
        if let Some(message) = problems.into_iter().next() {
            return Err(ConfigurationError::Field { message });
        }
        let said = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (said("apiVersion"), said("kind"));
        if api_version != API_VERSION || kind != KIND {
            return Err(ConfigurationError::Kind { api_version, kind });
        }
        let configuration: Self = serde_json::from_value(without_nulls(value))
            .map_err(|error| ConfigurationError::Field { message: error.to_string() })?;
        configuration.validate().into_result().map_err(ConfigurationError::Invalid)?;
        Ok(configuration)
    }

    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::default();
        let mut wrong = |path: FieldPath<'_>, value: i64, text: &str| {
            errors.push(FieldError::invalid(&path, value, text));
        };
        if self.parallelism <= 0 {
            let text = "should be an integer value greater than zero";
            wrong(FieldPath::new("parallelism"), self.parallelism.into(), text);
        }
        if let Some(percentage) = self.percentage_of_nodes_to_score.filter(|it| !(0..=100).contains(it)) {
            let path = FieldPath::new("percentageOfNodesToScore");
            wrong(path, percentage.into(), "not in valid range [0-100]");
        }
        if self.pod_initial_backoff_seconds <= 0 {
            let path = FieldPath::new("podInitialBackoffSeconds");
            wrong(path, self.pod_initial_backoff_seconds, "must be greater than 0");
        }
        if self.pod_max_backoff_seconds < self.pod_initial_backoff_seconds {
            let text = "must be greater than or equal to PodInitialBackoffSeconds";
            wrong(FieldPath::new("podMaxBackoffSeconds"), self.pod_max_backoff_seconds, text);
        }
        if !self.extenders.is_empty() {
            let path = FieldPath::new("extenders");
            errors.push(FieldError::forbidden(&path, "extenders are not supported"));
        }
        if let Some(burst) = self.client_connection["burst"].as_i64().filter(|burst| *burst < 0) {
            let path = FieldPath::new("clientConnection");
            errors.push(FieldError::invalid(&path.child("burst"), burst, "must be non-negative"));
        }
        if self.leader_election.leader_elect {
            errors.extend(self.leader_election.validate());
        }
        self.validate_profiles(&mut errors);
        errors
    }

    fn validate_profiles(&self, errors: &mut ErrorList) {
        let path = FieldPath::new("profiles");
        let mut names = BTreeSet::new();
        for (index, profile) in self.profiles.iter().enumerate() {
            let path = path.index(index);
            if profile.name().is_empty() {
                errors.push(FieldError::required(&path.child("schedulerName"), ""));
            }
            if !names.insert(profile.name()) {
                errors.push(FieldError::duplicate(&path.child("schedulerName"), profile.name()));
            }
            let percentage = profile.percentage_of_nodes_to_score;
            if let Some(percentage) = percentage.filter(|percentage| !(0..=100).contains(percentage)) {
                let path = path.child("percentageOfNodesToScore");
                errors.push(FieldError::invalid(&path, percentage, "not in valid range [0-100]"));
            }
            let mut configured = BTreeSet::new();
            for (index, config) in profile.plugin_config.iter().enumerate() {
                if !configured.insert(&config.name) {
                    let path = path.child("pluginConfig");
                    errors.push(FieldError::duplicate(&path.index(index), &config.name));
                }
            }
        }
    }

    /// A scheduler's settings, with the built-in plugins; a host adds its own.
    pub fn config(&self) -> Config {
        let seconds =
            |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default()).min(LONGEST_WAIT);
        let profiles: Vec<_> = self.profiles.iter().map(ProfileFile::config).collect();
        Config {
            profiles: if profiles.is_empty() { vec![ProfileConfig::standard()] } else { profiles },
            queue: QueueConfig {
                initial_backoff: seconds(self.pod_initial_backoff_seconds),
                max_backoff: seconds(self.pod_max_backoff_seconds),
                ..QueueConfig::default()
            },
            ..Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::{ConfigError, Handle, Profiles};

    fn read(rest: &str) -> Result<Configuration, ConfigurationError> {
        Configuration::read(&format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{rest}"))
    }

    fn built(rest: &str) -> Result<Profiles, ConfigError> {
        let config = read(rest).unwrap().config();
        Profiles::build(&config.profiles, &config.plugins, &Handle::default())
    }

    fn plugin<'a>(config: &'a Config, name: &str) -> Option<&'a PluginConfig> {
        config.profiles[0].plugins.iter().find(|plugin| plugin.name == name)
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let config = read("").unwrap().config();
        assert_eq!(
            (config.profiles, config.queue),
            (vec![ProfileConfig::standard()], QueueConfig::default())
        );
    }

    #[test]
    fn what_the_documentation_shows_is_read() {
        let text = "
clientConnection: {kubeconfig: /etc/srv/kubernetes/kube-scheduler/kubeconfig}
leaderElection: {leaderElect: false}
percentageOfNodesToScore: 50
podMaxBackoffSeconds: 20
profiles:
- plugins:
    score:
      disabled:
      - name: PodTopologySpread
      enabled:
      - {name: NodeAffinity, weight: 9}
- schedulerName: no-scoring-scheduler
  plugins:
    preScore: {disabled: [{name: '*'}]}
    score: {disabled: [{name: '*'}]}
";
        let configuration = read(text).unwrap();
        assert!(!configuration.leader_election.leader_elect);
        let config = configuration.config();
        assert_eq!(config.queue.max_backoff, Duration::from_secs(20));
        assert_eq!(plugin(&config, "PodTopologySpread").unwrap().disabled, BTreeSet::from([Point::Score]));
        assert_eq!(plugin(&config, "NodeAffinity").unwrap().weight, 9);
        let endless =
            read(&format!("podInitialBackoffSeconds: 1\npodMaxBackoffSeconds: {}", i64::MAX)).unwrap();
        assert_eq!(endless.config().queue.max_backoff, LONGEST_WAIT, "a time that can be added to any other");
        let profiles = Profiles::build(&config.profiles, &config.plugins, &Handle::default()).unwrap();
        let silent = profiles.named("no-scoring-scheduler").unwrap();
        assert!(silent.score.is_empty() && silent.pre_score.is_empty() && !silent.filter.is_empty());
    }

    #[test]
    fn the_election_is_that_of_the_file() {
        let text = "leaderElection: {leaseDuration: 1m30s, renewDeadline: 2.5s, retryPeriod: 500ms, resourceName: mine}";
        let election = read(text).unwrap().leader_election.config("me").unwrap();
        let expected = LeaderConfig {
            lease_duration: Duration::from_secs(90),
            renew_deadline: Duration::from_millis(2500),
            retry_period: Duration::from_millis(500),
            ..LeaderConfig::new("kube-system", "mine", "me")
        };
        assert_eq!(election, expected);
        for (wrong, field) in [
            ("leaseDuration: soon", "leaseDuration"),
            ("retryPeriod: 0s", "retryPeriod"),
            ("renewDeadline: -1s", "renewDeadline"),
            ("renewDeadline: PT1S", "renewDeadline"),
            ("resourceLock: endpoints", "resourceLock"),
            ("resourceName: ''", "resourceName"),
        ] {
            let ConfigurationError::Invalid(errors) =
                read(&format!("leaderElection: {{{wrong}}}")).unwrap_err()
            else {
                panic!("{wrong}")
            };
            assert_eq!(errors.iter().next().unwrap().field, format!("leaderElection.{field}"));
            // Who elects nobody may leave it as it is.
            assert!(read(&format!("leaderElection: {{leaderElect: false, {wrong}}}")).is_ok());
        }
    }

    #[test]
    fn plugins_are_enabled_at_all_points_or_at_one() {
        let text = "
profiles:
- plugins:
    multiPoint:
      disabled: [{name: '*'}]
      enabled: [{name: PrioritySort}, {name: DefaultBinder}, {name: NodeName}]
    filter: {enabled: [{name: NodeAffinity}]}
";
        let profiles = built(text).unwrap();
        let profile = profiles.iter().next().unwrap();
        let filters: Vec<_> = profile.filter.iter().map(|filter| filter.name()).collect();
        assert_eq!(filters, ["NodeName", "NodeAffinity"]);
        assert!(profile.score.is_empty() && profile.pre_filter.is_empty());
    }

    #[test]
    fn a_plugin_of_all_points_that_is_named_at_one_comes_first_there() {
        let text = "
profiles:
- plugins:
    filter: {enabled: [{name: PodTopologySpread}, {name: NodeAffinity, weight: 7}]}
    score: {enabled: [{name: TaintToleration}]}
";
        let config = read(text).unwrap().config();
        assert_eq!(plugin(&config, "NodeAffinity").unwrap().weight, 2, "a filter has no weight");
        let profiles = built(text).unwrap();
        let profile = profiles.iter().next().unwrap();
        let filters: Vec<_> = profile.filter.iter().map(|filter| filter.name()).collect();
        assert_eq!(filters[..4], ["PodTopologySpread", "NodeAffinity", "NodeUnschedulable", "NodeName"]);
        let weight =
            profile.score.iter().find(|score| score.plugin.name() == "TaintToleration").unwrap().weight;
        assert_eq!(weight, 1, "a score that is enabled without a weight has the least");
    }

    #[test]
    fn what_is_null_is_absent() {
        let text =
            "leaderElection:\nextenders: null\nprofiles:\n- schedulerName: a\n  plugins:\n    score:\n";
        let config = read(text).unwrap().config();
        assert_eq!(config.profiles, [ProfileConfig::standard().named("a")]);
    }

    #[test]
    fn arguments_are_read_by_their_plugin() {
        let with =
            |args: &str| format!("profiles: [{{pluginConfig: [{{name: InterPodAffinity, args: {args}}}]}}]");
        assert!(built(&with("{hardPodAffinityWeight: 5}")).is_ok());
        let kind = "{apiVersion: kubescheduler.config.k8s.io/v1, kind: InterPodAffinityArgs}";
        assert!(built(&with(kind)).is_ok());
        let error = built(&with("{hardPodAffinityWeight: 101}")).unwrap_err().to_string();
        assert!(error.contains("hardPodAffinityWeight"), "{error}");
        assert!(matches!(
            built(&with("{weight: 1}")),
            Err(ConfigError::Arguments { plugin: "InterPodAffinity", .. })
        ));
        let unknown = built("profiles: [{plugins: {filter: {enabled: [{name: Nobody}]}}}]");
        assert!(matches!(unknown, Err(ConfigError::UnknownPlugin { plugin, .. }) if plugin == "Nobody"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(matches!(Configuration::read("a: [").unwrap_err(), ConfigurationError::Syntax { .. }));
        let other = Configuration::read("apiVersion: v1\nkind: Pod").unwrap_err();
        assert_eq!(other, ConfigurationError::Kind { api_version: "v1".into(), kind: "Pod".into() });
        let unknown = read("profile: []").unwrap_err();
        assert!(matches!(&unknown, ConfigurationError::Field { message } if message.contains("`profile`")));
        assert!(matches!(read("parallelism: many").unwrap_err(), ConfigurationError::Field { .. }));
        for (text, expected) in [
            ("parallelism: 0", "parallelism: Invalid value: 0: should be an integer value greater than zero"),
            (
                "percentageOfNodesToScore: 101",
                "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
            ),
            (
                "podInitialBackoffSeconds: 0",
                "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0",
            ),
            (
                "podInitialBackoffSeconds: 20",
                "podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to PodInitialBackoffSeconds",
            ),
            (
                "clientConnection: {burst: -1}",
                "clientConnection.burst: Invalid value: -1: must be non-negative",
            ),
            (
                "leaderElection: {leaseDuration: 5s}",
                "leaderElection.leaseDuration: Invalid value: \"10s\": LeaseDuration must be greater than RenewDeadline",
            ),
            ("extenders: [{urlPrefix: x}]", "extenders: Forbidden: extenders are not supported"),
            ("profiles: [{}, {}]", "profiles[1].schedulerName: Duplicate value: \"default-scheduler\""),
            (
                "profiles: [{pluginConfig: [{name: A}, {name: A}]}]",
                "profiles[0].pluginConfig[1]: Duplicate value: \"A\"",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(
                matches!(&error, ConfigurationError::Invalid(_)) && error.to_string().ends_with(expected),
                "{error}"
            );
        }
    }
}
