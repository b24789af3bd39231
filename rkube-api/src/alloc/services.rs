//! What a Service takes: an address in the cluster, ports on the nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use rkube_store::Txn;

use super::{AddressRange, ports::Ports, record};
use crate::{
    error::ApiError,
    meta::{ErrorList, FieldError, FieldPath},
    object::Object,
    pipeline::{self, Reservation},
};

/// Gives services their addresses and node ports.
#[derive(Clone, Debug)]
pub struct Services {
    addresses: AddressRange,
    ports: RangeInclusive<u16>,
}

impl Default for Services {
    fn default() -> Self {
        Self::new(AddressRange::default_services(), 30_000..=32_767)
    }
}

impl Services {
    /// Gives addresses of one range and ports of another.
    pub fn new(addresses: AddressRange, ports: RangeInclusive<u16>) -> Self {
        Self { addresses, ports }
    }

    /// The addresses that it gives.
    pub fn addresses(&self) -> AddressRange {
        self.addresses
    }

    /// The node ports that it gives.
    pub fn ports(&self) -> RangeInclusive<u16> {
        self.ports.clone()
    }
}

#[async_trait]
impl Reservation for Services {
    fn resource(&self) -> (&str, &str) {
        ("", "services")
    }

    async fn reserve(
        &self,
        pool: &pipeline::Pool<'_>,
        old: Option<&Object>,
        new: Option<&mut Object>,
        txn: &mut Txn<Object>,
    ) -> Result<(), ApiError> {
        let had = Taken::of(old.and_then(|old| old.as_kind::<Service>()));
        let mut ports = Ports::new(pool.reader);
        let wants = match new {
            None => Taken::default(),
            Some(object) => {
                let name = object.name().to_owned();
                let errors = ErrorList::default();
                let mut choice = Choice { services: self, pool, had: &had, taken: &mut ports, errors };
                if let Some(spec) = object.as_kind_mut::<Service>().and_then(|service| service.spec.as_mut())
                {
                    choice.address(spec).await?;
                    choice.ports(spec).await?;
                }
                if !choice.errors.is_empty() {
                    return Err(pool.invalid(&name, &choice.errors));
                }
                let wants = Taken::of(object.as_kind());
                wants.addresses.difference(&had.addresses).for_each(|it| record::take(it, object, txn));
                wants
            }
        };
        had.addresses.difference(&wants.addresses).for_each(|it| record::give(it, txn));
        for port in wants.ports.difference(&had.ports) {
            ports.take(*port).await?;
        }
        for port in had.ports.difference(&wants.ports) {
            ports.give(*port).await?;
        }
        ports.write(txn);
        Ok(())
    }
}

/// What a service holds.
#[derive(Default)]
struct Taken {
    addresses: BTreeSet<String>,
    ports: BTreeSet<u16>,
}

impl Taken {
    fn of(service: Option<&Service>) -> Self {
        let Some(spec) = service.and_then(|service| service.spec.as_ref()) else { return Self::default() };
        let mut taken = Self::default();
        if needs_address(spec) {
            let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
            // What is no address is refused by validation, behind this stage.
            taken.addresses.extend(all.filter(|address| address.parse::<IpAddr>().is_ok()).cloned());
        }
        if needs_ports(spec) {
            taken.ports.extend(spec.ports.iter().flatten().filter_map(|port| set(port.node_port)));
        }
        if needs_health_port(spec) {
            taken.ports.extend(set(spec.health_check_node_port));
        }
        taken
    }
}

