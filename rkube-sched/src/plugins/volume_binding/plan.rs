//! What a pod's claims ask of a node: worked out once a pod, then asked of many nodes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use foldhash::fast::FixedState;
use k8s_openapi::api::{
    core::v1::{NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim, TopologySelectorTerm},
    storage::v1::CSIStorageCapacity,
};
use rkube_api::{
    helpers::volumes::{Fit, claim_class, requested, volume_class},
    meta::{LabelSelector, Quantity},
};

use crate::{
    matching::CompiledTerms,
    snapshot::{NodeId, NodeView, Snapshot},
};

pub(super) const NOT_REACHED: &str = "node(s) didn't match PersistentVolume's node affinity";
pub(super) const NOTHING_TO_BIND: &str = "node(s) didn't find available persistent volumes to bind";
pub(super) const NO_SPACE: &str = "node(s) did not have enough free storage";
pub(super) const VOLUME_GONE: &str =
    "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Up to so many nodes are few.
const FEW: usize = 64;

fn terms(volume: &PersistentVolume) -> Option<&[NodeSelectorTerm]> {
    let required = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    Some(&required.node_selector_terms)
}

/// A volume, and which nodes reach it.
#[derive(Debug)]
pub(super) struct Reach {
    volume: Arc<PersistentVolume>,
    /// `None`: all.
    terms: Option<CompiledTerms>,
}

impl Reach {
    fn new(volume: Arc<PersistentVolume>, snapshot: &Snapshot) -> Self {
        let terms = terms(&volume).map(|terms| CompiledTerms::new(terms, snapshot));
        Self { volume, terms }
    }

    fn matches(&self, node: NodeView<'_>) -> bool {
        self.terms.as_ref().is_none_or(|terms| terms.matches(node))
    }

    fn is_for(&self, node: NodeView<'_>, chosen: &[&Arc<PersistentVolume>]) -> bool {
        !chosen.iter().any(|other| Arc::ptr_eq(other, &self.volume)) && self.matches(node)
    }

    /// Adds the labels by which it tells nodes apart. `None`: it tells them apart by their names.
    fn add_keys<'a>(&'a self, keys: &mut BTreeSet<&'a str>) -> Option<()> {
        for term in terms(&self.volume).unwrap_or_default() {
            if term.match_fields.as_ref().is_some_and(|fields| !fields.is_empty()) {
                return None;
            }
            keys.extend(term.match_expressions.iter().flatten().map(|expression| &*expression.key));
        }
        Some(())
    }

    /// The nodes that may reach it, if the values that it wants of labels are those of few.
    fn few(&self, snapshot: &Snapshot) -> Option<Vec<NodeId>> {
        let mut few = Vec::new();
        for term in terms(&self.volume)? {
            let wanted = term.match_expressions.iter().flatten().filter(|it| it.operator == "In");
            let found = wanted.map(|wanted| {
                let topology = snapshot.topology(&wanted.key);
                let values = wanted.values.iter().flatten();
                let parts = values.filter_map(|value| snapshot.label_values().find(value));
                let (parts, counts): (Vec<usize>, Vec<usize>) =
                    parts.filter_map(|value| topology.part_of(value)).unzip();
                (counts.iter().sum::<usize>(), topology, parts)
            });
            let (count, topology, parts) = found.min_by_key(|(count, ..)| *count)?;
            if few.len() + count > FEW {
                return None;
            }
            if count > 0 {
                few.extend(topology.nodes_in(&parts));
            }
        }
        Some(few)
    }
}

/// The hosts without which a volume cannot be reached, if it names them.
fn hosts(volume: &PersistentVolume) -> Option<Vec<&str>> {
    let mut hosts = Vec::new();
    for term in terms(volume)? {
        let mut named = term.match_expressions.iter().flatten();
        let named = named.find(|it| it.key == HOSTNAME && it.operator == "In")?;
        hosts.extend(named.values.iter().flatten().map(String::as_str));
    }
    Some(hosts)
}

/// A claim that has its volume.
#[derive(Debug)]
pub(super) enum Bound {
    /// But the volume is not there.
    Lost,
    /// Which these nodes reach.
    Reached(Reach),
}

impl Bound {
    pub(super) fn new(volume: Option<Arc<PersistentVolume>>, snapshot: &Snapshot) -> Self {
        volume.map_or(Self::Lost, |volume| Self::Reached(Reach::new(volume, snapshot)))
    }

    fn reach(&self) -> Option<&Reach> {
        match self {
            Self::Lost => None,
            Self::Reached(reach) => Some(reach),
        }
    }
}

/// The volumes that a claim could get, the best first.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The first that is kept for the claim: then it gets no other.
    kept: Option<Reach>,
    free: Vec<Reach>,
    /// Of the free ones: those that can be reached from a host only, by host, and the others.
    by_host: HashMap<String, Vec<usize>, FixedState>,
    anywhere: Vec<usize>,
}

