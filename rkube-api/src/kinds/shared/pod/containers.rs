//! Rules of containers.

use k8s_openapi::api::core::v1::{Container, ContainerPort, ContainerRestartRule};

use super::{Context, env, probes, resources, security, unique_host_ports, volumes};
use crate::{
    helpers::pod::is_sidecar,
    kinds::shared::{checks, container::View, items, seen::Seen, text},
    meta::{ErrorList, FieldError, FieldPath, names},
};

const NOT_WITHOUT_ALWAYS: &str = "may not be set for init containers without restartPolicy=Always";
const NOT_EPHEMERAL: &str = "cannot be set for an Ephemeral Container";

/// Checks the containers of all three lists.
pub(super) fn validate(context: &Context<'_>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut names = Seen::new();
    let mains = path.child("containers");
    if context.spec.containers.is_empty() {
        errors.push(FieldError::required(&mains, ""));
    }
    for (at, container) in context.spec.containers.iter().enumerate() {
        let (view, path) = (View::of(container), mains.index(at));
        common(context, &view, &path, errors);
        unique_name(view.name, &mut names, &path, errors);
        probes::validate(context.spec, &view, &path, errors);
        restart_policy(container, &path, errors);
        trimmed_image(context, view.image, &path, errors);
    }
    unique_host_ports(&context.spec.containers, &mains, errors);
    init(context, &mut names, &path.child("initContainers"), errors);
    ephemeral(context, &mut names, &path.child("ephemeralContainers"), errors);
}

fn unique_name<'a>(name: &'a str, names: &mut Seen<&'a str>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if !names.insert(name) && !name.is_empty() {
        errors.push(FieldError::duplicate(&path.child("name"), name));
    }
}

/// A template may hold an image that is only blanks, which some tools put there; a pod may not.
fn trimmed_image(context: &Context<'_>, image: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if context.in_pod && image.trim().len() != image.len() {
        let detail = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(&path.child("image"), image, detail));
    }
}

fn init<'a>(context: &Context<'a>, names: &mut Seen<&'a str>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    for (at, container) in items(&context.spec.init_containers).iter().enumerate() {
        let (view, path) = (View::of(container), path.index(at));
        common(context, &view, &path, errors);
        restart_policy(container, &path, errors);
        unique_name(view.name, names, &path, errors);
        // They run one after the other, so each has the ports for itself.
        unique_host_ports(std::slice::from_ref(container), &path, errors);
        if is_sidecar(container) {
            probes::validate(context.spec, &view, &path, errors);
        } else {
            not_while_initializing(&view, &path, errors);
        }
        trimmed_image(context, view.image, &path, errors);
    }
}

fn not_while_initializing(view: &View<'_>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    for (field, there) in [
        ("lifecycle", view.lifecycle.is_some()),
        ("livenessProbe", view.liveness_probe.is_some()),
        ("readinessProbe", view.readiness_probe.is_some()),
        ("startupProbe", view.startup_probe.is_some()),
    ] {
        if there {
            errors.push(FieldError::forbidden(&path.child(field), NOT_WITHOUT_ALWAYS));
        }
    }
    let resize = path.child("resizePolicy");
    for (at, policy) in view.resize_policy.iter().enumerate() {
        if policy.restart_policy == "RestartContainer" {
            let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            let (field, value) = (resize.index(at), &policy.restart_policy);
            errors.push(FieldError::invalid(&field.child("restartPolicy"), value, detail));
        }
    }
}

fn ephemeral<'a>(
    context: &Context<'a>,
    names: &mut Seen<&'a str>,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let spec = context.spec;
    if items(&spec.ephemeral_containers).is_empty() {
        return;
    }
    let others = spec.containers.iter().chain(items(&spec.init_containers));
    let others = Seen::all(others.map(|other| other.name.as_str()));
    for (at, container) in items(&spec.ephemeral_containers).iter().enumerate() {
        let (view, path) = (View::ephemeral(container), path.index(at));
        common(context, &view, &path, errors);
        trimmed_image(context, view.image, &path, errors);
        unique_name(view.name, names, &path, errors);
        let target = text(&container.target_container_name);
        if !target.is_empty() && !others.contains(&target) {
            errors.push(FieldError::not_found(&path.child("targetContainerName"), target));
        }
        for (field, there) in [
            ("ports", !view.ports.is_empty()),
            ("resources", view.resources.is_some_and(|r| r.limits.is_some() || r.requests.is_some())),
            ("resizePolicy", !view.resize_policy.is_empty()),
            ("restartPolicy", view.restart_policy.is_some()),
            ("restartPolicyRules", container.restart_policy_rules.is_some()),
            ("livenessProbe", view.liveness_probe.is_some()),
            ("readinessProbe", view.readiness_probe.is_some()),
            ("startupProbe", view.startup_probe.is_some()),
            ("lifecycle", view.lifecycle.is_some()),
        ] {
            if there {
                errors.push(FieldError::forbidden(&path.child(field), NOT_EPHEMERAL));
            }
        }
        let mounts = path.child("volumeMounts");
        for (at, mount) in view.volume_mounts.iter().enumerate() {
            for (field, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
                if !text(value).is_empty() {
                    errors.push(FieldError::forbidden(&mounts.index(at).child(field), NOT_EPHEMERAL));
                }
            }
        }
    }
}

