//! Dynamic resource allocation by trying everything: what devices are there, every way of giving them out, and
//! what is wrong with it.

mod shares;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::{Node, NodeSelector},
    resource::v1::{
        AllocationResult, CapacityRequirements, CounterSet, Device, DeviceAllocationResult, DeviceClass,
        DeviceRequestAllocationResult, DeviceSelector as ApiSelector, DeviceTaint, DeviceTaintRule,
        DeviceToleration, ResourceClaim, ResourceSlice,
    },
};
use rkube_api::{
    helpers::{
        affinity::RequiredNodeAffinity,
        device_selector::{DeviceSelector, DeviceValue},
    },
    meta::Quantity,
};

/// Who offers devices, and who has them.
#[derive(Clone, Debug, Default)]
pub struct Offers {
    /// The slices.
    pub slices: Vec<ResourceSlice>,
    /// The classes.
    pub classes: Vec<DeviceClass>,
    /// All other claims.
    pub claims: Vec<ResourceClaim>,
    /// The rules that taint devices.
    pub rules: Vec<DeviceTaintRule>,
}

/// A device that a node can have, and where it comes from.
#[derive(Clone, Copy)]
struct Reached<'a> {
    slice: &'a ResourceSlice,
    device: &'a Device,
}

type Id<'a> = (&'a str, &'a str, &'a str);

impl<'a> Reached<'a> {
    fn id(self) -> Id<'a> {
        (&self.slice.spec.driver, &self.slice.spec.pool.name, &self.device.name)
    }
}

/// One request of a claim, or one of its alternatives.
struct Ask<'a> {
    /// `request` or `request/alternative`.
    name: String,
    request: &'a str,
    class: &'a str,
    selectors: &'a [ApiSelector],
    /// `None`: all.
    count: Option<usize>,
    admin: bool,
    tolerations: &'a [DeviceToleration],
    capacity: Option<&'a CapacityRequirements>,
}

/// For each request of a claim its alternatives, or itself.
fn asks(claim: &ResourceClaim) -> Vec<Vec<Ask<'_>>> {
    let count = |mode: &Option<String>, count: Option<i64>| match mode.as_deref() {
        Some("All") => None,
        _ => Some(count.unwrap_or(1) as usize),
    };
    let requests = claim.spec.as_ref().and_then(|spec| spec.devices.as_ref()?.requests.as_ref());
    let mut all = Vec::new();
    for request in requests.into_iter().flatten() {
        let exactly = request.exactly.iter().map(|it| Ask {
            name: request.name.clone(),
            request: &request.name,
            class: &it.device_class_name,
            selectors: it.selectors.as_deref().unwrap_or_default(),
            count: count(&it.allocation_mode, it.count),
            admin: it.admin_access == Some(true),
            tolerations: it.tolerations.as_deref().unwrap_or_default(),
            capacity: it.capacity.as_ref(),
        });
        let alternatives = request.first_available.iter().flatten().map(|it| Ask {
            name: format!("{}/{}", request.name, it.name),
            request: &request.name,
            class: &it.device_class_name,
            selectors: it.selectors.as_deref().unwrap_or_default(),
            count: count(&it.allocation_mode, it.count),
            admin: false,
            tolerations: it.tolerations.as_deref().unwrap_or_default(),
            capacity: it.capacity.as_ref(),
        });
        all.push(exactly.chain(alternatives).collect());
    }
    all
}

fn on_node(node: &Node, name: &Option<String>, all: Option<bool>, selector: &Option<NodeSelector>) -> bool {
    match (name, selector) {
        (Some(name), _) => node.metadata.name.as_ref() == Some(name),
        _ if all == Some(true) => true,
        (None, Some(selector)) => RequiredNodeAffinity::of_selector(selector).matches_node(node),
        (None, None) => false,
    }
}

fn device_on_node(node: &Node, slice: &ResourceSlice, device: &Device) -> bool {
    let spec = &slice.spec;
    match spec.per_device_node_selection {
        Some(true) => on_node(node, &device.node_name, device.all_nodes, &device.node_selector),
        _ => on_node(node, &spec.node_name, spec.all_nodes, &spec.node_selector),
    }
}

fn slice_concerns(node: &Node, slice: &ResourceSlice) -> bool {
    match slice.spec.per_device_node_selection {
        Some(true) => devices(slice).any(|device| device_on_node(node, slice, device)),
        _ => on_node(node, &slice.spec.node_name, slice.spec.all_nodes, &slice.spec.node_selector),
    }
}

