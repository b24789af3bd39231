//! Node selectors and node affinity, compiled once a pod and matched against many nodes.
//!
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/>
//!
//! ```
//! use k8s_openapi::api::core::v1::PodSpec;
//! use rkube_api::helpers::affinity::RequiredNodeAffinity;
//! let spec = PodSpec { node_selector: Some([("disk".to_string(), "ssd".to_string())].into()), ..Default::default() };
//! let required = RequiredNodeAffinity::of(&spec);
//! assert!(required.matches("n1", Some(&[("disk".to_string(), "ssd".to_string())].into())));
//! assert!(!required.matches("n2", None));
//! ```

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, PreferredSchedulingTerm,
};

use crate::meta::LabelSelector;
use crate::meta::labels::{Operator, Requirement};

type Labels = BTreeMap<String, String>;

/// Where a pod must run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredNodeAffinity {
    labels: LabelSelector,
    // Absent: any node. Empty: none.
    terms: Option<Vec<Term>>,
}

impl RequiredNodeAffinity {
    /// What a pod requires: its node selector and its required node affinity.
    #[must_use]
    pub fn of(spec: &PodSpec) -> Self {
        let selector = spec
            .affinity
            .as_ref()
            .and_then(|a| a.node_affinity.as_ref())
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        RequiredNodeAffinity {
            labels: spec.node_selector.as_ref().map(LabelSelector::from_map).unwrap_or_default(),
            terms: selector.map(terms),
        }
    }

    /// What a node selector by itself requires (a volume's node affinity).
    #[must_use]
    pub fn of_selector(selector: &NodeSelector) -> Self {
        RequiredNodeAffinity { labels: LabelSelector::everything(), terms: Some(terms(selector)) }
    }

    /// Does it leave every node allowed?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_everything() && self.terms.is_none()
    }

    /// May it run on a node of this name and these labels?
    #[must_use]
    pub fn matches(&self, name: &str, labels: Option<&Labels>) -> bool {
        self.labels.matches_opt(labels)
            && self.terms.as_ref().is_none_or(|terms| terms.iter().any(|t| t.matches(name, labels)))
    }

    /// May it run on this node?
    #[must_use]
    pub fn matches_node(&self, node: &Node) -> bool {
        self.matches(node.metadata.name.as_deref().unwrap_or_default(), node.metadata.labels.as_ref())
    }

    /// The only nodes it may run on, if its terms name them all; a pod of a DaemonSet names one.
    #[must_use]
    pub fn node_names(&self) -> Option<Vec<&str>> {
        let terms = self.terms.as_ref()?;
        let named = terms.iter().filter(|t| t.valid).map(|term| {
            term.fields.iter().find(|f| f.field == FieldName::Name && f.equal).map(|f| f.value.as_str())
        });
        named.collect()
    }
}

/// Where a pod would rather run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreferredNodeAffinity {
    terms: Vec<(i64, Term)>,
}

impl PreferredNodeAffinity {
    /// What a pod prefers.
    #[must_use]
    pub fn of(spec: &PodSpec) -> Self {
        let preferred = spec
            .affinity
            .as_ref()
            .and_then(|a| a.node_affinity.as_ref())
            .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
        Self::of_terms(preferred.unwrap_or_default())
    }

    /// Of terms; those that weigh nothing, say nothing or can't be read count for nothing.
    #[must_use]
    pub fn of_terms(terms: &[PreferredSchedulingTerm]) -> Self {
        let counts = |t: &&PreferredSchedulingTerm| t.weight != 0 && !is_empty(&t.preference);
        let compiled = terms.iter().filter(counts).map(|t| (i64::from(t.weight), Term::of(&t.preference)));
        PreferredNodeAffinity { terms: compiled.filter(|(_, term)| term.valid).collect() }
    }

