//! The query string: its parts, and the options of a request that they spell.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;

use crate::{
    error::{ApiError, Cause},
    request::{FieldValidation, Options, Verb, VersionMatch},
};

/// Undoes percent-encoding; `None` if it is malformed or no UTF-8. In a query, `+` is a blank.
pub(super) fn percent_decode(text: &str, plus_is_blank: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus_is_blank => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A parsed query string, in the order given. As in Kubernetes, of repeated keys the first counts, and
/// malformed pairs are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((percent_decode(key, true)?, percent_decode(value, true)?))
        });
        Self(pairs.collect())
    }

    /// The first value of `key`, if there is one.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    /// The first value of `key`, if there is one that is not empty.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.get(key).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// Every value of `key`.
    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    /// A boolean as Kubernetes reads one: present is true, unless it says `false` or `0`.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.get(key).map(|value| !(value.eq_ignore_ascii_case("false") || value == "0"))
    }

    fn number<N: std::str::FromStr>(&self, key: &str) -> Result<Option<N>, ApiError> {
        let Some(value) = self.get(key).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        value
            .parse()
            .map(Some)
            .map_err(|_| ApiError::bad_request(format!("{key}: parsing {value:?}: invalid syntax")))
    }
}

fn invalid(options: &str, field: &str, value: &str, supported: &[&str]) -> ApiError {
    let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
    ApiError::Invalid {
        group: "meta.k8s.io".into(),
        kind: options.into(),
        name: String::new(),
        causes: vec![Cause::new(
            "FieldValueNotSupported",
            field,
            format!("Unsupported value: {value:?}: supported values: {}", supported.join(", ")),
        )],
    }
}

/// The name of the type that Kubernetes reads a verb's options into; errors name it.
fn options_type(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GetOptions",
        Verb::List | Verb::Watch => "ListOptions",
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Patch => "PatchOptions",
        Verb::Delete | Verb::DeleteCollection => "DeleteOptions",
    }
}

fn version_match(query: &Query) -> Result<Option<VersionMatch>, ApiError> {
    match query.get("resourceVersionMatch") {
        None | Some("") => Ok(None),
        Some("Exact") => Ok(Some(VersionMatch::Exact)),
        Some("NotOlderThan") => Ok(Some(VersionMatch::NotOlderThan)),
        Some(other) => {
            Err(invalid("ListOptions", "resourceVersionMatch", other, &["Exact", "NotOlderThan", ""]))
        }
    }
}

fn dry_run(query: &Query, verb: Verb) -> Result<bool, ApiError> {
    let mut dry = false;
    for value in query.all("dryRun") {
        match value {
            "All" => dry = true,
            other => return Err(invalid(options_type(verb), "dryRun", other, &["All"])),
        }
    }
    Ok(dry)
}

fn field_validation(query: &Query, verb: Verb) -> Result<FieldValidation, ApiError> {
    match query.get("fieldValidation") {
        None | Some("" | "Warn") => Ok(FieldValidation::Warn),
        Some("Ignore") => Ok(FieldValidation::Ignore),
        Some("Strict") => Ok(FieldValidation::Strict),
        Some(other) => {
            Err(invalid(options_type(verb), "fieldValidation", other, &["", "Ignore", "Strict", "Warn"]))
        }
    }
}

/// The options that the query of a request spells.
pub(super) fn options(query: &Query, verb: Verb) -> Result<Options, ApiError> {
    let mut options = Options { pretty: query.flag("pretty").unwrap_or(false), ..Options::default() };
    if matches!(verb, Verb::Get | Verb::List | Verb::Watch | Verb::DeleteCollection) {
        options.resource_version = query.text("resourceVersion");
    }
    if matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection) {
        options.resource_version_match = version_match(query)?;
        options.label_selector = query.text("labelSelector");
        options.field_selector = query.text("fieldSelector");
        options.limit = query.number::<i64>("limit")?.map_or(0, |limit| u64::try_from(limit).unwrap_or(0));
        options.continue_token = query.text("continue");
        options.send_initial_events = query.flag("sendInitialEvents");
        options.allow_watch_bookmarks = query.flag("allowWatchBookmarks").unwrap_or(false);
        options.timeout = query
            .number::<i64>("timeoutSeconds")?
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs);
    }
    if verb.writes() {
        options.dry_run = dry_run(query, verb)?;
    }
    if matches!(verb, Verb::Create | Verb::Update | Verb::Patch) {
        options.field_manager = query.text("fieldManager");
        options.field_validation = field_validation(query, verb)?;
        options.force = verb == Verb::Patch && query.flag("force").unwrap_or(false);
    }
    Ok(options)
}

