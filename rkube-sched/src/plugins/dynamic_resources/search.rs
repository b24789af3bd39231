//! The search for devices: one after the other for every request, taken back where it leads nowhere.
//!
//! It goes through the requests in their order and for each through the devices in theirs, as kube-scheduler
//! does, so the first solution found is the same one. It keeps its own stack, so that its depth is nobody's
//! concern, and counts its steps: past a limit it gives up.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicUsize, Ordering},
};

use foldhash::fast::FixedState;
use k8s_openapi::api::{
    core::v1::Node,
    resource::v1::{AllocationResult, DeviceAttribute},
};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{
    AllocateError,
    capacity::{capacities, consumption, is_shared, quantity},
    inventory::{Condition, Counters, Inventory, Offer, Pool, Taken, consumed_by, full_name},
    result,
    wanted::{Ask, Claim, Constraint, Count, Request, Wanted, attribute, same_value},
};

/// How many devices a claim can have.
pub(super) const MOST_DEVICES: usize = 32;
/// How many steps a search may take on one node: some milliseconds.
const MOST_STEPS: usize = 50_000;
/// And on all nodes together, for one pod.
const MOST_STEPS_IN_ALL: usize = 10_000_000;

/// What one pod's search learns on one node for the next: which devices its requests select (those outside of
/// nodes are asked about once), and how many steps it has taken.
#[derive(Debug, Default)]
pub struct Memo {
    selected: Mutex<HashMap<(usize, u32), bool, FixedState>>,
    steps: AtomicUsize,
}

/// A device in question.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    pool: usize,
    offer: &'a Offer,
    index: usize,
}

impl Candidate<'_> {
    fn number(&self) -> u32 {
        self.offer.devices[self.index].number
    }

    fn name(&self) -> String {
        let spec = self.offer.spec();
        full_name(&spec.driver, &spec.pool.name, &self.offer.device(self.index).name)
    }
}

/// A device picked for a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick<'a> {
    /// Which of the claim's requests.
    pub(super) request: usize,
    pub(super) ask: &'a Ask,
    pub(super) offer: &'a Offer,
    pub(super) index: usize,
}

/// Where the search is: this device of this request of this claim is next.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    claim: usize,
    request: usize,
    alternative: Option<usize>,
    device: usize,
    /// The first candidate to look at: devices of one request are taken in their order.
    from: usize,
}

/// Why there is no way forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dead {
    /// Another device may do.
    End,
    /// The claim would have too many devices, whichever they are.
    TooMany { claim: usize },
}

/// A choice that can be made anew.
#[derive(Debug)]
enum Frame {
    Alternative { at: Position, all_too_many: bool },
    Device { at: Position, next: usize, taken: usize },
}

/// What devices of a constraint have so far.
#[derive(Clone, Debug, Default)]
struct Values<'a>(SmallVec<[&'a DeviceAttribute; 4]>);

/// What the picks of a search take of a shared device.
#[derive(Clone, Debug, Default)]
struct Shares<'a> {
    picks: usize,
    /// By capacity, in billionths.
    amounts: BTreeMap<&'a str, i128>,
}

/// What was found on a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The result for each claim, in their order. Shares of devices have no ID yet: see [`Found::identified`].
    pub results: Vec<AllocationResult>,
    /// Which devices of which results are shares.
    shares: Vec<(usize, usize)>,
    /// The sooner the alternatives come that the node can offer, the higher; 0 if there are none.
    pub score: i64,
}

impl Found {
    /// The results, each share of a device with an ID of its own.
    pub fn identified(&self, mut id: impl FnMut() -> String) -> Vec<AllocationResult> {
        let mut results = self.results.clone();
        for (claim, device) in &self.shares {
            let devices = results[*claim].devices.as_mut().and_then(|devices| devices.results.as_mut());
            if let Some(device) = devices.and_then(|devices| devices.get_mut(*device)) {
                device.share_id = Some(id());
            }
        }
        results
    }
}

