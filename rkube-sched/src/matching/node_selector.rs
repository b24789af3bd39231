//! Node selector terms compiled against a snapshot's numbers. What they mean is what
//! [`rkube_api::helpers::affinity`] says they mean; a property holds the two together.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use rkube_api::meta::labels::{Operator, Requirement};

use crate::snapshot::{Interner, NodeView, Snapshot};

/// The one field that node selectors know.
const NAME_FIELD: &str = "metadata.name";

/// If every term names its nodes: those names. The terms then match no other node.
pub fn required_node_names(terms: &[NodeSelectorTerm]) -> Option<BTreeSet<&str>> {
    let mut names = BTreeSet::new();
    for term in terms {
        let of_term = term.match_fields.iter().flatten();
        let of_term = of_term.filter(|field| field.key == NAME_FIELD && field.operator == "In");
        let sets = of_term
            .map(|field| field.values.iter().flatten().map(String::as_str).collect::<BTreeSet<&str>>());
        let both = sets.reduce(|a, b| a.intersection(&b).copied().collect())?;
        names.extend(both);
    }
    (!terms.is_empty()).then_some(names)
}

/// A label requirement by a snapshot's numbers.
#[derive(Clone, Debug)]
enum Test {
    In { key: u32, values: Vec<u32> },
    NotIn { key: u32, values: Vec<u32> },
    Exists(u32),
    Missing(u32),
    Above { key: u32, bound: i64 },
    Below { key: u32, bound: i64 },
    Name { name: String, listed: bool },
}

/// A term compiled against one snapshot; valid until the snapshot changes.
#[derive(Clone, Debug)]
pub struct CompiledTerm {
    /// `None`: it matches no node.
    tests: Option<Vec<Test>>,
}

/// Whether one requirement can be decided before any node is seen.
enum Compiled {
    Test(Test),
    Always,
    Never,
}

fn compile(requirement: &NodeSelectorRequirement, snapshot: &Snapshot) -> Compiled {
    // One that cannot be read matches nothing, whatever it seems to say.
    let readable = Operator::from_api(&requirement.operator).is_some_and(|operator| {
        Requirement::new(&requirement.key, operator, requirement.values.iter().flatten()).is_ok()
    });
    if !readable {
        return Compiled::Never;
    }
    let texts = requirement.values.as_deref().unwrap_or_default();
    let key = snapshot.label_keys().find(&requirement.key);
    let values = || {
        let known: &Interner<str> = snapshot.label_values();
        texts.iter().filter_map(|text| known.find(text)).collect::<Vec<_>>()
    };
    match (requirement.operator.as_str(), key) {
        ("In", Some(key)) => Compiled::Test(Test::In { key, values: values() }),
        ("NotIn", Some(key)) => Compiled::Test(Test::NotIn { key, values: values() }),
        ("Exists", Some(key)) => Compiled::Test(Test::Exists(key)),
        ("DoesNotExist", Some(key)) => Compiled::Test(Test::Missing(key)),
        ("NotIn" | "DoesNotExist", None) => Compiled::Always,
        (operator @ ("Gt" | "Lt"), Some(key)) => match texts {
            [bound] => match bound.parse() {
                Ok(bound) if operator == "Gt" => Compiled::Test(Test::Above { key, bound }),
                Ok(bound) => Compiled::Test(Test::Below { key, bound }),
                Err(_) => Compiled::Never,
            },
            _ => Compiled::Never,
        },
        _ => Compiled::Never,
    }
}

impl CompiledTerm {
    /// Compiles a term.
    pub fn new(term: &NodeSelectorTerm, snapshot: &Snapshot) -> Self {
        let fields = term.match_fields.as_deref().unwrap_or_default();
        let expressions = term.match_expressions.as_deref().unwrap_or_default();
        if fields.is_empty() && expressions.is_empty() {
            return Self { tests: None };
        }
        let mut tests = Vec::new();
        for field in fields {
            let listed = match field.operator.as_str() {
                "In" => true,
                "NotIn" => false,
                _ => return Self { tests: None },
            };
            let [name] = field.values.as_deref().unwrap_or_default() else {
                return Self { tests: None };
            };
            if field.key != NAME_FIELD {
                return Self { tests: None };
            }
            tests.push(Test::Name { name: name.clone(), listed });
        }
        for requirement in expressions {
            match compile(requirement, snapshot) {
                Compiled::Test(test) => tests.push(test),
                Compiled::Always => {}
                Compiled::Never => return Self { tests: None },
            }
        }
        Self { tests: Some(tests) }
    }

    /// Compiles a plain `nodeSelector`: every label must be there.
    pub fn of_labels(labels: &BTreeMap<String, String>, snapshot: &Snapshot) -> Self {
        let test = |(key, value): (&String, &String)| {
            let key = snapshot.label_keys().find(key)?;
            Some(Test::In { key, values: vec![snapshot.label_values().find(value)?] })
        };
        Self { tests: labels.iter().map(test).collect() }
    }

