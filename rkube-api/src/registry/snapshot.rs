//! The registry: a snapshot of definitions that readers take without a lock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arc_swap::{ArcSwap, Guard};
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::{Definition, Version};

/// Why a definition cannot be added or removed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegistryError {
    /// Another definition serves this resource.
    #[error("{group}/{version} {plural} is served already")]
    Taken {
        /// API group.
        group: String,
        /// Version.
        version: String,
        /// Plural name.
        plural: String,
    },
    /// Its objects would be stored among those of another one.
    #[error("{plural} of the groups {group:?} and {other:?} would be stored in one place")]
    Place {
        /// API group.
        group: String,
        /// That of the other definition.
        other: String,
        /// Plural name.
        plural: String,
    },
}

/// All definitions at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    definitions: BTreeMap<(String, String), Arc<Definition>>,
    /// The same by plural name, to be looked up without making a key: each create does so a few times.
    /// Hardly ever do two groups share a name.
    named: HashMap<String, Named, RandomState>,
    routes: BTreeMap<String, BTreeMap<String, BTreeMap<String, Arc<Definition>>>>,
    /// Moves with every change; what derives from the definitions can be cached under it.
    pub generation: u64,
}

/// What goes by one plural name, in any group.
#[derive(Clone, Debug, Default)]
struct Named {
    definitions: Vec<Arc<Definition>>,
    served: Vec<Resolved>,
}

/// A definition and the version of it that was asked for.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The definition, with the face that this version has.
    pub definition: Arc<Definition>,
    /// Index into its versions.
    pub version: usize,
}

impl Resolved {
    /// The version asked for.
    pub fn version(&self) -> &Version {
        &self.definition.versions[self.version]
    }

    /// The group asked for.
    pub fn group(&self) -> &str {
        self.version().group.as_deref().unwrap_or(&self.definition.names.group)
    }

    /// `v1` or `apps/v1`, as asked for.
    pub fn api_version(&self) -> String {
        let (group, version) = (self.group(), &self.version().name);
        if group.is_empty() { version.clone() } else { format!("{group}/{version}") }
    }

    /// Whether objects of this version are stored as they are.
    pub fn is_hub(&self) -> bool {
        self.version == self.definition.hub
    }
}

impl Snapshot {
    /// Every definition, ordered by group and plural name.
    pub fn definitions(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.definitions.values()
    }

    /// The definition of a resource by the group of its hub version.
    pub fn definition(&self, group: &str, plural: &str) -> Option<&Arc<Definition>> {
        self.named.get(plural)?.definitions.iter().find(|found| found.names.group == group)
    }

    /// What is served at `group`/`version` `plural`.
    pub fn resolve(&self, group: &str, version: &str, plural: &str) -> Option<Resolved> {
        let served = &self.named.get(plural)?.served;
        served.iter().find(|found| found.version().name == version && found.group() == group).cloned()
    }

    /// What serves the kind `kind` of `group`/`version`.
    pub fn resolve_kind(&self, group: &str, version: &str, kind: &str) -> Option<Resolved> {
        let definition =
            self.routes.get(group)?.get(version)?.values().find(|found| found.names.kind == kind)?;
        self.resolve(group, version, &definition.names.plural)
    }

    /// Served groups, each with its versions, each with its resources; the core group is "".
    pub fn groups(&self) -> &BTreeMap<String, BTreeMap<String, BTreeMap<String, Arc<Definition>>>> {
        &self.routes
    }

    fn with(definitions: BTreeMap<(String, String), Arc<Definition>>, generation: u64) -> Self {
        let mut routes: BTreeMap<String, BTreeMap<String, BTreeMap<_, _>>> = BTreeMap::new();
        let mut named: HashMap<String, Named, RandomState> = HashMap::default();
        for definition in definitions.values() {
            let named = named.entry(definition.names.plural.clone()).or_default();
            named.definitions.push(definition.clone());
            for (index, version) in definition.versions.iter().enumerate().filter(|(_, it)| it.served) {
                let seen = definition.seen_as(version).map_or_else(|| definition.clone(), Arc::new);
                named.served.push(Resolved { definition: seen.clone(), version: index });
                routes
                    .entry(version.group.clone().unwrap_or_else(|| definition.names.group.clone()))
                    .or_default()
                    .entry(version.name.clone())
                    .or_default()
                    .insert(definition.names.plural.clone(), seen);
            }
        }
        Self { definitions, named, routes, generation }
    }
}

/// The definitions that a server serves; they may change while it runs.
///
/// ```
/// use k8s_openapi::api::core::v1::ConfigMap;
/// use rkube_api::registry::{Definition, Registry};
///
/// let registry = Registry::new([Definition::of::<ConfigMap>().build()]).unwrap();
/// assert!(registry.snapshot().resolve("", "v1", "configmaps").is_some());
/// ```
#[derive(Debug)]
pub struct Registry {
    snapshot: ArcSwap<Snapshot>,
    writer: Mutex<()>,
}

impl Registry {
    /// A registry of these definitions.
    pub fn new(definitions: impl IntoIterator<Item = Definition>) -> Result<Self, RegistryError> {
        let registry = Self { snapshot: ArcSwap::default(), writer: Mutex::new(()) };
        for definition in definitions {
            registry.add(definition)?;
        }
        Ok(registry)
    }

    /// The definitions now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The definitions now, for one look: dearer to keep than [`Registry::snapshot`], cheaper to get.
    pub fn look(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Begins to serve a resource. Fails if another definition serves one of its versions.
    pub fn add(&self, definition: Definition) -> Result<Arc<Definition>, RegistryError> {
        let _one_at_a_time = self.writer.lock();
        let now = self.snapshot();
        let key = (definition.names.group.clone(), definition.names.plural.clone());
        for version in &definition.versions {
            let group = version.group.as_deref().unwrap_or(&definition.names.group);
            if let Some(taken) = now.resolve(group, &version.name, &definition.names.plural)
                && (&taken.definition.names.group, &taken.definition.names.plural) != (&key.0, &key.1)
            {
                return Err(RegistryError::Taken {
                    group: group.to_owned(),
                    version: version.name.clone(),
                    plural: definition.names.plural.clone(),
                });
            }
        }
        let same_place = |it: &&Arc<Definition>| {
            it.place() == definition.place() && it.resource() != definition.resource()
        };
        if let Some(other) = now.definitions().find(same_place) {
            let other = other.names.group.clone();
            return Err(RegistryError::Place { group: key.0, other, plural: key.1 });
        }
        let definition = Arc::new(definition);
        let mut definitions = now.definitions.clone();
        definitions.insert(key, definition.clone());
        self.snapshot.store(Arc::new(Snapshot::with(definitions, now.generation + 1)));
        Ok(definition)
    }

    /// Ends serving a resource; whether it was served. Its objects stay in the store.
    pub fn remove(&self, group: &str, plural: &str) -> bool {
        let _one_at_a_time = self.writer.lock();
        let now = self.snapshot();
        let mut definitions = now.definitions.clone();
        let removed = definitions.remove(&(group.to_owned(), plural.to_owned())).is_some();
        if removed {
            self.snapshot.store(Arc::new(Snapshot::with(definitions, now.generation + 1)));
        }
        removed
    }
}
