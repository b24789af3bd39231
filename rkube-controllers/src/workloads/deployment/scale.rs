//! A change of a deployment's size: the pods are dealt out in proportion, so that scaling in the middle
//! of a rollout keeps the mix of old and new.

use super::{
    plan::{Set, Work},
    size::{self, is_rolling, max_surge, replicas},
    status::available,
};
use crate::facts;

/// Fits the sets to the deployment's size.
pub(crate) fn scale(work: &mut Work<'_>) {
    let deployment = work.deployment.clone();
    if let Some(only) = only_active(work) {
        // Even if it has that size by chance: the note of the size is what ends the scaling.
        Work::resize(&deployment, only, replicas(&deployment));
        return;
    }
    if is_saturated(work) {
        for set in work.old.iter_mut().filter(|set| set.size() > 0) {
            Work::resize(&work.deployment, set, 0);
        }
        return;
    }
    if is_rolling(&deployment) {
        return proportionally(work);
    }
    // A recreation stops the old sets next: they keep their sizes until then.
    for set in work.old.iter_mut().chain(&mut work.new).filter(|set| set.size() > 0) {
        let size = set.size();
        Work::resize(&deployment, set, size);
    }
}

/// The one set with pods; if none has any, the newest. `None` if several have.
fn only_active<'w>(work: &'w mut Work<'_>) -> Option<&'w mut Set> {
    let active = work.old.iter().chain(&work.new).filter(|set| set.size() > 0).count();
    let Work { new, old, .. } = work;
    match active {
        0 => new
            .as_mut()
            .or_else(|| old.iter_mut().max_by(|a, b| facts::age_order(&a.set.metadata, &b.set.metadata))),
        1 => old.iter_mut().chain(new).find(|set| set.size() > 0),
        _ => None,
    }
}

/// Whether the new set has all pods that the deployment asks for.
fn is_saturated(work: &Work<'_>) -> bool {
    let Some(set) = work.newest() else { return false };
    let wanted = replicas(&work.deployment);
    size::size(set) == wanted && size::number_desired(set) == Some(wanted) && available(set) == wanted
}

fn proportionally(work: &mut Work<'_>) {
    let deployment = work.deployment.clone();
    let wanted = replicas(&deployment);
    let allowed = if wanted > 0 { wanted.saturating_add(max_surge(&deployment)) } else { 0 };
    let mut sets: Vec<&mut Set> =
        work.old.iter_mut().chain(&mut work.new).filter(|set| set.size() > 0).collect();
    let to_add = allowed - size::sum(sets.iter().map(|set| set.size()));
    sets.sort_by(|a, b| {
        let age = facts::age_order(&a.set.metadata, &b.set.metadata);
        // The largest come first; among equals the newest grow and the oldest shrink.
        b.size().cmp(&a.size()).then(if to_add > 0 { age.reverse() } else { age })
    });
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(sets.len());
    for set in &sets {
        let share = size::share(&deployment, &set.set, to_add, added);
        added = i32::saturating_add(added, share);
        sizes.push(set.size().saturating_add(share));
    }
    for (at, (set, size)) in sets.into_iter().zip(sizes).enumerate() {
        // What rounding left over goes to the largest.
        let leftover = if at == 0 && to_add != 0 { to_add.saturating_sub(added) } else { 0 };
        Work::resize(&deployment, set, size.saturating_add(leftover).max(0));
    }
}
