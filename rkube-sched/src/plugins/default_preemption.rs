//! Makes room for a pod by sending away pods of lower priority.
//!
//! Semantics: <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>. Of the
//! nodes where it helps if pods go, some are tried: all pods of lower priority are taken away in thought,
//! then put back one after the other, the most important first and those first whose going would break a
//! disruption budget; who does not fit back is a victim. Of the nodes found, the one is taken where least is
//! lost.

use std::{cmp::Reverse, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use rkube_api::{
    client::Cache,
    meta::{
        labels::LabelSelector,
        validation::{ErrorList, FieldError, FieldPath},
    },
};
use serde::Deserialize;

use crate::{
    engine::{Diagnosis, WhatIf, account},
    framework::{
        Args, Code, ConfigError, CycleState, Handle, Interest, Nomination, Plugin, PointSet, Points,
        PostFilter, PostFiltered, Status, Victim,
    },
    snapshot::{NodeId, PlacedPod, PodInfo, Snapshot, Uid},
};

/// The plugin's name.
pub const NAME: &str = "DefaultPreemption";

const NEVER: &str = "not eligible due to preemptionPolicy=Never.";
const UNDER_WAY: &str = "not eligible due to a terminating pod on the nominated node.";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NO_HELP: &str = "Preemption is not helpful for scheduling";

/// The plugin's arguments, as in `KubeSchedulerConfiguration`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DefaultPreemptionArgs {
    /// So many of the nodes in question must be candidates before the search ends, in percent: 10.
    pub min_candidate_nodes_percentage: i32,
    /// And at least so many: 100.
    pub min_candidate_nodes_absolute: i32,
}

impl Default for DefaultPreemptionArgs {
    fn default() -> Self {
        Self { min_candidate_nodes_percentage: 10, min_candidate_nodes_absolute: 100 }
    }
}

impl DefaultPreemptionArgs {
    fn validate(self) -> Result<(), ErrorList> {
        let (percentage, absolute) = (self.min_candidate_nodes_percentage, self.min_candidate_nodes_absolute);
        let paths =
            [FieldPath::new("minCandidateNodesPercentage"), FieldPath::new("minCandidateNodesAbsolute")];
        let mut errors = ErrorList::default();
        if !(0..=100).contains(&percentage) {
            errors.push(FieldError::invalid(&paths[0], percentage, "not in valid range [0, 100]"));
        }
        if absolute < 0 {
            errors.push(FieldError::invalid(&paths[1], absolute, "not in valid range [0, inf)"));
        }
        if percentage == 0 && absolute == 0 {
            let text = "cannot be zero at the same time as minCandidateNodesAbsolute";
            errors.push(FieldError::invalid(&paths[0], 0, text));
            let text = "cannot be zero at the same time as minCandidateNodesPercentage";
            errors.push(FieldError::invalid(&paths[1], 0, text));
        }
        errors.into_result()
    }

    /// How many candidates are enough.
    fn enough(self, nodes: usize) -> usize {
        let share = nodes * usize::try_from(self.min_candidate_nodes_percentage).unwrap_or(0) / 100;
        share.max(usize::try_from(self.min_candidate_nodes_absolute).unwrap_or(0)).min(nodes)
    }
}

/// Preempts. See the module's documentation.
#[derive(Debug)]
pub struct DefaultPreemption {
    args: DefaultPreemptionArgs,
    budgets: Cache<PodDisruptionBudget>,
}

/// Makes the plugin from [`DefaultPreemptionArgs`].
pub fn make(args: &Args, handle: &Handle) -> Result<PointSet, ConfigError> {
    Ok(Points::of(DefaultPreemption::new(args.read(NAME)?, handle)?).post_filter().done())
}

/// What is lost on a node: the less the better, field by field. The first is how many pods go that a budget would
/// have kept.
type Loss = (usize, i32, i64, usize, Reverse<Timestamp>);

/// Who has to go from a node so that the pod fits, the most important first, and what that costs.
#[derive(Debug)]
struct Sacrifice {
    victims: Vec<Uid>,
    loss: Loss,
}

/// What came of looking at a node: shared, because the next pod that looks there may find the same.
type Looked = Arc<Result<Sacrifice, Status>>;

fn loss(victims: &[&PlacedPod], violations: usize) -> Loss {
    let highest = victims.first().map_or(i32::MIN, |victim| victim.priority);
    // Raised above zero, so that more pods of a negative priority are not less.
    let raised = |victim: &&PlacedPod| i64::from(victim.priority) + i64::from(i32::MAX) + 1;
    let of_highest = victims.iter().filter(|victim| victim.priority == highest);
    let earliest = of_highest.map(|victim| started(victim)).min().unwrap_or(Timestamp::MIN);
    (violations, highest, victims.iter().map(raised).sum(), victims.len(), Reverse(earliest))
}

