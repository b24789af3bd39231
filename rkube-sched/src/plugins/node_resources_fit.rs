//! A node must have what a pod asks for; how full it is makes its score.

use std::borrow::Cow;

use rkube_api::meta::{
    names,
    validation::{ErrorList, FieldError, FieldPath},
};
use serde::Deserialize;

use crate::{
    allocation::{ResourceSpec, Wanted, completed, cpu_and_memory, wanted},
    engine::Candidates,
    framework::{
        Actions, Args, ClusterEvent, Code, ConfigError, CycleState, Filter, Handle, Hint, Interest, Locality,
        MAX_NODE_SCORE, Normalization, Plugin, PointSet, Points, PreFilter, PreFiltered, PreScore, Resource,
        Score, Status, Subject, is_own_update,
    },
    snapshot::{Column, NodeSet, NodeView, PodInfo, Requests, Snapshot, is_extended},
};

/// The plugin's name.
pub const NAME: &str = "NodeResourcesFit";

/// A point of the curve of `RequestedToCapacityRatio`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ShapePoint {
    /// Utilization in percent, 0 to 100.
    pub utilization: i64,
    /// Score, 0 to 10.
    pub score: i64,
}

/// The curve of `RequestedToCapacityRatio`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct RatioArgs {
    /// Its points, by increasing utilization.
    #[serde(default)]
    pub shape: Vec<ShapePoint>,
}

/// How nodes are scored.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum Strategy {
    /// The emptier the better.
    #[default]
    LeastAllocated,
    /// The fuller the better.
    MostAllocated,
    /// By a curve over utilization.
    RequestedToCapacityRatio,
}

/// `scoringStrategy` of the arguments.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScoringStrategy {
    /// Which strategy.
    #[serde(default, rename = "type")]
    pub strategy: Strategy,
    /// The resources that count, by default CPU and memory alike.
    #[serde(default = "cpu_and_memory")]
    pub resources: Vec<ResourceSpec>,
    /// The curve, for that strategy.
    #[serde(default)]
    pub requested_to_capacity_ratio: Option<RatioArgs>,
}

impl Default for ScoringStrategy {
    fn default() -> Self {
        Self { strategy: Strategy::default(), resources: cpu_and_memory(), requested_to_capacity_ratio: None }
    }
}

/// The plugin's arguments, as in `KubeSchedulerConfiguration`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeResourcesFitArgs {
    /// Extended resources that are not checked.
    #[serde(default)]
    pub ignored_resources: Vec<String>,
    /// Groups (the part before `/`) of extended resources that are not checked.
    #[serde(default)]
    pub ignored_resource_groups: Vec<String>,
    /// How nodes are scored.
    #[serde(default)]
    pub scoring_strategy: ScoringStrategy,
}

/// Filters and scores by resources. See the module's documentation.
#[derive(Debug)]
pub struct NodeResourcesFit {
    args: NodeResourcesFitArgs,
    /// The curve, scores already from 0 to 100.
    shape: Vec<ShapePoint>,
}

/// Makes the plugin from [`NodeResourcesFitArgs`].
pub fn make(args: &Args, _: &Handle) -> Result<PointSet, ConfigError> {
    let plugin = NodeResourcesFit::new(args.read(NAME)?)?;
    Ok(Points::of(plugin).pre_filter().filter().pre_score().score().done())
}

fn validate(args: &NodeResourcesFitArgs) -> Result<(), ErrorList> {
    let mut errors = ErrorList::default();
    let path = FieldPath::new("ignoredResources");
    for (index, name) in args.ignored_resources.iter().enumerate() {
        errors.push_messages(&path.index(index), name, names::qualified_name(name));
    }
    let path = FieldPath::new("ignoredResourceGroups");
    for (index, group) in args.ignored_resource_groups.iter().enumerate() {
        if group.contains('/') {
            let text = "resource group name can't contain '/'";
            errors.push(FieldError::invalid(&path.index(index), group, text));
        }
        errors.push_messages(&path.index(index), group, names::qualified_name(group));
    }
    validate_strategy(&FieldPath::new("scoringStrategy"), &args.scoring_strategy, &mut errors);
    errors.into_result()
}

fn validate_strategy(path: &FieldPath<'_>, strategy: &ScoringStrategy, errors: &mut ErrorList) {
    let resources = path.child("resources");
    for (index, ResourceSpec { name, weight }) in strategy.resources.iter().enumerate() {
        if !(1..=100).contains(weight) {
            let text = format!("resource weight of {name} not in valid range (0, 100]");
            errors.push(FieldError::invalid(&resources.index(index).child("weight"), weight, text));
        }
    }
    let path = path.child("requestedToCapacityRatio");
    let by_ratio = strategy.strategy == Strategy::RequestedToCapacityRatio;
    match &strategy.requested_to_capacity_ratio {
        Some(ratio) if by_ratio => validate_shape(&path.child("shape"), &ratio.shape, errors),
        None if by_ratio => {
            let text = "must be specified when type is RequestedToCapacityRatio";
            errors.push(FieldError::required(&path, text));
        }
        Some(_) => {
            let text = "must be nil when type is not RequestedToCapacityRatio";
            errors.push(FieldError::forbidden(&path, text));
        }
        None => {}
    }
}

