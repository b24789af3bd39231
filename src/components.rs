//! The components of a cluster: each behind its own user, with its own informers, in its own part.

use std::{collections::BTreeMap, sync::Arc};

use rkube_api::{client::Informers, context::Context, pipeline::Server, request::UserInfo};
use rkube_controllers::{
    all::{Deps, Descriptor},
    resources::RegistryResources,
    runtime::{Component, Manager},
};
use rkube_net::ipam::RangeConfig;
use rkube_node::{
    agent::{NodePool, PoolConfig, SimHandle},
    runtime::sim::Sim,
};
use rkube_sched::{Config as SchedulerConfig, Scheduler};

use crate::{Error, config::NodeGroup, network::Network, shutdown::Part};

type BuildComponent = Box<dyn FnOnce(&Deps) -> Arc<dyn Component> + Send>;

/// What runs besides the server.
pub(crate) struct Settings {
    pub(crate) nodes: Vec<NodeGroup>,
    pub(crate) scheduler: Option<SchedulerConfig>,
    pub(crate) controllers: Vec<Descriptor>,
    pub(crate) components: Vec<BuildComponent>,
    pub(crate) pod_network: Option<RangeConfig>,
    /// What the server's certificate is to be checked against, as PEM.
    pub(crate) root_ca: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            scheduler: Some(SchedulerConfig::default()),
            controllers: rkube_controllers::all::all().into_iter().filter(|it| it.default_on).collect(),
            components: Vec::new(),
            pod_network: None,
            root_ca: None,
        }
    }
}

/// The simulated nodes of a cluster, by name.
#[derive(Clone, Debug, Default)]
pub struct Nodes(BTreeMap<String, SimHandle>);

impl Nodes {
    /// A node, to stop its agent, cut its power, or look at what runs on it.
    pub fn get(&self, name: &str) -> Option<&SimHandle> {
        self.0.get(name)
    }

    /// All nodes.
    pub fn iter(&self) -> impl Iterator<Item = &SimHandle> {
        self.0.values()
    }
}

/// Starts what the settings ask for; the parts stop in the reverse order.
pub(crate) fn start(
    settings: Settings,
    server: &Arc<Server>,
    context: &Context,
    parts: &mut Vec<Part>,
) -> Result<Nodes, Error> {
    if let Some(config) = settings.scheduler {
        parts.push(scheduler(config, server, context)?);
    }
    if !settings.controllers.is_empty() || !settings.components.is_empty() {
        let (descriptors, components) = (settings.controllers, settings.components);
        parts.push(controllers(descriptors, components, settings.root_ca, server, context));
    }
    if settings.nodes.is_empty() {
        return Ok(Nodes::default());
    }
    let (part, nodes) = nodes(&settings.nodes, settings.pod_network, server, context)?;
    parts.push(part);
    Ok(nodes)
}

/// Informers of a component's own: they end with its part.
fn informers(server: &Arc<Server>, user: UserInfo, agent: &str, context: &Context) -> Informers {
    Informers::new(server.client(user, agent).with_context(context.clone()))
}

fn scheduler(config: SchedulerConfig, server: &Arc<Server>, context: &Context) -> Result<Part, Error> {
    let context = context.child("scheduler");
    let informers =
        informers(server, UserInfo::component("system:kube-scheduler"), "kube-scheduler", &context);
    let scheduler = Scheduler::new(informers.client().clone(), informers, config)?;
    Ok(Part::start("scheduler", context, |stop| scheduler.run(stop)))
}

fn controllers(
    descriptors: Vec<Descriptor>,
    components: Vec<BuildComponent>,
    root_ca: Option<String>,
    server: &Arc<Server>,
    context: &Context,
) -> Part {
    let context = context.child("controllers");
    let informers = informers(
        server,
        UserInfo::component("system:kube-controller-manager"),
        "kube-controller-manager",
        &context,
    );
    let resources = Arc::new(RegistryResources::new(server.registry().clone()));
    let deps = Deps::new(informers.clone(), resources);
    let deps = match root_ca {
        Some(certificates) => deps.with_root_ca(certificates),
        None => deps,
    };
    let built = descriptors.into_iter().map(|descriptor| (descriptor.build)(&deps));
    let manager = built
        .chain(components.into_iter().map(|build| build(&deps)))
        .fold(Manager::with_informers(informers), Manager::shared);
    Part::start("controllers", context, |stop| async move {
        if let Err(error) = manager.run(stop).await {
            tracing::error!(%error, "the controllers ended");
        }
    })
}

fn nodes(
    groups: &[NodeGroup],
    ranges: Option<RangeConfig>,
    server: &Arc<Server>,
    context: &Context,
) -> Result<(Part, Nodes), Error> {
    let context = context.child("nodes");
    let controller = informers(
        server,
        UserInfo::component("system:serviceaccount:kube-system:node-controller"),
        "node-ipam",
        &context,
    );
    let count = groups.iter().map(|group| group.nodes.count).sum();
    let network = Network::new(&ranges.unwrap_or_else(|| RangeConfig::for_nodes(count)), &controller)?;
    let agents = informers(server, UserInfo::node("pool"), "kubelet", &context);
    let pool = NodePool::new(&agents, network.addresses(), PoolConfig::default());
    let mut nodes = Nodes::default();
    for group in groups {
        let sim = Sim::new(&context.child(&group.nodes.prefix), group.profiles.clone());
        let handles = group.nodes.add_to(&pool, &sim);
        nodes.0.extend(handles.into_iter().map(|handle| (handle.name().to_owned(), handle)));
    }
    let part = Part::start("nodes", context, |stop| async move {
        stop.run_until_cancelled(network.run()).await;
        pool.stop().await;
    });
    Ok((part, nodes))
}
