//! What slices offer, put in order once for many decisions.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use foldhash::fast::FixedState;
use k8s_openapi::api::{
    core::v1::Node,
    resource::v1::{
        Device, DeviceTaint, DeviceTaintRule, DeviceTaintRuleSpec, ResourceClaim, ResourceSlice,
        ResourceSliceSpec,
    },
};
use rkube_api::helpers::{
    affinity::RequiredNodeAffinity,
    device_selector::{DeviceValue, MatchError},
};

/// The name of a device that no other has: `driver/pool/device`.
pub(super) fn full_name(driver: &str, pool: &str, device: &str) -> String {
    format!("{driver}/{pool}/{device}")
}

/// On which nodes something is, as slices and their devices say it.
#[derive(Debug)]
enum Place {
    Node(String),
    All,
    Selected(RequiredNodeAffinity),
    /// It does not say.
    Unknown,
}

impl Place {
    fn has(&self, node: &Node) -> bool {
        match self {
            Self::Node(name) => node.metadata.name.as_ref() == Some(name),
            Self::All => true,
            Self::Selected(selector) => selector.matches_node(node),
            Self::Unknown => false,
        }
    }
}

/// A slice.
#[derive(Debug)]
pub(super) struct Offer {
    slice: Arc<ResourceSlice>,
    place: Place,
    pub(super) devices: Vec<Offered>,
}

/// A device of a slice.
#[derive(Debug)]
pub(super) struct Offered {
    /// Equal for devices of the same name, driver and pool.
    pub(super) number: u32,
    /// Unlike any other's.
    pub(super) row: u32,
    /// Where it is, if the slice leaves that to each device.
    place: Option<Place>,
    /// The rules that taint it.
    rules: Vec<Arc<DeviceTaintRule>>,
    value: OnceLock<Result<DeviceValue, MatchError>>,
}

impl Offer {
    pub(super) fn spec(&self) -> &ResourceSliceSpec {
        &self.slice.spec
    }

