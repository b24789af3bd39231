//! Taints and tolerations: <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>
//!
//! ```
//! use k8s_openapi::api::core::v1::{Taint, Toleration};
//! use rkube_api::helpers::taints;
//! let taints = [Taint { key: "a".into(), value: Some("1".into()), effect: "NoSchedule".into(), ..Default::default() }];
//! assert!(taints::untolerated(&taints, &[], taints::keeps_pods_away).is_some());
//! let all = Toleration { operator: Some("Exists".into()), ..Default::default() };
//! assert!(taints::untolerated(&taints, &[all], taints::keeps_pods_away).is_none());
//! ```

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Effects of taints.
pub mod effect {
    /// New pods stay away.
    pub const NO_SCHEDULE: &str = "NoSchedule";
    /// New pods stay away if they can.
    pub const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";
    /// New pods stay away and running ones go.
    pub const NO_EXECUTE: &str = "NoExecute";
}

/// Does the toleration cover the taint? `Gt` and `Lt` compare whole numbers (KEP-5471).
#[must_use]
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |v: &Option<String>| v.clone().unwrap_or_default();
    let (effect, key, value) = (given(&toleration.effect), given(&toleration.key), given(&toleration.value));
    let has = taint.value.as_deref().unwrap_or_default();
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => value == has,
        "Exists" => true,
        "Lt" => whole(has).zip(whole(&value)).is_some_and(|(taint, bound)| taint < bound),
        "Gt" => whole(has).zip(whole(&value)).is_some_and(|(taint, bound)| taint > bound),
        _ => false,
    }
}

/// A whole number in its plain form: no plus, no leading zero.
fn whole(text: &str) -> Option<i64> {
    text.parse::<i64>().ok().filter(|n| n.to_string() == text)
}

/// Is the taint covered by any of them?
#[must_use]
pub fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|t| tolerates(t, taint))
}

/// The first of the taints that counts and isn't covered.
#[must_use]
pub fn untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    counts: impl Fn(&Taint) -> bool,
) -> Option<&'a Taint> {
    taints.iter().find(|taint| counts(taint) && !tolerated(taint, tolerations))
}

/// Does the taint keep new pods away?
#[must_use]
pub fn keeps_pods_away(taint: &Taint) -> bool {
    matches!(taint.effect.as_str(), effect::NO_SCHEDULE | effect::NO_EXECUTE)
}

/// Does the taint drive running pods out?
#[must_use]
pub fn drives_pods_out(taint: &Taint) -> bool {
    taint.effect == effect::NO_EXECUTE
}

/// Adds a taint, or replaces the one of its key and effect; says whether anything changed.
pub fn set(taints: &mut Vec<Taint>, taint: Taint) -> bool {
    match taints.iter_mut().find(|t| t.key == taint.key && t.effect == taint.effect) {
        Some(old) if old.value == taint.value => false,
        Some(old) => {
            *old = taint;
            true
        }
        None => {
            taints.push(taint);
            true
        }
    }
}

/// Takes out the taint of a key and effect; says whether it was there.
pub fn remove(taints: &mut Vec<Taint>, key: &str, effect: &str) -> bool {
    let before = taints.len();
    taints.retain(|t| t.key != key || t.effect != effect);
    taints.len() != before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str, value: &str, effect: &str) -> Taint {
        Taint { key: key.into(), value: Some(value.into()), effect: effect.into(), time_added: None }
    }

    fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
        let given = |s: &str| Some(s.to_string()).filter(|s| !s.is_empty());
        Toleration {
            key: given(key),
            operator: given(operator),
            value: given(value),
            effect: given(effect),
            toleration_seconds: None,
        }
    }

    #[test]
    fn table() {
        for (t, want) in [
            (toleration("k", "Equal", "5", "NoSchedule"), true),
            (toleration("k", "", "5", ""), true),
            (toleration("k", "Equal", "6", ""), false),
            (toleration("k", "Exists", "", ""), true),
            (toleration("", "Exists", "", ""), true),
            (toleration("", "Exists", "", "NoExecute"), false),
            (toleration("x", "Exists", "", ""), false),
            (toleration("k", "Gt", "4", ""), true),
            (toleration("k", "Gt", "5", ""), false),
            (toleration("k", "Lt", "6", ""), true),
            (toleration("k", "Lt", "06", ""), false),
            (toleration("k", "Lt", "x", ""), false),
            (toleration("k", "Like", "5", ""), false),
        ] {
            assert_eq!(tolerates(&t, &taint("k", "5", "NoSchedule")), want, "{t:?}");
        }
    }

    #[test]
    fn the_first_that_counts() {
        let taints =
            [taint("a", "", "PreferNoSchedule"), taint("b", "", "NoSchedule"), taint("c", "", "NoExecute")];
        let b = [toleration("b", "Exists", "", "")];
        assert_eq!(untolerated(&taints, &[], keeps_pods_away).unwrap().key, "b");
        assert_eq!(untolerated(&taints, &b, keeps_pods_away).unwrap().key, "c");
        assert!(untolerated(&taints[..2], &b, keeps_pods_away).is_none());
        assert!(drives_pods_out(&taints[2]) && !drives_pods_out(&taints[1]));
    }

    #[test]
    fn set_and_remove() {
        let mut list = Vec::new();
        assert!(set(&mut list, taint("a", "1", "NoSchedule")));
        assert!(!set(&mut list, taint("a", "1", "NoSchedule")));
        assert!(set(&mut list, taint("a", "2", "NoSchedule")) && list.len() == 1);
        assert!(remove(&mut list, "a", "NoSchedule") && !remove(&mut list, "a", "NoSchedule"));
    }
}
