//! Where a pod must run, by its `nodeSelector` and required node affinity.

use k8s_openapi::api::core::v1::PodSpec;

use super::{CompiledTerm, CompiledTerms};
use crate::snapshot::{NodeView, PodInfo, Snapshot};

/// A pod's own demands on its node, compiled against one snapshot; valid until the snapshot changes.
///
/// ```
/// use std::sync::Arc;
/// use rkube_sched::{matching::RequiredNodes, snapshot::{PodInfo, Snapshot}};
///
/// let snapshot = Snapshot::default();
/// let anywhere = RequiredNodes::of(&PodInfo::new(Arc::default()), &snapshot);
/// assert!(anywhere.is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct RequiredNodes {
    selector: Option<CompiledTerm>,
    terms: Option<CompiledTerms>,
}

impl RequiredNodes {
    /// What a pod demands.
    pub fn of(pod: &PodInfo, snapshot: &Snapshot) -> Self {
        Self::of_spec(pod.spec(), snapshot)
    }

    /// What a pod of this spec demands.
    pub(crate) fn of_spec(spec: Option<&PodSpec>, snapshot: &Snapshot) -> Self {
        let affinity = spec.and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
        let required = affinity
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        Self {
            selector: spec
                .and_then(|spec| spec.node_selector.as_ref())
                .map(|labels| CompiledTerm::of_labels(labels, snapshot)),
            terms: required.map(|selector| CompiledTerms::new(&selector.node_selector_terms, snapshot)),
        }
    }

    /// Whether it demands nothing.
    pub fn is_empty(&self) -> bool {
        self.selector.is_none() && self.terms.is_none()
    }

    /// Whether it may run on a node.
    pub fn matches(&self, node: NodeView<'_>) -> bool {
        self.selector.as_ref().is_none_or(|term| term.matches(node))
            && self.terms.as_ref().is_none_or(|terms| terms.matches(node))
    }
}
