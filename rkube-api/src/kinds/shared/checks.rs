//! Small rules that many fields share, each with Kubernetes' words.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::meta::{ErrorList, FieldError, FieldPath, intstr::percent_of, names};

/// Protocols of ports.
pub(crate) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// A DNS label.
pub(crate) fn label(value: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    errors.push_messages(path, value, names::dns1123_label(value));
}

/// A DNS subdomain.
pub(crate) fn subdomain(value: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    errors.push_messages(path, value, names::dns1123_subdomain(value));
}

/// A label key, or what is shaped like one.
pub(crate) fn qualified(value: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    errors.push_messages(path, value, names::qualified_name(value));
}

/// A text that must be there and one of a few.
pub(crate) fn one_of(value: &str, allowed: &[&str], path: &FieldPath<'_>, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        supported(value, allowed, path, errors);
    }
}

/// A text that must be one of a few.
pub(crate) fn supported(value: &str, allowed: &[&str], path: &FieldPath<'_>, errors: &mut ErrorList) {
    if !allowed.contains(&value) {
        errors.push(FieldError::not_supported(path, value, allowed));
    }
}

/// A text that must be there.
pub(crate) fn required(value: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
}

/// The number of a port.
pub(crate) fn port(number: i32, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if !(1..=65_535).contains(&number) {
        errors.push(FieldError::invalid(path, number, names::between(1, 65_535)));
    }
}

/// The number or name of a port.
pub(crate) fn port_or_name(port_or_name: &IntOrString, path: &FieldPath<'_>, errors: &mut ErrorList) {
    match port_or_name {
        IntOrString::Int(number) => port(*number, path, errors),
        IntOrString::String(name) => errors.push_messages(path, name, names::port_name(name)),
    }
}

/// A number or a percentage, not below zero.
pub(crate) fn int_or_percent(value: &IntOrString, path: &FieldPath<'_>, errors: &mut ErrorList) {
    match value {
        IntOrString::Int(number) => errors.non_negative(path, i64::from(*number)),
        IntOrString::String(text) => errors.push_messages(path, text, names::percent(text)),
    }
}

/// A percentage of at most 100.
pub(crate) fn not_above_everything(value: &IntOrString, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if matches!(value, IntOrString::String(text) if percent_of(text).is_ok_and(|percent| percent > 100)) {
        errors.push(FieldError::invalid(path, value, "must not be greater than 100%"));
    }
}

/// A path without `..`.
pub(crate) fn no_backsteps(value: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if value.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, value, "must not contain '..'"));
    }
}

/// A relative path that does not leave its directory.
pub(crate) fn descending_path(value: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if value.starts_with('/') {
        errors.push(FieldError::invalid(path, value, "must be a relative path"));
    }
    no_backsteps(value, path, errors);
}

/// A descending path that does not begin like the names that volumes use for themselves.
pub(crate) fn free_path(value: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    descending_path(value, path, errors);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.push(FieldError::invalid(path, value, "must not start with '..'"));
    }
}

/// The mode of a file.
pub(crate) fn file_mode(mode: Option<i32>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(path, mode, detail));
    }
}

/// An IP address, unless it was there before.
pub(crate) fn ip(value: &str, known: &[&str], path: &FieldPath<'_>, errors: &mut ErrorList) {
    let detail = match value.parse::<IpAddr>() {
        Err(_) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        Ok(IpAddr::V6(six)) if six.to_ipv4_mapped().is_some() => "must not be an IPv4-mapped IPv6 address",
        Ok(_) => return,
    };
    if !known.contains(&value) {
        errors.push(FieldError::invalid(path, value, detail));
    }
}

/// An IP range, unless it was there before.
pub(crate) fn cidr(value: &str, known: &[&str], path: &FieldPath<'_>, errors: &mut ErrorList) {
    if parse_cidr(value).is_none() && !known.contains(&value) {
        let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(FieldError::invalid(path, value, detail));
    }
}

/// The address and length of an IP range.
pub(crate) fn parse_cidr(value: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = value.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let canonical = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let length: u8 = length.parse().ok().filter(|_| canonical)?;
    (length <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, length))
}

/// Whether there are both an address of IPv4 and one of IPv6.
pub(crate) fn both_families(mut addresses: impl Iterator<Item = IpAddr> + Clone) -> bool {
    addresses.clone().any(|address| address.is_ipv4()) && addresses.any(|address| address.is_ipv6())
}

/// An address that traffic can be sent to.
pub(crate) fn endpoint_ip(value: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let Ok(address) = value.parse::<IpAddr>() else {
        errors.push(FieldError::invalid(path, value, "must be a valid IP address"));
        return;
    };
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(four) => (four.is_link_local(), matches!(four.octets(), [224, 0, 0, _])),
        IpAddr::V6(six) => (six.is_unicast_link_local(), six.segments()[0] & 0xff0f == 0xff02),
    };
    let mut refuse = |detail: String| errors.push(FieldError::invalid(path, value, detail));
    if address.is_unspecified() {
        refuse(format!("may not be unspecified ({value})"));
    }
    if address.is_loopback() {
        refuse("may not be in the loopback range (127.0.0.0/8, ::1/128)".into());
    }
    if link_local {
        refuse("may not be in the link-local range (169.254.0.0/16, fe80::/10)".into());
    }
    if link_local_multicast {
        refuse("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".into());
    }
}

/// The id of a user or group.
pub(crate) fn id(value: Option<i64>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if let Some(value) = value.filter(|value| !(0..=i64::from(i32::MAX)).contains(value)) {
        errors.push(FieldError::invalid(path, value, names::between(0, i64::from(i32::MAX))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for good in ["10.0.0.0/8", "::/0", "1.2.3.4/32", "2001:db8::/64"] {
            assert!(parse_cidr(good).is_some(), "{good}");
        }
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "/8", "10.0.0/8", "1.2.3.4/"]
        {
            assert!(parse_cidr(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn addresses_that_are_no_endpoints() {
        let errors = |value: &str| {
            let mut errors = ErrorList::new();
            endpoint_ip(value, &FieldPath::new("a"), &mut errors);
            errors.len()
        };
        for bad in ["x", "0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.9", "::1", "fe80::1", "ff02::1"] {
            assert_eq!(errors(bad), 1, "{bad}");
        }
        assert_eq!(errors("10.0.0.1") + errors("2001:db8::1"), 0);
    }
}
