//! What a claim asks for.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::{
    DeviceClaim, DeviceConstraint, DeviceRequest, DeviceSelector, DeviceToleration, ResourceClaimSpec,
};

use super::{CONFIGS, REQUESTS, Stored, configuration, fully_qualified, selectors, tolerations, too_many};
use crate::{
    kinds::shared::{checks, fill, items, items_mut, seen::Seen, text},
    meta::{ErrorList, FieldError, FieldPath},
};

const CONSTRAINTS: usize = 32;
const ALTERNATIVES: usize = 8;
const EXACT: &str = "ExactCount";
const ALL: &str = "All";
const NO_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// One device of a request, unless it says otherwise.
pub(crate) fn default(spec: Option<&mut ResourceClaimSpec>) {
    let Some(devices) = spec.and_then(|spec| spec.devices.as_mut()) else { return };
    let count = |mode: &mut Option<String>, count: &mut Option<i64>| {
        fill(mode, EXACT);
        if text(mode) == EXACT && count.unwrap_or(0) == 0 {
            *count = Some(1);
        }
    };
    let operators = |list: &mut Option<Vec<DeviceToleration>>| {
        items_mut(list).iter_mut().for_each(|toleration| fill(&mut toleration.operator, "Equal"));
    };
    for request in items_mut(&mut devices.requests) {
        if let Some(exactly) = &mut request.exactly {
            count(&mut exactly.allocation_mode, &mut exactly.count);
            operators(&mut exactly.tolerations);
        }
        for alternative in items_mut(&mut request.first_available) {
            count(&mut alternative.allocation_mode, &mut alternative.count);
            operators(&mut alternative.tolerations);
        }
    }
}

/// Takes out the fields of features that are off unless asked for.
pub(crate) fn without_alpha(spec: Option<&mut ResourceClaimSpec>) {
    let Some(devices) = spec.and_then(|spec| spec.devices.as_mut()) else { return };
    for request in items_mut(&mut devices.requests) {
        if let Some(exactly) = &mut request.exactly {
            exactly.derived_attributes = None;
        }
        for alternative in items_mut(&mut request.first_available) {
            alternative.derived_attributes = None;
        }
    }
}

/// The requests of a claim by name, each with the names of its alternatives.
pub(crate) struct Names<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> Names<'a> {
    pub(crate) fn of(claim: Option<&'a DeviceClaim>) -> Self {
        let requests = claim.map(|claim| items(&claim.requests)).unwrap_or_default();
        let alternatives = |request: &'a DeviceRequest| {
            items(&request.first_available).iter().map(|alternative| alternative.name.as_str()).collect()
        };
        Self(requests.iter().map(|request| (request.name.as_str(), alternatives(request))).collect())
    }

    fn has(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => self.0.contains_key(name),
            Some((request, sub)) => self.0.get(request).is_some_and(|subs| subs.contains(sub)),
        }
    }

    /// A name that something else refers to.
    pub(crate) fn check(&self, name: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() <= 2 {
            parts.iter().for_each(|part| checks::label(part, path, errors));
        }
        if !self.has(name) {
            errors.push(FieldError::invalid(path, name, NO_REQUEST));
        }
    }

    /// A list of such names, each once.
    pub(crate) fn check_all(&self, list: &Option<Vec<String>>, path: &FieldPath<'_>, errors: &mut ErrorList) {
        let list = items(list);
        if too_many(list.len(), REQUESTS, path, errors) {
            return;
        }
        let mut seen = Seen::new();
        for (at, name) in list.iter().enumerate() {
            self.check(name, &path.index(at), errors);
            if !seen.insert(name.as_str()) {
                errors.push(FieldError::duplicate(&path.index(at), name));
            }
        }
    }
}

/// Checks a new claim.
pub(crate) fn validate(spec: &ResourceClaimSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let Some(claim) = &spec.devices else { return };
    let (path, names) = (path.child("devices"), Names::of(Some(claim)));
    requests(items(&claim.requests), &path.child("requests"), errors);
    let (list, at_constraints) = (items(&claim.constraints), path.child("constraints"));
    if !too_many(list.len(), CONSTRAINTS, &at_constraints, errors) {
        for (at, it) in list.iter().enumerate() {
            constraint(it, &names, &at_constraints.index(at), errors);
        }
    }
    let (list, at_configs) = (items(&claim.config), path.child("config"));
    if !too_many(list.len(), CONFIGS, &at_configs, errors) {
        for (at, config) in list.iter().enumerate() {
            let path = at_configs.index(at);
            names.check_all(&config.requests, &path.child("requests"), errors);
            configuration(config.opaque.as_ref(), Stored(false), &path, errors);
        }
    }
}