/// What is wrong with the points of a curve.
pub(super) fn validate_shape(path: &FieldPath<'_>, shape: &[ShapePoint], errors: &mut ErrorList) {
    if shape.is_empty() {
        errors.push(FieldError::required(path, "at least one point must be specified"));
    }
    if let Some(at) = shape.windows(2).position(|pair| pair[0].utilization >= pair[1].utilization) {
        let (path, text) = (path.index(at + 1), "values must be sorted in increasing order");
        errors.push(FieldError::invalid(&path.child("utilization"), shape[at + 1].utilization, text));
    }
    for (index, ShapePoint { utilization, score }) in shape.iter().enumerate() {
        let path = path.index(index);
        if !(0..=100).contains(utilization) {
            let text = "not in valid range [0, 100]";
            errors.push(FieldError::invalid(&path.child("utilization"), utilization, text));
        }
        if !(0..=10).contains(score) {
            errors.push(FieldError::invalid(&path.child("score"), score, "not in valid range [0, 10]"));
        }
    }
}

/// The curve, with scores from 0 to 100.
fn scaled_shape(strategy: &ScoringStrategy) -> Vec<ShapePoint> {
    scaled(strategy.requested_to_capacity_ratio.iter().flat_map(|ratio| &ratio.shape))
}

/// Points with scores from 0 to 100.
pub(super) fn scaled<'a>(points: impl IntoIterator<Item = &'a ShapePoint>) -> Vec<ShapePoint> {
    let one = |point: &ShapePoint| ShapePoint { score: point.score * MAX_NODE_SCORE / 10, ..*point };
    points.into_iter().map(one).collect()
}

/// What the pod asks for of scalar resources: name, amount, and the column if any node or pod knows it.
#[derive(Clone, Default)]
struct FilterState {
    scalars: Vec<(Box<str>, i64, Option<Column>)>,
}

#[derive(Clone)]
struct ScoreState(Vec<Wanted>);

/// Collects what a node lacks.
#[derive(Default)]
struct Lack {
    status: Status,
    hopeless: bool,
}

impl Lack {
    /// `wanted` more than is free; hopeless if it is more than the node has at all.
    fn check(
        &mut self,
        wanted: i64,
        requested: i64,
        allocatable: i64,
        reason: impl FnOnce() -> Cow<'static, str>,
    ) {
        if wanted > 0 && wanted > allocatable.saturating_sub(requested) {
            self.hopeless |= wanted > allocatable;
            self.status = std::mem::take(&mut self.status).with(reason());
        }
    }
}

impl NodeResourcesFit {
    /// The plugin.
    pub fn new(mut args: NodeResourcesFitArgs) -> Result<Self, ConfigError> {
        let strategy = &mut args.scoring_strategy;
        strategy.resources = completed(std::mem::take(&mut strategy.resources));
        validate(&args).map_err(|errors| ConfigError::arguments(NAME, errors.to_string()))?;
        Ok(Self { shape: scaled_shape(&args.scoring_strategy), args })
    }

    fn is_ignored(&self, name: &str) -> bool {
        let group = name.split('/').next().unwrap_or_default();
        is_extended(name)
            && (self.args.ignored_resources.iter().any(|ignored| ignored == name)
                || self.args.ignored_resource_groups.iter().any(|ignored| ignored == group))
    }

    fn scalars(&self, requests: &Requests, snapshot: &Snapshot) -> FilterState {
        let counts = |(name, amount): &&(Box<str>, i64)| *amount > 0 && !self.is_ignored(name);
        let of = |(name, amount): &(Box<str>, i64)| (name.clone(), *amount, snapshot.columns().find(name));
        FilterState { scalars: requests.scalars.iter().filter(counts).map(of).collect() }
    }