/// When a pod started; one that has not yet is the youngest.
fn started(pod: &PlacedPod) -> Timestamp {
    pod.since.unwrap_or(Timestamp::MAX)
}

/// Orders pods by importance, the most important first; the UID makes it repeatable.
fn sort_by_importance(pods: &mut [&PlacedPod]) {
    pods.sort_unstable_by(|a, b| {
        let key = |pod: &PlacedPod| (Reverse(pod.priority), started(pod));
        key(a).cmp(&key(b)).then_with(|| a.uid.cmp(&b.uid))
    });
}

/// What budgets still allow, while pods are taken away in thought.
struct Budgets<'a>(Vec<Budget<'a>>);

struct Budget<'a> {
    budget: &'a PodDisruptionBudget,
    selector: LabelSelector,
    allowed: i32,
}

impl<'a> Budgets<'a> {
    /// A budget whose selector says nothing, or cannot be read, keeps no pod.
    fn new(budgets: impl Iterator<Item = &'a PodDisruptionBudget>) -> Self {
        let one = |budget: &'a PodDisruptionBudget| {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let selector = LabelSelector::from_api(selector).ok()?;
            let silent = selector.is_everything() || selector.is_nothing();
            let allowed = budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0);
            (!silent).then_some(Budget { budget, selector, allowed })
        };
        Self(budgets.filter_map(one).collect())
    }

    /// Whether a pod's going breaks a budget, as one more to go.
    fn breaks(&mut self, pod: &PlacedPod) -> bool {
        let mut broken = false;
        for Budget { budget, selector, allowed } in &mut self.0 {
            let here = budget.metadata.namespace.as_deref() == Some(&*pod.namespace);
            let gone = |budget: &PodDisruptionBudget| {
                // The API server lets it go already.
                let disrupted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
                disrupted.is_some_and(|disrupted| disrupted.contains_key(&*pod.name))
            };
            if !pod.labels.is_empty() && here && selector.matches(&pod.labels) && !gone(budget) {
                *allowed -= 1;
                broken |= *allowed < 0;
            }
        }
        broken
    }
}

impl DefaultPreemption {
    /// The plugin.
    pub fn new(args: DefaultPreemptionArgs, handle: &Handle) -> Result<Self, ConfigError> {
        args.validate().map_err(|errors| ConfigError::arguments(NAME, errors.to_string()))?;
        Ok(Self { args, budgets: handle.listers.get() })
    }

    /// Finds the node where least is lost among enough of those where pods can make room; if there are none, how
    /// many nodes say what against it.
    fn search(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        cluster: &WhatIf<'_>,
        nodes: &[NodeId],
    ) -> Result<(NodeId, Looked), Vec<(Status, usize)>> {
        let (version, budgets) = (self.budgets.version(), self.budgets.list());
        let (enough, offset) = (self.args.enough(nodes.len()), cluster.rng().below(nodes.len()));
        let (mut best, mut found, mut kind): (Option<(NodeId, Looked)>, _, _) = (None, 0, false);
        let mut refusals = Vec::new();
        for &node in nodes[offset..].iter().chain(&nodes[..offset]) {
            let looked = cluster.remembered(node, version, || {
                let budgets = Budgets::new(budgets.iter().map(|budget| &**budget));
                Looked::new(sacrifice(state, pod, cluster, node, budgets))
            });
            let Ok(sacrifice) = &*looked else {
                refusals.push(looked);
                continue;
            };
            (found, kind) = (found + 1, kind || sacrifice.loss.0 == 0);
            let least = best.as_ref().and_then(|(_, best)| Some((**best).as_ref().ok()?.loss));
            if least.is_none_or(|least| sacrifice.loss < least) {
                best = Some((node, looked));
            }
            if kind && found >= enough {
                break;
            }
        }
        best.ok_or_else(|| {
            let said = refusals.iter().filter_map(|looked| (**looked).as_ref().err());
            said.map(|status| (status.clone(), 1)).collect()
        })
    }
}

/// Who has to go from one node.
fn sacrifice(
    state: &CycleState,
    pod: &PodInfo,
    cluster: &WhatIf<'_>,
    node: NodeId,
    mut budgets: Budgets<'_>,
) -> Result<Sacrifice, Status> {
    let there = cluster.snapshot().view(node).pods();
    let mut lower: Vec<&PlacedPod> = there.filter(|there| there.priority < pod.priority).collect();
    if lower.is_empty() {
        return Err(Status::unresolvable(NO_VICTIMS));
    }
    let mut trial = cluster.trial(state, node);
    for there in &lower {
        trial.remove(there)?;
    }
    let status = trial.fits();
    if !status.is_success() {
        return Err(status);
    }
    sort_by_importance(&mut lower);
    let (kept, others): (Vec<&PlacedPod>, Vec<&PlacedPod>) =
        lower.into_iter().partition(|there| budgets.breaks(there));
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (there, is_kept) in kept.iter().map(|pod| (*pod, true)).chain(others.iter().map(|pod| (*pod, false)))
    {
        trial.restore(there)?;
        if !trial.fits().is_success() {
            trial.remove(there)?;
            victims.push(there);
            violations += usize::from(is_kept);
        }
    }
    if victims.is_empty() {
        let name = cluster.snapshot().view(node).name();
        return Err(Status::error(format!("expected at least one victim pod on node {name:?}")));
    }
    sort_by_importance(&mut victims);
    let loss = loss(&victims, violations);
    Ok(Sacrifice { victims: victims.into_iter().map(|victim| victim.uid.clone()).collect(), loss })
}

