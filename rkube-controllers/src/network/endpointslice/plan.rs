//! Which slices a service needs, with as few writes as possible.
//!
//! Source: KEP-752 and `endpointslice/reconciler` of Kubernetes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{Node, Pod, Service},
        discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use rkube_api::meta::{names, owners};

use super::endpoint::{belongs, endpoint, families, ports};
use crate::facts;

/// How many endpoints a slice holds at most.
pub const MAX_ENDPOINTS: usize = 100;
/// The label that names a slice's service.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The label that says who keeps a slice.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// What this controller puts there.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The label of slices whose service has no cluster address.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// What is there.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The service.
    pub service: &'a Service,
    /// The pods that it selects.
    pub pods: &'a [Arc<Pod>],
    /// The nodes of those pods, by name.
    pub nodes: &'a BTreeMap<String, Arc<Node>>,
    /// The slices that this controller keeps for it.
    pub slices: &'a [Arc<EndpointSlice>],
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make a slice.
    Create(Box<EndpointSlice>),
    /// Replace a slice.
    Update(Box<EndpointSlice>),
    /// Delete a slice.
    Delete(Arc<EndpointSlice>),
}

/// Endpoints that share their ports, by what makes them distinct: the pod's UID.
type Wanted = BTreeMap<String, Endpoint>;

/// Brings the slices in line with the pods.
pub fn plan(observed: &Observed<'_>) -> Vec<Action> {
    let families = families(observed.service);
    let mut actions: Vec<Action> = observed
        .slices
        .iter()
        .filter(|slice| !families.contains(&slice.address_type) && !leaving(slice))
        .map(|slice| Action::Delete(slice.clone()))
        .collect();
    for family in &families {
        actions.extend(plan_family(observed, family));
    }
    // Creations before deletions: nobody should see a moment without endpoints.
    actions.sort_by_key(|action| matches!(action, Action::Delete(_)));
    actions
}

fn leaving(slice: &EndpointSlice) -> bool {
    slice.metadata.deletion_timestamp.is_some()
}

/// The endpoints of a family, by the ports that they offer.
fn wanted(observed: &Observed<'_>, family: &str) -> Vec<(Vec<EndpointPort>, Wanted)> {
    let spec = observed.service.spec.as_ref();
    let headless = is_headless(observed.service);
    let portless = spec.is_none_or(|spec| spec.ports.as_ref().is_none_or(Vec::is_empty));
    let mut groups: Vec<(Vec<EndpointPort>, Wanted)> = Vec::new();
    for pod in observed.pods.iter().filter(|pod| belongs(pod)) {
        let node = observed.nodes.get(facts::node(pod)).map(|node| &**node);
        let Some(endpoint) = endpoint(observed.service, pod, node, family) else { continue };
        let ports = ports(observed.service, pod);
        if ports.is_empty() && !(headless && portless) {
            continue;
        }
        let uid = facts::uid(&pod.metadata).to_owned();
        match groups.iter_mut().find(|(other, _)| *other == ports) {
            Some((_, group)) => _ = group.insert(uid, endpoint),
            None => groups.push((ports, Wanted::from([(uid, endpoint)]))),
        }
    }
    groups
}

fn plan_family(observed: &Observed<'_>, family: &str) -> Vec<Action> {
    let slices: Vec<&Arc<EndpointSlice>> =
        observed.slices.iter().filter(|slice| slice.address_type == family && !leaving(slice)).collect();
    let mut groups = wanted(observed, family);
    if groups.is_empty() {
        // A service without endpoints has one empty slice, so that its readers know that it was seen.
        groups.push((Vec::new(), Wanted::new()));
    }
    let mut actions = Vec::new();
    let mut used = BTreeSet::new();
    for (ports, endpoints) in groups {
        let own: Vec<&Arc<EndpointSlice>> = slices
            .iter()
            .filter(|slice| slice.ports.as_deref().unwrap_or_default() == ports)
            .copied()
            .collect();
        used.extend(own.iter().map(|slice| facts::name(&slice.metadata)));
        actions.extend(fill(observed.service, family, &ports, endpoints, &own));
    }
    let unused = slices.iter().filter(|slice| !used.contains(facts::name(&slice.metadata)));
    actions.extend(unused.map(|slice| Action::Delete((*slice).clone())));
    actions
}

/// A slice with the endpoints that stay in it.
struct Page<'a> {
    slice: &'a Arc<EndpointSlice>,
    kept: Vec<Endpoint>,
    changed: bool,
}

