//! How pods find the API servers: the service `kubernetes` and the slices behind it, which list all servers
//! that live. As Kubernetes' lease endpoint reconciler: each server keeps its address in the cluster's state
//! for as long as it renews it, so that the address of one that died goes by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use rkube_api::{
    client::{Api, Client, DeleteParams, ListParams, PostParams},
    error::ApiError,
    pipeline::{Claim, Kept},
};

use crate::defaults::make;

/// Where the addresses are kept.
const SERVERS: &str = "servers/";

/// How long a server is taken to live that does not renew its address. Kubernetes' own figure, as
/// [`crate::defaults`] has Kubernetes' period.
const LEASE: Duration = Duration::from_secs(15);

/// Another server may write the same at the same time.
const TRIES: u32 = 5;

const NAME: &str = "kubernetes";

/// A server's place among those of its cluster.
pub(crate) struct Endpoints {
    kept: Kept,
    own: Claim,
}

impl Endpoints {
    /// The place of a server that is reached at this address. `is_sole`: others there cannot be.
    pub(crate) async fn new(kept: &Kept, address: SocketAddr, is_sole: bool) -> Result<Self, ApiError> {
        if is_sole {
            kept.clear(SERVERS).await?;
        }
        let own = kept.claim(&format!("{SERVERS}{address}"), &address, LEASE)?;
        Ok(Self { kept: kept.clone(), own })
    }

    /// Says that the server lives, and sees to it that the service leads to all that do.
    pub(crate) async fn reconcile(&mut self, client: &Client) -> Result<(), ApiError> {
        self.own.renew().await?;
        self.settle(client).await
    }

    /// The server is about to stop: nobody is to be led to it any more.
    pub(crate) async fn leave(&mut self, client: &Client) -> Result<(), ApiError> {
        self.own.end().await?;
        self.settle(client).await
    }

    async fn settle(&self, client: &Client) -> Result<(), ApiError> {
        let mut tries = 1;
        loop {
            let live: BTreeSet<SocketAddr> = self.kept.all(SERVERS).await?.into_iter().collect();
            match write(client, &live).await {
                // Invalid: another server has just made the service, which has the address already.
                Err(ApiError::Conflict { .. } | ApiError::NotFound { .. } | ApiError::Invalid { .. })
                    if tries < TRIES =>
                {
                    tries += 1;
                }
                done => return done,
            }
        }
    }
}

async fn write(client: &Client, live: &BTreeSet<SocketAddr>) -> Result<(), ApiError> {
    // Without any server there is nothing to lead to: the last one leaves everything as it is.
    let Some(first) = live.first() else { return Ok(()) };
    let port = write_service(client, live, first.port()).await?;
    let wanted = plan(live, port);
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let selector = "kubernetes.io/service-name=kubernetes,component=apiserver";
    let ours = ListParams { labels: selector.into(), ..ListParams::default() };
    for old in api.list(&ours).await?.items {
        let name = old.metadata.name.as_deref().unwrap_or_default();
        let keeps = |new: &EndpointSlice| new.address_type == old.address_type;
        // The type of addresses cannot be changed.
        if !wanted.get(name).is_some_and(keeps) {
            api.delete(name, &DeleteParams::default()).await?;
        }
    }
    for (name, slice) in wanted {
        match api.get_opt(&name).await? {
            Some(old) if old.endpoints != slice.endpoints || old.ports != slice.ports => {
                // Only if nobody has written it meanwhile.
                let mut slice = slice;
                slice.metadata.resource_version = old.metadata.resource_version.clone();
                api.update(&PostParams::default(), slice).await?;
            }
            Some(_) => {}
            None => make(&api, slice).await?,
        }
    }
    Ok(())
}

/// The service, and which port of the servers it names: the one that it has, as long as a server has it, else
/// `otherwise`.
async fn write_service(
    client: &Client,
    live: &BTreeSet<SocketAddr>,
    otherwise: u16,
) -> Result<u16, ApiError> {
    let api: Api<Service> = Api::namespaced(client.clone(), "default");
    let found = api.get_opt(NAME).await?;
    let named = found.as_deref().and_then(named_port);
    let port = named.filter(|port| live.iter().any(|server| server.port() == *port)).unwrap_or(otherwise);
    let ports = Some(vec![ServicePort {
        name: Some("https".into()),
        port: 443,
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::Int(i32::from(port))),
        ..ServicePort::default()
    }]);
    let Some(found) = found else {
        let spec = ServiceSpec { cluster_ip: Some("10.96.0.1".into()), ports, ..ServiceSpec::default() };
        make(&api, Service { metadata: metadata(), spec: Some(spec), ..Service::default() }).await?;
        return Ok(port);
    };
    let mut service = Service::clone(&found);
    let spec = service.spec.get_or_insert_default();
    (spec.ports, spec.type_) = (ports, Some("ClusterIP".into()));
    if service != *found {
        api.update(&PostParams::default(), service).await?;
    }
    Ok(port)
}

