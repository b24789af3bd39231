//! One face for containers, init containers and ephemeral containers.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerResizePolicy, EnvFromSource, EnvVar, EphemeralContainer, Lifecycle,
    Probe, ResourceRequirements, SecurityContext, VolumeDevice, VolumeMount,
};

use super::{items, text};

/// The fields that containers of every role have.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) name: &'a str,
    pub(crate) image: &'a str,
    pub(crate) image_pull_policy: &'a str,
    pub(crate) termination_message_policy: &'a str,
    pub(crate) restart_policy: Option<&'a str>,
    pub(crate) ports: &'a [ContainerPort],
    pub(crate) env: &'a [EnvVar],
    pub(crate) env_from: &'a [EnvFromSource],
    pub(crate) volume_mounts: &'a [VolumeMount],
    pub(crate) volume_devices: &'a [VolumeDevice],
    pub(crate) resize_policy: &'a [ContainerResizePolicy],
    pub(crate) resources: Option<&'a ResourceRequirements>,
    pub(crate) security_context: Option<&'a SecurityContext>,
    pub(crate) lifecycle: Option<&'a Lifecycle>,
    pub(crate) liveness_probe: Option<&'a Probe>,
    pub(crate) readiness_probe: Option<&'a Probe>,
    pub(crate) startup_probe: Option<&'a Probe>,
}

macro_rules! view {
    ($container:expr) => {
        View {
            name: &$container.name,
            image: text(&$container.image),
            image_pull_policy: text(&$container.image_pull_policy),
            termination_message_policy: text(&$container.termination_message_policy),
            restart_policy: $container.restart_policy.as_deref(),
            ports: items(&$container.ports),
            env: items(&$container.env),
            env_from: items(&$container.env_from),
            volume_mounts: items(&$container.volume_mounts),
            volume_devices: items(&$container.volume_devices),
            resize_policy: items(&$container.resize_policy),
            resources: $container.resources.as_ref(),
            security_context: $container.security_context.as_ref(),
            lifecycle: $container.lifecycle.as_ref(),
            liveness_probe: $container.liveness_probe.as_ref(),
            readiness_probe: $container.readiness_probe.as_ref(),
            startup_probe: $container.startup_probe.as_ref(),
        }
    };
}

impl<'a> View<'a> {
    /// A container or init container.
    pub(crate) fn of(container: &'a Container) -> Self {
        view!(container)
    }

    /// An ephemeral container.
    pub(crate) fn ephemeral(container: &'a EphemeralContainer) -> Self {
        view!(container)
    }
}
