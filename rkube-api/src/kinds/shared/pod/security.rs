//! Rules of security contexts.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};

use super::each_container;
use crate::{
    kinds::shared::{checks, items, seen::Seen, text, yes},
    meta::{ErrorList, FieldError, FieldPath},
};

const SYSCTL_DETAIL: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// Checks the pod's security context.
pub(super) fn pod(spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let Some(security) = &spec.security_context else { return };
    let path = path.child("securityContext");
    checks::id(security.fs_group, &path.child("fsGroup"), errors);
    checks::id(security.run_as_user, &path.child("runAsUser"), errors);
    checks::id(security.run_as_group, &path.child("runAsGroup"), errors);
    let groups = path.child("supplementalGroups");
    for (at, &group) in items(&security.supplemental_groups).iter().enumerate() {
        checks::id(Some(group), &groups.index(at), errors);
    }
    if yes(&spec.share_process_namespace) && yes(&spec.host_pid) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    sysctls(security, spec, &path.child("sysctls"), errors);
    for (field, value, allowed) in [
        ("fsGroupChangePolicy", &security.fs_group_change_policy, ["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &security.supplemental_groups_policy, ["Merge", "Strict"]),
        ("seLinuxChangePolicy", &security.se_linux_change_policy, ["MountOption", "Recursive"]),
    ] {
        if let Some(value) = value {
            checks::supported(value, &allowed, &path.child(field), errors);
        }
    }
    seccomp(security.seccomp_profile.as_ref(), &path.child("seccompProfile"), errors);
    app_armor(security.app_armor_profile.as_ref(), &path.child("appArmorProfile"), errors);
}

fn sysctls(security: &PodSecurityContext, spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut seen = Seen::new();
    for (at, sysctl) in items(&security.sysctls).iter().enumerate() {
        let (path, name) = (path.index(at), sysctl.name.as_str());
        let path = path.child("name");
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if !is_sysctl(name) {
            errors.push(FieldError::invalid(&path, name, SYSCTL_DETAIL));
        } else if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
        let (net, ipc) = sysctl_namespace(name);
        if net && yes(&spec.host_network) {
            let detail = "may not be specified when 'hostNetwork' is true";
            errors.push(FieldError::invalid(&path, name, detail));
        } else if ipc && yes(&spec.host_ipc) {
            errors.push(FieldError::invalid(&path, name, "may not be specified when 'hostIPC' is true"));
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 253
        && name.split(['.', '/']).map(str::as_bytes).all(|part| {
            part.first().is_some_and(|&b| plain(b))
                && part.last().is_some_and(|&b| plain(b))
                && part.iter().all(|&b| plain(b) || b == b'-' || b == b'_')
        })
}

/// Whether a sysctl belongs to the network's or to the IPC namespace.
fn sysctl_namespace(name: &str) -> (bool, bool) {
    let name = name.replace('/', ".");
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix));
    (name.starts_with("net."), ipc || name == "kernel.sem")
}

/// Checks a container's security context.
pub(super) fn container(
    security: &SecurityContext,
    host_users: bool,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    checks::id(security.run_as_user, &path.child("runAsUser"), errors);
    checks::id(security.run_as_group, &path.child("runAsGroup"), errors);
    if let Some(mount) = security.proc_mount.as_deref() {
        checks::supported(mount, &["Default", "Unmasked"], &path.child("procMount"), errors);
        if host_users && mount == "Unmasked" {
            let detail = "`hostUsers` must be false to use `Unmasked`";
            errors.push(FieldError::invalid(&path.child("procMount"), mount, detail));
        }
    }
    seccomp(security.seccomp_profile.as_ref(), &path.child("seccompProfile"), errors);
    if security.allow_privilege_escalation == Some(false) {
        if yes(&security.privileged) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(path, security, detail));
        }
        let added = security.capabilities.as_ref().map_or(&[][..], |capabilities| items(&capabilities.add));
        if added.iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(path, security, detail));
        }
    }
    app_armor(security.app_armor_profile.as_ref(), &path.child("appArmorProfile"), errors);
}

fn seccomp(profile: Option<&SeccompProfile>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let Some(profile) = profile else { return };
    match profile.type_.as_str() {
        "" => errors
            .push(FieldError::required(&path.child("type"), "type is required when seccompProfile is set")),
        kind => {
            let allowed = ["Localhost", "RuntimeDefault", "Unconfined"];
            checks::supported(kind, &allowed, &path.child("type"), errors);
        }
    }
    let field = path.child("localhostProfile");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => {
            errors.push(FieldError::required(&field, "must be set when seccomp type is Localhost"));
        }
        ("Localhost", Some(file)) => checks::descending_path(file, &field, errors),
        (_, Some(_)) => errors.push(FieldError::invalid(
            &field,
            profile,
            "can only be set when seccomp type is Localhost",
        )),
        (_, None) => {}
    }
}

fn app_armor(profile: Option<&AppArmorProfile>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let Some(profile) = profile else { return };
    let field = path.child("localhostProfile");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", Some(name)) if name.trim() != name => {
            errors.push(FieldError::invalid(&field, name, "must not be padded with whitespace"));
        }
        ("Localhost", name) => match text(name) {
            "" => errors.push(FieldError::required(&field, "must be set when AppArmor type is Localhost")),
            name if name.len() > 4095 => errors.push(FieldError::too_long(&field, 4095)),
            _ => {}
        },
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            errors.push(FieldError::invalid(&field, name, "can only be set when AppArmor type is Localhost"))
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => errors
            .push(FieldError::required(&path.child("type"), "type is required when appArmorProfile is set")),
        (other, _) => errors.push(FieldError::not_supported(
            &path.child("type"),
            other,
            &["Localhost", "RuntimeDefault", "Unconfined"],
        )),
    }
}

/// A pod with users of its own may not share the host's other namespaces (KEP-127).
pub(super) fn host_users(spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if spec.host_users != Some(false) {
        return;
    }
    let detail = "when `hostUsers` is false";
    for (field, shared) in
        [("hostNetwork", &spec.host_network), ("HostPID", &spec.host_pid), ("HostIPC", &spec.host_ipc)]
    {
        if yes(shared) {
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
    }
    each_container(spec, path, |view, path| {
        if !view.volume_devices.is_empty() {
            errors.push(FieldError::forbidden(&path.child("volumeDevices"), detail));
        }
    });
}
