//! Label selectors: the text of a query (`a=b,c in (d,e),!f`), `metav1.LabelSelector`, and the operators
//! of node affinity, compiled to one type.
//!
//! Validation happens once, when a requirement is made; matching allocates nothing.
//!
//! ```
//! use rkube_api::meta::LabelSelector;
//! let labels = [("app".to_string(), "web".to_string())].into();
//! assert!(LabelSelector::parse("app=web,tier!=db")?.matches(&labels));
//! assert!(!LabelSelector::parse("!app")?.matches(&labels));
//! assert_eq!(LabelSelector::parse("c, a in (y,x)")?.to_string(), "a in (x,y),c");
//! # Ok::<(), rkube_api::meta::labels::LabelSelectorError>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector;

use super::names;
use super::validation::{ErrorList, FieldError, FieldPath, go_quoted};

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// The value is one of those given.
    In,
    /// The label is absent, or its value none of those given.
    NotIn,
    /// `=`: In with one value.
    Equals,
    /// `==`: the same, written twice.
    DoubleEquals,
    /// `!=`: NotIn with one value.
    NotEquals,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The value is a greater number.
    Gt,
    /// The value is a smaller number.
    Lt,
}

impl Operator {
    /// The operator of a `matchExpressions` entry, `Gt` and `Lt` of node affinity among them.
    #[must_use]
    pub fn from_api(text: &str) -> Option<Self> {
        Some(match text {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt,
            "Lt" => Operator::Lt,
            _ => return None,
        })
    }
}

/// Why something is no label selector. The texts are those that Kubernetes shows.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LabelSelectorError {
    /// A key, value or their number is wrong.
    #[error("{0}")]
    Requirement(ErrorList),
    /// The text can't be read.
    #[error("{0}")]
    Syntax(String),
    /// The text has a requirement that can't be read or isn't valid.
    #[error("unable to parse requirement: {0}")]
    In(Box<LabelSelectorError>),
    /// The operator of a `matchExpressions` entry is unknown.
    #[error("{} is not a valid label selector operator", go_quoted(.0))]
    Operator(String),
}

/// One term of a selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: String,
    op: Operator,
    // Sorted, each once.
    values: Vec<String>,
}

