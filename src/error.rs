//! Why a cluster does not start, or an object is not as wanted.

use std::{io, net::SocketAddr, path::PathBuf};

use rkube_api::{error::ApiError, http::TlsError, pipeline::BuildError, registry::RegistryError};

/// What can go wrong with a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused a call.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The store's state cannot be read.
    #[error(transparent)]
    Store(#[from] rkube_store::StoreError),
    /// A cluster's state could not be saved to a file, or read from it.
    #[cfg(feature = "durable")]
    #[error("the saved state {path}: {source}")]
    Saved {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rkube_store::backend::durable::OpenError,
    },
    /// Two definitions are for one resource.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The server cannot be put together.
    #[error(transparent)]
    Server(#[from] BuildError),
    /// The scheduler's configuration makes no sense.
    #[error(transparent)]
    Scheduler(#[from] rkube_sched::framework::ConfigError),
    /// The ranges of pod addresses make no sense.
    #[error(transparent)]
    PodNetwork(#[from] rkube_net::ipam::RangeSetError),
    /// The cluster gives pods other addresses than this server is to give.
    #[error("pods of the cluster have addresses of {cluster}; this server is set to give them of {server}")]
    OtherPodNetwork {
        /// The cluster's ranges.
        cluster: String,
        /// The server's.
        server: String,
    },
    /// The cluster has not as many ranges as there are to be nodes.
    #[error("the cluster's network, {cluster}, has room for {room} nodes, not for {nodes}")]
    NoRoom {
        /// The cluster's ranges.
        cluster: String,
        /// How many nodes can have one.
        room: u64,
        /// How many nodes this server has.
        nodes: u32,
    },
    /// The cluster gives services other addresses or node ports than this server does.
    #[error("services of the cluster have {cluster}; this server gives them {server}")]
    OtherServiceNetwork {
        /// The cluster's ranges.
        cluster: String,
        /// The server's.
        server: String,
    },
    /// The folder of the cluster's state cannot be used.
    #[cfg(feature = "durable")]
    #[error("cannot open the store in {path}: {source}")]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: rkube_store::backend::durable::OpenError,
    },
    /// The times of the election cannot work together.
    #[error(transparent)]
    Election(#[from] rkube_api::client::leader::LeaderConfigError),
    /// The store on etcd could not be set up.
    #[cfg(feature = "etcd")]
    #[error("etcd: {0}")]
    Etcd(#[from] rkube_store::backend::etcd::EtcdError),
    /// A value could not be written again.
    #[cfg(feature = "encrypt")]
    #[error("cannot seal anew: {0}")]
    Reseal(#[from] Box<rkube_store::CommitError<rkube_api::object::Object>>),
    /// The system gave no randomness for a seed.
    #[error("no seed: {0}")]
    Seed(getrandom::Error),
    /// Certificates could not be made.
    #[error("certificates: {0}")]
    Tls(#[from] TlsError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The kubeconfig could not be written.
    #[error("cannot write {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An object was not as wanted in time.
    #[error("{kind} {name:?} was not as wanted within {seconds} s")]
    NotInTime {
        /// The kind.
        kind: &'static str,
        /// The object's name.
        name: String,
        /// How long was waited.
        seconds: u64,
    },
}
