//! Simulated nodes by the thousand.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{NodeConfig, NodeHandle, NodePool, NodeTemplate};
use crate::runtime::sim::{Sim, SimNode};

/// Simulated nodes: how many, what they are called, what they are like.
///
/// ```
/// use rkube_node::agent::SimNodes;
/// let nodes = SimNodes { count: 3, ..SimNodes::default() };
/// assert_eq!(nodes.name(2), "node-2");
/// assert_eq!(nodes.ip(0).to_string(), "172.16.0.1");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SimNodes {
    /// How many.
    pub count: u32,
    /// Names are this and a number.
    pub prefix: String,
    /// The first number.
    pub first: u32,
    /// What they are like.
    pub template: NodeTemplate,
    /// Node `n` has the address this many and one after it. The default is 172.16.0.0, which leaves room
    /// for a million nodes apart from the usual ranges of pods and services.
    pub network: Ipv4Addr,
}

impl Default for SimNodes {
    fn default() -> Self {
        Self {
            count: 1,
            prefix: "node-".into(),
            first: 0,
            template: NodeTemplate::default(),
            network: Ipv4Addr::new(172, 16, 0, 0),
        }
    }
}

impl SimNodes {
    /// The name of the node with this number.
    pub fn name(&self, number: u32) -> String {
        format!("{}{number}", self.prefix)
    }

    /// The address of the node with this number.
    pub fn ip(&self, number: u32) -> IpAddr {
        Ipv4Addr::from_bits(self.network.to_bits().wrapping_add(number).wrapping_add(1)).into()
    }

    /// Adds the nodes to a pool and starts them.
    pub fn add_to(&self, pool: &NodePool, sim: &Sim) -> Vec<SimHandle> {
        let template = Arc::new(self.template.clone());
        let numbers = self.first..self.first.saturating_add(self.count);
        let runtimes: Vec<_> = numbers.clone().map(|number| sim.node(&self.name(number))).collect();
        let configs = numbers.zip(&runtimes).map(|(number, runtime)| NodeConfig {
            name: self.name(number),
            template: template.clone(),
            ips: vec![self.ip(number)],
            runtime: runtime.clone(),
        });
        let handles = pool.add(configs);
        handles.into_iter().zip(runtimes).map(|(node, runtime)| SimHandle { node, runtime }).collect()
    }
}

/// A simulated node: its agent and its machine.
#[derive(Clone, Debug)]
pub struct SimHandle {
    /// The agent.
    pub node: NodeHandle,
    /// The machine.
    pub runtime: Arc<SimNode>,
}

impl SimHandle {
    /// The node's name.
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// Cuts the power: the agent is gone and every container ends.
    pub fn power_off(&self) {
        self.node.stop();
        self.runtime.power_off();
    }

    /// Puts the power back: the agent starts and finds what is left.
    pub fn power_on(&self) {
        self.runtime.power_on();
        self.node.start();
    }
}