/// What holds for containers of every role.
fn common(context: &Context<'_>, view: &View<'_>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if view.name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    } else {
        checks::label(view.name, &path.child("name"), errors);
    }
    checks::required(view.image, &path.child("image"), errors);
    checks::one_of(
        view.termination_message_policy,
        &["File", "FallbackToLogsOnError"],
        &path.child("terminationMessagePolicy"),
        errors,
    );
    ports(view.ports, &path.child("ports"), errors);
    env::variables(view.env, &path.child("env"), errors);
    env::sources(view.env_from, &path.child("envFrom"), errors);
    volumes::mounts(view, &context.volumes, path, errors);
    checks::one_of(
        view.image_pull_policy,
        &["Always", "IfNotPresent", "Never"],
        &path.child("imagePullPolicy"),
        errors,
    );
    if let Some(requirements) = view.resources {
        resources::container(requirements, context.spec, &path.child("resources"), errors);
    }
    resize_policy(context, view, &path.child("resizePolicy"), errors);
    if let Some(security) = view.security_context {
        security::container(security, context.host_users, &path.child("securityContext"), errors);
    }
}

fn ports(ports: &[ContainerPort], path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut seen = Seen::new();
    for (at, port) in ports.iter().enumerate() {
        let path = path.index(at);
        let name = text(&port.name);
        if !name.is_empty() {
            let messages = names::port_name(name);
            if messages.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
            errors.push_messages(&path.child("name"), name, messages);
        }
        if port.container_port == 0 {
            errors.push(FieldError::required(&path.child("containerPort"), ""));
        } else {
            checks::port(port.container_port, &path.child("containerPort"), errors);
        }
        if let Some(number) = port.host_port.filter(|&number| number != 0) {
            checks::port(number, &path.child("hostPort"), errors);
        }
        checks::one_of(text(&port.protocol), &checks::PROTOCOLS, &path.child("protocol"), errors);
    }
}

fn resize_policy(context: &Context<'_>, view: &View<'_>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut seen = Seen::new();
    let never = text(&context.spec.restart_policy) == "Never";
    for (at, policy) in view.resize_policy.iter().enumerate() {
        let (resource, restart) = (policy.resource_name.as_str(), policy.restart_policy.as_str());
        if !seen.insert(resource) {
            errors.push(FieldError::duplicate(&path.index(at), resource));
        }
        checks::one_of(resource, &["cpu", "memory"], path, errors);
        checks::one_of(restart, &["NotRequired", "RestartContainer"], path, errors);
        if never && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(path, restart, detail));
        }
    }
}

/// A container's own restart policy (KEP-5307; for sidecars KEP-753).
fn restart_policy(container: &Container, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let rules = items(&container.restart_policy_rules);
    match container.restart_policy.as_deref() {
        None if rules.is_empty() => return,
        None => errors.push(FieldError::required(
            &path.child("restartPolicy"),
            "must specify restartPolicy when restart rules are used",
        )),
        Some(policy) => {
            let allowed = ["Always", "Never", "OnFailure"];
            checks::supported(policy, &allowed, &path.child("restartPolicy"), errors);
        }
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.push(FieldError::too_many(&path, rules.len(), 20));
    }
    for (at, rule) in rules.iter().enumerate() {
        restart_rule(rule, &path.index(at), errors);
    }
}

fn restart_rule(rule: &ContainerRestartRule, path: &FieldPath<'_>, errors: &mut ErrorList) {
    checks::supported(&rule.action, &["Restart", "RestartAllContainers"], &path.child("action"), errors);
    let path = path.child("exitCodes");
    let Some(codes) = &rule.exit_codes else {
        errors.push(FieldError::required(&path, "must be specified"));
        return;
    };
    checks::supported(&codes.operator, &["In", "NotIn"], &path.child("operator"), errors);
    let values = items(&codes.values).len();
    if values > 255 {
        errors.push(FieldError::too_many(&path.child("values"), values, 255));
    }
}
