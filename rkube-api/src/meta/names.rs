//! Names: which texts may name an object, a label, a port, a key; with the messages users see.
//!
//! Each check returns the messages of what is wrong, none if all is well.
//!
//! ```
//! use rkube_api::meta::names;
//! assert!(names::dns1123_subdomain("example.com").is_empty());
//! assert_eq!(names::dns1123_label("a.b"), ["must not contain dots"]);
//! ```

/// A name check: the name, and whether it is only a prefix (`generateName`).
pub type NameCheck = fn(&str, bool) -> Vec<String>;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

const LABEL_MSG: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const SUBDOMAIN_MSG: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const DNS1035_MSG: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
const QUALIFIED_MSG: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const LABEL_VALUE_MSG: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const CONFIG_KEY_MSG: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
const ENV_NAME_MSG: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const C_IDENTIFIER_MSG: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
const HTTP_HEADER_MSG: &str = "a valid HTTP header must consist of alphanumeric characters or '-'";

/// A message with examples and the pattern behind it.
fn pattern(message: &str, pattern: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

/// `must be between 1 and 65535, inclusive`
#[must_use]
pub fn between(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn too_long_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn alnum(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Starts and ends as told, and all between is of `inner`; not empty.
fn framed(
    s: &str,
    first: impl Fn(u8) -> bool,
    inner: impl Fn(u8) -> bool,
    last: impl Fn(u8) -> bool,
) -> bool {
    let b = s.as_bytes();
    match (b.first(), b.last()) {
        (Some(&f), Some(&l)) => first(f) && last(l) && b.iter().all(|&c| inner(c)),
        _ => false,
    }
}

fn matches_label(s: &str) -> bool {
    framed(s, lower, |b| lower(b) || b == b'-', lower)
}

fn matches_subdomain(s: &str) -> bool {
    s.split('.').all(matches_label)
}

fn matches_qualified(s: &str) -> bool {
    framed(s, alnum, |b| alnum(b) || matches!(b, b'-' | b'_' | b'.'), alnum)
}

/// A DNS label (RFC 1123): at most 63 of `[a-z0-9-]`.
#[must_use]
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > 63 {
        errors.push(too_long(63));
    }
    if !matches_label(value) {
        errors.push(if matches_subdomain(value) {
            "must not contain dots".to_string()
        } else {
            pattern(LABEL_MSG, LABEL, &["my-name", "123-abc"])
        });
    }
    errors
}

fn subdomain(value: &str, too_long: fn(usize) -> String) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > 253 {
        errors.push(too_long(253));
    }
    if !matches_subdomain(value) {
        errors.push(pattern(SUBDOMAIN_MSG, SUBDOMAIN, &["example.com"]));
    }
    errors
}

/// A DNS subdomain (RFC 1123): labels joined by dots, at most 253.
#[must_use]
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    subdomain(value, too_long)
}

/// A DNS label that starts with a letter (RFC 1035).
#[must_use]
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > 63 {
        errors.push(too_long(63));
    }
    if !framed(value, |b| b.is_ascii_lowercase(), |b| lower(b) || b == b'-', lower) {
        errors.push(pattern(DNS1035_MSG, DNS1035, &["my-name", "abc-123"]));
    }
    errors
}

/// A label key, annotation key or finalizer: a name with an optional `prefix/`.
#[must_use]
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    // Every write checks its labels, so a good key costs no allocation.
    let name = match value.split_once('/') {
        None => value,
        Some((prefix, name)) if !name.contains('/') => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_string());
            } else {
                errors.extend(subdomain(prefix, too_long_bytes).iter().map(|m| format!("prefix part {m}")));
            }
            name
        }
        Some(_) => {
            let shape = pattern(QUALIFIED_MSG, QUALIFIED, &["MyName", "my.name", "123-abc"]);
            return vec![format!(
                "a valid label key {shape} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_string());
    } else if name.len() > 63 {
        errors.push(format!("name part {}", too_long_bytes(63)));
    }
    if !matches_qualified(name) {
        let shape = pattern(QUALIFIED_MSG, QUALIFIED, &["MyName", "my.name", "123-abc"]);
        errors.push(format!("name part {shape}"));
    }
    errors
}

/// The value of a label.
#[must_use]
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > 63 {
        errors.push(too_long_bytes(63));
    }
    if !value.is_empty() && !matches_qualified(value) {
        errors.push(pattern(LABEL_VALUE_MSG, LABEL_VALUE, &["MyValue", "my_value", "12345"]));
    }
    errors
}

/// The name of a container's or service's port (IANA_SVC_NAME).
#[must_use]
pub fn port_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > 15 {
        errors.push(too_long(15));
    }
    if value.is_empty() || !value.bytes().all(|b| lower(b) || b == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_string());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_string());
    }
    if value.contains("--") {
        errors.push("must not contain consecutive hyphens".to_string());
    }
    if value.starts_with('-') || value.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_string());
    }
    errors
}

/// The number of a port.
#[must_use]
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) { Vec::new() } else { vec![between(1, 65535)] }
}

/// A name that can be one segment of a URL's path.
#[must_use]
pub fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    path_segment_prefix(value)
}