fn devices(slice: &ResourceSlice) -> impl Iterator<Item = &Device> {
    slice.spec.devices.iter().flatten()
}

fn sets(slice: &ResourceSlice) -> impl Iterator<Item = &CounterSet> {
    slice.spec.shared_counters.iter().flatten()
}

fn amount(quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> i128 {
    Quantity::try_from(quantity).map_or(0, Quantity::nanos)
}

/// A pool's slices, if a node can reach any: those of the newest generation.
struct Pool<'a> {
    slices: Vec<&'a ResourceSlice>,
    usable: bool,
}

impl Offers {
    fn pools(&self, node: &Node) -> Vec<Pool<'_>> {
        let names: BTreeSet<_> =
            self.slices.iter().map(|slice| (&slice.spec.driver, &slice.spec.pool.name)).collect();
        let mut pools = Vec::new();
        for (driver, name) in names {
            let of_pool =
                |slice: &&ResourceSlice| slice.spec.driver == *driver && slice.spec.pool.name == *name;
            let newest = self.slices.iter().filter(of_pool).map(|slice| slice.spec.pool.generation).max();
            let of_newest = |slice: &&ResourceSlice| Some(slice.spec.pool.generation) == newest;
            let slices: Vec<_> = self.slices.iter().filter(of_pool).filter(of_newest).collect();
            if slices.iter().any(|slice| slice_concerns(node, slice)) {
                let usable = is_whole(&slices) && is_valid(&slices, node);
                pools.push(Pool { slices, usable });
            }
        }
        pools
    }

    /// Whether some pool that the node can reach can not be allocated from.
    pub fn has_unusable_pools(&self, node: &Node) -> bool {
        self.pools(node).iter().any(|pool| !pool.usable)
    }

    fn reached(&self, node: &Node) -> Vec<Reached<'_>> {
        let pools = self.pools(node).into_iter().filter(|pool| pool.usable);
        let slices = pools.flat_map(|pool| pool.slices).filter(|slice| sets(slice).next().is_none());
        let all = slices.flat_map(|slice| devices(slice).map(move |device| Reached { slice, device }));
        all.filter(|it| device_on_node(node, it.slice, it.device)).collect()
    }

    fn selects(&self, ask: &Ask<'_>, it: Reached<'_>) -> bool {
        let class = self.classes.iter().find(|class| class.metadata.name.as_deref() == Some(ask.class));
        let of_class = class.and_then(|class| class.spec.as_ref()?.selectors.as_deref()).unwrap_or_default();
        let Ok(value) = DeviceValue::new(&it.slice.spec.driver, it.device) else { return false };
        let selects = |selector: &ApiSelector| {
            let text = selector.cel.as_ref().map_or("", |cel| &cel.expression);
            DeviceSelector::compile(text).is_ok_and(|selector| selector.matches(&value) == Ok(true))
        };
        let room = shares::wants(it.device, ask.capacity).is_some_and(|wants| {
            wants.into_iter().all(|(name, amount)| {
                self.shared(it.id()).get(name).unwrap_or(&0) + amount <= shares::size(it.device, name)
            })
        });
        class.is_some() && of_class.iter().chain(ask.selectors).all(selects) && room
    }

    fn taints<'a>(&'a self, it: Reached<'a>) -> impl Iterator<Item = &'a DeviceTaint> {
        let hits = move |rule: &&DeviceTaintRule| {
            let Some(selector) = &rule.spec.device_selector else { return false };
            let (driver, pool, device) = it.id();
            let asked = [(&selector.driver, driver), (&selector.pool, pool), (&selector.device, device)];
            asked.into_iter().all(|(asked, is)| asked.is_none() || asked.as_deref() == Some(is))
        };
        let of_rules = self.rules.iter().filter(hits).map(|rule| &rule.spec.taint);
        it.device.taints.iter().flatten().chain(of_rules)
    }

    fn owned(&self) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
        let results = self.claims.iter().filter_map(|claim| claim.status.as_ref()?.allocation.as_ref());
        results.flat_map(results_of).filter(|result| result.admin_access != Some(true))
    }

    /// The devices that others have for themselves.
    fn taken(&self) -> BTreeSet<Id<'_>> {
        self.owned().filter(|it| it.share_id.is_none()).map(id_of).collect()
    }

    /// The devices that others share.
    fn in_shares(&self) -> BTreeSet<Id<'_>> {
        self.owned().filter(|it| it.share_id.is_some()).map(id_of).collect()
    }

    /// What others have of a device's capacities.
    fn shared(&self, id: Id<'_>) -> BTreeMap<&str, i128> {
        let mut sums = BTreeMap::new();
        for it in self.owned().filter(|it| it.share_id.is_some() && id_of(it) == id) {
            shares::add(&mut sums, it);
        }
        sums
    }

    /// Whether there is any way to give the claims what they ask for on a node.
    pub fn can_allocate(&self, node: &Node, claims: &[ResourceClaim]) -> bool {
        let whole = !self.has_unusable_pools(node);
        let reached = self.reached(node);
        let mut open: Vec<Vec<Vec<DeviceRequestAllocationResult>>> = vec![Vec::new()];
        for claim in claims {
            let mut of_claim = vec![Vec::new()];
            for request in asks(claim) {
                let ways = request.iter().flat_map(|ask| self.ways(ask, &reached, whole));
                let ways: Vec<_> = ways.collect();
                let extend = |so_far: &Vec<DeviceRequestAllocationResult>| {
                    let so_far = so_far.clone();
                    ways.iter()
                        .map(move |way| so_far.iter().chain(way).cloned().collect())
                        .collect::<Vec<Vec<_>>>()
                };
                of_claim = of_claim.iter().flat_map(extend).collect();
            }
            let extend = |so_far: &Vec<Vec<DeviceRequestAllocationResult>>| {
                let so_far = so_far.clone();
                let add = move |more: &Vec<_>| so_far.iter().chain([more]).cloned().collect();
                of_claim.iter().map(add).collect::<Vec<Vec<Vec<_>>>>()
            };
            open = open.iter().flat_map(extend).collect();
        }
        open.into_iter().any(|way| {
            let of_claim = |results| AllocationResult {
                devices: Some(DeviceAllocationResult { results: Some(results), config: None }),
                ..AllocationResult::default()
            };
            let results: Vec<_> = way.into_iter().map(of_claim).collect();
            self.wrong_with(node, claims, &results).is_empty()
        })
    }

    /// Every choice of devices for a request, whatever else speaks against it.
    fn ways(
        &self,
        ask: &Ask<'_>,
        reached: &[Reached<'_>],
        whole: bool,
    ) -> Vec<Vec<DeviceRequestAllocationResult>> {
        let fit: Vec<_> = reached.iter().copied().filter(|it| self.selects(ask, *it)).collect();
        let count = match ask.count {
            Some(count) => count,
            None if whole && !fit.is_empty() => fit.len(),
            None => return Vec::new(),
        };
        let result = |it: &Reached<'_>| DeviceRequestAllocationResult {
            request: ask.name.clone(),
            driver: it.slice.spec.driver.clone(),
            pool: it.slice.spec.pool.name.clone(),
            device: it.device.name.clone(),
            admin_access: ask.admin.then_some(true),
            share_id: shares::is_shared(it.device).then(String::new),
            consumed_capacity: shares::consumed(it.device, ask.capacity),
            ..DeviceRequestAllocationResult::default()
        };
        let chosen = |mask: u32| fit.iter().enumerate().filter(move |(at, _)| mask >> at & 1 == 1);
        let masks = (0..1_u32 << fit.len()).filter(|mask| mask.count_ones() as usize == count);
        masks.map(|mask| chosen(mask).map(|(_, it)| result(it)).collect()).collect()
    }

    /// What is wrong with giving these devices to these claims on a node.
    pub fn wrong_with(
        &self,
        node: &Node,
        claims: &[ResourceClaim],
        results: &[AllocationResult],
    ) -> Vec<&'static str> {
        let reached = self.reached(node);
        let find = |it: &DeviceRequestAllocationResult| {
            reached.iter().copied().find(|reached| reached.id() == id_of(it))
        };
        let mut wrong = Vec::new();
        let mut refuse = |is: bool, what: &'static str| wrong.extend(is.then_some(what));
        let (taken, mut used) = (self.taken(), BTreeSet::new());
        let (mut consumed, mut shared) = (BTreeMap::new(), BTreeMap::<_, BTreeMap<_, _>>::new());
        let mut in_shares = self.in_shares();
        for (claim, result) in claims.iter().zip(results) {
            let mut of_claim = BTreeSet::new();
            for it in results_of(result) {
                let Some(device) = find(it) else { return vec!["a device is not there"] };
                let (id, admin) = (device.id(), it.admin_access == Some(true));
                refuse(!admin && taken.contains(&id), "somebody else has the device");
                let is_shared = shares::is_shared(device.device);
                refuse(it.share_id.is_some() != is_shared, "only shares have an ID");
                if is_shared {
                    shares::add(shared.entry(id).or_default(), it);
                    if in_shares.insert(id) {
                        count(device, &mut consumed);
                    }
                    continue;
                }
                refuse(it.consumed_capacity.is_some(), "only shares take of a capacity");
                refuse(!of_claim.insert(id), "a claim has a device twice");
                refuse(!admin && used.contains(&id), "two claims have a device");
                count(device, &mut consumed);
            }
            used.extend(of_claim);
            for request in asks(claim) {
                refuse(!self.is_met(&request, result, &reached), "a request is not met");
            }
            refuse(!constraints_hold(claim, result, &find), "a constraint does not hold");
        }
        refuse(results.len() != claims.len(), "a claim has nothing");
        refuse(!self.counters_suffice(node, &consumed), "a counter is overdrawn");
        let fits = |it: &Reached<'_>| {
            let (others, mine) = (self.shared(it.id()), shared.get(&it.id()));
            let of = |sums: &BTreeMap<&str, i128>, name: &str| sums.get(name).copied().unwrap_or(0);
            let amount = |name| of(&others, name) + mine.map_or(0, |mine| of(mine, name));
            mine.is_none()
                || shares::names(it.device).all(|name| amount(name) <= shares::size(it.device, name))
        };
        refuse(!reached.iter().all(fits), "a capacity is overdrawn");
        wrong
    }

    fn is_met(&self, request: &[Ask<'_>], result: &AllocationResult, reached: &[Reached<'_>]) -> bool {
        let mine = |ask: &Ask<'_>| results_of(result).filter(|it| it.request == ask.name).collect::<Vec<_>>();
        let used: Vec<_> = request.iter().filter(|ask| !mine(ask).is_empty()).collect();
        let [ask] = used.as_slice() else { return false };
        let of = |it: &DeviceRequestAllocationResult| {
            reached.iter().copied().find(|reached| reached.id() == id_of(it))
        };
        let takes_its_part = |it: &&DeviceRequestAllocationResult| {
            of(it).is_some_and(|device| shares::consumed(device.device, ask.capacity) == it.consumed_capacity)
        };
        let fits = |it: Reached<'_>| {
            self.selects(ask, it) && self.taints(it).all(|taint| is_harmless(taint, ask.tolerations))
        };
        let all = reached.iter().filter(|it| self.selects(ask, **it)).count();
        let mine = mine(ask);
        mine.len() == ask.count.unwrap_or(all)
            && mine.iter().all(takes_its_part)
            && different(&mine)
            && mine.into_iter().filter_map(of).all(fits)
    }

    fn counters_suffice(&self, node: &Node, consumed: &BTreeMap<Counter<'_>, i128>) -> bool {
        let taken: BTreeSet<_> = self.owned().map(id_of).collect();
        for pool in self.pools(node).into_iter().filter(|pool| pool.usable) {
            let spec = &pool.slices[0].spec;
            let here = |key: &Counter<'_>| (key.0, key.1) == (&*spec.driver, &*spec.pool.name);
            if !consumed.keys().any(here) {
                continue;
            }
            let mut needed: BTreeMap<Counter<'_>, i128> =
                consumed.iter().filter(|(key, _)| here(key)).map(|(key, amount)| (*key, *amount)).collect();
            for slice in &pool.slices {
                for device in devices(slice) {
                    let it = Reached { slice, device };
                    if taken.contains(&it.id()) {
                        count(it, &mut needed);
                    }
                }
            }
            let sets: Vec<_> = pool.slices.iter().flat_map(|slice| sets(slice)).collect();
            let has = |key: &Counter<'_>| {
                let set = sets.iter().find(|set| set.name == key.2)?;
                Some(amount(&set.counters.get(key.3)?.value))
            };
            if needed.iter().any(|(key, needed)| has(key).unwrap_or(0) < *needed) {
                return false;
            }
        }
        true
    }
}

