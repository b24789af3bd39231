//! Which resources the server serves, for controllers that work on all of them.

#[cfg(feature = "remote")]
mod discovery;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use rkube_api::{
    error::ApiError,
    meta::GroupVersion,
    registry::{Registry, Scope},
    request::{Target, Verb},
};

#[cfg(feature = "remote")]
pub use discovery::DiscoveryResources;

/// One resource in the version to use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiResource {
    /// The group, empty for the core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The plural name.
    pub resource: String,
    /// The kind.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What it can do.
    pub verbs: Vec<Verb>,
}

impl ApiResource {
    /// Whether it can do this.
    pub fn can(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }

    /// `apiVersion`.
    pub fn api_version(&self) -> String {
        GroupVersion::new(&*self.group, &*self.version).to_string()
    }

    /// The target of a request for all objects, of a namespace if one is given.
    pub fn all(&self, namespace: Option<&str>) -> Target {
        Target {
            group: self.group.clone(),
            version: self.version.clone(),
            resource: self.resource.clone(),
            namespace: namespace.filter(|namespace| !namespace.is_empty()).map(Into::into),
            name: None,
            subresource: None,
        }
    }

    /// The target of a request for one object.
    pub fn one(&self, namespace: &str, name: &str) -> Target {
        let namespace = self.namespaced.then_some(namespace);
        Target { name: Some(name.into()), ..self.all(namespace) }
    }
}

/// Which resources there are, as far as that can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Every resource once, in its preferred version.
    pub resources: Vec<ApiResource>,
    /// Versions of groups whose server, another than the cluster's own, does not say what it serves.
    pub untold: Vec<GroupVersion>,
}

impl Served {
    /// Whether a resource may be served although it is not named.
    pub fn may_have(&self, resource: &ApiResource) -> bool {
        self.untold
            .iter()
            .any(|version| version.group == resource.group && version.version == resource.version)
    }
}

/// Tells which resources there are now: in process the registry does ([`RegistryResources`]), on a remote
/// cluster the discovery documents (`DiscoveryResources`, feature `remote`).
#[async_trait]
pub trait ResourceLister: Send + Sync + 'static {
    /// What is served.
    ///
    /// # Errors
    /// When nothing at all can be told.
    async fn resources(&self) -> Result<Served, ApiError>;
}

/// The resources of a registry.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use rkube_api::{kinds, registry::Registry};
/// use rkube_controllers::resources::{RegistryResources, ResourceLister};
///
/// let registry = Arc::new(Registry::new(kinds::all()).unwrap());
/// let served = RegistryResources::new(registry).resources().await.unwrap();
/// assert!(served.resources.iter().any(|resource| resource.resource == "pods" && resource.namespaced));
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct RegistryResources(Arc<Registry>);

impl RegistryResources {
    /// Reads from this registry, whatever it holds at the time.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self(registry)
    }
}

#[async_trait]
impl ResourceLister for RegistryResources {
    async fn resources(&self) -> Result<Served, ApiError> {
        let snapshot = self.0.snapshot();
        let list = snapshot.definitions().filter_map(|definition| {
            let version = definition.preferred()?;
            Some(ApiResource {
                group: version.group.as_ref().unwrap_or(&definition.names.group).clone(),
                version: version.name.clone(),
                resource: definition.names.plural.clone(),
                kind: definition.names.kind.clone(),
                namespaced: definition.scope == Scope::Namespaced,
                verbs: definition.verbs.clone(),
            })
        });
        Ok(Served { resources: list.collect(), untold: Vec::new() })
    }
}

/// Finds resources by group and kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByKind(BTreeMap<(String, String), ApiResource>);

impl ByKind {
    pub(crate) fn new<'a>(resources: impl IntoIterator<Item = &'a ApiResource>) -> Self {
        let key = |resource: &ApiResource| (resource.group.clone(), resource.kind.clone());
        Self(resources.into_iter().map(|resource| (key(resource), resource.clone())).collect())
    }

    /// The resource of an owner reference's kind, in whatever version.
    pub(crate) fn find(&self, api_version: &str, kind: &str) -> Option<&ApiResource> {
        let group = GroupVersion::parse(api_version).ok()?.group;
        self.0.get(&(group, kind.to_owned()))
    }
}
