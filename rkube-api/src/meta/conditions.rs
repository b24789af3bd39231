//! Conditions: what an object's status says of it, one entry a type.
//!
//! The transition time moves only when the status does (API conventions, "Typical status properties").
//!
//! ```
//! use k8s_openapi::api::core::v1::PodCondition;
//! use rkube_api::meta::conditions;
//! let ready = PodCondition { type_: "Ready".into(), status: "True".into(), ..Default::default() };
//! let mut list = Vec::new();
//! assert!(conditions::set(&mut list, ready.clone(), jiff::Timestamp::UNIX_EPOCH));
//! assert!(!conditions::set(&mut list, ready, jiff::Timestamp::MAX), "nothing new");
//! assert!(conditions::is_true(&list, "Ready"));
//! ```

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, ReplicaSetCondition};
use k8s_openapi::api::core::v1::{NamespaceCondition, NodeCondition, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What all condition types have.
pub trait ConditionLike: Clone + PartialEq {
    /// The type, such as `Ready`.
    fn kind(&self) -> &str;
    /// `True`, `False` or `Unknown`.
    fn status(&self) -> &str;
    /// When the status last changed.
    fn transition_time(&self) -> Option<&Time>;
    /// Notes when the status last changed.
    fn set_transition_time(&mut self, time: Option<Time>);
}

macro_rules! condition {
    ($type:ty) => {
        impl ConditionLike for $type {
            fn kind(&self) -> &str {
                &self.type_
            }
            fn status(&self) -> &str {
                &self.status
            }
            fn transition_time(&self) -> Option<&Time> {
                self.last_transition_time.as_ref()
            }
            fn set_transition_time(&mut self, time: Option<Time>) {
                self.last_transition_time = time;
            }
        }
    };
    ($type:ty, optional) => {
        impl ConditionLike for $type {
            fn kind(&self) -> &str {
                self.type_.as_deref().unwrap_or_default()
            }
            fn status(&self) -> &str {
                self.status.as_deref().unwrap_or_default()
            }
            fn transition_time(&self) -> Option<&Time> {
                self.last_transition_time.as_ref()
            }
            fn set_transition_time(&mut self, time: Option<Time>) {
                self.last_transition_time = time;
            }
        }
    };
}

condition!(PodCondition);
condition!(NodeCondition);
condition!(NamespaceCondition);
condition!(DeploymentCondition, optional);
condition!(ReplicaSetCondition, optional);

impl ConditionLike for Condition {
    fn kind(&self) -> &str {
        &self.type_
    }
    fn status(&self) -> &str {
        &self.status
    }
    fn transition_time(&self) -> Option<&Time> {
        Some(&self.last_transition_time)
    }
    fn set_transition_time(&mut self, time: Option<Time>) {
        self.last_transition_time = time.unwrap_or(Time(Timestamp::UNIX_EPOCH));
    }
}

/// The condition of a type.
pub fn get<'a, C: ConditionLike>(list: &'a [C], kind: &str) -> Option<&'a C> {
    list.iter().find(|c| c.kind() == kind)
}

/// Is the condition there and `True`?
pub fn is_true<C: ConditionLike>(list: &[C], kind: &str) -> bool {
    get(list, kind).is_some_and(|c| c.status() == "True")
}

/// Puts a condition in, and says whether anything changed. The transition time is `now` if the status
/// changed, what it was if not; the caller's own is used only for a condition that wasn't there.
pub fn set<C: ConditionLike>(list: &mut Vec<C>, mut condition: C, now: Timestamp) -> bool {
    let Some(at) = list.iter().position(|c| c.kind() == condition.kind()) else {
        if condition.transition_time().is_none_or(|t| t.0 == Timestamp::UNIX_EPOCH) {
            condition.set_transition_time(Some(Time(now)));
        }
        list.push(condition);
        return true;
    };
    let old = &list[at];
    let time =
        if old.status() == condition.status() { old.transition_time().cloned() } else { Some(Time(now)) };
    condition.set_transition_time(time);
    let changed = *old != condition;
    list[at] = condition;
    changed
}

/// Takes a condition out, and says whether it was there.
pub fn remove<C: ConditionLike>(list: &mut Vec<C>, kind: &str) -> bool {
    let before = list.len();
    list.retain(|c| c.kind() != kind);
    list.len() != before
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    /// What is done to a list of conditions: one is put in, or taken out.
    #[derive(Clone, Debug)]
    enum Step {
        Set { kind: String, status: &'static str, reason: String },
        Remove { kind: String },
    }

    fn step() -> impl Strategy<Value = Step> {
        let status = prop_oneof![Just("True"), Just("False"), Just("Unknown")];
        prop_oneof![
            4 => ("[AB]", status, "[xy]").prop_map(|(kind, status, reason)| Step::Set { kind, status, reason }),
            1 => "[AB]".prop_map(|kind| Step::Remove { kind }),
        ]
    }

    proptest! {
        /// Against a map from type to status, reason and the second of the last turn.
        #[test]
        fn a_list_is_a_map_that_remembers_turns(steps in prop::collection::vec(step(), 0..20)) {
            let (mut list, mut model) = (Vec::<PodCondition>::new(), BTreeMap::<String, (&str, String, i64)>::new());
            for (second, step) in (1_i64..).zip(steps) {
                let before = model.clone();
                let changed = match step {
                    Step::Remove { kind } => {
                        model.remove(&kind);
                        remove(&mut list, &kind)
                    }
                    Step::Set { kind, status, reason } => {
                        let turned = model.get(&kind).filter(|old| old.0 == status).map_or(second, |old| old.2);
                        model.insert(kind.clone(), (status, reason.clone(), turned));
                        let (type_, status, reason) = (kind, status.to_owned(), Some(reason));
                        set(&mut list, PodCondition { type_, status, reason, ..Default::default() }, at(second))
                    }
                };
                prop_assert_eq!(changed, model != before);
                prop_assert_eq!(list.len(), model.len());
                for (kind, (status, reason, turned)) in &model {
                    let found = get(&list, kind).unwrap();
                    prop_assert_eq!((found.status.as_str(), &found.reason), (*status, &Some(reason.clone())));
                    prop_assert_eq!(&found.last_transition_time, &Some(Time(at(*turned))));
                    prop_assert_eq!(is_true(&list, kind), *status == "True");
                }
            }
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_time_moves_with_the_status_alone() {
        let mut list: Vec<DeploymentCondition> = Vec::new();
        let mut c = DeploymentCondition {
            type_: Some("Available".into()),
            status: Some("True".into()),
            reason: Some("a".into()),
            ..Default::default()
        };
        assert!(set(&mut list, c.clone(), at(1)));
        assert!(!set(&mut list, c.clone(), at(2)));
        c.reason = Some("b".into());
        assert!(set(&mut list, c.clone(), at(3)));
        assert_eq!(list[0].last_transition_time, Some(Time(at(1))));
        c.status = Some("False".into());
        assert!(set(&mut list, c, at(4)));
        assert_eq!(list[0].last_transition_time, Some(Time(at(4))));
        assert!(!is_true(&list, "Available"));
        assert!(remove(&mut list, "Available") && !remove(&mut list, "Available"));
    }
}