    fn name(&self) -> &str {
        self.slice.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn device(&self, index: usize) -> &Device {
        &self.slice.spec.devices.as_deref().unwrap_or_default()[index]
    }

    /// The device as expressions see it; made when it is first asked for.
    pub(super) fn value(&self, index: usize) -> Result<&DeviceValue, MatchError> {
        let make = || DeviceValue::new(&self.slice.spec.driver, self.device(index));
        self.devices[index].value.get_or_init(make).as_ref().map_err(Clone::clone)
    }

    /// The device's taints: its driver's and those of rules.
    pub(super) fn taints(&self, index: usize) -> impl Iterator<Item = &DeviceTaint> {
        let rules = self.devices[index].rules.iter().map(|rule| &rule.spec.taint);
        self.device(index).taints.iter().flatten().chain(rules)
    }

    fn taint(&mut self, rule: &Arc<DeviceTaintRule>) {
        let spec = &self.slice.spec;
        let devices = spec.devices.iter().flatten().zip(&mut self.devices);
        for (_, offered) in devices.filter(|(device, _)| is_tainted(&rule.spec, spec, device)) {
            offered.rules.push(rule.clone());
        }
    }

    /// Whether the device is on the node, which the slice concerns.
    pub(super) fn has_device(&self, index: usize, node: &Node) -> bool {
        self.devices[index].place.as_ref().is_none_or(|place| place.has(node))
    }

    fn concerns(&self, node: &Node) -> bool {
        match self.slice.spec.per_device_node_selection {
            Some(true) => (0..self.devices.len()).any(|index| self.has_device(index, node)),
            _ => self.place.has(node),
        }
    }
}

/// A rule without a selector taints nothing, one whose selector says nothing taints all devices.
fn is_tainted(rule: &DeviceTaintRuleSpec, slice: &ResourceSliceSpec, device: &Device) -> bool {
    let is = |wanted: &Option<String>, name: &String| wanted.as_ref().is_none_or(|wanted| wanted == name);
    rule.device_selector.as_ref().is_some_and(|selector| {
        is(&selector.driver, &slice.driver)
            && is(&selector.pool, &slice.pool.name)
            && is(&selector.device, &device.name)
    })
}

/// All slices. See [the module](super) for an example.
#[derive(Debug, Default)]
pub struct Inventory {
    offers: Vec<Offer>,
    of_node: HashMap<String, Vec<usize>, FixedState>,
    elsewhere: Vec<usize>,
    of_pool: BTreeMap<(String, String), Vec<usize>>,
    numbers: HashMap<String, u32, FixedState>,
}

impl Inventory {
    /// Puts slices in order: by their names, whatever the order in which they come.
    pub fn new(mut slices: Vec<Arc<ResourceSlice>>) -> Self {
        slices.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let (mut inventory, mut rows) = (Self::default(), 0..);
        for slice in slices {
            let at = inventory.offers.len();
            let spec = &slice.spec;
            match spec.node_name.as_deref().filter(|name| !name.is_empty()) {
                Some(name) => inventory.of_node.entry(name.to_owned()).or_default().push(at),
                None => inventory.elsewhere.push(at),
            }
            let pool = (spec.driver.clone(), spec.pool.name.clone());
            inventory.of_pool.entry(pool).or_default().push(at);
            let each = spec.per_device_node_selection == Some(true);
            let offered = |device: &Device| {
                let name = full_name(&spec.driver, &spec.pool.name, &device.name);
                let next = inventory.numbers.len() as u32;
                let number = *inventory.numbers.entry(name).or_insert(next);
                let row = rows.next().unwrap_or_default();
                let place = each.then(|| place_of_device(device));
                Offered { number, row, place, rules: Vec::new(), value: OnceLock::new() }
            };
            let devices = spec.devices.iter().flatten().map(offered).collect();
            inventory.offers.push(Offer { place: place_of_slice(spec), devices, slice });
        }
        inventory
    }

    /// The same devices, with the taints that rules add to theirs (KEP-5055).
    #[must_use]
    pub fn tainted_by(mut self, rules: &[Arc<DeviceTaintRule>]) -> Self {
        for offer in &mut self.offers {
            rules.iter().for_each(|rule| offer.taint(rule));
        }
        self
    }

    /// The slices that concern a node.
    pub(super) fn on<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Offer> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let own = self.of_node.get(name).into_iter().flatten();
        let offers = own.chain(&self.elsewhere).map(|&at| &self.offers[at]);
        offers.filter(move |offer| offer.concerns(node))
    }

    /// The slices of a pool.
    pub(super) fn of_pool(&self, driver: &str, pool: &str) -> impl Iterator<Item = &Offer> {
        let key = (driver.to_owned(), pool.to_owned());
        self.of_pool.get(&key).into_iter().flatten().map(|&at| &self.offers[at])
    }

    /// Whether there is nothing to allocate.
    pub fn is_empty(&self) -> bool {
        self.offers.is_empty()
    }

    /// The devices, and the parts of shared ones, that claims have, but for those that they only look at (admin
    /// access).
    pub fn taken_by<'a>(&self, claims: impl Iterator<Item = &'a ResourceClaim>) -> Taken {
        let allocations =
            claims.filter_map(|claim| claim.status.as_ref()?.allocation.as_ref()?.devices.as_ref());
        let results = allocations.flat_map(|devices| devices.results.iter().flatten());
        let owned = results.filter(|result| result.admin_access != Some(true));
        let mut taken = Taken { whole: vec![false; self.numbers.len()], shares: HashMap::default() };
        for result in owned {
            let name = full_name(&result.driver, &result.pool, &result.device);
            let Some(&number) = self.numbers.get(&name) else { continue };
            if result.share_id.is_none() {
                taken.whole[number as usize] = true;
                continue;
            }
            let amounts = taken.shares.entry(number).or_default();
            for (name, amount) in result.consumed_capacity.iter().flatten() {
                *amounts.entry(name.clone()).or_default() += nanos(amount);
            }
        }
        taken
    }
}