/// Finds devices for claims on a node. `None`: there are not enough. See [the module](super) for an example.
pub fn allocate(
    inventory: &Inventory,
    taken: &Taken,
    wanted: &Wanted,
    memo: &Memo,
    node: &Node,
) -> Result<Option<Found>, AllocateError> {
    let picked = Search::run(inventory, taken, wanted, memo, node)?;
    let name = node.metadata.name.as_deref().unwrap_or_default();
    Ok(picked.map(|picked| {
        let claims = || wanted.claims.iter().zip(&picked);
        let shares = |(at, picked): (usize, &Vec<Pick<'_>>)| {
            let shared = |(_, pick): &(usize, &Pick<'_>)| is_shared(pick.offer.device(pick.index));
            picked.iter().enumerate().filter(shared).map(|(device, _)| (at, device)).collect::<Vec<_>>()
        };
        Found {
            shares: picked.iter().enumerate().flat_map(shares).collect(),
            results: claims().map(|(claim, picked)| result::of(claim, picked, name)).collect(),
            score: claims().map(|(claim, picked)| result::score(claim, picked)).sum(),
        }
    }))
}

struct Search<'a> {
    wanted: &'a Wanted,
    taken: &'a Taken,
    memo: &'a Memo,
    node: &'a Node,
    pools: Vec<Pool<'a>>,
    candidates: Vec<Candidate<'a>>,
    /// For requests for all devices: which.
    all: Vec<Vec<usize>>,
    picked: Vec<Vec<(Pick<'a>, usize)>>,
    /// The claims that have a device in this search.
    users: HashMap<u32, SmallVec<[usize; 2]>, FixedState>,
    /// What this search takes of the devices that are shared.
    shares: HashMap<u32, Shares<'a>, FixedState>,
    constraints: Vec<Vec<Values<'a>>>,
    /// What is left of each pool's counters, once somebody asked.
    counters: Vec<Option<Counters<'a>>>,
    stack: Vec<Frame>,
    steps: usize,
    limit: usize,
}

impl<'a> Search<'a> {
    fn run(
        inventory: &'a Inventory,
        taken: &'a Taken,
        wanted: &'a Wanted,
        memo: &'a Memo,
        node: &'a Node,
    ) -> Result<Option<Vec<Vec<Pick<'a>>>>, AllocateError> {
        let pools = Pool::reached_from(inventory, node);
        let of_pool = |(pool, it): (usize, &Pool<'a>)| {
            let of_offer = move |offer: &'a Offer| {
                (0..offer.devices.len()).map(move |index| Candidate { pool, offer, index })
            };
            it.offers.clone().into_iter().flat_map(of_offer).collect::<Vec<_>>()
        };
        let mut search = Self {
            candidates: pools.iter().enumerate().flat_map(of_pool).collect(),
            counters: vec![None; pools.len()],
            pools,
            all: vec![Vec::new(); wanted.asks],
            picked: vec![Vec::new(); wanted.claims.len()],
            users: HashMap::default(),
            shares: HashMap::default(),
            constraints: wanted
                .claims
                .iter()
                .map(|it| vec![Values::default(); it.constraints.len()])
                .collect(),
            stack: Vec::new(),
            steps: 0,
            limit: MOST_STEPS.min(MOST_STEPS_IN_ALL.saturating_sub(memo.steps.load(Ordering::Relaxed))),
            wanted,
            taken,
            memo,
            node,
        };
        search.count()?;
        let solved = search.solve();
        search.memo.steps.fetch_add(search.steps, Ordering::Relaxed);
        if solved? {
            let picks = |picked: Vec<(Pick<'a>, usize)>| picked.into_iter().map(|(pick, _)| pick).collect();
            return Ok(Some(search.picked.into_iter().map(picks).collect()));
        }
        match search.pools.iter().any(|pool| pool.condition == Condition::Invalid) {
            true => Err(AllocateError::InvalidPools),
            false => Ok(None),
        }
    }

    /// Finds out how many devices the requests for all of them mean, and whether a claim asks for too many.
    fn count(&mut self) -> Result<(), AllocateError> {
        let wanted = self.wanted;
        for claim in &wanted.claims {
            let mut least = 0_usize;
            for request in &claim.requests {
                let mut of_request = usize::MAX;
                for ask in &request.asks {
                    if ask.count == Count::All {
                        self.all[ask.number] = self.all_of(claim, ask)?;
                    }
                    of_request = of_request.min(self.devices_of(ask));
                }
                least = least.saturating_add(of_request);
            }
            if least > MOST_DEVICES {
                return Err(AllocateError::TooMany { claim: claim.key.clone(), devices: least });
            }
        }
        Ok(())
    }

    fn devices_of(&self, ask: &Ask) -> usize {
        match ask.count {
            Count::Exactly(count) => count,
            Count::All => self.all[ask.number].len(),
        }
    }

    fn all_of(&self, claim: &Claim, ask: &Ask) -> Result<Vec<usize>, AllocateError> {
        let pool_name = |pool: &Pool<'_>| format!("{}/{}", pool.driver, pool.name);
        for pool in &self.pools {
            let (claim, request, pool_of) = (claim.key.clone(), ask.name.clone(), || pool_name(pool));
            match pool.condition {
                Condition::Whole => {}
                Condition::Incomplete => {
                    return Err(AllocateError::Incomplete { claim, request, pool: pool_of() });
                }
                Condition::Invalid => return Err(AllocateError::Invalid { claim, request, pool: pool_of() }),
            }
        }
        let mut all = Vec::new();
        for at in 0..self.candidates.len() {
            if self.selects(claim, ask, at)? && self.has_capacity(ask, at) {
                all.push(at);
            }
        }
        Ok(all)
    }

    /// Whether a request selects a candidate that is on the node.
    fn selects(&self, claim: &Claim, ask: &Ask, at: usize) -> Result<bool, AllocateError> {
        let Candidate { offer, index, .. } = self.candidates[at];
        let key = (ask.number, offer.devices[index].row);
        let known = self.memo.selected.lock().get(&key).copied();
        let selected = match known {
            Some(selected) => selected,
            None => {
                let selected = ask.selects(offer, index, &claim.key)?;
                self.memo.selected.lock().insert(key, selected);
                selected
            }
        };
        Ok(selected && offer.has_device(index, self.node))
    }

    fn request(&self, at: Position) -> Option<(&'a Claim, &'a Request)> {
        let claim = self.wanted.claims.get(at.claim)?;
        Some((claim, claim.requests.get(at.request)?))
    }

    fn solve(&mut self) -> Result<bool, AllocateError> {
        let mut at = Position::default();
        loop {
            self.steps += 1;
            if self.steps > self.limit {
                return Err(AllocateError::TooManySteps);
            }
            if at.claim >= self.wanted.claims.len() {
                return Ok(true);
            }
            let next = match self.forward(at)? {
                Ok(next) => Some(next),
                Err(dead) => self.back(dead)?,
            };
            match next {
                Some(next) => at = next,
                None => return Ok(false),
            }
        }
    }

    /// One step on; `Err` within: there is none.
    fn forward(&mut self, at: Position) -> Result<Result<Position, Dead>, AllocateError> {
        let Some((_, request)) = self.request(at) else {
            return Ok(Ok(Position { claim: at.claim + 1, ..Position::default() }));
        };
        let Some(alternative) = at.alternative else {
            if request.is_list {
                self.stack.push(Frame::Alternative { at, all_too_many: true });
            }
            return Ok(Ok(Position { alternative: Some(0), ..at }));
        };
        let ask = &request.asks[alternative];
        let devices = self.devices_of(ask);
        if ask.count == Count::All && devices == 0 {
            return Ok(Err(Dead::End));
        }
        if at.device >= devices {
            return Ok(Ok(Position { claim: at.claim, request: at.request + 1, ..Position::default() }));
        }
        let in_the_end = self.picked[at.claim].len().saturating_add(devices - at.device);
        if in_the_end > MOST_DEVICES {
            return Ok(Err(Dead::TooMany { claim: at.claim }));
        }
        Ok(self.pick(at, at.from)?.ok_or(Dead::End))
    }

    /// Takes the first device from `next` on that can be had.
    fn pick(&mut self, at: Position, next: usize) -> Result<Option<Position>, AllocateError> {
        let Some((claim, request)) = self.request(at) else { return Ok(None) };
        let ask = &request.asks[at.alternative.unwrap_or(0)];
        if ask.count == Count::All {
            // Which ones is settled; it is tried once.
            let Some(&candidate) = self.all[ask.number].get(at.device).filter(|_| next == 0) else {
                return Ok(None);
            };
            return match self.take(at, candidate)? {
                true => {
                    self.stack.push(Frame::Device { at, next: 1, taken: candidate });
                    Ok(Some(Position { device: at.device + 1, from: 0, ..at }))
                }
                false => Ok(None),
            };
        }
        for candidate in next..self.candidates.len() {
            self.steps += 1;
            if !self.is_free(at.claim, ask, candidate) || !self.selects(claim, ask, candidate)? {
                continue;
            }
            if self.take(at, candidate)? {
                self.stack.push(Frame::Device { at, next: candidate + 1, taken: candidate });
                return Ok(Some(Position { device: at.device + 1, from: candidate + 1, ..at }));
            }
        }
        Ok(None)
    }

    /// Takes the last choices back until one can be made anew.
    fn back(&mut self, mut dead: Dead) -> Result<Option<Position>, AllocateError> {
        while let Some(frame) = self.stack.pop() {
            let (Frame::Alternative { at, .. } | Frame::Device { at, .. }) = frame;
            // What is too many for one claim is none of an earlier one's concern.
            let too_many = matches!(dead, Dead::TooMany { claim } if claim == at.claim);
            match frame {
                Frame::Alternative { at, all_too_many } => {
                    let all_too_many = all_too_many && too_many;
                    let asks = self.request(at).map_or(0, |(_, request)| request.asks.len());
                    let next = at.alternative.map_or(1, |alternative| alternative + 1);
                    if next < asks {
                        let at = Position { alternative: Some(next), ..at };
                        self.stack.push(Frame::Alternative { at, all_too_many });
                        return Ok(Some(at));
                    }
                    dead = if all_too_many { Dead::TooMany { claim: at.claim } } else { Dead::End };
                }
                Frame::Device { at, next, taken } => {
                    self.give_back(at, taken);
                    if too_many {
                        continue;
                    }
                    dead = Dead::End;
                    if let Some(position) = self.pick(at, next)? {
                        return Ok(Some(position));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether nobody has a device who would have to share it.
    fn is_free(&self, claim: usize, ask: &Ask, candidate: usize) -> bool {
        let number = self.candidates[candidate].number();
        let users = self.users.get(&number).map(SmallVec::as_slice).unwrap_or_default();
        match ask.is_admin() {
            true => !users.contains(&claim),
            false => users.is_empty() && !self.taken.has(number),
        }
    }

    /// Whether a device has what a request takes of its capacities, beside what others have.
    fn has_capacity(&self, ask: &Ask, candidate: usize) -> bool {
        let Candidate { offer, index, .. } = self.candidates[candidate];
        let (device, number) = (offer.device(index), self.candidates[candidate].number());
        if ask.capacity.is_empty() && !is_shared(device) && !self.taken.has_share(number) {
            return true;
        }
        let Some(amounts) = consumption(device, &ask.capacity) else { return false };
        let picked = self.shares.get(&number);
        capacities(device).all(|(name, capacity)| {
            let mine = picked.and_then(|shares| shares.amounts.get(name)).copied().unwrap_or(0);
            let wanted = amounts.get(name).map_or(0, |amount| amount.nanos());
            self.taken.amount(number, name) + mine + wanted <= quantity(&capacity.value).nanos()
        })
    }

    /// Whether somebody has a share of a device already: then it takes nothing more from counters.
    fn is_in_shares(&self, number: u32) -> bool {
        self.taken.has_share(number) || self.shares.get(&number).is_some_and(|shares| shares.picks > 0)
    }

    /// Counts a share of a device, or (`sign` is -1) takes it back.
    fn share(&mut self, ask: &Ask, offer: &'a Offer, index: usize, sign: i128) {
        let shares = self.shares.entry(offer.devices[index].number).or_default();
        shares.picks = if sign < 0 { shares.picks.saturating_sub(1) } else { shares.picks + 1 };
        for (name, amount) in consumption(offer.device(index), &ask.capacity).into_iter().flatten() {
            *shares.amounts.entry(name).or_default() += sign * amount.nanos();
        }
    }

    /// Takes a device that the request selects, if nothing speaks against it.
    fn take(&mut self, at: Position, candidate: usize) -> Result<bool, AllocateError> {
        let Some((claim, request)) = self.request(at) else { return Ok(false) };
        let ask = &request.asks[at.alternative.unwrap_or(0)];
        let Candidate { pool, offer, index } = self.candidates[candidate];
        if !self.is_free(at.claim, ask, candidate) || !ask.tolerates(offer.taints(index)) {
            return Ok(false);
        }
        let concerned = |(_, constraint): &(usize, &Constraint)| constraint.concerns(request, ask);
        let concerned: SmallVec<[(usize, &Constraint); 4]> =
            claim.constraints.iter().enumerate().filter(concerned).collect();
        let fits = |(at_constraint, constraint): &(usize, &'a Constraint)| {
            let value = attribute(offer, index, &constraint.attribute)?;
            let values = &self.constraints[at.claim][*at_constraint];
            values.accept(value, constraint.distinct).then_some(value)
        };
        let values: Option<SmallVec<[&DeviceAttribute; 4]>> = concerned.iter().map(fits).collect();
        let Some(values) = values else {
            if ask.count == Count::All {
                let (claim, request) = (claim.key.clone(), ask.name.clone());
                let device = self.candidates[candidate].name();
                return Err(AllocateError::Constrained { claim, request, device });
            }
            return Ok(false);
        };
        if !self.has_capacity(ask, candidate) {
            return Ok(false);
        }
        let (number, shared) = (self.candidates[candidate].number(), is_shared(offer.device(index)));
        let counted = shared && self.is_in_shares(number);
        if !counted && !self.consume(pool, offer, index) {
            return Ok(false);
        }
        for ((constraint, _), value) in concerned.iter().zip(values) {
            self.constraints[at.claim][*constraint].0.push(value);
        }
        match shared {
            true => self.share(ask, offer, index, 1),
            false => self.users.entry(number).or_default().push(at.claim),
        }
        self.picked[at.claim].push((Pick { request: at.request, ask, offer, index }, candidate));
        Ok(true)
    }

    fn give_back(&mut self, at: Position, candidate: usize) {
        let Candidate { pool, offer, index } = self.candidates[candidate];
        self.picked[at.claim].pop();
        let Some((claim, request)) = self.request(at) else { return };
        let ask = &request.asks[at.alternative.unwrap_or(0)];
        let (number, shared) = (self.candidates[candidate].number(), is_shared(offer.device(index)));
        if shared {
            self.share(ask, offer, index, -1);
        } else if let Some(users) = self.users.get_mut(&number) {
            users.pop();
        }
        if !(shared && self.is_in_shares(number))
            && let Some(left) = &mut self.counters[pool]
        {
            for (key, amount) in consumed_by(offer.device(index)) {
                *left.entry(key).or_default() += amount;
            }
        }
        for (constraint, values) in claim.constraints.iter().zip(&mut self.constraints[at.claim]) {
            if constraint.concerns(request, ask) {
                values.0.pop();
            }
        }
    }

    /// Takes from the counters what a device needs, if no counter of the pool is overdrawn then.
    fn consume(&mut self, pool: usize, offer: &'a Offer, index: usize) -> bool {
        let device = offer.device(index);
        if device.consumes_counters.as_ref().is_none_or(Vec::is_empty) {
            return true;
        }
        let (pools, taken) = (&self.pools, self.taken);
        let left = self.counters[pool].get_or_insert_with(|| pools[pool].left(taken));
        for (key, amount) in consumed_by(device) {
            *left.entry(key).or_default() -= amount;
        }
        let enough = left.values().all(|amount| *amount >= 0);
        if !enough {
            for (key, amount) in consumed_by(device) {
                *left.entry(key).or_default() += amount;
            }
        }
        enough
    }
}

impl Values<'_> {
    fn accept(&self, value: &DeviceAttribute, distinct: bool) -> bool {
        match distinct {
            true => self.0.iter().all(|other| !same_value(value, other)),
            false => self.0.first().is_none_or(|first| same_value(value, first)),
        }
    }
}
