//! Service. Semantics: <https://kubernetes.io/docs/concepts/services-networking/service/>

mod addresses;
mod columns;
mod defaults;
mod update;
mod validation;

use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service, ServiceStatus};

use crate::{
    kinds::shared::{items, text},
    meta::names,
    registry::Definition,
};

/// The cluster IP of a headless service.
pub const NO_CLUSTER_IP: &str = "None";

/// The definition of Service.
pub fn definition() -> Definition {
    let builder = Definition::of::<Service>()
        .returns_deleted()
        .short(&["svc"])
        .categories(&["all"])
        .validate_name(names::name_is_dns1035_label)
        .default(defaults::service)
        .prepare_create(prepare_create)
        .prepare_update(update::prepare)
        .validate(validation::validate)
        .validate_update(addresses::validate_update)
        .create_on_update()
        .status(|new, old| new.spec.clone_from(&old.spec), validation::validate_status)
        .selectable("spec.clusterIP", |service| service.spec.as_ref()?.cluster_ip.clone())
        .selectable("spec.type", |service| service.spec.as_ref()?.type_.clone());
    columns::add(builder).build()
}

fn prepare_create(service: &mut Service) {
    service.status =
        Some(ServiceStatus { load_balancer: Some(LoadBalancerStatus::default()), conditions: None });
    if let Some(spec) = &mut service.spec {
        if !text(&spec.cluster_ip).is_empty() && items(&spec.cluster_ips).is_empty() {
            spec.cluster_ips = spec.cluster_ip.clone().map(|address| vec![address]);
        }
        defaults::families(spec);
    }
}
