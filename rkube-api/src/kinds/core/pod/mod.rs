//! Pod. Semantics: <https://kubernetes.io/docs/concepts/workloads/pods/>

mod addresses;
mod columns;
mod defaults;
mod match_labels;
mod strategy;
mod transitions;
mod update;
mod validation;

pub use update::{prepare_ephemeral_containers, validate_ephemeral_containers};

use k8s_openapi::api::core::v1::Pod;

use crate::{
    kinds::shared::{items, semantic, text, yes},
    registry::{Builder, Definition},
    request::Verb,
};

/// The definition of Pod.
pub fn definition() -> Definition {
    let builder = Definition::of::<Pod>()
        .returns_deleted()
        .short(&["po"])
        .categories(&["all"])
        .default(defaults::pod)
        .prepare_create(strategy::prepare_create)
        .prepare_update(strategy::prepare_update)
        .validate(validation::validate)
        .validate_create(validation::validate_create)
        .validate_update(update::validate)
        .warnings(validation::warnings)
        .generation(|new, old| !semantic::equal(&new.spec, &old.spec))
        .grace_period(strategy::grace_period)
        .status(strategy::prepare_status, validation::validate_status)
        .handler("binding", ("", "v1", "Binding"), &[Verb::Create])
        .handler("eviction", ("policy", "v1", "Eviction"), &[Verb::Create])
        .handler("ephemeralcontainers", ("", "v1", "Pod"), &[Verb::Get, Verb::Patch, Verb::Update]);
    columns::add(selectable(builder)).build()
}

fn selectable(builder: Builder<Pod>) -> Builder<Pod> {
    builder
        .selectable("spec.nodeName", |pod| pod.spec.as_ref()?.node_name.clone())
        .selectable("spec.restartPolicy", |pod| pod.spec.as_ref()?.restart_policy.clone())
        .selectable("spec.schedulerName", |pod| pod.spec.as_ref()?.scheduler_name.clone())
        .selectable("spec.serviceAccountName", |pod| pod.spec.as_ref()?.service_account_name.clone())
        .selectable("spec.hostNetwork", |pod| {
            Some(pod.spec.as_ref().is_some_and(|spec| yes(&spec.host_network)).to_string())
        })
        .selectable("status.phase", |pod| pod.status.as_ref()?.phase.clone())
        .selectable("status.podIP", |pod| pod.status.as_ref()?.pod_ip.clone())
        .selectable("status.podIPs", |pod| {
            let addresses = items(&pod.status.as_ref()?.pod_ips);
            Some(addresses.iter().map(|address| &*address.ip).collect::<Vec<_>>().join(","))
        })
        .selectable("status.nominatedNodeName", |pod| {
            Some(text(&pod.status.as_ref()?.nominated_node_name).to_owned())
        })
}
