//! A runtime that runs nothing: pods go through their lives by data and by the clock.
//!
//! One [`Sim`] serves any number of nodes: they share one ordered set of timers and one task, started with
//! the first timer; a node and a pod are a few hundred bytes, no task. What happens is decided by
//! [`Profiles`], and by the seed of the context where there is jitter.

mod behaviour;
mod container;
mod node;

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
};

use foldhash::fast::FixedState;
use parking_lot::Mutex;
use rkube_api::context::{Context, instant_after};

pub use behaviour::{
    BEHAVIOUR_ANNOTATION, Behaviour, ContainerBehaviour, Delay, Fail, PROFILE_ANNOTATION, Profiles, Pull,
    Rule, Run, Stop,
};
pub use node::SimNode;

use crate::timers::Timers;

/// What a timer is for.
enum Due {
    /// The container's next step: it runs, is ready, or ends.
    Container { node: Arc<SimNode>, uid: Arc<str>, id: u64, step: container::Step },
    /// A pull has ended.
    Pulled { node: Arc<SimNode>, uid: Arc<str>, image: Arc<str>, boot: u32 },
}

/// A simulated runtime for many nodes. Clones share it.
///
/// ```
/// use rkube_api::context::Context;
/// use rkube_node::runtime::sim::{Profiles, Sim};
///
/// let sim = Sim::new(&Context::simulated(7), Profiles::default());
/// let (a, b) = (sim.node("a"), sim.node("b"));
/// assert_eq!((a.name(), b.name()), ("a", "b"));
/// ```
#[derive(Clone)]
pub struct Sim(Arc<Driver>);

/// What all simulated nodes share.
pub(crate) struct Driver {
    context: Context,
    profiles: behaviour::Table,
    timers: Arc<Timers<Due>>,
    started: OnceLock<()>,
    names: Mutex<HashSet<Arc<str>, FixedState>>,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sim")
    }
}

impl Sim {
    /// A simulation with its own stream of randomness; its task is the context's.
    pub fn new(context: &Context, profiles: Profiles) -> Self {
        let context = Context { rng: context.rng.fork("sim"), ..context.clone() };
        Self(Arc::new(Driver {
            context,
            profiles: behaviour::Table::new(profiles),
            timers: Timers::new(),
            started: OnceLock::new(),
            names: Mutex::default(),
        }))
    }

    /// A new node's runtime, with nothing on it.
    pub fn node(&self, name: &str) -> Arc<SimNode> {
        SimNode::new(name, self.0.clone())
    }
}

impl Driver {
    /// One shared copy of a text that many pods have.
    fn intern(&self, text: &str) -> Arc<str> {
        let mut names = self.names.lock();
        if let Some(known) = names.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        names.insert(new.clone());
        new
    }

    fn after(&self, wait: std::time::Duration, due: Due) {
        self.started.get_or_init(|| {
            let timers = self.timers.clone();
            self.context.spawner.spawn("sim", async move {
                loop {
                    match timers.next().await {
                        Due::Container { node, uid, id, step } => node.step(&uid, id, step),
                        Due::Pulled { node, uid, image, boot } => node.pulled(&uid, &image, boot),
                    }
                }
            });
        });
        self.timers.add(instant_after(wait), due);
    }
}