/// Driver, pool, set and name.
type Counter<'a> = (&'a str, &'a str, &'a str, &'a str);

fn count<'a>(it: Reached<'a>, into: &mut BTreeMap<Counter<'a>, i128>) {
    for consumption in it.device.consumes_counters.iter().flatten() {
        for (name, counter) in &consumption.counters {
            let (driver, pool, _) = it.id();
            *into.entry((driver, pool, &consumption.counter_set, name)).or_default() +=
                amount(&counter.value);
        }
    }
}

fn id_of(it: &DeviceRequestAllocationResult) -> Id<'_> {
    (&it.driver, &it.pool, &it.device)
}

/// A request has no device twice, though it be shared.
fn different(results: &[&DeviceRequestAllocationResult]) -> bool {
    results.iter().map(|it| id_of(it)).collect::<BTreeSet<_>>().len() == results.len()
}

fn results_of(result: &AllocationResult) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    result.devices.iter().flat_map(|devices| devices.results.iter().flatten())
}

fn is_whole(slices: &[&ResourceSlice]) -> bool {
    slices.iter().all(|slice| slice.spec.pool.resource_slice_count == slices.len() as i64)
}

/// Names are unique, and counters that are consumed exist.
fn is_valid(slices: &[&ResourceSlice], node: &Node) -> bool {
    let here = slices.iter().filter(|slice| slice_concerns(node, slice));
    let names: Vec<_> = here.flat_map(|slice| devices(slice)).map(|device| &device.name).collect();
    let all_sets: Vec<_> = slices.iter().flat_map(|slice| sets(slice)).collect();
    let sets: BTreeMap<_, _> = all_sets.iter().map(|set| (&set.name, *set)).collect();
    let mut consumed =
        slices.iter().flat_map(|slice| devices(slice)).flat_map(|it| it.consumes_counters.iter().flatten());
    names.iter().collect::<BTreeSet<_>>().len() == names.len()
        && sets.len() == all_sets.len()
        && consumed.all(|it| {
            let set = sets.get(&it.counter_set);
            set.is_some_and(|set| it.counters.keys().all(|name| set.counters.contains_key(name)))
        })
}

