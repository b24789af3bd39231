//! The resources of a remote cluster.

use std::collections::BTreeSet;

use async_trait::async_trait;
use rkube_api::{error::ApiError, meta::GroupVersion, remote::Remote, request::Verb};

use super::{ApiResource, ResourceLister, Served};

/// The resources that a remote cluster's discovery documents name: with it the built-in controllers run on
/// any cluster. Feature `remote`.
///
/// ```no_run
/// # async fn example(kube: kube::Client, stop: tokio_util::sync::CancellationToken) {
/// use std::sync::Arc;
/// use rkube_api::{client::{Client, Informers}, context::Context, remote::Remote, request::Credentials};
/// use rkube_controllers::{all::{Deps, manager}, resources::DiscoveryResources};
///
/// let remote = Remote::new(kube);
/// let resources = Arc::new(DiscoveryResources::new(remote.clone()));
/// let client = Client::new(Arc::new(remote), Credentials::Anonymous, "controllers", Context::system(1));
/// let deps = Deps::new(Informers::new(client), resources);
/// let result = manager(&deps, |descriptor| descriptor.default_on).run(stop).await;
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DiscoveryResources(Remote);

impl DiscoveryResources {
    /// Asks this cluster, each time anew.
    pub fn new(remote: Remote) -> Self {
        Self(remote)
    }
}

#[async_trait]
impl ResourceLister for DiscoveryResources {
    async fn resources(&self) -> Result<Served, ApiError> {
        let mut served = Served::default();
        for group in self.0.discover().await? {
            let name = group.metadata.and_then(|metadata| metadata.name).unwrap_or_default();
            let mut known = BTreeSet::new();
            // The preferred version comes first: a resource that it has is not taken from another.
            for version in group.versions {
                let number = version.version.unwrap_or_default();
                if version.freshness.as_deref() == Some("Stale") {
                    served.untold.push(GroupVersion::new(&*name, &*number));
                    continue;
                }
                for found in version.resources {
                    let resource = found.resource.unwrap_or_default();
                    // Without a kind there are only subresources.
                    let Some(kind) = found.response_kind.and_then(|kind| kind.kind) else { continue };
                    if !known.insert(resource.clone()) {
                        continue;
                    }
                    let named = |verb: &Verb| found.verbs.iter().any(|name| name == verb.as_str());
                    served.resources.push(ApiResource {
                        group: name.clone(),
                        version: number.clone(),
                        resource,
                        kind,
                        namespaced: found.scope.as_deref() == Some("Namespaced"),
                        verbs: Verb::ALL.into_iter().filter(named).collect(),
                    });
                }
            }
        }
        Ok(served)
    }
}