/// The beginning of a name that can be one segment of a URL's path.
#[must_use]
pub fn path_segment_prefix(value: &str) -> Vec<String> {
    ["/", "%"].iter().filter(|c| value.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

fn parent_prefix(value: &str) -> Option<String> {
    match value {
        "." => Some("must not be '.'".to_string()),
        ".." => Some("must not be '..'".to_string()),
        v if v.starts_with("..") => Some("must not start with '..'".to_string()),
        _ => None,
    }
}

/// A key of a ConfigMap or Secret.
#[must_use]
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > 253 {
        errors.push(too_long(253));
    }
    if value.is_empty() || !value.bytes().all(|b| alnum(b) || matches!(b, b'-' | b'_' | b'.')) {
        errors.push(pattern(CONFIG_KEY_MSG, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    errors.extend(parent_prefix(value));
    errors
}

/// The name of an environment variable (the relaxed rule, default since 1.34).
#[must_use]
pub fn env_var_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.is_empty() {
        errors.push("environment variable name must be non-empty".to_string());
    }
    if !value.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        errors.push(ENV_NAME_MSG.to_string());
    }
    errors
}

/// An identifier of C.
#[must_use]
pub fn c_identifier(value: &str) -> Vec<String> {
    if framed(value, |b| b.is_ascii_alphabetic() || b == b'_', |b| alnum(b) || b == b'_', |_| true) {
        return Vec::new();
    }
    vec![pattern(C_IDENTIFIER_MSG, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])]
}

/// The name of an HTTP header.
#[must_use]
pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|b| alnum(b) || b == b'-') {
        return Vec::new();
    }
    vec![pattern(HTTP_HEADER_MSG, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// A percentage such as `25%`.
#[must_use]
pub fn percent(value: &str) -> Vec<String> {
    match value.strip_suffix('%') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => Vec::new(),
        _ => vec![pattern(
            "a valid percent string must be a numeric string followed by an ending '%'",
            "[0-9]+%",
            &["1%", "93%"],
        )],
    }
}

/// A prefix may end in a dash that a generated name would not end in.
fn without_trailing_dash(name: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    match name.strip_suffix('-') {
        Some(rest) if prefix && rest.ends_with(|c: char| c.is_ascii()) => {
            format!("{}a", &rest[..rest.len() - 1]).into()
        }
        _ => name.into(),
    }
}

/// The name check of most kinds: a DNS subdomain.
#[must_use]
pub fn name_is_subdomain(name: &str, prefix: bool) -> Vec<String> {
    dns1123_subdomain(&without_trailing_dash(name, prefix))
}

/// The name check of namespaces: a DNS label.
#[must_use]
pub fn name_is_label(name: &str, prefix: bool) -> Vec<String> {
    dns1123_label(&without_trailing_dash(name, prefix))
}

/// The name check of older services: a DNS label starting with a letter.
#[must_use]
pub fn name_is_dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    dns1035_label(&without_trailing_dash(name, prefix))
}

/// The name check of kinds whose name only has to fit a URL.
#[must_use]
pub fn name_is_path_segment(name: &str, prefix: bool) -> Vec<String> {
    if prefix { path_segment_prefix(name) } else { path_segment(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::Regex;

    #[test]
    fn messages_are_those_of_kubernetes() {
        assert_eq!(
            dns1123_subdomain("Foo"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            dns1123_label("-x"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(dns1123_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
        assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"]);
        assert_eq!(
            port_name("-"),
            ["must contain at least one letter (a-z)", "must not begin or end with a hyphen"]
        );
        assert_eq!(path_segment("a/b%"), ["may not contain '/'", "may not contain '%'"]);
        assert_eq!(path_segment(".."), ["may not be '..'"]);
        assert_eq!(config_map_key(".."), ["must not be '..'"]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert!(percent("25%").is_empty() && !percent("%").is_empty());
        assert!(env_var_name("my var").is_empty() && !env_var_name("a=b").is_empty());
        assert!(http_header_name("X-A").is_empty() && c_identifier("_a1").is_empty());
    }

    #[test]
    fn a_generated_prefix_may_end_in_a_dash() {
        assert!(name_is_subdomain("web-", true).is_empty());
        assert!(!name_is_subdomain("web-", false).is_empty());
        assert!(!name_is_label("-", true).is_empty());
        assert!(!name_is_label("é-", true).is_empty());
    }

    proptest! {
        #[test]
        fn hand_written_matchers_agree_with_the_patterns(s in "[a-zA-Z0-9._/-]{0,12}") {
            let re = |p: &str| Regex::new(&format!("^{p}$")).unwrap();
            prop_assert_eq!(matches_label(&s), re(LABEL).is_match(&s));
            prop_assert_eq!(matches_subdomain(&s), re(SUBDOMAIN).is_match(&s));
            prop_assert_eq!(matches_qualified(&s), re(QUALIFIED).is_match(&s));
            prop_assert_eq!(dns1035_label(&s).is_empty(), re(DNS1035).is_match(&s));
            prop_assert_eq!(label_value(&s).is_empty(), re(LABEL_VALUE).is_match(&s));
            prop_assert_eq!(c_identifier(&s).is_empty(), re("[A-Za-z_][A-Za-z0-9_]*").is_match(&s));
        }
    }
}
