//! What is written down of devices that were found.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
        resource::v1::{
            AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult,
            DeviceRequestAllocationResult,
        },
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::{
    capacity::{consumption, is_shared},
    search::Pick,
    wanted::Claim,
};

/// The most alternatives of a request.
const MOST_ALTERNATIVES: usize = 8;

/// How well a claim does: the first alternative of a request counts most.
pub(super) fn score(claim: &Claim, picked: &[Pick<'_>]) -> i64 {
    let lists = claim.requests.iter().enumerate().filter(|(_, request)| request.is_list);
    let rank = |at: usize| {
        let ask = picked.iter().find(|pick| pick.request == at)?.ask;
        claim.requests[at].asks.iter().position(|other| other.number == ask.number)
    };
    lists.filter_map(|(at, _)| rank(at)).map(|rank| MOST_ALTERNATIVES.saturating_sub(rank) as i64).sum()
}

/// The result for a claim, from the devices picked for it on a node.
pub(super) fn of(claim: &Claim, picked: &[Pick<'_>], node: &str) -> AllocationResult {
    let results: Vec<_> = picked.iter().map(result).collect();
    let config = configurations(claim, picked);
    AllocationResult {
        devices: Some(DeviceAllocationResult {
            results: (!results.is_empty()).then_some(results),
            config: (!config.is_empty()).then_some(config),
        }),
        node_selector: node_selector(picked, node),
        allocation_timestamp: None,
    }
}

fn result(pick: &Pick<'_>) -> DeviceRequestAllocationResult {
    let (spec, ask, device) = (pick.offer.spec(), pick.ask, pick.offer.device(pick.index));
    let amounts = if is_shared(device) { consumption(device, &ask.capacity) } else { None };
    let amounts = amounts.into_iter().flatten();
    let consumed: BTreeMap<_, _> =
        amounts.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_string()))).collect();
    DeviceRequestAllocationResult {
        request: ask.name.clone(),
        driver: spec.driver.clone(),
        pool: spec.pool.name.clone(),
        device: device.name.clone(),
        admin_access: ask.admin.filter(|admin| *admin),
        tolerations: (!ask.tolerations.is_empty()).then(|| ask.tolerations.clone()),
        binding_conditions: device.binding_conditions.clone(),
        binding_failure_conditions: device.binding_failure_conditions.clone(),
        consumed_capacity: (!consumed.is_empty()).then_some(consumed),
        ..DeviceRequestAllocationResult::default()
    }
}

/// What the drivers are told: of the classes, each once, then of the claim.
fn configurations(claim: &Claim, picked: &[Pick<'_>]) -> Vec<DeviceAllocationConfiguration> {
    let chosen = claim.requests.iter().enumerate().map(|(at, request)| {
        let picked = picked.iter().find(|pick| pick.request == at);
        (request, picked.map_or(&request.asks[0], |pick| pick.ask))
    });
    let chosen: Vec<_> = chosen.collect();
    let mut all = Vec::new();
    for (at, (_, ask)) in chosen.iter().enumerate() {
        let class = &ask.class.metadata.name;
        if chosen[..at].iter().any(|(_, earlier)| earlier.class.metadata.name == *class) {
            continue;
        }
        let users = chosen[at..].iter().filter(|(_, other)| other.class.metadata.name == *class);
        let users: Vec<String> = users.map(|(_, other)| other.name.clone()).collect();
        for config in ask.class.spec.iter().flat_map(|spec| spec.config.iter().flatten()) {
            all.push(DeviceAllocationConfiguration {
                source: "FromClass".into(),
                requests: Some(users.clone()),
                opaque: config.opaque.clone(),
            });
        }
    }
    let devices = claim.claim.spec.as_ref().and_then(|spec| spec.devices.as_ref());
    for config in devices.iter().flat_map(|devices| devices.config.iter().flatten()) {
        let requests = config.requests.as_deref().unwrap_or_default();
        let names =
            |name: &String| chosen.iter().any(|(request, ask)| *name == request.name || *name == ask.name);
        if requests.is_empty() || requests.iter().any(names) {
            all.push(DeviceAllocationConfiguration {
                source: "FromClaim".into(),
                requests: config.requests.clone(),
                opaque: config.opaque.clone(),
            });
        }
    }
    // One that is for all requests names none.
    for config in &mut all {
        let named = config.requests.as_deref().unwrap_or_default();
        if chosen.iter().all(|(request, ask)| named.contains(&request.name) || named.contains(&ask.name)) {
            config.requests = None;
        }
    }
    all
}

/// The nodes that can reach all the devices. `None`: all nodes.
fn node_selector(picked: &[Pick<'_>], node: &str) -> Option<NodeSelector> {
    let mut term = NodeSelectorTerm::default();
    for pick in picked {
        let (spec, device) = (pick.offer.spec(), pick.offer.device(pick.index));
        let (name, selector) = match spec.per_device_node_selection {
            Some(true) => (&device.node_name, &device.node_selector),
            _ => (&spec.node_name, &spec.node_selector),
        };
        if name.is_some() || device.binds_to_node == Some(true) {
            let only = NodeSelectorRequirement {
                key: "metadata.name".into(),
                operator: "In".into(),
                values: Some(vec![node.to_owned()]),
            };
            let term = NodeSelectorTerm { match_fields: Some(vec![only]), match_expressions: None };
            return Some(NodeSelector { node_selector_terms: vec![term] });
        }
        if let Some(theirs) = selector.as_ref().and_then(|selector| selector.node_selector_terms.first()) {
            add(&mut term.match_fields, theirs.match_fields.as_deref());
            add(&mut term.match_expressions, theirs.match_expressions.as_deref());
        }
    }
    let asks = term.match_fields.is_some() || term.match_expressions.is_some();
    asks.then(|| NodeSelector { node_selector_terms: vec![term] })
}

fn add(all: &mut Option<Vec<NodeSelectorRequirement>>, more: Option<&[NodeSelectorRequirement]>) {
    for requirement in more.unwrap_or_default() {
        let all = all.get_or_insert_default();
        if !all.contains(requirement) {
            all.push(requirement.clone());
        }
    }
}