/// A port that is given; what is no port is refused by validation.
fn set(port: Option<i32>) -> Option<u16> {
    port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

fn kind(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

fn needs_address(spec: &ServiceSpec) -> bool {
    matches!(kind(spec), "ClusterIP" | "NodePort" | "LoadBalancer")
        && spec.cluster_ip.as_deref() != Some("None")
}

fn needs_ports(spec: &ServiceSpec) -> bool {
    match kind(spec) {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports.unwrap_or(true) || has_ports(spec),
        _ => false,
    }
}

fn has_ports(spec: &ServiceSpec) -> bool {
    spec.ports.iter().flatten().any(|port| port.node_port.is_some_and(|port| port != 0))
}

fn needs_health_port(spec: &ServiceSpec) -> bool {
    kind(spec) == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local")
}

/// How often a random address or port is tried before all are looked at in turn.
const DRAWS: usize = 16;
/// How many ports of one service are drawn. Those beyond lie beside them, so that few records change.
const DRAWN: usize = 16;

/// Chooses what a service does not name, and checks what it names.
struct Choice<'a, 'r> {
    services: &'a Services,
    pool: &'a pipeline::Pool<'a>,
    had: &'a Taken,
    taken: &'a mut Ports<'r>,
    errors: ErrorList,
}

impl Choice<'_, '_> {
    async fn address(&mut self, spec: &mut ServiceSpec) -> Result<(), ApiError> {
        if !needs_address(spec) || !self.families(spec) {
            return Ok(());
        }
        let asked = spec.cluster_ips.iter().flatten().next().or(spec.cluster_ip.as_ref());
        let Some(asked) = asked.filter(|text| !text.is_empty()).cloned() else {
            let address = self.free_address().await?.to_string();
            spec.cluster_ips = Some(vec![address.clone()]);
            spec.cluster_ip = Some(address);
            return Ok(());
        };
        let Ok(address) = asked.parse::<IpAddr>() else { return Ok(()) };
        if self.had.addresses.contains(&asked) {
            return Ok(());
        }
        let range = self.services.addresses;
        let inside = matches!(address, IpAddr::V4(address) if range.contains(address));
        let why = if !inside {
            let range = format!("The range of valid IPs is {range}");
            format!("the provided IP ({address}) is not in the valid range. {range}")
        } else if record::is_taken(self.pool.reader, &asked).await? {
            "provided IP is already allocated".to_owned()
        } else {
            return Ok(());
        };
        let path = FieldPath::new("spec");
        let all = spec.cluster_ips.clone().unwrap_or_else(|| vec![asked]);
        let detail = format!("failed to allocate IP {address}: {why}");
        self.errors.push(FieldError::invalid(&path.child("clusterIPs"), all, detail));
        Ok(())
    }

    /// Whether the service can do with the one family that the cluster has.
    fn families(&mut self, spec: &mut ServiceSpec) -> bool {
        let path = FieldPath::new("spec");
        if spec.ip_family_policy.as_deref() == Some("RequireDualStack") {
            let detail = "this cluster is not configured for dual-stack services";
            self.errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), "RequireDualStack", detail));
            return false;
        }
        let families = spec.ip_families.get_or_insert_with(|| vec!["IPv4".into()]);
        if let Some(at) = families.iter().position(|family| family == "IPv6") {
            let path = path.child("ipFamilies");
            let detail = "not configured on this cluster";
            self.errors.push(FieldError::invalid(&path.index(at), "IPv6", detail));
            return false;
        }
        spec.ip_family_policy.get_or_insert_with(|| "SingleStack".into());
        true
    }

    async fn free_address(&self) -> Result<Ipv4Addr, ApiError> {
        let (range, rng) = (self.services.addresses, &self.pool.context.rng);
        let upper = range.len() - range.kept_free();
        let random = (0..DRAWS).map(|_| range.kept_free() + rng.below(upper));
        // When the upper part is full, the lower one is used.
        for offset in random.collect::<Vec<_>>().into_iter().chain((0..range.len()).rev()) {
            let address = range.at(offset);
            if !record::is_taken(self.pool.reader, &address.to_string()).await? {
                return Ok(address);
            }
        }
        Err(ApiError::internal("failed to allocate a serviceIP: range is full"))
    }

    async fn ports(&mut self, spec: &mut ServiceSpec) -> Result<(), ApiError> {
        let mut used = BTreeSet::new();
        if needs_ports(spec) {
            let wants_all =
                kind(spec) == "NodePort" || spec.allocate_load_balancer_node_ports.unwrap_or(true);
            let mut ports = spec.ports.take().unwrap_or_default();
            used = self.node_ports(&mut ports, wants_all).await?;
            spec.ports = Some(ports);
        }
        if !needs_health_port(spec) {
            return Ok(());
        }
        match spec.health_check_node_port.filter(|port| *port != 0) {
            None => spec.health_check_node_port = Some(self.free_port(&used).await?.into()),
            Some(port) => {
                let spec = FieldPath::new("spec");
                self.check_port(port, &spec.child("healthCheckNodePort")).await?;
            }
        }
        Ok(())
    }

    /// Gives the ports their numbers; what is used then.
    async fn node_ports(
        &mut self,
        ports: &mut [ServicePort],
        wants_all: bool,
    ) -> Result<BTreeSet<u16>, ApiError> {
        let spec = FieldPath::new("spec");
        let path = spec.child("ports");
        let mut used = BTreeSet::new();
        // One node port can serve one port under several protocols.
        let mut shared: BTreeMap<i32, (i32, BTreeSet<String>)> = BTreeMap::new();
        let protocol = |port: &ServicePort| port.protocol.clone().unwrap_or_else(|| "TCP".into());
        for (at, port) in ports.iter().enumerate() {
            let Some(number) = port.node_port.filter(|number| *number != 0) else { continue };
            if set(Some(number)).is_none_or(|number| used.insert(number)) {
                self.check_port(number, &path.index(at).child("nodePort")).await?;
            }
            shared.entry(port.port).or_insert((number, BTreeSet::new())).1.insert(protocol(port));
        }
        for port in ports.iter_mut().filter(|port| wants_all && port.node_port.unwrap_or(0) == 0) {
            let number = match shared.get(&port.port) {
                Some((number, protocols)) if !protocols.contains(&protocol(port)) => *number,
                _ => {
                    let free = self.free_port(&used).await?;
                    used.insert(free);
                    free.into()
                }
            };
            port.node_port = Some(number);
            shared.entry(port.port).or_insert((number, BTreeSet::new())).1.insert(protocol(port));
        }
        Ok(used)
    }

    async fn check_port(&mut self, port: i32, path: &FieldPath<'_>) -> Result<(), ApiError> {
        let range = &self.services.ports;
        let inside = u16::try_from(port).ok().filter(|port| range.contains(port));
        let why = match inside {
            _ if set(Some(port)).is_some_and(|port| self.had.ports.contains(&port)) => return Ok(()),
            None => {
                let (first, last) = (range.start(), range.end());
                format!("provided port is not in the valid range. The range of valid ports is {first}-{last}")
            }
            Some(port) if self.taken.is_taken(port).await? => "provided port is already allocated".to_owned(),
            Some(_) => return Ok(()),
        };
        self.errors.push(FieldError::invalid(path, port, why));
        Ok(())
    }

    /// A port that nobody has: drawn, beside those that were drawn before, or whichever is left.
    async fn free_port(&mut self, used: &BTreeSet<u16>) -> Result<u16, ApiError> {
        let range = self.services.ports.clone();
        let draws = if used.len() < DRAWN { DRAWS } else { 0 };
        let random: Vec<usize> = (0..draws).map(|_| self.pool.context.rng.below(range.len())).collect();
        let drawn = random.into_iter().filter_map(|at| range.clone().nth(at));
        let near = self.taken.near(&range, |port| used.contains(&port));
        for port in drawn.chain(near).chain(range.clone()) {
            if !used.contains(&port) && !self.taken.is_taken(port).await? {
                return Ok(port);
            }
        }
        Err(ApiError::internal("failed to allocate a nodePort: range is full"))
    }
}
