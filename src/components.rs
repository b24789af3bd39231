//! The components of a cluster: each behind its own user, with its own informers, in its own part.

use std::{collections::BTreeMap, sync::Arc};

use rkube_api::{
    client::{Client, Informers},
    context::Context,
    pipeline::Server,
    request::UserInfo,
};
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

use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    config::{Election, NodeGroup},
    duty::Duty,
    network,
    shutdown::Part,
};

type BuildComponent = Box<dyn Fn(&Deps) -> Arc<dyn Component> + Send + Sync>;

/// What runs besides the server.
pub(crate) struct Settings {
    pub(crate) nodes: Vec<NodeGroup>,
    pub(crate) scheduler: Option<SchedulerConfig>,
    pub(crate) controllers: Vec<Descriptor>,
    pub(crate) components: Vec<BuildComponent>,
    /// Once the cluster starts: the cluster's own, if this process has nodes.
    pub(crate) pod_network: Option<RangeConfig>,
    /// What the server's certificate is to be checked against, as PEM.
    pub(crate) root_ca: Option<String>,
    /// `None`: this process is the only one.
    pub(crate) election: Option<Election>,
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
            election: None,
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
    let election = settings.election.as_ref();
    if let Some(config) = settings.scheduler {
        parts.push(scheduler(config, election, server, context)?);
    }
    if !settings.controllers.is_empty() || !settings.components.is_empty() {
        let (descriptors, components) = (settings.controllers, settings.components);
        parts.push(controllers(descriptors, components, settings.root_ca, election, server, context)?);
    }
    let Some(ranges) = settings.pod_network.filter(|_| !settings.nodes.is_empty()) else {
        return Ok(Nodes::default());
    };
    let (part, nodes) = nodes(&settings.nodes, ranges, election, server, context)?;
    parts.push(part);
    Ok(nodes)
}

const CONTROLLER_MANAGER: &str = "kube-controller-manager";

/// A client of a component: its tasks end with its part.
fn client(server: &Arc<Server>, user: UserInfo, agent: &str, context: &Context) -> Client {
    server.client(user, agent).with_context(context.clone())
}

fn scheduler(
    config: SchedulerConfig,
    election: Option<&Election>,
    server: &Arc<Server>,
    context: &Context,
) -> Result<Part, Error> {
    let (context, server) = (context.child("scheduler"), server.clone());
    let client = move |context: &Context| {
        client(&server, UserInfo::component("system:kube-scheduler"), "kube-scheduler", context)
    };
    let duty = Duty::new("kube-scheduler", election, &client, &context)?;
    let make = move |context: &Context| {
        let client = client(context);
        Scheduler::new(client.clone(), Informers::new(client), config.clone())
    };
    // A configuration that makes no sense is told now, and not when this process comes to lead.
    let trial = context.child("trial");
    make(&trial)?;
    trial.spawner.token().cancel();
    Ok(Part::start("scheduler", context, |stop| async move {
        let work = |context: Context, stop| {
            let scheduler = make(&context);
            async move {
                match scheduler {
                    Ok(scheduler) => scheduler.run(stop).await,
                    Err(error) => tracing::error!(%error, "there is no scheduler"),
                }
            }
        };
        duty.run(stop, work).await;
    }))
}

fn controllers(
    descriptors: Vec<Descriptor>,
    components: Vec<BuildComponent>,
    root_ca: Option<String>,
    election: Option<&Election>,
    server: &Arc<Server>,
    context: &Context,
) -> Result<Part, Error> {
    let (context, server) = (context.child("controllers"), server.clone());
    let resources = Arc::new(RegistryResources::new(server.registry().clone()));
    let client = move |context: &Context| {
        client(&server, UserInfo::component("system:kube-controller-manager"), CONTROLLER_MANAGER, context)
    };
    let duty = Duty::new(CONTROLLER_MANAGER, election, &client, &context)?;
    let make = move |context: &Context| {
        let informers = Informers::new(client(context));
        let deps = Deps::new(informers.clone(), resources.clone());
        let deps = match &root_ca {
            Some(certificates) => deps.with_root_ca(certificates.clone()),
            None => deps,
        };
        let built = descriptors.iter().map(|descriptor| (descriptor.build)(&deps));
        built
            .chain(components.iter().map(|build| build(&deps)))
            .fold(Manager::with_informers(informers), Manager::shared)
    };
    Ok(Part::start("controllers", context, |stop| async move {
        let work = |context: Context, stop| {
            let manager = make(&context);
            async move {
                if let Err(error) = manager.run(stop).await {
                    tracing::error!(%error, "the controllers ended");
                }
            }
        };
        duty.run(stop, work).await;
    }))
}

fn nodes(
    groups: &[NodeGroup],
    ranges: RangeConfig,
    election: Option<&Election>,
    server: &Arc<Server>,
    context: &Context,
) -> Result<(Part, Nodes), Error> {
    let context = context.child("nodes");
    let user = || UserInfo::component("system:serviceaccount:kube-system:node-controller");
    let shared = Informers::new(client(server, user(), "node-ipam", &context));
    network::ranges(&ranges, &shared)?;
    let manager = UserInfo::component("system:kube-controller-manager");
    let duty =
        Duty::new("node-ipam", election, |of| client(server, manager, CONTROLLER_MANAGER, of), &context)?;
    let agents = Informers::new(client(server, UserInfo::node("pool"), "kubelet", &context));
    let pool = NodePool::new(&agents, network::addresses(&shared), PoolConfig::default());
    let mut nodes = Nodes::default();
    for group in groups {
        let sim = Sim::new(&context.child(&group.nodes.prefix), group.profiles.clone());
        let handles = group.nodes.add_to(&pool, &sim);
        nodes.0.extend(handles.into_iter().map(|handle| (handle.name().to_owned(), handle)));
    }
    let (server, is_elected) = (server.clone(), election.is_some());
    let part = Part::start("nodes", context, |stop| async move {
        let work = |context: Context, stop: CancellationToken| {
            // What a lead begins must end with it.
            let informers = match is_elected {
                true => Informers::new(client(&server, user(), "node-ipam", &context)),
                false => shared.clone(),
            };
            let controller = network::ranges(&ranges, &informers);
            async move {
                match controller {
                    Ok(controller) => drop(stop.run_until_cancelled(controller.run()).await),
                    Err(error) => tracing::error!(%error, "nodes get no ranges"),
                }
            }
        };
        duty.run(stop, work).await;
        pool.stop().await;
    });
    Ok((part, nodes))
}
