//! What the status of a disruption budget is to say.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        core::v1::Pod,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString},
};
use rkube_api::{
    helpers::{disruption, pod as pods},
    meta::intstr::{IntOrStringError, Round, scaled},
};

use crate::facts;

/// How long a pod whose eviction was granted may take until its deletion is seen: Kubernetes' figure.
pub const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

/// What the plan is made of.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The budget.
    pub budget: &'a PodDisruptionBudget,
    /// The pods that it is about.
    pub pods: &'a [Arc<Pod>],
    /// How many pods those that manage them want, together; asked for by [`needs_scale`] only.
    pub scale: i32,
    /// The time, in whole seconds: it is written.
    pub now: Timestamp,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The new status.
    pub status: PodDisruptionBudgetStatus,
    /// Pods that were to be evicted long ago, and are still there: they count again.
    pub stayed: Vec<Arc<Pod>>,
    /// When a pod that was to be evicted counts again, if it is still there.
    pub look_again: Option<Duration>,
}

/// Whether the budget is a share of what those that manage the pods want.
pub fn needs_scale(spec: &PodDisruptionBudgetSpec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// Counts pods, and says how many may go.
///
/// # Errors
/// When a text in the budget is no percentage.
pub fn plan(observed: &Observed<'_>) -> Result<Plan, IntOrStringError> {
    let Observed { budget, pods, scale, now } = *observed;
    let (expected, desired) = expected(budget.spec.as_ref(), pods, scale)?;
    let old = budget.status.clone().unwrap_or_default();
    let disrupted = old.disrupted_pods.unwrap_or_default();
    let mut listed = BTreeMap::new();
    let (mut stayed, mut healthy, mut first): (Vec<Arc<Pod>>, i32, Option<Timestamp>) = (vec![], 0, None);
    for pod in pods.iter().filter(|pod| !pods::is_deleting(pod)) {
        let name = facts::name(&pod.metadata);
        let granted = disrupted.get(name).map(|granted| (granted, ends(granted)));
        match granted {
            Some((granted, end)) if end > now => {
                listed.insert(name.to_owned(), granted.clone());
                first = Some(first.map_or(end, |first| first.min(end)));
                continue;
            }
            Some(_) => stayed.push(pod.clone()),
            None => {}
        }
        healthy += i32::from(facts::is_ready(pod));
    }
    // A budget that is about no pod allows nothing, so that the first ones that come are safe until they
    // are counted.
    let allowed = if expected > 0 { healthy.saturating_sub(desired).max(0) } else { 0 };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!listed.is_empty()).then_some(listed),
        observed_generation: budget.metadata.generation,
        conditions: old.conditions,
    };
    disruption::set_condition(&mut status, now);
    let look_again = first.map(|end| Duration::try_from(end.duration_since(now)).unwrap_or_default());
    Ok(Plan { status, stayed, look_again })
}

fn ends(granted: &Time) -> Timestamp {
    granted.0.checked_add(DELETION_TIMEOUT).unwrap_or(Timestamp::MAX)
}

/// How many pods there should be, and how many of them healthy.
fn expected(
    spec: Option<&PodDisruptionBudgetSpec>,
    pods: &[Arc<Pod>],
    scale: i32,
) -> Result<(i32, i32), IntOrStringError> {
    let Some(spec) = spec else { return Ok((0, 0)) };
    let share = |value| -> Result<i32, IntOrStringError> {
        let share = scaled(value, scale.into(), Round::Up)?.clamp(0, i32::MAX.into());
        Ok(i32::try_from(share).unwrap_or(i32::MAX))
    };
    Ok(match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (scale, scale.saturating_sub(share(most)?).max(0)),
        (None, Some(IntOrString::Int(least))) => (facts::count(pods.len()), *least),
        (None, Some(least)) => (scale, share(least)?),
        (None, None) => (0, 0),
    })
}