fn place_of_slice(spec: &ResourceSliceSpec) -> Place {
    place(spec.node_name.as_deref(), spec.all_nodes, spec.node_selector.as_ref())
}

fn place_of_device(device: &Device) -> Place {
    place(device.node_name.as_deref(), device.all_nodes, device.node_selector.as_ref())
}

fn place(
    name: Option<&str>,
    all: Option<bool>,
    selector: Option<&k8s_openapi::api::core::v1::NodeSelector>,
) -> Place {
    match (name.filter(|name| !name.is_empty()), selector) {
        (Some(name), _) => Place::Node(name.to_owned()),
        _ if all == Some(true) => Place::All,
        (None, Some(selector)) => Place::Selected(RequiredNodeAffinity::of_selector(selector)),
        (None, None) => Place::Unknown,
    }
}

/// The devices of an inventory that somebody has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    whole: Vec<bool>,
    /// What is taken of the capacities of devices that are shared, in billionths.
    shares: HashMap<u32, BTreeMap<String, i128>, FixedState>,
}

impl Taken {
    /// Whether somebody has the device for himself.
    pub(super) fn has(&self, number: u32) -> bool {
        self.whole.get(number as usize).copied().unwrap_or(false)
    }

    /// Whether somebody has a share of the device.
    pub(super) fn has_share(&self, number: u32) -> bool {
        self.shares.contains_key(&number)
    }

    /// How much the shares of a device take of a capacity.
    pub(super) fn amount(&self, number: u32, capacity: &str) -> i128 {
        self.shares.get(&number).and_then(|amounts| amounts.get(capacity)).copied().unwrap_or(0)
    }
}

/// Whether a pool can be allocated from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It can.
    Whole,
    /// Its driver is about to publish it.
    Incomplete,
    /// Its slices contradict each other.
    Invalid,
}

/// The counters of a pool: by set and name, in billionths.
pub(super) type Counters<'a> = BTreeMap<(&'a str, &'a str), i128>;

/// The newest generation of a pool, as far as it concerns a node.
#[derive(Debug)]
pub(super) struct Pool<'a> {
    pub(super) driver: &'a str,
    pub(super) name: &'a str,
    pub(super) condition: Condition,
    /// The slices whose devices are on the node, by name.
    pub(super) offers: Vec<&'a Offer>,
    /// The other slices with devices.
    others: Vec<&'a Offer>,
    counters: Counters<'a>,
}

impl<'a> Pool<'a> {
    /// The pools that a node can reach, in the order in which devices are taken from them.
    pub(super) fn reached_from(inventory: &'a Inventory, node: &'a Node) -> Vec<Self> {
        let mut newest = BTreeMap::<(&str, &str), Vec<&Offer>>::new();
        for offer in inventory.on(node) {
            let spec = offer.spec();
            let offers = newest.entry((&spec.driver, &spec.pool.name)).or_default();
            let known = offers.first().map(|offer| offer.spec().pool.generation);
            match known.map(|known| spec.pool.generation.cmp(&known)) {
                Some(std::cmp::Ordering::Less) => continue,
                Some(std::cmp::Ordering::Greater) => offers.clear(),
                _ => {}
            }
            offers.push(offer);
        }
        let pools = newest.into_iter();
        let mut pools: Vec<Self> =
            pools.filter_map(|((driver, name), offers)| Self::new(inventory, driver, name, offers)).collect();
        // Devices that still have to be made ready come last.
        pools.sort_by_key(Self::binds_late);
        pools
    }