    /// Whether it matches a node.
    pub fn matches(&self, node: NodeView<'_>) -> bool {
        self.tests.as_ref().is_some_and(|tests| tests.iter().all(|test| test.holds(node)))
    }
}

impl Test {
    fn holds(&self, node: NodeView<'_>) -> bool {
        let labels = node.label_ids();
        let value = |key: u32| {
            let place = labels.binary_search_by_key(&key, |label| label.key).ok()?;
            Some(labels[place].value)
        };
        let number = |key: u32| node.snapshot().label_values().get(value(key)?)?.parse::<i64>().ok();
        match self {
            Self::In { key, values } => value(*key).is_some_and(|value| values.contains(&value)),
            Self::NotIn { key, values } => !value(*key).is_some_and(|value| values.contains(&value)),
            Self::Exists(key) => value(*key).is_some(),
            Self::Missing(key) => value(*key).is_none(),
            Self::Above { key, bound } => number(*key).is_some_and(|number| number > *bound),
            Self::Below { key, bound } => number(*key).is_some_and(|number| number < *bound),
            Self::Name { name, listed } => (name == node.name()) == *listed,
        }
    }
}

/// Terms of which any must match.
#[derive(Clone, Debug)]
pub struct CompiledTerms(Vec<CompiledTerm>);

impl CompiledTerms {
    /// Compiles them.
    pub fn new(terms: &[NodeSelectorTerm], snapshot: &Snapshot) -> Self {
        Self(terms.iter().map(|term| CompiledTerm::new(term, snapshot)).collect())
    }

    /// Whether any matches.
    pub fn matches(&self, node: NodeView<'_>) -> bool {
        self.0.iter().any(|term| term.matches(node))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::{Node, NodeSelector};
    use proptest::prelude::*;
    use rkube_api::helpers::affinity::RequiredNodeAffinity;
    use serde_json::json;

    use super::*;

    fn node(name: &str, labels: &BTreeMap<String, String>) -> Node {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap()
    }

    prop_compose! {
        fn requirement(keys: &'static [&'static str])(
            key in prop::sample::select(keys),
            operator in prop::sample::select(&["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "?"][..]),
            values in prop::collection::vec(prop::sample::select(&["1", "2", "7", "07", "x", "a"][..]), 0..3),
        ) -> NodeSelectorRequirement {
            NodeSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.into_iter().map(Into::into).collect()),
            }
        }
    }

    proptest! {
        #[test]
        fn compiled_terms_match_what_plain_terms_match(
            nodes in prop::collection::vec(prop::collection::btree_map("[ab]", "(1|2|7|07|x)", 0..3), 1..4),
            expressions in prop::collection::vec(requirement(&["a", "b", "c"]), 0..3),
            fields in prop::collection::vec(requirement(&["metadata.name", "spec"]), 0..2),
        ) {
            // Other operators than In and NotIn are refused for fields by validation.
            let fields = fields.into_iter().filter(|field| field.operator.ends_with("In")).collect();
            let term = NodeSelectorTerm { match_expressions: Some(expressions), match_fields: Some(fields) };
            // Without a field to test, only "metadata.name" is known: both refuse "spec".
            let known = term.match_fields.iter().flatten().all(|field| field.key == NAME_FIELD);
            prop_assume!(known);
            let mut snapshot = Snapshot::default();
            let nodes: Vec<Node> =
                nodes.iter().zip(["a", "x", "n"]).map(|(labels, name)| node(name, labels)).collect();
            for node in &nodes {
                snapshot.set_node(Arc::new(node.clone()));
            }
            let compiled = CompiledTerms::new(std::slice::from_ref(&term), &snapshot);
            let plain = RequiredNodeAffinity::of_selector(&NodeSelector { node_selector_terms: vec![term] });
            for node in &nodes {
                let id = snapshot.find(node.metadata.name.as_deref().unwrap()).unwrap();
                prop_assert_eq!(compiled.matches(snapshot.view(id)), plain.matches_node(node));
            }
        }
    }

    #[test]
    fn names_are_required_only_if_every_term_has_them() {
        let terms = |value| serde_json::from_value::<Vec<NodeSelectorTerm>>(value).unwrap();
        let named = |names: &[&str]| json!({"key": "metadata.name", "operator": "In", "values": names});
        let both = terms(json!([
            {"matchFields": [named(&["a", "b"]), named(&["b", "c"])]}, {"matchFields": [named(&["d"])]}
        ]));
        assert_eq!(required_node_names(&both), Some(BTreeSet::from(["b", "d"])));
        let exists = json!({"key": "k", "operator": "Exists"});
        let open = terms(json!([{"matchFields": [named(&["a"])]}, {"matchExpressions": [exists]}]));
        assert_eq!(required_node_names(&open), None);
        assert_eq!(required_node_names(&[]), None);
    }
}
