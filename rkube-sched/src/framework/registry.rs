//! Which plugins there are, and how each is made.

use std::sync::Arc;

use indexmap::IndexMap;
use rkube_api::{client::Client, context::Context};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Activations, Listers, Members, PointSet, WaitingPods};

/// Why a profile could not be built.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// No plugin of that name is registered.
    #[error("profile {profile:?}: unknown plugin {plugin:?}")]
    UnknownPlugin {
        /// The profile.
        profile: String,
        /// The plugin asked for.
        plugin: String,
    },
    /// Two plugins are registered under one name.
    #[error("plugin {0:?} is registered twice")]
    Duplicate(&'static str),
    /// The arguments do not fit the plugin.
    #[error("plugin {plugin:?}: {message}")]
    Arguments {
        /// The plugin.
        plugin: &'static str,
        /// What is wrong with them.
        message: String,
    },
    /// A point that needs a plugin has none, or one that allows one only has several.
    #[error("profile {profile:?}: {message}")]
    Profile {
        /// The profile.
        profile: String,
        /// What is wrong with it.
        message: String,
    },
}

impl ConfigError {
    /// Arguments that do not fit.
    pub fn arguments(plugin: &'static str, message: impl Into<String>) -> Self {
        Self::Arguments { plugin, message: message.into() }
    }
}

/// What a plugin may use besides what its calls bring.
#[derive(Clone, Debug, Default)]
pub struct Handle {
    /// The API server; absent where the engine runs without one.
    pub client: Option<Client>,
    /// Time, randomness and tasks; absent where the engine runs without a driver.
    pub context: Option<Context>,
    /// The pods that Permit holds.
    pub waiting: WaitingPods,
    /// Pods to try again at once.
    pub activations: Activations,
    /// The pods of scheduling groups.
    pub members: Members,
    /// Objects beside nodes and pods: services, claims, namespaces.
    pub listers: Listers,
}

/// A plugin's arguments, as JSON; null if none were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Args(pub Value);

impl Args {
    /// Reads them into the plugin's own type; absent arguments are its default.
    pub fn read<T: DeserializeOwned + Default>(&self, plugin: &'static str) -> Result<T, ConfigError> {
        let mut value = self.0.clone();
        match &mut value {
            Value::Null => return Ok(T::default()),
            // A configuration file names the arguments' own kind, which says nothing new.
            Value::Object(fields) => {
                fields.remove("apiVersion");
                fields.remove("kind");
            }
            _ => {}
        }
        serde_json::from_value(value).map_err(|error| ConfigError::arguments(plugin, error.to_string()))
    }
}

type Factory = Arc<dyn Fn(&Args, &Handle) -> Result<PointSet, ConfigError> + Send + Sync>;

/// The plugins that profiles can name, in the order in which profiles run them by default.
///
/// ```
/// # use rkube_sched::framework::*;
/// # struct Mine;
/// # impl Plugin for Mine { fn name(&self) -> &'static str { "Mine" } }
/// let mut registry = rkube_sched::plugins::all();
/// registry.add("Mine", |_args, _handle| Ok(Points::of(Mine).done())).unwrap();
/// assert!(registry.names().any(|name| name == "Mine"));
/// ```
#[derive(Clone, Default)]
pub struct PluginRegistry {
    factories: IndexMap<&'static str, Factory>,
}

impl std::fmt::Debug for PluginRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.factories.keys()).finish()
    }
}

impl PluginRegistry {
    /// A registry without plugins.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds a plugin, the host's own or a built-in one.
    pub fn add(
        &mut self,
        name: &'static str,
        factory: impl Fn(&Args, &Handle) -> Result<PointSet, ConfigError> + Send + Sync + 'static,
    ) -> Result<&mut Self, ConfigError> {
        if self.factories.contains_key(name) {
            return Err(ConfigError::Duplicate(name));
        }
        self.factories.insert(name, Arc::new(factory));
        Ok(self)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.factories.keys().copied()
    }

    /// Makes a plugin; `None` if the name is unknown.
    pub(crate) fn make(
        &self,
        name: &str,
        args: &Args,
        handle: &Handle,
    ) -> Option<Result<PointSet, ConfigError>> {
        self.factories.get(name).map(|factory| factory(args, handle))
    }
}
