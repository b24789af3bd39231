//! EndpointSlice. Semantics: <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use crate::{
    kinds::shared::{fill, items, items_mut, printing},
    registry::Definition,
};

/// The definition of EndpointSlice.
pub fn definition() -> Definition {
    Definition::of::<EndpointSlice>()
        .default(default)
        .generation(generation_moves)
        .column("AddressType", "string", "What kind of addresses it holds.", |slice, _| {
            json!(slice.address_type)
        })
        .column("Ports", "string", "The endpoints' ports.", |slice, _| {
            json!(printing::up_to_three(items(&slice.ports).iter().map(|port| {
                match (port.port, &port.name) {
                    (Some(number), _) => number.to_string(),
                    (None, Some(name)) => name.clone(),
                    (None, None) => "*".into(),
                }
            })))
        })
        .column("Endpoints", "string", "The endpoints' addresses.", |slice, _| {
            let endpoints = items(&slice.endpoints).iter();
            json!(printing::up_to_three(endpoints.flat_map(|endpoint| endpoint.addresses.iter().cloned())))
        })
        .age()
        .build()
}

fn default(slice: &mut EndpointSlice) {
    for port in items_mut(&mut slice.ports) {
        port.name.get_or_insert_with(String::new);
        fill(&mut port.protocol, "TCP");
    }
}

/// Everything but the metadata counts, and of the metadata the labels.
fn generation_moves(new: &EndpointSlice, old: &EndpointSlice) -> bool {
    new.address_type != old.address_type
        || new.endpoints != old.endpoints
        || new.ports != old.ports
        || new.metadata.labels != old.metadata.labels
}
