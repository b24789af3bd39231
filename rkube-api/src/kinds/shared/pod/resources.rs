//! Rules of what containers and pods ask for and may take.

use k8s_openapi::{
    api::core::v1::{PodSpec, ResourceClaim, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Api,
};

use crate::{
    helpers::pod::containers_request,
    kinds::shared::{checks, items, quantities::Resources, seen::Seen},
    meta::{ErrorList, FieldError, FieldPath, Quantity, names},
};

const HUGE: &str = "hugepages-";
const STANDARD: [&str; 11] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "storage",
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
];

/// Kubernetes' own: `cpu`, `hugepages-2Mi`, `kubernetes.io/batch`.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A device or the like: `example.com/gpu`.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && {
        let quota = name.split_once('/').map_or(0, |(prefix, _)| "requests.".len() + prefix.len());
        quota <= 253 && names::qualified_name(name).is_empty()
    }
}

/// Whether more may be taken than asked for.
fn may_overcommit(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE)
}

fn is_whole(name: &str) -> bool {
    is_extended(name)
        || matches!(
            name,
            "pods"
                | "services"
                | "replicationcontrollers"
                | "resourcequotas"
                | "secrets"
                | "configmaps"
                | "persistentvolumeclaims"
        )
}

/// The quantity of a resource: readable, not negative, whole where only whole ones exist. `None` if it is
/// unreadable.
pub(crate) fn quantity(
    name: &str,
    quantity: &Api,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) -> Option<Quantity> {
    let parsed = match Quantity::try_from(quantity) {
        Ok(parsed) => parsed,
        Err(error) => {
            errors.push(FieldError::invalid(path, &quantity.0, error.to_string()));
            return None;
        }
    };
    if parsed.is_negative() {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(path, parsed.to_string(), detail));
    }
    if parsed.as_i64().is_none() && is_whole(name) {
        errors.push(FieldError::invalid(path, parsed, "must be an integer"));
    }
    Some(parsed)
}

fn any_name(name: &str, path: &FieldPath<'_>, errors: &mut ErrorList) -> bool {
    let before = errors.len();
    errors.push_messages(path, name, names::qualified_name(name));
    if errors.len() > before {
        return false;
    }
    let standard = || {
        STANDARD.contains(&name)
            || name.starts_with(HUGE)
            || name.starts_with("requests.")
            || name.starts_with("limits.")
    };
    if !name.contains('/') && !standard() {
        let detail = "must be a standard resource type or fully qualified";
        errors.push(FieldError::invalid(path, name, detail));
        return false;
    }
    true
}

