//! What makes a cluster this one and no other: the authority of its certificates, and its networks. It is in
//! the cluster's state, so that all its servers, and those that come after them, have the same.

use rkube_api::{
    alloc::Services,
    context::Clock,
    http::{Authority, Identity},
    pipeline::Kept,
};
use rkube_net::ipam::RangeConfig;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The name under which the authority is kept.
const AUTHORITY: &str = "certificate-authority";

const POD_NETWORK: &str = "pod-network";
const SERVICE_NETWORK: &str = "service-network";

/// The cluster's authority. If there is none yet, it is made by whoever needs one first.
pub(crate) async fn authority(
    kept: &Kept,
    is_needed: bool,
    clock: &Clock,
) -> Result<Option<Authority>, Error> {
    let make = || Ok::<_, Error>(Authority::new(clock)?.identity().clone());
    let identity = match is_needed {
        true => Some(kept.get_or_make(AUTHORITY, make).await?),
        false => kept.get::<Identity>(AUTHORITY).await?,
    };
    Ok(identity.map(|identity| Authority::from_identity(&identity, clock)).transpose()?)
}

/// Of which addresses and ports services have theirs.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceNetwork {
    addresses: String,
    first_node_port: u16,
    last_node_port: u16,
}

impl ServiceNetwork {
    fn of(services: &Services) -> Self {
        let (addresses, ports) = (services.addresses().to_string(), services.ports());
        Self { addresses, first_node_port: *ports.start(), last_node_port: *ports.end() }
    }
}

/// Refuses a server that would give services other addresses and ports than the cluster has.
pub(crate) async fn check_services(kept: &Kept, services: &Services) -> Result<(), Error> {
    let server = ServiceNetwork::of(services);
    let cluster: ServiceNetwork =
        kept.get_or_make(SERVICE_NETWORK, || Ok::<_, Error>(ServiceNetwork::of(services))).await?;
    if cluster == server {
        return Ok(());
    }
    let text = |it: &ServiceNetwork| {
        format!("{} and node ports {}-{}", it.addresses, it.first_node_port, it.last_node_port)
    };
    Err(Error::OtherServiceNetwork { cluster: text(&cluster), server: text(&server) })
}

/// Of which ranges this server gives nodes theirs: of the cluster's, which the first server with nodes has
/// chosen. Where nobody chose, the cluster has the usual ones for so many nodes.
///
/// `is_sole`: there is no other server, so that a cluster which had the usual ranges for few nodes can have
/// those for many, in which the former lie.
pub(crate) async fn pod_network(
    kept: &Kept,
    chosen: Option<RangeConfig>,
    nodes: u32,
    is_sole: bool,
) -> Result<Option<RangeConfig>, Error> {
    if chosen.is_none() && nodes == 0 {
        return Ok(None);
    }
    let is_chosen = chosen.is_some();
    let server = chosen.unwrap_or_else(|| RangeConfig::for_nodes(nodes));
    // Before it is kept.
    server.room()?;
    let cluster = kept.get_or_make(POD_NETWORK, || Ok::<_, Error>(server.clone())).await?;
    if cluster == server {
        return Ok(Some(cluster));
    }
    if is_chosen {
        return Err(Error::OtherPodNetwork { cluster: cluster.to_string(), server: server.to_string() });
    }
    let room = cluster.room()?;
    if room >= u64::from(nodes) {
        return Ok(Some(cluster));
    }
    if !is_sole || !server.covers(&cluster) {
        return Err(Error::NoRoom { cluster: cluster.to_string(), room, nodes });
    }
    kept.put(POD_NETWORK, &server).await?;
    Ok(Some(server))
}
