//! What several kinds have in common: the defaults and rules of a pod's spec, of workloads, and the
//! small words of tables.

pub(crate) mod checks;
pub(crate) mod container;
pub(crate) mod devices;
pub(crate) mod pod;
pub(crate) mod printing;
pub(crate) mod quantities;
pub(crate) mod seen;
pub(crate) mod semantic;
pub(crate) mod volumes;
pub(crate) mod workload;

/// The text, empty if absent.
pub(crate) fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// Whether the flag is there and true.
pub(crate) fn yes(value: &Option<bool>) -> bool {
    value.unwrap_or(false)
}

/// Fills an absent or empty text, which are the same to Kubernetes.
pub(crate) fn fill(value: &mut Option<String>, default: &str) {
    if text(value).is_empty() {
        *value = Some(default.to_owned());
    }
}

/// Fills an absent or zero number, which are the same to Kubernetes where zero means nothing.
pub(crate) fn fill_zero(value: &mut Option<i32>, default: i32) {
    if value.unwrap_or(0) == 0 {
        *value = Some(default);
    }
}

/// The items, none if absent.
pub(crate) fn items<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

/// The items to change, none if absent.
pub(crate) fn items_mut<T>(list: &mut Option<Vec<T>>) -> &mut [T] {
    list.as_deref_mut().unwrap_or_default()
}