fn named_port(service: &Service) -> Option<u16> {
    match service.spec.as_ref()?.ports.as_ref()?.first()?.target_port.as_ref()? {
        IntOrString::Int(port) => u16::try_from(*port).ok(),
        IntOrString::String(_) => None,
    }
}

fn metadata() -> ObjectMeta {
    let labels = [("component", "apiserver"), ("provider", "kubernetes")];
    ObjectMeta {
        name: Some(NAME.into()),
        namespace: Some("default".into()),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        ..ObjectMeta::default()
    }
}

fn can_be_led_to(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_link_local)
}

/// The slices, by name: one a family of addresses and port, the service's own port under the service's name.
/// Kubernetes refuses some addresses in slices, such as those that only the server's machine can reach: a server
/// that has one is in none.
fn plan(live: &BTreeSet<SocketAddr>, port: u16) -> BTreeMap<String, EndpointSlice> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for server in live.iter().filter(|server| can_be_led_to(server.ip())) {
        let group = (server.port() != port, server.is_ipv6(), server.port());
        groups.entry(group).or_default().push(server.ip().to_string());
    }
    let slice = |at: usize, (_, is_v6, port): (bool, bool, u16), addresses: Vec<String>| {
        let family = if is_v6 { "IPv6" } else { "IPv4" };
        let name = match at {
            0 => NAME.to_owned(),
            _ => format!("{NAME}-{}-{port}", family.to_lowercase()),
        };
        let mut metadata = ObjectMeta { name: Some(name.clone()), ..metadata() };
        let labels = metadata.labels.get_or_insert_default();
        labels.insert("kubernetes.io/service-name".into(), NAME.into());
        let ready = EndpointConditions { ready: Some(true), ..EndpointConditions::default() };
        let endpoint = |address| Endpoint {
            addresses: vec![address],
            conditions: Some(ready.clone()),
            ..Endpoint::default()
        };
        let slice = EndpointSlice {
            metadata,
            address_type: family.into(),
            endpoints: Some(addresses.into_iter().map(endpoint).collect()),
            ports: Some(vec![EndpointPort {
                name: Some("https".into()),
                port: Some(i32::from(port)),
                protocol: Some("TCP".into()),
                ..EndpointPort::default()
            }]),
        };
        (name, slice)
    };
    groups.into_iter().enumerate().map(|(at, (group, addresses))| slice(at, group, addresses)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, families, ports and addresses of the slices.
    fn planned(live: &[&str], port: u16) -> Vec<String> {
        let live = live.iter().map(|text| text.parse().unwrap()).collect();
        let slices = plan(&live, port).into_iter().map(|(name, slice)| {
            let port = slice.ports.unwrap()[0].port.unwrap();
            let of: Vec<_> = slice.endpoints.unwrap().into_iter().flat_map(|it| it.addresses).collect();
            format!("{name} {} {port} {}", slice.address_type, of.join(" "))
        });
        slices.collect()
    }

    #[test]
    fn servers_of_one_port_and_family_share_a_slice() {
        let live = ["192.0.2.2:6443", "192.0.2.1:6443"];
        assert_eq!(planned(&live, 6443), ["kubernetes IPv4 6443 192.0.2.1 192.0.2.2"]);
        let live = ["192.0.2.1:6443", "192.0.2.2:7443", "[2001:db8::1]:6443", "127.0.0.1:6443"];
        let six = "kubernetes-ipv6-6443 IPv6 6443 2001:db8::1";
        let others = ["kubernetes IPv4 6443 192.0.2.1", "kubernetes-ipv4-7443 IPv4 7443 192.0.2.2", six];
        assert_eq!(planned(&live, 6443), others);
        // The port that the service names is under its name, whichever that is.
        let others = ["kubernetes IPv4 7443 192.0.2.2", "kubernetes-ipv4-6443 IPv4 6443 192.0.2.1", six];
        assert_eq!(planned(&live, 7443), others);
        // What no slice may have is in none.
        let unfit = ["0.0.0.0:6443", "169.254.0.1:6443", "[fe80::1]:6443", "[::]:6443", "224.0.0.1:6443"];
        assert!(planned(&unfit, 6443).is_empty());
        assert_eq!(planned(&["127.0.0.1:6443", "[::1]:6443"], 6443), Vec::<String>::new());
    }
}
