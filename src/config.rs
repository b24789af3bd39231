//! What a cluster is made of, as typed values with defaults.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use rkube_node::{
    agent::{NodeTemplate, SimNodes},
    runtime::sim::Profiles,
};

/// Where the API server listens, and what it says in certificates and kubeconfig files.
///
/// ```
/// use rkube::config::Listen;
/// let listen = Listen::on(([127, 0, 0, 1], 6443)).kubeconfig("rkube.kubeconfig");
/// assert_eq!(listen.address.port(), 6443);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// The address by which pods and other machines reach it, for the service `kubernetes`; the one that it
    /// listens on unless said otherwise. One that listens on all addresses, or on loopback, has none that
    /// others reach, and the service does not lead to it.
    pub advertise: Option<IpAddr>,
    /// Further names and addresses by which clients reach it, for the certificate.
    pub names: Vec<String>,
    /// Where to write a kubeconfig of an administrator, if anywhere.
    pub kubeconfig: Option<PathBuf>,
}

impl Listen {
    /// Listens on an address.
    pub fn on(address: impl Into<SocketAddr>) -> Self {
        Self { address: address.into(), advertise: None, names: Vec::new(), kubeconfig: None }
    }

    /// Writes an administrator's kubeconfig to a file that only its owner may read.
    #[must_use]
    pub fn kubeconfig(mut self, path: impl Into<PathBuf>) -> Self {
        self.kubeconfig = Some(path.into());
        self
    }

    /// Has others reach it by this address, with the port that it listens on.
    #[must_use]
    pub fn advertise(mut self, address: impl Into<IpAddr>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// Adds a name or address to the certificate.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }
}

/// How the processes that share a store decide who schedules, who controls and who gives nodes their ranges:
/// by the Leases `kube-scheduler`, `kube-controller-manager` and `node-ipam` in `kube-system`.
///
/// ```
/// use rkube::config::Election;
/// let election = Election::new("server-1");
/// assert_eq!(election.lease_duration.as_secs(), 15);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    /// This process, different from all others with the same store.
    pub identity: String,
    /// How long others wait for a leader that does not renew its Lease; 15 s.
    pub lease_duration: Duration,
    /// How long a leader tries to renew before it stops; 10 s.
    pub renew_deadline: Duration,
    /// The pause between tries; 2 s.
    pub retry_period: Duration,
}

impl Election {
    /// The usual times, Kubernetes' own.
    pub fn new(identity: impl Into<String>) -> Self {
        Self {
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// Bounds on what the handle of a cluster waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// [`Cluster::wait_for`](crate::Cluster::wait_for) gives up after this.
    pub condition: Duration,
    /// Components have so long to finish their work when the cluster stops.
    pub drain: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self { condition: Duration::from_secs(60), drain: Duration::from_secs(10) }
    }
}

/// Simulated nodes of one size and behaviour.
///
/// ```
/// use rkube::config::NodeGroup;
/// let big = NodeGroup::new("big", 10);
/// assert_eq!(big.nodes.name(1), "big-1");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NodeGroup {
    /// How many, and what they are like.
    pub nodes: SimNodes,
    /// How their containers behave.
    pub profiles: Profiles,
}

impl NodeGroup {
    /// So many nodes of the default size, `NAME-1`, `NAME-2`, ...
    pub fn new(name: &str, count: u32) -> Self {
        let nodes = SimNodes { count, first: 1, prefix: format!("{name}-"), ..SimNodes::default() };
        Self { nodes, profiles: Profiles::default() }
    }

    /// Nodes of another size.
    #[must_use]
    pub fn template(mut self, template: NodeTemplate) -> Self {
        self.nodes.template = template;
        self
    }

    /// Containers of another behaviour.
    #[must_use]
    pub fn profiles(mut self, profiles: Profiles) -> Self {
        self.profiles = profiles;
        self
    }
}
