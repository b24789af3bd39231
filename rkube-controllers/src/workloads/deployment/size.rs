//! The arithmetic of a rollout: how many pods may exist and how many may be missing.

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    apimachinery::pkg::util::intstr::IntOrString,
};
use rkube_api::meta::intstr::{Round, scaled};

use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS, number};

/// The size asked for.
pub(crate) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

/// The size asked of a replica set.
pub(crate) fn size(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// The deployment's size when the set was last sized.
pub(crate) fn number_desired(set: &ReplicaSet) -> Option<i32> {
    number(set, DESIRED_REPLICAS)
}

/// The sum of sizes that clients chose, each of which may be the largest number there is: it stays that.
pub(crate) fn sum(sizes: impl IntoIterator<Item = i32>) -> i32 {
    sizes.into_iter().fold(0, i32::saturating_add)
}

/// Whether pods are replaced step by step.
pub(crate) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    strategy != Some("Recreate")
}

/// (surge, unavailable) in pods. Surge rounds up, unavailable down; both zero could never move, so then
/// one pod may be missing.
fn fences(deployment: &Deployment) -> (i32, i32) {
    let rolling = deployment.spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let quarter = IntOrString::String("25%".into());
    let total = i64::from(replicas(deployment));
    let part = |value: Option<&IntOrString>, round| {
        let count = scaled(value.unwrap_or(&quarter), total, round).unwrap_or(0);
        i32::try_from(count.max(0)).unwrap_or(i32::MAX)
    };
    let surge = part(rolling.and_then(|rolling| rolling.max_surge.as_ref()), Round::Up);
    let unavailable = part(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), Round::Down);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// How many pods may exist beyond the size asked for.
pub(crate) fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) { fences(deployment).0 } else { 0 }
}

/// How many of the pods asked for may be missing.
pub(crate) fn max_unavailable(deployment: &Deployment) -> i32 {
    let replicas = replicas(deployment);
    if !is_rolling(deployment) || replicas == 0 {
        return 0;
    }
    fences(deployment).1.min(replicas)
}

/// How large the new replica set should be now, when all sets together have `total` pods.
pub(crate) fn new_size(deployment: &Deployment, current: i32, total: i32) -> i32 {
    let wanted = replicas(deployment);
    if !is_rolling(deployment) {
        return wanted;
    }
    let room = wanted.saturating_add(max_surge(deployment)).saturating_sub(total);
    if room <= 0 { current } else { current + room.min(wanted - current) }
}

/// A replica set's share of `to_add` pods (negative: to take away), `added` of which are dealt out.
pub(crate) fn share(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if size(set) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let (fraction, left) = (fraction(deployment, set), to_add.saturating_sub(added));
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

/// By how much a replica set would grow if it kept its part of the whole.
fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    let wanted = replicas(deployment);
    if wanted == 0 {
        return -size(set);
    }
    // Anyone can write annotations: what is no size counts as absent.
    let before = number(set, MAX_REPLICAS).filter(|max| *max > 0);
    let before = before.or_else(|| deployment.status.as_ref()?.replicas).unwrap_or(0);
    if before <= 0 {
        return 0;
    }
    let max = f64::from(wanted.saturating_add(max_surge(deployment)));
    #[expect(clippy::cast_possible_truncation, reason = "float casts saturate, and sizes are i32 anyway")]
    let grown = (f64::from(size(set)) * max / f64::from(before)).round() as i32;
    grown.saturating_sub(size(set))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{DeploymentStrategy, RollingUpdateDeployment};

    use super::*;

    fn rolling(size: i32, surge: &str, unavailable: &str) -> Deployment {
        let value = |text: &str| {
            Some(text.parse().map_or_else(|_| IntOrString::String(text.into()), IntOrString::Int))
        };
        let mut deployment = Deployment::default();
        deployment.spec.replicas = Some(size);
        deployment.spec.strategy = Some(DeploymentStrategy {
            type_: Some("RollingUpdate".into()),
            rolling_update: Some(RollingUpdateDeployment {
                max_surge: value(surge),
                max_unavailable: value(unavailable),
            }),
        });
        deployment
    }

    #[test]
    fn percentages_round_towards_more_pods() {
        for (size, surge, unavailable, expected) in [
            (10, "25%", "25%", (3, 2)),
            (3, "25%", "25%", (1, 0)),
            (1, "0", "25%", (0, 1)),
            (0, "25%", "25%", (0, 0)),
            (2, "0", "5", (0, 2)),
            (10, "100%", "0%", (10, 0)),
        ] {
            let deployment = rolling(size, surge, unavailable);
            assert_eq!((max_surge(&deployment), max_unavailable(&deployment)), expected, "{size} {surge}");
        }
    }

    #[test]
    fn the_new_set_takes_the_room_there_is() {
        let deployment = rolling(10, "3", "2");
        assert_eq!(new_size(&deployment, 0, 10), 3);
        assert_eq!(new_size(&deployment, 3, 13), 3);
        assert_eq!(new_size(&deployment, 9, 9), 10);
    }
}