impl Found {
    /// Among `volumes`, those that fit. The smallest come first, of equally large ones the first.
    pub(super) fn new(
        volumes: impl Iterator<Item = (Fit, Arc<PersistentVolume>)>,
        snapshot: &Snapshot,
    ) -> Self {
        let mut found = Self::default();
        let mut sized: Vec<(Quantity, Arc<PersistentVolume>)> = Vec::new();
        for (fit, volume) in volumes {
            if fit == Fit::Kept {
                found.kept.get_or_insert_with(|| Reach::new(volume, snapshot));
            } else {
                sized.push((rkube_api::helpers::volumes::capacity(&volume), volume));
            }
        }
        sized.sort_by_key(|(size, _)| *size);
        for (place, (_, volume)) in sized.into_iter().enumerate() {
            match hosts(&volume) {
                Some(hosts) => {
                    for host in hosts {
                        found.by_host.entry(host.to_owned()).or_default().push(place);
                    }
                }
                None => found.anywhere.push(place),
            }
            found.free.push(Reach::new(volume, snapshot));
        }
        found
    }

    /// Adds the labels by which it tells nodes apart. `None`: it tells hosts apart.
    fn add_keys<'a>(&'a self, keys: &mut BTreeSet<&'a str>) -> Option<()> {
        if !self.by_host.is_empty() {
            return None;
        }
        self.kept.iter().chain(&self.free).try_for_each(|volume| volume.add_keys(keys))
    }

    /// The best that a node reaches and that was not chosen for another claim.
    fn best(&self, node: NodeView<'_>, chosen: &[&Arc<PersistentVolume>]) -> Option<&Arc<PersistentVolume>> {
        if let Some(kept) = &self.kept {
            return kept.is_for(node, chosen).then_some(&kept.volume);
        }
        let first =
            |places: &[usize]| places.iter().copied().find(|place| self.free[*place].is_for(node, chosen));
        let here = node.label(HOSTNAME).and_then(|host| self.by_host.get(host));
        let places = [here.and_then(|places| first(places)), first(&self.anywhere)];
        places.into_iter().flatten().min().map(|place| &self.free[place].volume)
    }
}

/// Whether and where a volume could be made for a claim.
#[derive(Debug)]
pub(super) enum Provision {
    /// Nobody makes volumes of the class.
    Never,
    /// On nodes of these parts of the cluster (all, if empty), if there is enough storage.
    Within {
        /// Any of these must hold; of each, all labels.
        topologies: Vec<TopologySelectorTerm>,
        /// What is left and enough, by the nodes that have it; `None`: nobody says.
        capacities: Option<Vec<(LabelSelector, i64)>>,
    },
}

/// What can be made of a class where, at most: the size of one volume if that is known, else all that is left.
pub(super) fn limit(capacity: &CSIStorageCapacity) -> Option<Quantity> {
    let limit = capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref())?;
    Quantity::try_from(limit).ok()
}

fn is_part(term: &TopologySelectorTerm, node: NodeView<'_>) -> bool {
    let labels = term.match_label_expressions.as_deref().unwrap_or_default();
    let matches = |key: &str, values: &[String]| {
        node.label(key).is_some_and(|value| values.iter().any(|wanted| wanted == value))
    };
    !labels.is_empty() && labels.iter().all(|wanted| matches(&wanted.key, &wanted.values))
}

impl Provision {
    /// Adds the labels by which it tells nodes apart.
    fn add_keys<'a>(&'a self, keys: &mut BTreeSet<&'a str>) {
        let Self::Within { topologies, capacities } = self else { return };
        let wanted = topologies.iter().flat_map(|term| term.match_label_expressions.iter().flatten());
        keys.extend(wanted.map(|wanted| &*wanted.key));
        let nodes = capacities.iter().flatten().flat_map(|(nodes, _)| nodes.requirements());
        keys.extend(nodes.map(|wanted| wanted.key()));
    }

    /// How much storage there is, if that is known; else why the volume cannot be made.
    fn on(&self, node: NodeView<'_>) -> Result<Option<i64>, &'static str> {
        let Self::Within { topologies, capacities } = self else { return Err(NOTHING_TO_BIND) };
        if !topologies.is_empty() && !topologies.iter().any(|term| is_part(term, node)) {
            return Err(NOTHING_TO_BIND);
        }
        let Some(capacities) = capacities else { return Ok(None) };
        let labels = node.node().and_then(|node| node.metadata.labels.as_ref());
        let there = capacities.iter().find(|(nodes, _)| nodes.matches_opt(labels));
        there.map(|(_, left)| Some(*left)).ok_or(NO_SPACE)
    }
}

/// A claim that waits for its pod's node.
#[derive(Debug)]
pub(super) struct Unbound {
    pub(super) claim: Arc<PersistentVolumeClaim>,
    /// The node that an earlier try has chosen.
    pub(super) selected: Option<String>,
    pub(super) found: Found,
    pub(super) provision: Provision,
}