fn is_harmless(taint: &DeviceTaint, tolerations: &[DeviceToleration]) -> bool {
    let tolerated = tolerations.iter().any(|it| {
        let same = |field: &Option<String>, value: &str| {
            field.as_deref().is_none_or(|field| field.is_empty() || field == value)
        };
        same(&it.key, &taint.key)
            && same(&it.effect, &taint.effect)
            && (it.operator.as_deref() == Some("Exists") || it.value.as_deref() == taint.value.as_deref())
    });
    tolerated || !["NoSchedule", "NoExecute"].contains(&&*taint.effect)
}

fn constraints_hold<'a>(
    claim: &ResourceClaim,
    result: &AllocationResult,
    find: &dyn Fn(&DeviceRequestAllocationResult) -> Option<Reached<'a>>,
) -> bool {
    let asks: Vec<_> = asks(claim).into_iter().flatten().collect();
    let constraints = claim.spec.as_ref().and_then(|spec| spec.devices.as_ref()?.constraints.as_ref());
    constraints.into_iter().flatten().all(|constraint| {
        let named = constraint.requests.as_deref().unwrap_or_default();
        let concerns = |it: &&DeviceRequestAllocationResult| {
            let parent = asks.iter().find(|ask| ask.name == it.request).map(|ask| ask.request);
            named.is_empty() || named.iter().any(|name| *name == it.request || Some(&**name) == parent)
        };
        let attribute = constraint.match_attribute.as_ref().or(constraint.distinct_attribute.as_ref());
        let Some((domain, id)) = attribute.and_then(|name| name.split_once('/')) else { return false };
        let value = |it: &DeviceRequestAllocationResult| {
            let device = find(it)?;
            let attributes = device.device.attributes.as_ref()?;
            let own = attributes.get(id).filter(|_| device.slice.spec.driver == domain);
            attributes.get(&format!("{domain}/{id}")).or(own).map(|value| format!("{value:?}"))
        };
        let values: Vec<_> = results_of(result).filter(concerns).map(value).collect();
        let Some(values) = values.into_iter().collect::<Option<Vec<_>>>() else { return false };
        let different = values.iter().collect::<BTreeSet<_>>().len();
        if constraint.match_attribute.is_some() { different <= 1 } else { different == values.len() }
    })
}

#[cfg(test)]
mod tests;