/// Whether it may help a node that refuses so if pods go.
fn helps(status: &Status) -> bool {
    status.code() == Code::Unschedulable
}

/// How many nodes there are where it may help if pods go.
fn count_in_question(diagnosis: &Diagnosis) -> usize {
    let refusing = diagnosis.rejected.distinct().filter(|(status, _)| helps(status));
    let others = diagnosis.absent.as_ref().is_some_and(helps);
    let others = if others { diagnosis.all_nodes - diagnosis.rejected.len() } else { 0 };
    refusing.map(|(_, nodes)| nodes).sum::<usize>() + others
}

/// The nodes where it may help if pods go, by number.
fn in_question(diagnosis: &Diagnosis, snapshot: &Snapshot) -> Vec<NodeId> {
    let others = diagnosis.absent.as_ref().is_some_and(helps);
    let in_question = |node: &NodeId| diagnosis.rejected.get(*node).map_or(others, helps);
    snapshot.nodes().iter().copied().filter(in_question).collect()
}

/// Why a pod may not preempt now.
fn ineligible(pod: &PodInfo, cluster: &WhatIf<'_>, diagnosis: &Diagnosis) -> Option<&'static str> {
    if pod.spec().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
        return Some(NEVER);
    }
    let node = cluster.snapshot().find(cluster.nominator().node_of(&pod.uid)?)?;
    let hopeless = |status: &Status| status.code() == Code::UnschedulableAndUnresolvable;
    if diagnosis.status_of(node).is_some_and(hopeless) {
        return None;
    }
    let leaving = |there: &PlacedPod| there.preempted && there.priority < pod.priority;
    cluster.snapshot().view(node).pods().any(leaving).then_some(UNDER_WAY)
}

fn refused(message: impl std::fmt::Display) -> Status {
    Status::unschedulable(format!("preemption: {message}"))
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        NAME
    }

    /// It refuses no pod: what helps is what helps the plugins that did.
    fn events(&self) -> Vec<Interest> {
        Vec::new()
    }
}

impl PostFilter for DefaultPreemption {
    fn post_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        cluster: &WhatIf<'_>,
        diagnosis: &Diagnosis,
    ) -> PostFiltered {
        if let Some(why) = ineligible(pod, cluster, diagnosis) {
            return refused(why).into();
        }
        // Most pods that fit nowhere are of the lowest priority: no node needs a look.
        let lowest = cluster.snapshot().lowest_priority();
        let found = if lowest.is_none_or(|lowest| lowest >= pod.priority) {
            Err(vec![(Status::unresolvable(NO_VICTIMS), count_in_question(diagnosis))])
        } else {
            self.search(state, pod, cluster, &in_question(diagnosis, cluster.snapshot()))
        };
        let (node, looked) = match found {
            Ok(found) => found,
            Err(said) => {
                if let Some((status, _)) = said.iter().find(|(status, _)| !status.is_rejected()) {
                    return Status::error(format!("preemption: {status}")).into();
                }
                let all = cluster.snapshot().nodes().len();
                let others = (Status::unresolvable(NO_HELP), all - count_in_question(diagnosis));
                let status = refused(account(
                    all,
                    said.iter().chain([&others]).map(|(status, nodes)| (status, *nodes)),
                ));
                let refused_by = said.iter().filter_map(|(status, _)| status.plugin()).collect();
                let nomination = Nomination::Clear;
                return PostFiltered { status, nomination, refused_by, ..PostFiltered::default() };
            }
        };
        let victims = (*looked).as_ref().map_or(&[][..], |sacrifice| &sacrifice.victims);
        let victims = victims.iter().filter_map(|uid| cluster.snapshot().pod(uid)).map(|(pod, _)| Victim {
            namespace: pod.namespace.to_string(),
            name: pod.name.to_string(),
            uid: pod.uid.to_string(),
        });
        let node = cluster.snapshot().view(node).name();
        let less = cluster.nominator().on(node).filter(|held| held.priority < pod.priority);
        PostFiltered {
            status: Status::success(),
            nomination: Nomination::Node(node.to_owned()),
            victims: victims.collect(),
            displaced: less.cloned().collect(),
            ..PostFiltered::default()
        }
    }
}

#[cfg(test)]
mod tests;