impl Requirement {
    /// A checked requirement.
    pub fn new(
        key: impl Into<String>,
        op: Operator,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, LabelSelectorError> {
        let key = key.into();
        let mut values: Vec<String> = values.into_iter().map(Into::into).collect();
        let mut errors = ErrorList::new();
        check_key(&key, &FieldPath::new("key"), &mut errors);
        check_values(&key, op, &values, &mut errors);
        errors.into_result().map_err(LabelSelectorError::Requirement)?;
        values.sort_unstable();
        values.dedup();
        Ok(Requirement { key, op, values })
    }

    /// The label's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How it is compared.
    #[must_use]
    pub const fn op(&self) -> Operator {
        self.op
    }

    /// The values, sorted.
    #[must_use]
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Does a label with this value, or its absence, satisfy it?
    #[must_use]
    pub fn matches_value(&self, value: Option<&str>) -> bool {
        let has = |v: &str| self.values.iter().any(|x| x == v);
        match (self.op, value) {
            (Operator::In | Operator::Equals | Operator::DoubleEquals, Some(v)) => has(v),
            (Operator::NotIn | Operator::NotEquals, Some(v)) => !has(v),
            (Operator::NotIn | Operator::NotEquals, None) => true,
            (Operator::Exists, v) => v.is_some(),
            (Operator::DoesNotExist, v) => v.is_none(),
            (Operator::Gt, Some(v)) => self.compare(v).is_some_and(|(is, wanted)| is > wanted),
            (Operator::Lt, Some(v)) => self.compare(v).is_some_and(|(is, wanted)| is < wanted),
            (_, None) => false,
        }
    }

    fn compare(&self, value: &str) -> Option<(i64, i64)> {
        Some((value.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

pub(super) fn check_key(key: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let messages = names::qualified_name(key);
    if !messages.is_empty() {
        errors.push(FieldError::invalid(path, key, messages.join("; ")));
    }
}

fn check_values(key: &str, op: Operator, values: &[String], errors: &mut ErrorList) {
    let path = FieldPath::new("values");
    let complaint = match op {
        Operator::In | Operator::NotIn if values.is_empty() => {
            Some("for 'in', 'notin' operators, values set can't be empty")
        }
        Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
            Some("exact-match compatibility requires one single value")
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            Some("values set must be empty for exists and does not exist")
        }
        Operator::Gt | Operator::Lt if values.len() != 1 => {
            Some("for 'Gt', 'Lt' operators, exactly one value is required")
        }
        _ => None,
    };
    if let Some(complaint) = complaint {
        errors.push(FieldError::invalid(&path, values, complaint));
    }
    for (i, value) in values.iter().enumerate() {
        if matches!(op, Operator::Gt | Operator::Lt) && value.parse::<i64>().is_err() {
            let complaint = "for 'Gt', 'Lt' operators, the value must be an integer";
            errors.push(FieldError::invalid(&path.index(i), value, complaint));
        }
    }
    for (i, value) in values.iter().enumerate() {
        let messages = names::label_value(value);
        if !messages.is_empty() {
            errors.push(FieldError::invalid(&path.index(i).key(key), value, messages.join("; ")));
        }
    }
}

/// Requirements that must all hold; none matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    // Sorted by key.
    requirements: Vec<Requirement>,
    // An absent `metav1.LabelSelector` matches nothing.
    nothing: bool,
}

impl LabelSelector {
    /// Matches everything.
    #[must_use]
    pub const fn everything() -> Self {
        LabelSelector { requirements: Vec::new(), nothing: false }
    }

    /// Matches nothing.
    #[must_use]
    pub const fn nothing() -> Self {
        LabelSelector { requirements: Vec::new(), nothing: true }
    }

    /// Of requirements.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let mut requirements: Vec<Requirement> = requirements.into_iter().collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        LabelSelector { requirements, nothing: false }
    }

    /// Reads the text of a query parameter; an empty one matches everything.
    pub fn parse(text: &str) -> Result<Self, LabelSelectorError> {
        super::label_parser::parse(text).map(LabelSelector::new)
    }

    /// Compiles the API's selector: absent matches nothing, an empty one everything.
    pub fn from_api(selector: Option<&ApiSelector>) -> Result<Self, LabelSelectorError> {
        let Some(selector) = selector else { return Ok(LabelSelector::nothing()) };
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::Equals, [value])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let op = Operator::from_api(&expression.operator)
                .filter(|op| !matches!(op, Operator::Gt | Operator::Lt))
                .ok_or_else(|| LabelSelectorError::Operator(expression.operator.clone()))?;
            let values = expression.values.iter().flatten();
            requirements.push(Requirement::new(&expression.key, op, values)?);
        }
        Ok(LabelSelector::new(requirements))
    }

    /// A selector of equalities, taken as they are (a Service's or ReplicationController's, validated when
    /// it was written).
    #[must_use]
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        LabelSelector::new(labels.iter().map(|(key, value)| Requirement {
            key: key.clone(),
            op: Operator::Equals,
            values: vec![value.clone()],
        }))
    }

    /// The requirements, sorted by key.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Does it match everything?
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Does it match nothing, whatever the labels?
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// Do the labels match?
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Do an object's labels match, absent ones counting as none?
    #[must_use]
    pub fn matches_opt(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches_with(|key| labels?.get(key).map(String::as_str))
    }

    /// Does what the function looks up match?
    pub fn matches_with<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches_value(lookup(&r.key)))
    }

    /// The one value the label must have, if there is one.
    #[must_use]
    pub fn exact(&self, key: &str) -> Option<&str> {
        let requirement = self.requirements.iter().find(|r| r.key == key)?;
        match (requirement.op, &requirement.values[..]) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [one]) => Some(one),
            _ => None,
        }
    }
}