fn container_name(name: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if matches!(name, "cpu" | "memory") {
        return;
    }
    any_name(name, path, errors);
    if !name.contains('/') {
        if name != "ephemeral-storage" && !name.starts_with(HUGE) {
            errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(FieldError::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

fn pod_name(name: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if any_name(name, path, errors) && !matches!(name, "cpu" | "memory") && !name.starts_with(HUGE) {
        errors.push(FieldError::not_supported(path, name, &["cpu", "hugepages-", "memory"]));
    }
}

/// Checks what a container asks for and may take.
pub(super) fn container(
    requirements: &ResourceRequirements,
    spec: &PodSpec,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    validate(requirements, container_name, path, errors);
    claim_names(items(&requirements.claims), spec, &path.child("claims"), errors);
}

type NameRule = fn(&str, &FieldPath<'_>, &mut ErrorList);

fn validate(
    requirements: &ResourceRequirements,
    name_rule: NameRule,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    let (mut usual, mut huge) = (false, false);
    let mut each = |name: &str, amount: &Api, path: &FieldPath<'_>, errors: &mut ErrorList| {
        name_rule(name, path, errors);
        let parsed = quantity(name, amount, path, errors);
        if name.starts_with(HUGE) {
            huge = true;
            if let Some(parsed) = parsed.filter(|&parsed| !divides(name, parsed)) {
                let detail = format!("{parsed} is not positive integer multiple of {name}");
                errors.push(FieldError::invalid(path, parsed.to_string(), detail));
            }
        }
        usual |= matches!(name, "cpu" | "memory");
        parsed
    };
    for (name, amount) in requirements.limits.iter().flatten() {
        each(name, amount, &limits_path.key(name), errors);
    }
    for (name, amount) in requirements.requests.iter().flatten() {
        let parsed = each(name, amount, &requests_path.key(name), errors);
        match requirements.limits.as_ref().and_then(|limits| limits.get(name)) {
            Some(limit) => {
                if let (Some(request), Ok(limit)) = (parsed, Quantity::try_from(limit)) {
                    within(name, request, limit, &requests_path, errors);
                }
            }
            None if !may_overcommit(name) => errors.push(FieldError::required(
                &limits_path,
                "Limit must be set for non overcommitable resources",
            )),
            None => {}
        }
    }
    if huge && !usual {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
}

fn within(name: &str, request: Quantity, limit: Quantity, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let detail = if request != limit && !may_overcommit(name) {
        format!("must be equal to {name} limit of {limit}")
    } else if request > limit {
        format!("must be less than or equal to {name} limit of {limit}")
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, request.to_string(), detail));
}

/// Whether the amount is a whole number of pages.
fn divides(name: &str, amount: Quantity) -> bool {
    let page = name.strip_prefix(HUGE).and_then(|size| size.parse::<Quantity>().ok());
    match (page.and_then(Quantity::as_i64), amount.as_i64()) {
        (Some(page), Some(amount)) if page > 0 => amount % page == 0,
        _ => false,
    }
}

/// Checks what the pod as a whole asks for and may take (KEP-2837).
pub(super) fn pod(spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let Some(whole) = &spec.resources else { return };
    let path = path.child("resources");
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        errors.push(FieldError::forbidden(&path, "may not be set for a windows pod"));
        return;
    }
    if whole.claims.is_some() {
        let detail = "claims may not be set for Resources at pod-level";
        errors.push(FieldError::forbidden(&path.child("claims"), detail));
    }
    validate(whole, pod_name, &path, errors);
    let requests = path.child("requests");
    for (name, together) in containers_request(spec) {
        let whole = whole.requests.as_ref().and_then(|requests| requests.get(&name));
        if let Some(Ok(whole)) = whole.map(Quantity::try_from)
            && together > whole
        {
            let detail =
                format!("must be greater than or equal to aggregate container requests of {together}");
            errors.push(FieldError::invalid(&requests.key(&name), whole.to_string(), detail));
        }
    }
    let containers = path.child("containers");
    for (at, container) in spec.containers.iter().enumerate() {
        let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        for (name, limit) in limits.into_iter().flatten() {
            let most = whole.limits.as_ref().and_then(|limits| limits.get(name));
            if let (Ok(limit), Some(Ok(most))) = (Quantity::try_from(limit), most.map(Quantity::try_from))
                && limit > most
            {
                let (at, detail) =
                    (containers.index(at), format!("must be less than or equal to pod limits of {most}"));
                let field = at.key(name);
                errors.push(FieldError::invalid(&field.child("limits"), limit.to_string(), detail));
            }
        }
    }
}

/// Checks what the pod's sandbox takes.
pub(super) fn overhead(spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let overhead: Option<&Resources> = spec.overhead.as_ref();
    for (name, amount) in overhead.into_iter().flatten() {
        let path = path.key(name);
        container_name(name, &path, errors);
        quantity(name, amount, &path, errors);
    }
}

/// Checks the pod's claims of devices (KEP-4381).
pub(super) fn claims(spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut seen = Seen::new();
    for (at, claim) in items(&spec.resource_claims).iter().enumerate() {
        let path = path.index(at);
        if claim.name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else if seen.insert(claim.name.as_str()) {
            checks::label(&claim.name, &path.child("name"), errors);
        } else {
            errors.push(FieldError::duplicate(&path.child("name"), &claim.name));
        }
        match (&claim.resource_claim_name, &claim.resource_claim_template_name) {
            (Some(_), Some(_)) => errors.push(FieldError::invalid(
                &path,
                claim,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            )),
            (None, None) => errors.push(FieldError::invalid(
                &path,
                claim,
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            )),
            _ => {}
        }
        for (field, name) in [
            ("resourceClaimName", &claim.resource_claim_name),
            ("resourceClaimTemplateName", &claim.resource_claim_template_name),
        ] {
            if let Some(name) = name {
                checks::subdomain(name, &path.child(field), errors);
            }
        }
    }
}

fn claim_names(claims: &[ResourceClaim], spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let names: Vec<&str> = match claims {
        [] => return,
        _ => items(&spec.resource_claims).iter().map(|claim| claim.name.as_str()).collect(),
    };
    let declared = Seen::all(names.iter().copied());
    let mut seen = Seen::new();
    for (at, claim) in claims.iter().enumerate() {
        let (path, name) = (path.index(at), claim.name.as_str());
        let request = claim.request.as_deref().unwrap_or_default();
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        if !request.is_empty() {
            checks::label(request, &path.child("request"), errors);
        }
        if seen.contains(&(name, "")) || !seen.insert((name, request)) {
            let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            errors.push(FieldError::duplicate(&path, key));
        }
        if !declared.contains(&name) {
            let mut error = FieldError::not_found(&path, name);
            error.detail = match names[..] {
                [] => "must be one of the names in pod.spec.resourceClaims which is empty".into(),
                // A long list is not repeated in every error.
                ref names if names.len() > 16 => "must be one of the names in pod.spec.resourceClaims".into(),
                ref names => {
                    format!("must be one of the names in pod.spec.resourceClaims: {}", names.join(", "))
                }
            };
            errors.push(error);
        }
    }
}
