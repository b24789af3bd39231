//! One face for containers, init containers and ephemeral containers.

use k8s_openapi::api::core::v1::Container;

/// Whether an init container keeps running beside the others (a sidecar, KEP-753).
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}