impl FromStr for LabelSelector {
    type Err = LabelSelectorError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        LabelSelector::parse(text)
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let values = self.values.join(",");
        match self.op {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Gt => write!(f, "{key}>{values}"),
            Operator::Lt => write!(f, "{key}<{values}"),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn texts_match() {
        let have = labels(&[("a", "1"), ("b", ""), ("n", "7")]);
        for (text, want) in [
            ("", true),
            ("a", true),
            ("!a", false),
            ("!c", true),
            ("a=1", true),
            ("a==1", true),
            ("a!=1", false),
            ("c!=1", true),
            ("a in (1,2)", true),
            ("a notin (1,2)", false),
            ("c notin (1)", true),
            ("c in (1)", false),
            ("b=", true),
            ("b in ()", true),
            ("n>6,n<8", true),
            ("n>7", false),
            ("a=1,n=8", false),
            ("b>1", false),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&have), want, "{text}");
        }
    }

    #[test]
    fn api_selectors() {
        assert!(LabelSelector::from_api(None).unwrap().is_nothing());
        assert!(LabelSelector::from_api(Some(&ApiSelector::default())).unwrap().is_everything());
        let expression = |key: &str, operator: &str, values: &[&str]| LabelSelectorRequirement {
            key: key.into(),
            operator: operator.into(),
            values: Some(values.iter().map(|s| s.to_string()).collect()),
        };
        let selector = ApiSelector {
            match_labels: Some(labels(&[("z", "1")])),
            match_expressions: Some(vec![
                expression("b", "NotIn", &["y", "x"]),
                expression("a", "Exists", &[]),
            ]),
        };
        let compiled = LabelSelector::from_api(Some(&selector)).unwrap();
        assert_eq!(compiled.to_string(), "a,b notin (x,y),z=1");
        assert_eq!(compiled.exact("z"), Some("1"));
        let bad = ApiSelector {
            match_expressions: Some(vec![expression("a", "Gt", &["1"])]),
            ..Default::default()
        };
        assert_eq!(
            LabelSelector::from_api(Some(&bad)).unwrap_err().to_string(),
            "\"Gt\" is not a valid label selector operator"
        );
        let bad =
            ApiSelector { match_expressions: Some(vec![expression("a", "In", &[])]), ..Default::default() };
        assert_eq!(
            LabelSelector::from_api(Some(&bad)).unwrap_err().to_string(),
            "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
        );
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        let ops = prop::sample::select(vec![
            Operator::In,
            Operator::NotIn,
            Operator::Equals,
            Operator::DoubleEquals,
            Operator::NotEquals,
            Operator::Exists,
            Operator::DoesNotExist,
            Operator::Gt,
            Operator::Lt,
        ]);
        (ops, "[abc]", prop::collection::vec("[0-3]", 1..4)).prop_map(|(op, key, mut values)| {
            match op {
                Operator::In | Operator::NotIn => {}
                Operator::Exists | Operator::DoesNotExist => values.clear(),
                _ => values.truncate(1),
            }
            Requirement::new(key, op, values).unwrap()
        })
    }

    // The slow model: each operator as its sentence in the documentation.
    fn model(r: &Requirement, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&r.key);
        let inside = value.is_some_and(|v| r.values.contains(v));
        let number = value.and_then(|v| v.parse::<i64>().ok());
        let wanted = r.values.first().and_then(|v| v.parse::<i64>().ok());
        match r.op {
            Operator::In | Operator::Equals | Operator::DoubleEquals => inside,
            Operator::NotIn | Operator::NotEquals => !inside,
            Operator::Exists => labels.contains_key(&r.key),
            Operator::DoesNotExist => !labels.contains_key(&r.key),
            Operator::Gt => number.zip(wanted).is_some_and(|(a, b)| a > b),
            Operator::Lt => number.zip(wanted).is_some_and(|(a, b)| a < b),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_model(
            rs in prop::collection::vec(requirement(), 0..4),
            have in prop::collection::btree_map("[abc]", "[0-3x]", 0..3),
        ) {
            let selector = LabelSelector::new(rs.clone());
            prop_assert_eq!(selector.matches(&have), rs.iter().all(|r| model(r, &have)));
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        }
    }
}
