//! The facts of `facts.txt`: how the lists and maps of the built-in types merge.
//!
//! ```
//! use rkube_api::fields::facts::{fact, Shape};
//! let containers = fact("io.k8s.api.core.v1.PodSpec", "containers").expect("a fact");
//! assert_eq!(containers.shape, Some(Shape::Map(vec!["name".into()])));
//! assert_eq!(containers.patch.merge_key.as_deref(), Some("name"));
//! ```

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::schema::Patch;

/// How a list, map or object merges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As one value.
    Atomic,
    /// Entry by entry, against what its type says.
    Granular,
    /// A list whose items are their own keys.
    Set,
    /// A list whose items have these keys.
    Map(Vec<String>),
}

/// What is known of a field beside its type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fact {
    /// How it merges.
    pub shape: Option<Shape>,
    /// How a strategic merge patch treats it.
    pub patch: Patch,
    /// Its value where it is left out; `{}` is an object that is always there.
    pub default: Option<Value>,
}

type Facts = BTreeMap<&'static str, BTreeMap<&'static str, Fact>>;

static FACTS: LazyLock<Facts> = LazyLock::new(|| {
    let mut facts = Facts::new();
    let mut type_name = "";
    for line in include_str!("facts.txt").lines().filter(|l| !l.starts_with('#')) {
        match line.strip_prefix("  ") {
            None => type_name = line,
            Some(line) => {
                let (field, rest) = line.split_once(' ').unwrap_or((line, ""));
                merge(facts.entry(type_name).or_default().entry(field).or_default(), rest);
            }
        }
    }
    facts
});

fn merge(fact: &mut Fact, text: &str) {
    let mut words = text.split(' ');
    let list = |s: &str| s.split(',').map(str::to_string).collect::<Vec<_>>();
    match words.next() {
        Some("atomic") => fact.shape = Some(Shape::Atomic),
        Some("granular") => fact.shape = Some(Shape::Granular),
        Some("set") => fact.shape = Some(Shape::Set),
        Some("map") => fact.shape = words.next().map(|keys| Shape::Map(list(keys))),
        Some("default") => {
            fact.default = words.next().map(|text| match text {
                "{}" => Value::Object(Default::default()),
                text => Value::String(text.to_string()),
            })
        }
        _ => {}
    }
    if let Some(patch) = words.next() {
        let (strategies, key) = patch.split_once('=').map_or((patch, None), |(s, k)| (s, Some(k)));
        for strategy in strategies.split(',') {
            match strategy {
                "merge" => fact.patch.merge = true,
                "replace" => fact.patch.replace = true,
                "retainKeys" => fact.patch.retain_keys = true,
                _ => {}
            }
        }
        fact.patch.merge_key = key.map(str::to_string);
    }
}

/// What is known of a type's field; `.` is the type itself.
#[must_use]
pub fn fact(type_name: &str, field: &str) -> Option<&'static Fact> {
    FACTS.get(type_name)?.get(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_says_something() {
        for (name, fields) in FACTS.iter() {
            for (field, fact) in fields {
                assert_ne!(fact, &Fact::default(), "{name}.{field}");
            }
        }
        assert!(FACTS.len() > 150, "{}", FACTS.len());
    }

    #[test]
    fn some_facts() {
        let pod = "io.k8s.api.core.v1.PodSpec";
        let volumes = fact(pod, "volumes").unwrap();
        assert!(volumes.patch.merge && volumes.patch.retain_keys);
        assert_eq!(fact(pod, "tolerations").unwrap().shape, Some(Shape::Atomic));
        let strategy = fact("io.k8s.api.apps.v1.DeploymentSpec", "strategy").unwrap();
        assert_eq!((strategy.shape.clone(), strategy.patch.retain_keys), (None, true));
        let ports = fact("io.k8s.api.core.v1.Container", "ports").unwrap();
        assert_eq!(ports.shape, Some(Shape::Map(vec!["containerPort".into(), "protocol".into()])));
        assert_eq!(ports.patch.merge_key.as_deref(), Some("containerPort"));
        assert_eq!(fact("io.k8s.api.core.v1.ServicePort", "protocol").unwrap().default, Some("TCP".into()));
    }
}