/// The delete options that the query spells, for a delete without a body.
pub(super) fn delete_options(query: &Query) -> Result<DeleteOptions, ApiError> {
    Ok(DeleteOptions {
        dry_run: dry_run(query, Verb::Delete)?.then(|| vec!["All".into()]),
        grace_period_seconds: query.number("gracePeriodSeconds")?,
        orphan_dependents: query.flag("orphanDependents"),
        propagation_policy: query.text("propagationPolicy"),
        ..DeleteOptions::default()
    })
}

/// How long the client gives a request: `timeout`, a Go duration (`32s`, `1m30s`, `500ms`).
pub(super) fn timeout(query: &Query) -> Result<Option<Duration>, ApiError> {
    let Some(text) = query.get("timeout").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let wrong = || ApiError::bad_request(format!("invalid timeout specified in the request URL: {text:?}"));
    if let Ok(seconds) = text.parse::<u32>() {
        // client-go's old form: plain seconds.
        return Ok((seconds > 0).then(|| Duration::from_secs(seconds.into())));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[unit..];
    }
    Ok((!total.is_zero()).then_some(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &str, verb: Verb) -> Result<Options, ApiError> {
        options(&Query::parse(query), verb)
    }

    #[test]
    fn percent_encoding_is_undone_once() {
        assert_eq!(percent_decode("a%2Fb%20c+d", false).as_deref(), Some("a/b c+d"));
        assert_eq!(percent_decode("a+b%2B", true).as_deref(), Some("a b+"));
        assert_eq!(percent_decode("%252e", false).as_deref(), Some("%2e"));
        for malformed in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decode(malformed, false), None);
        }
    }

    #[test]
    fn options_follow_the_verb() {
        let list = parsed("limit=5&continue=t&labelSelector=a%3Db&watch=1", Verb::List).unwrap();
        assert_eq!((list.limit, list.continue_token.as_deref()), (5, Some("t")));
        assert_eq!(list.label_selector.as_deref(), Some("a=b"));
        let watch = parsed("timeoutSeconds=7&allowWatchBookmarks=true&sendInitialEvents=false", Verb::Watch);
        let watch = watch.unwrap();
        assert_eq!(watch.timeout, Some(Duration::from_secs(7)));
        assert_eq!((watch.allow_watch_bookmarks, watch.send_initial_events), (true, Some(false)));
        let patch =
            parsed("force=true&fieldManager=me&dryRun=All&fieldValidation=Strict", Verb::Patch).unwrap();
        assert!(patch.force && patch.dry_run);
        assert_eq!(patch.field_validation, FieldValidation::Strict);
        assert_eq!(parsed("", Verb::Create).unwrap().field_validation, FieldValidation::Warn);
    }

    #[test]
    fn bad_options_are_refused_as_kubernetes_does() {
        for (query, verb, code) in [
            ("limit=x", Verb::List, 400),
            ("timeoutSeconds=soon", Verb::Watch, 400),
            ("resourceVersionMatch=Near", Verb::List, 422),
            ("dryRun=Some", Verb::Create, 422),
            ("fieldValidation=Lax", Verb::Update, 422),
        ] {
            assert_eq!(parsed(query, verb).unwrap_err().code(), code, "{query}");
        }
    }

    #[test]
    fn timeouts_are_go_durations() {
        let read = |text: &str| timeout(&Query::parse(text));
        assert_eq!(read("timeout=32s").unwrap(), Some(Duration::from_secs(32)));
        assert_eq!(read("timeout=1m30s").unwrap(), Some(Duration::from_secs(90)));
        assert_eq!(read("timeout=1.5h").unwrap(), Some(Duration::from_secs(5400)));
        assert_eq!(read("timeout=0s").unwrap(), None);
        assert!(read("timeout=never").is_err() && read("timeout=-5s").is_err());
    }
}