    fn check(&self, requests: &Requests, scalars: &FilterState, node: NodeView<'_>) -> Status {
        let mut lack = Lack::default();
        let of = |column| (node.requested(column), node.allocatable(column));
        let (pods, room) = of(Column::PODS);
        if pods + 1 > room {
            lack.status = lack.status.with("Too many pods");
        }
        let fixed = [
            (Column::CPU, requests.cpu_milli, "Insufficient cpu"),
            (Column::MEMORY, requests.memory, "Insufficient memory"),
            (Column::EPHEMERAL, requests.ephemeral, "Insufficient ephemeral-storage"),
        ];
        for (column, wanted, reason) in fixed {
            let (requested, allocatable) = of(column);
            lack.check(wanted, requested, allocatable, || reason.into());
        }
        for (name, wanted, column) in &scalars.scalars {
            let (requested, allocatable) = column.map_or((0, 0), of);
            lack.check(*wanted, requested, allocatable, || format!("Insufficient {name}").into());
        }
        let nothing = lack.status.reasons().len() == 0;
        match (nothing, lack.hopeless) {
            (true, _) => Status::success(),
            (_, false) => lack.status.with_code(Code::Unschedulable),
            (_, true) => lack.status.with_code(Code::UnschedulableAndUnresolvable),
        }
    }

    /// The score of one resource.
    fn score_resource(&self, requested: i64, allocatable: i64) -> i64 {
        match self.args.scoring_strategy.strategy {
            Strategy::LeastAllocated => least(requested, allocatable),
            Strategy::MostAllocated => requested.min(allocatable) * MAX_NODE_SCORE / allocatable,
            Strategy::RequestedToCapacityRatio => {
                let full = requested > allocatable;
                let used = if full { 100 } else { requested * 100 / allocatable };
                on_curve(&self.shape, used)
            }
        }
    }

    /// The weighted mean, from the scores of the resources that the node has.
    fn mean(&self, scores: impl Iterator<Item = (i64, i64)>) -> i64 {
        let by_curve = self.args.scoring_strategy.strategy == Strategy::RequestedToCapacityRatio;
        // On a curve a resource that scores nothing does not count at all.
        let counted = scores.filter(|(score, _)| *score > 0 || !by_curve);
        let (sum, weights) =
            counted.fold((0, 0), |(sum, weights), (score, weight)| (sum + score * weight, weights + weight));
        match (weights, by_curve) {
            (0, _) => 0,
            (_, true) => (sum as f64 / weights as f64).round() as i64,
            _ => sum / weights,
        }
    }

    fn score_node(&self, wanted: &[Wanted], node: NodeView<'_>) -> i64 {
        self.mean(wanted.iter().filter_map(|resource| {
            let allocatable = node.allocatable(resource.column);
            let score = || self.score_resource(resource.requested_with(node), allocatable);
            (allocatable != 0).then(|| (score(), resource.weight))
        }))
    }
}

fn least(requested: i64, allocatable: i64) -> i64 {
    if requested > allocatable { 0 } else { (allocatable - requested) * MAX_NODE_SCORE / allocatable }
}

/// A broken line through the points, in whole numbers.
pub(super) fn on_curve(shape: &[ShapePoint], at: i64) -> i64 {
    let Some(next) = shape.iter().position(|point| at <= point.utilization) else {
        return shape.last().map_or(0, |point| point.score);
    };
    let to = shape[next];
    let Some(from) = next.checked_sub(1).map(|before| shape[before]) else { return to.score };
    from.score + (to.score - from.score) * (at - from.utilization) / (to.utilization - from.utilization)
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        vec![
            Interest::new(Resource::AssignedPod, Actions::DELETE),
            Interest::new(Resource::Pod, Actions::UPDATE_POD_SCALE_DOWN),
            Interest::new(Resource::Node, Actions::ADD | Actions::UPDATE_NODE_ALLOCATABLE),
        ]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        match &event.subject {
            // A pod has left its node.
            Subject::Pod { old: Some(_), new: None } => Hint::Queue,
            Subject::Pod { old: Some(old), new: Some(new) } => {
                frees(&old.requests, &new.requests, &pod.requests).into()
            }
            Subject::Waiting { .. } => is_own_update(pod, event).into(),
            Subject::Node { old, new: Some(new) } => {
                let after = Capacity::of(new);
                let before = old.as_deref().map(Capacity::of);
                let grown = before.is_none_or(|before| after.exceeds(&before, &pod.requests));
                (after.holds(self, &pod.requests) && grown).into()
            }
            _ => Hint::Queue,
        }
    }

    fn locality(&self, _: &PodInfo, _: &Snapshot) -> Locality {
        Locality::NodeAndPods
    }
}

/// Whether a pod that shrank gives back something that is wanted.
fn frees(before: &Requests, after: &Requests, wanted: &Requests) -> bool {
    (wanted.cpu_milli > 0 && before.cpu_milli > after.cpu_milli)
        || (wanted.memory > 0 && before.memory > after.memory)
        || (wanted.ephemeral > 0 && before.ephemeral > after.ephemeral)
        || wanted.scalars.iter().any(|(name, _)| before.scalar(name) > after.scalar(name))
}

/// A node alone, outside of the cluster's snapshot, for hints.
struct Capacity(Snapshot);