    /// `None`: the generation is obsolete.
    fn new(
        inventory: &'a Inventory,
        driver: &'a str,
        name: &'a str,
        mut offers: Vec<&'a Offer>,
    ) -> Option<Self> {
        let (generation, count) = {
            let pool = &offers.first()?.spec().pool;
            (pool.generation, pool.resource_slice_count)
        };
        offers.sort_by(|a, b| a.name().cmp(b.name()));
        let mut pool = Self {
            driver,
            name,
            condition: Condition::Whole,
            offers,
            others: Vec::new(),
            counters: Counters::new(),
        };
        if pool.offers.len() as i64 != count {
            let here = |offer: &Offer| pool.offers.iter().any(|it| std::ptr::eq(*it, offer));
            let mut others = Vec::new();
            for offer in inventory.of_pool(driver, name) {
                match offer.spec().pool.generation.cmp(&generation) {
                    std::cmp::Ordering::Greater => return None,
                    std::cmp::Ordering::Equal if !here(offer) => others.push(offer),
                    _ => {}
                }
            }
            if (pool.offers.len() + others.len()) as i64 != count {
                return Some(Self { condition: Condition::Incomplete, offers: Vec::new(), ..pool });
            }
            pool.others = others;
        }
        pool.sort_out();
        Some(pool)
    }

    /// Tells slices of counters from those of devices, and sees whether all fit together.
    fn sort_out(&mut self) {
        let counts =
            |offer: &&Offer| offer.spec().shared_counters.as_ref().is_some_and(|sets| !sets.is_empty());
        let all = self.offers.iter().chain(&self.others).copied();
        let sets = all.flat_map(|offer| offer.spec().shared_counters.iter().flatten());
        let mut names = Vec::new();
        let mut valid = true;
        for set in sets {
            valid &= !names.contains(&&set.name);
            names.push(&set.name);
            for (counter, value) in &set.counters {
                self.counters.insert((&set.name, counter), nanos(&value.value));
            }
        }
        self.offers.retain(|offer| !counts(offer));
        self.others.retain(|offer| !counts(offer));
        let mut seen = std::collections::HashSet::<u32, FixedState>::default();
        valid &= self.offers.iter().flat_map(|offer| &offer.devices).all(|device| seen.insert(device.number));
        let all = self.offers.iter().chain(&self.others);
        valid &= all.flat_map(|offer| offer.spec().devices.iter().flatten()).all(|device| {
            consumed_by(device).all(|(key, _)| self.counters.contains_key(&key))
                && device.consumes_counters.iter().flatten().all(|it| names.contains(&&it.counter_set))
        });
        if !valid {
            (self.condition, self.offers) = (Condition::Invalid, Vec::new());
        }
    }

    fn binds_late(&self) -> bool {
        let devices = self.offers.iter().flat_map(|offer| offer.spec().devices.iter().flatten());
        devices.into_iter().any(|device| device.binding_conditions.is_some())
    }

    /// What is left of the counters beside the devices that are taken; may be below zero.
    pub(super) fn left(&self, taken: &Taken) -> Counters<'a> {
        let mut left = self.counters.clone();
        for offer in self.offers.iter().chain(&self.others) {
            for (index, offered) in offer.devices.iter().enumerate() {
                // However many share it, it takes from counters once.
                if taken.has(offered.number) || taken.has_share(offered.number) {
                    for (key, amount) in consumed_by(offer.device(index)) {
                        *left.entry(key).or_default() -= amount;
                    }
                }
            }
        }
        left
    }
}

/// What a device takes from counters.
pub(super) fn consumed_by(device: &Device) -> impl Iterator<Item = ((&str, &str), i128)> {
    let consumptions = device.consumes_counters.iter().flatten();
    consumptions.flat_map(|it| {
        it.counters.iter().map(|(name, counter)| ((&*it.counter_set, &**name), nanos(&counter.value)))
    })
}

fn nanos(quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> i128 {
    rkube_api::meta::Quantity::try_from(quantity).map_or(0, |quantity| quantity.nanos())
}