/// Puts the endpoints of one group of ports into slices: what is there stays where it is, what is new goes
/// into slices that are written anyway, then into the fullest that has room, then into new ones.
fn fill(
    service: &Service,
    family: &str,
    ports: &[EndpointPort],
    mut missing: Wanted,
    slices: &[&Arc<EndpointSlice>],
) -> Vec<Action> {
    let labels = labels(service);
    let mut pages: Vec<Page<'_>> =
        slices.iter().map(|slice| keep(slice, &mut missing, &labels, service)).collect();
    let mut rest: Vec<Endpoint> = missing.into_values().collect();
    // The last page takes from the end; keep the order of UIDs.
    rest.reverse();
    for page in pages.iter_mut().filter(|page| page.changed) {
        take(page, &mut rest);
    }
    let mut actions = Vec::new();
    let create = |mut part: Vec<Endpoint>| {
        part.reverse();
        Action::Create(Box::new(new_slice(service, family, ports, part, &labels)))
    };
    while rest.len() >= MAX_ENDPOINTS {
        actions.push(create(rest.split_off(rest.len() - MAX_ENDPOINTS)));
    }
    if !rest.is_empty() {
        let room = |page: &Page<'_>| MAX_ENDPOINTS - page.kept.len();
        // The fullest page that takes all, so that the number of writes and of slices stays low.
        let fits = pages.iter_mut().filter(|page| room(page) >= rest.len()).min_by_key(|page| room(page));
        match fits {
            Some(page) => take(page, &mut rest),
            None => actions.push(create(rest)),
        }
    }
    finish(pages, actions, service, family, ports, &labels)
}

/// Deletes pages that became empty, unless one must stay; writes those that changed.
fn finish(
    pages: Vec<Page<'_>>,
    mut actions: Vec<Action>,
    service: &Service,
    family: &str,
    ports: &[EndpointPort],
    labels: &BTreeMap<String, String>,
) -> Vec<Action> {
    let mut filled = !actions.is_empty() || pages.iter().any(|page| !page.kept.is_empty());
    if pages.is_empty() && !filled {
        actions.push(Action::Create(Box::new(new_slice(service, family, ports, Vec::new(), labels))));
    }
    for page in pages {
        if page.kept.is_empty() && filled {
            actions.push(Action::Delete(page.slice.clone()));
            continue;
        }
        filled = true;
        if page.changed {
            let mut slice = (**page.slice).clone();
            slice.endpoints = Some(page.kept);
            slice.metadata.labels = Some(labels.clone());
            slice.metadata.owner_references = owners::controller_ref(service).map(|owner| vec![owner]);
            actions.push(Action::Update(Box::new(slice)));
        }
    }
    actions
}

fn keep<'a>(
    slice: &'a Arc<EndpointSlice>,
    missing: &mut Wanted,
    labels: &BTreeMap<String, String>,
    service: &Service,
) -> Page<'a> {
    let mut changed = slice.metadata.labels.as_ref() != Some(labels)
        || !owners::is_controlled_by(&slice.metadata, facts::uid(&service.metadata));
    let mut kept = Vec::new();
    for old in slice.endpoints.iter().flatten() {
        let uid = old.target_ref.as_ref().and_then(|target| target.uid.as_deref()).unwrap_or_default();
        match missing.remove(uid) {
            Some(new) => {
                changed |= new != *old;
                kept.push(new);
            }
            None => changed = true,
        }
    }
    Page { slice, kept, changed }
}

fn take(page: &mut Page<'_>, rest: &mut Vec<Endpoint>) {
    while page.kept.len() < MAX_ENDPOINTS
        && let Some(endpoint) = rest.pop()
    {
        page.kept.push(endpoint);
        page.changed = true;
    }
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The service's own labels and those that the slice is found by.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let reserved = [SERVICE_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL];
    let own = service.metadata.labels.iter().flatten();
    let mut labels: BTreeMap<String, String> = own
        .filter(|(key, _)| !reserved.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    labels.insert(SERVICE_LABEL.into(), facts::name(&service.metadata).to_owned());
    labels.insert(MANAGED_BY_LABEL.into(), MANAGER.into());
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    }
    labels
}

fn new_slice(
    service: &Service,
    family: &str,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
    labels: &BTreeMap<String, String>,
) -> EndpointSlice {
    let name = facts::name(&service.metadata);
    let prefix = format!("{name}-");
    let valid = names::name_is_subdomain(&prefix, true).is_empty();
    EndpointSlice {
        metadata: ObjectMeta {
            namespace: service.metadata.namespace.clone(),
            generate_name: Some(if valid { prefix } else { name.to_owned() }),
            labels: Some(labels.clone()),
            owner_references: owners::controller_ref(service).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports.to_vec()),
    }
}