impl Capacity {
    fn of(node: &k8s_openapi::api::core::v1::Node) -> Self {
        let mut snapshot = Snapshot::default();
        snapshot.set_node(std::sync::Arc::new(node.clone()));
        Self(snapshot)
    }

    fn of_resource(&self, name: &str) -> i64 {
        let Self(snapshot) = self;
        let value = snapshot
            .columns()
            .find(name)
            .and_then(|column| snapshot.nodes().first().map(|&node| snapshot.view(node).allocatable(column)));
        value.unwrap_or(0)
    }

    fn holds(&self, plugin: &NodeResourcesFit, requests: &Requests) -> bool {
        let Self(snapshot) = self;
        let scalars = plugin.scalars(requests, snapshot);
        snapshot
            .nodes()
            .iter()
            .all(|&node| plugin.check(requests, &scalars, snapshot.view(node)).is_success())
    }

    fn exceeds(&self, before: &Self, requests: &Requests) -> bool {
        let mut wanted: Vec<&str> = vec!["pods"];
        wanted.extend((requests.cpu_milli > 0).then_some("cpu"));
        wanted.extend((requests.memory > 0).then_some("memory"));
        wanted.extend((requests.ephemeral > 0).then_some("ephemeral-storage"));
        wanted.extend(requests.scalars.iter().map(|(name, _)| &**name));
        wanted.into_iter().any(|name| self.of_resource(name) > before.of_resource(name))
    }
}

impl PreFilter for NodeResourcesFit {
    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot) -> PreFiltered {
        state.write(self.scalars(&pod.requests, snapshot));
        PreFiltered::default()
    }
}

impl Filter for NodeResourcesFit {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        let scalars = state.read_or(|| Some(self.scalars(&pod.requests, node.snapshot())));
        scalars.map_or_else(Status::success, |scalars| self.check(&pod.requests, &scalars, node))
    }

    fn filter_all(&self, state: &CycleState, pod: &PodInfo, nodes: &mut Candidates<'_>) {
        let columns = nodes.snapshot().columns();
        let free = |column| columns.allocatable(column).iter().zip(columns.requested(column));
        let scalars = state.read_or(|| Some(self.scalars(&pod.requests, nodes.snapshot())));
        let scalars = scalars.unwrap_or_default();
        if !scalars.scalars.is_empty() {
            return nodes.retain(|node| self.check(&pod.requests, &scalars, node));
        }
        // Column by column, which the compiler turns into vector instructions; only nodes that fail
        // are looked at one by one, for their reasons.
        let mut fits: Vec<bool> = free(Column::PODS).map(|(room, pods)| pods < room).collect();
        let fixed = [
            (Column::CPU, pod.requests.cpu_milli),
            (Column::MEMORY, pod.requests.memory),
            (Column::EPHEMERAL, pod.requests.ephemeral),
        ];
        for (column, wanted) in fixed.into_iter().filter(|(_, wanted)| *wanted > 0) {
            for (fits, (allocatable, requested)) in fits.iter_mut().zip(free(column)) {
                *fits &= wanted <= allocatable.saturating_sub(*requested);
            }
        }
        nodes.retain_where(|id| fits[id.row()], |node| self.check(&pod.requests, &scalars, node));
    }
}

impl PreScore for NodeResourcesFit {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: NodeSet<'_>) -> Status {
        let resources = &self.args.scoring_strategy.resources;
        state.write(ScoreState(wanted(nodes.snapshot(), pod, resources, true)));
        Status::success()
    }
}

impl Score for NodeResourcesFit {
    fn score(&self, state: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        match state.read::<ScoreState>() {
            Some(ScoreState(wanted)) => Ok(self.score_node(wanted, node)),
            None => Err(Status::error("PreScore has not run")),
        }
    }

    fn score_all(&self, state: &CycleState, _: &PodInfo, nodes: NodeSet<'_>, scores: &mut [i64]) -> Status {
        let Some(ScoreState(wanted)) = state.read::<ScoreState>() else {
            return Status::error("PreScore has not run");
        };
        let columns = nodes.snapshot().columns();
        let wanted: Vec<_> = wanted.iter().map(|resource| (resource, resource.columns(columns))).collect();
        for (score, id) in scores.iter_mut().zip(nodes.ids()) {
            let row = id.row();
            *score = self.mean(wanted.iter().filter_map(|(resource, (allocatable, requested))| {
                let (has, requested) = (allocatable[row], requested[row].saturating_add(resource.amount));
                (has != 0).then(|| (self.score_resource(requested, has), resource.weight))
            }));
        }
        Status::success()
    }

    fn normalization(&self) -> Normalization {
        Normalization::None
    }
}

#[cfg(test)]
mod tests;
