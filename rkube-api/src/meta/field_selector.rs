//! Field selectors: `spec.nodeName=a,status.phase!=Running`, with `\` escaping `\`, `,` and `=`.
//!
//! ```
//! use rkube_api::meta::FieldSelector;
//! let selector = FieldSelector::parse("spec.nodeName=n1,status.phase!=Failed")?;
//! assert!(selector.matches(|path| match path {
//!     "spec.nodeName" => Some("n1".into()),
//!     _ => None,
//! }));
//! # Ok::<(), rkube_api::meta::field_selector::FieldSelectorError>(())
//! ```

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Is the value to be equal or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `=` or `==`
    Equal,
    /// `!=`
    NotEqual,
}

/// One term of a selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The field, such as `spec.nodeName`.
    pub path: String,
    /// How to compare.
    pub op: Operator,
    /// With what.
    pub value: String,
}

/// Terms that must all hold; none matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    /// The terms, sorted by their text as upstream sorts them.
    pub requirements: Vec<Requirement>,
}

/// Why a text is no field selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    /// A term has no operator.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term {
        /// The whole text.
        selector: String,
        /// The term.
        term: String,
    },
    /// A `\` before something that needs none.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A `,` or `=` without a `\`. Upstream shows its code point.
    #[error("invalid field selector: unescaped character in value: {}", *.0 as u32)]
    Unescaped(char),
}

impl FieldSelector {
    /// Reads a selector; an empty text matches everything.
    pub fn parse(text: &str) -> Result<Self, FieldSelectorError> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let requirements = terms
            .into_iter()
            .filter(|term| !term.is_empty())
            .map(|term| {
                let (path, op, value) = split_term(term).ok_or_else(|| FieldSelectorError::Term {
                    selector: text.to_string(),
                    term: term.to_string(),
                })?;
                Ok(Requirement { path: path.to_string(), op, value: unescape(value)? })
            })
            .collect::<Result<_, _>>()?;
        Ok(FieldSelector { requirements })
    }

    /// A selector of one equality.
    pub fn equal(path: impl Into<String>, value: impl Into<String>) -> Self {
        let requirement = Requirement { path: path.into(), op: Operator::Equal, value: value.into() };
        FieldSelector { requirements: vec![requirement] }
    }

    /// Does it match everything?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Do the fields match? A field that is absent counts as empty.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<Cow<'a, str>>) -> bool {
        self.requirements.iter().all(|r| {
            let equal = field(&r.path).as_deref().unwrap_or_default() == r.value;
            equal == (r.op == Operator::Equal)
        })
    }

    /// The one value that the field must have, if there is one.
    #[must_use]
    pub fn exact(&self, path: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.path == path && r.op == Operator::Equal).map(|r| r.value.as_str())
    }
}

impl FromStr for FieldSelector {
    type Err = FieldSelectorError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        FieldSelector::parse(text)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let op = if r.op == Operator::Equal { "=" } else { "!=" };
            write!(f, "{comma}{}{op}{}", r.path, escape(&r.value))?;
        }
        Ok(())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, Operator, &str)> {
    let at = term
        .char_indices()
        .find_map(|(i, c)| (c == '=' || (c == '!' && term[i + 1..].starts_with('='))).then_some(i))?;
    let (path, rest) = term.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((path, Operator::NotEqual, value));
    }
    let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
    Some((path, Operator::Equal, value))
}

fn unescape(text: &str) -> Result<String, FieldSelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(FieldSelectorError::Escape(format!("\\{c}"))),
                None => return Err(FieldSelectorError::Escape("\\".to_string())),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(c)),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn escape(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', ',', '=']) {
        return value.into();
    }
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_and_prints() {
        for (text, want) in [
            ("", ""),
            ("a=b", "a=b"),
            ("a==b", "a=b"),
            ("c!=d,a=b", "a=b,c!=d"),
            (",a=b,", "a=b"),
            ("a=", "a="),
            (r"a=b\,c\=\\", r"a=b\,c\=\\"),
            ("=x", "=x"),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn refusals() {
        for (text, want) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            (r"a=\n", r"invalid field selector: invalid escape sequence: \n"),
            (r"a=\", r"invalid field selector: invalid escape sequence: \"),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn matching() {
        let field = |path: &str| (path == "a").then_some(Cow::Borrowed("1"));
        for (text, want) in [("a=1", true), ("a!=1", false), ("b=", true), ("b!=x", true), ("a=1,b=2", false)]
        {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(field), want, "{text}");
        }
        assert_eq!(FieldSelector::parse("b!=2,a=1").unwrap().exact("a"), Some("1"));
    }

    proptest! {
        #[test]
        fn any_value_survives_the_text(value in r"[a-z\\,=é ]{0,12}", not: bool) {
            let op = if not { Operator::NotEqual } else { Operator::Equal };
            let s = FieldSelector { requirements: vec![Requirement { path: "x.y".into(), op, value }] };
            prop_assert_eq!(FieldSelector::parse(&s.to_string()).unwrap(), s);
        }

        /// Against a plain table of which pairs of field and value are wanted.
        #[test]
        fn it_matches_as_a_table_says(
            fields in prop::collection::btree_map("[abc]", "[xy]?", 0..4),
            terms in prop::collection::vec(("[abc]", any::<bool>(), "[xy]?"), 0..5),
        ) {
            let text = terms.iter().map(|(path, not, value)| {
                format!("{path}{}{value}", if *not { "!=" } else { "==" })
            });
            let selector = FieldSelector::parse(&text.collect::<Vec<_>>().join(",")).unwrap();
            let mut wanted = true;
            for (path, not, value) in &terms {
                let now = fields.get(path).cloned().unwrap_or_default();
                wanted &= (now == *value) != *not;
            }
            let found = selector.matches(|path| fields.get(path).map(|value| Cow::Borrowed(value.as_str())));
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,24}") {
            let _ = FieldSelector::parse(&text);
        }
    }
}