    /// Does it prefer nothing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The sum of the weights of all terms that match.
    #[must_use]
    pub fn score(&self, name: &str, labels: Option<&Labels>) -> i64 {
        self.terms.iter().filter(|(_, term)| term.matches(name, labels)).map(|(weight, _)| weight).sum()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldName {
    Name,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldTerm {
    field: FieldName,
    equal: bool,
    value: String,
}

/// One term: all its expressions and fields must match.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    labels: LabelSelector,
    fields: Vec<FieldTerm>,
    // A term that can't be read matches nothing.
    valid: bool,
}

fn is_empty(term: &NodeSelectorTerm) -> bool {
    term.match_expressions.as_ref().is_none_or(Vec::is_empty)
        && term.match_fields.as_ref().is_none_or(Vec::is_empty)
}

/// Empty terms match nothing, so they are left out.
fn terms(selector: &NodeSelector) -> Vec<Term> {
    selector.node_selector_terms.iter().filter(|t| !is_empty(t)).map(Term::of).collect()
}

impl Term {
    fn of(term: &NodeSelectorTerm) -> Self {
        let labels: Option<Vec<Requirement>> =
            term.match_expressions.iter().flatten().map(label_requirement).collect();
        let fields: Option<Vec<FieldTerm>> = term.match_fields.iter().flatten().map(field_term).collect();
        let valid = labels.is_some() && fields.is_some();
        Term {
            labels: LabelSelector::new(labels.unwrap_or_default()),
            fields: fields.unwrap_or_default(),
            valid,
        }
    }

    fn matches(&self, name: &str, labels: Option<&Labels>) -> bool {
        let field = |f: &FieldTerm| {
            let value = if f.field == FieldName::Name { name } else { "" };
            (value == f.value) == f.equal
        };
        self.valid && self.labels.matches_opt(labels) && (name.is_empty() || self.fields.iter().all(field))
    }
}

fn label_requirement(r: &NodeSelectorRequirement) -> Option<Requirement> {
    let op = Operator::from_api(&r.operator)?;
    Requirement::new(&r.key, op, r.values.iter().flatten()).ok()
}

fn field_term(r: &NodeSelectorRequirement) -> Option<FieldTerm> {
    let equal = match r.operator.as_str() {
        "In" => true,
        "NotIn" => false,
        _ => return None,
    };
    let [value] = r.values.as_deref().unwrap_or_default() else { return None };
    let field = if r.key == "metadata.name" { FieldName::Name } else { FieldName::Other };
    Some(FieldTerm { field, equal, value: value.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn required(terms: Value) -> RequiredNodeAffinity {
        let spec = json!({"containers": [], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        RequiredNodeAffinity::of(&serde_json::from_value(spec).unwrap())
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"key": key, "operator": operator, "values": values})
    }

    #[test]
    fn terms_are_alternatives_and_their_parts_all_hold() {
        let labels: Labels =
            [("zone".to_string(), "a".to_string()), ("cpus".to_string(), "8".to_string())].into();
        let name = |op: &str, value: &str| expression("metadata.name", op, &[value]);
        for (terms, want) in [
            (json!([{"matchExpressions": [expression("zone", "In", &["a", "b"])]}]), true),
            (json!([{"matchExpressions": [expression("zone", "NotIn", &["a"])]}]), false),
            (
                json!([{"matchExpressions": [expression("cpus", "Gt", &["4"]), expression("cpus", "Lt", &["9"])]}]),
                true,
            ),
            (
                json!([{"matchExpressions": [expression("x", "Exists", &[])]}, {"matchFields": [name("In", "n1")]}]),
                true,
            ),
            (json!([{"matchFields": [name("NotIn", "n1")]}]), false),
            (
                json!([{"matchExpressions": [expression("zone", "In", &["a"])], "matchFields": [name("In", "n2")]}]),
                false,
            ),
            // Empty terms and those that can't be read match nothing.
            (json!([{}]), false),
            (json!([]), false),
            (json!([{"matchExpressions": [expression("zone", "Like", &["a"])]}]), false),
            (json!([{"matchFields": [expression("metadata.name", "In", &["n1", "n2"])]}]), false),
            (
                json!([{"matchExpressions": [expression("cpus", "Gt", &["x"])]}, {"matchFields": [name("In", "n1")]}]),
                true,
            ),
        ] {
            assert_eq!(required(terms.clone()).matches("n1", Some(&labels)), want, "{terms}");
        }
    }

    #[test]
    fn selector_and_affinity_both_hold() {
        let spec: PodSpec = serde_json::from_value(json!({"containers": [], "nodeSelector": {"a": "1"},
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [expression("metadata.name", "In", &["n1"])]}]}}}}))
        .unwrap();
        let required = RequiredNodeAffinity::of(&spec);
        let a: Labels = [("a".to_string(), "1".to_string())].into();
        assert!(required.matches("n1", Some(&a)));
        assert!(!required.matches("n1", None) && !required.matches("n2", Some(&a)));
        assert_eq!(required.node_names(), Some(vec!["n1"]));
        assert!(RequiredNodeAffinity::of(&PodSpec::default()).is_empty());
        let mut node = Node::default();
        node.metadata.name = Some("n1".into());
        node.metadata.labels = Some(a);
        assert!(required.matches_node(&node));
    }

    #[test]
    fn preferences_add_up() {
        let terms: Vec<PreferredSchedulingTerm> = serde_json::from_value(json!([
            {"weight": 3, "preference": {"matchExpressions": [expression("a", "Exists", &[])]}},
            {"weight": 4, "preference": {"matchExpressions": [expression("b", "DoesNotExist", &[])]}},
            {"weight": 9, "preference": {}},
            {"weight": 9, "preference": {"matchExpressions": [expression("a", "Like", &[])]}},
        ]))
        .unwrap();
        let preferred = PreferredNodeAffinity::of_terms(&terms);
        assert_eq!(preferred.score("n", Some(&[("a".to_string(), String::new())].into())), 7);
        assert_eq!(preferred.score("n", Some(&[("b".to_string(), String::new())].into())), 0);
        assert!(PreferredNodeAffinity::of(&PodSpec::default()).is_empty());
    }
}