/// What a pod's claims ask of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan(Arc<Claims>);

#[derive(Debug, Default)]
struct Claims {
    bound: Vec<Bound>,
    unbound: Vec<Unbound>,
}

/// How a pod's claims get their volumes on one node.
#[derive(Debug, Default)]
pub(super) struct OnNode<'p> {
    /// These volumes are there already.
    pub(super) bindings: Vec<(&'p Arc<PersistentVolumeClaim>, &'p Arc<PersistentVolume>)>,
    /// For these claims volumes are made; with how much storage there is, if that is known.
    pub(super) provisions: Vec<(&'p Arc<PersistentVolumeClaim>, Option<i64>)>,
}

impl Plan {
    pub(super) fn new(bound: Vec<Bound>, mut unbound: Vec<Unbound>) -> Self {
        // The smallest claims choose first: they take the smallest volumes.
        unbound.sort_by_key(|unbound| requested(&unbound.claim));
        Self(Arc::new(Claims { bound, unbound }))
    }

    /// Whether no claim waits for a node.
    pub(super) fn all_bound(&self) -> bool {
        self.0.unbound.is_empty()
    }

    /// The labels by which the claims tell nodes apart. `None`: they tell them apart by more than labels.
    pub(super) fn keys(&self) -> Option<BTreeSet<&str>> {
        let mut keys = BTreeSet::new();
        self.0.bound.iter().filter_map(Bound::reach).try_for_each(|reach| reach.add_keys(&mut keys))?;
        for unbound in &self.0.unbound {
            if unbound.selected.is_some() {
                return None;
            }
            unbound.found.add_keys(&mut keys)?;
            unbound.provision.add_keys(&mut keys);
        }
        Some(keys)
    }

    /// All nodes on which the claims may get their volumes, if that is known to be few.
    pub(super) fn few(&self, snapshot: &Snapshot) -> Option<Vec<NodeId>> {
        let selected = self.0.unbound.iter().filter_map(|unbound| unbound.selected.as_deref());
        let selected = selected.map(|name| snapshot.find(name).into_iter().collect());
        let reached = self.0.bound.iter().filter_map(|bound| bound.reach()?.few(snapshot));
        selected.chain(reached).min_by_key(Vec::len)
    }

    /// How the claims get their volumes on a node, or why they do not.
    pub(super) fn on(&self, node: NodeView<'_>) -> Result<OnNode<'_>, Vec<&'static str>> {
        let mut reasons = Vec::new();
        let mut lost = false;
        for bound in &self.0.bound {
            match bound {
                Bound::Lost => {
                    lost = true;
                    break;
                }
                Bound::Reached(reach) if reach.matches(node) => {}
                Bound::Reached(_) => {
                    reasons.push(NOT_REACHED);
                    break;
                }
            }
        }
        let found = self.unbound_on(node);
        reasons.extend(found.as_ref().err());
        if lost {
            reasons.push(VOLUME_GONE);
        }
        found.ok().filter(|_| reasons.is_empty()).ok_or(reasons)
    }

    fn unbound_on(&self, node: NodeView<'_>) -> Result<OnNode<'_>, &'static str> {
        let unbound = &self.0.unbound;
        let (mut selected, mut others) = (Vec::new(), Vec::new());
        for unbound in unbound {
            match &unbound.selected {
                Some(selected) if selected != node.name() => return Err(NOTHING_TO_BIND),
                Some(_) => selected.push(unbound),
                None => others.push(unbound),
            }
        }
        let mut here = OnNode::default();
        let mut chosen = Vec::new();
        for unbound in others {
            match unbound.found.best(node, &chosen) {
                Some(volume) => {
                    chosen.push(volume);
                    here.bindings.push((&unbound.claim, volume));
                }
                None => selected.push(unbound),
            }
        }
        for unbound in selected {
            here.provisions.push((&unbound.claim, unbound.provision.on(node)?));
        }
        Ok(here)
    }
}

impl OnNode<'_> {
    /// What is asked for and what there is, by class: of volumes that are there, or else of those to be made.
    pub(super) fn by_class(&self) -> BTreeMap<&str, (i64, i64)> {
        let mut classes = BTreeMap::<&str, (i64, i64)>::new();
        for (claim, volume) in &self.bindings {
            let (asked, there) = classes.entry(volume_class(volume)).or_default();
            *asked = asked.saturating_add(requested(claim).value());
            *there = there.saturating_add(rkube_api::helpers::volumes::capacity(volume).value());
        }
        if !self.bindings.is_empty() {
            return classes;
        }
        for (claim, capacity) in &self.provisions {
            let Some(capacity) = capacity else { continue };
            let (asked, there) = classes.entry(claim_class(claim)).or_default();
            *asked = asked.saturating_add(requested(claim).value());
            *there = *capacity;
        }
        classes
    }
}