fn requests(list: &[DeviceRequest], path: &FieldPath<'_>, errors: &mut ErrorList) {
    if too_many(list.len(), REQUESTS, path, errors) {
        return;
    }
    let mut seen = Seen::new();
    for (at, it) in list.iter().enumerate() {
        request(it, &path.index(at), errors);
        if !seen.insert(it.name.as_str()) {
            errors.push(FieldError::duplicate(&path.index(at), &it.name));
        }
    }
}

/// A request, or one of its alternatives.
struct Asked<'a> {
    class: &'a str,
    selectors: &'a Option<Vec<DeviceSelector>>,
    mode: &'a Option<String>,
    count: Option<i64>,
    tolerations: &'a Option<Vec<DeviceToleration>>,
}

fn request(request: &DeviceRequest, path: &FieldPath<'_>, errors: &mut ErrorList) {
    checks::label(&request.name, &path.child("name"), errors);
    let alternatives = items(&request.first_available);
    match (&request.exactly, alternatives) {
        (None, []) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required";
            errors.push(FieldError::required(path, detail));
        }
        (Some(exactly), []) => {
            let asked = Asked {
                class: &exactly.device_class_name,
                selectors: &exactly.selectors,
                mode: &exactly.allocation_mode,
                count: exactly.count,
                tolerations: &exactly.tolerations,
            };
            asked.check(&path.child("exactly"), errors);
        }
        (None, alternatives) => {
            let path = path.child("firstAvailable");
            if too_many(alternatives.len(), ALTERNATIVES, &path, errors) {
                return;
            }
            for (at, it) in alternatives.iter().enumerate() {
                let path = path.index(at);
                checks::label(&it.name, &path.child("name"), errors);
                let asked = Asked {
                    class: &it.device_class_name,
                    selectors: &it.selectors,
                    mode: &it.allocation_mode,
                    count: it.count,
                    tolerations: &it.tolerations,
                };
                asked.check(&path, errors);
                if alternatives[..at].iter().any(|other| other.name == it.name) {
                    errors.push(FieldError::duplicate(&path, &it.name));
                }
            }
        }
        (Some(_), _) => {
            let detail =
                "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(FieldError::invalid(path, (), detail));
        }
    }
}

impl Asked<'_> {
    fn check(&self, path: &FieldPath<'_>, errors: &mut ErrorList) {
        let class = path.child("deviceClassName");
        if self.class.is_empty() {
            errors.push(FieldError::required(&class, ""));
        } else {
            checks::subdomain(self.class, &class, errors);
        }
        selectors(items(self.selectors), Stored(false), &path.child("selectors"), errors);
        let (mode, count) = (text(self.mode), self.count.unwrap_or(0));
        match mode {
            ALL if count != 0 => {
                let detail = format!("must not be specified when allocationMode is '{mode}'");
                errors.push(FieldError::invalid(&path.child("count"), count, detail));
            }
            ALL => {}
            EXACT if count <= 0 => {
                errors.push(FieldError::invalid(&path.child("count"), count, "must be greater than zero"));
            }
            EXACT => {}
            other => checks::supported(other, &[ALL, EXACT], &path.child("allocationMode"), errors),
        }
        tolerations(items(self.tolerations), &path.child("tolerations"), errors);
    }
}

fn constraint(it: &DeviceConstraint, names: &Names<'_>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    names.check_all(&it.requests, &path.child("requests"), errors);
    let kinds = "\"matchAttribute\" or \"distinctAttribute\" is required";
    match (&it.match_attribute, &it.distinct_attribute) {
        (Some(name), None) => fully_qualified(name, &path.child("matchAttribute"), errors),
        (None, Some(name)) => fully_qualified(name, &path.child("distinctAttribute"), errors),
        (None, None) => errors.push(FieldError::required(path, format!("exactly one of {kinds}"))),
        (Some(_), Some(_)) => {
            let detail = format!("exactly one of {kinds}, but multiple fields are set");
            errors.push(FieldError::invalid(path, (), detail));
        }
    }
}
