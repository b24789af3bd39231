//! The containers of a pod's spec, of all three lists.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, PodSpec};

/// An ephemeral container as the container that it is to the runtime.
fn of_ephemeral(one: &EphemeralContainer) -> Container {
    let EphemeralContainer {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        target_container_name: _,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    } = one.clone();
    Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    }
}

/// The ephemeral containers, as containers.
pub(super) fn ephemeral(spec: &PodSpec) -> Vec<Container> {
    spec.ephemeral_containers.iter().flatten().map(of_ephemeral).collect()
}

/// The container of a name, in whichever list it is.
pub(crate) fn find<'a>(spec: &'a PodSpec, name: &str) -> Option<Cow<'a, Container>> {
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let found = all.find(|one| one.name == name).map(Cow::Borrowed);
    let ephemeral = || spec.ephemeral_containers.iter().flatten().find(|one| one.name == name);
    found.or_else(|| ephemeral().map(|one| Cow::Owned(of_ephemeral(one))))
}

/// Names and images of all containers.
pub(crate) fn images(spec: &PodSpec) -> impl Iterator<Item = (&str, &str)> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let containers = containers.map(|one| (&one.name, &one.image));
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|one| (&one.name, &one.image));
    containers.chain(ephemeral).filter_map(|(name, image)| Some((name.as_str(), image.as_deref()?)))
}
