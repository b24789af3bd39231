//! Rules of a pod that says for which operating system it is (KEP-2802).

use k8s_openapi::api::core::v1::PodSpec;

use super::each_container;
use crate::{
    kinds::shared::{checks, items},
    meta::{ErrorList, FieldError, FieldPath},
};

const NOT_FOR_LINUX: &str = "windows options cannot be set for a linux pod";
const NOT_FOR_WINDOWS: &str = "cannot be set for a windows pod";

/// Checks the system, and that nothing is asked for that it does not have.
pub(super) fn validate(spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let Some(os) = &spec.os else { return };
    match os.name.as_str() {
        "" => errors.push(FieldError::required(&path.child("os").child("name"), "")),
        "linux" => linux(spec, path, errors),
        "windows" => windows(spec, path, errors),
        other => checks::supported(other, &["linux", "windows"], &path.child("os"), errors),
    }
}

fn linux(spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if spec.security_context.as_ref().is_some_and(|security| security.windows_options.is_some()) {
        let security = path.child("securityContext");
        errors.push(FieldError::forbidden(&security.child("windowsOptions"), NOT_FOR_LINUX));
    }
    each_container(spec, path, |view, path| {
        if view.security_context.is_some_and(|security| security.windows_options.is_some()) {
            let security = path.child("securityContext");
            errors.push(FieldError::forbidden(&security.child("windowsOptions"), NOT_FOR_LINUX));
        }
    });
}

fn windows(spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if let Some(security) = &spec.security_context {
        let context = path.child("securityContext");
        for (field, there) in [
            ("appArmorProfile", security.app_armor_profile.is_some()),
            ("seLinuxOptions", security.se_linux_options.is_some()),
            ("seccompProfile", security.seccomp_profile.is_some()),
            ("fsGroup", security.fs_group.is_some()),
            ("fsGroupChangePolicy", security.fs_group_change_policy.is_some()),
            ("sysctls", !items(&security.sysctls).is_empty()),
            ("runAsUser", security.run_as_user.is_some()),
            ("runAsGroup", security.run_as_group.is_some()),
            ("supplementalGroups", security.supplemental_groups.is_some()),
            ("supplementalGroupsPolicy", security.supplemental_groups_policy.is_some()),
            ("seLinuxChangePolicy", security.se_linux_change_policy.is_some()),
        ] {
            if there {
                errors.push(FieldError::forbidden(&context.child(field), NOT_FOR_WINDOWS));
            }
        }
    }
    for (field, there) in [
        ("hostUsers", spec.host_users.is_some()),
        ("hostPID", spec.host_pid == Some(true)),
        ("hostIPC", spec.host_ipc == Some(true)),
        ("shareProcessNamespace", spec.share_process_namespace.is_some()),
    ] {
        if there {
            errors.push(FieldError::forbidden(&path.child(field), NOT_FOR_WINDOWS));
        }
    }
    each_container(spec, path, |view, path| {
        let Some(security) = view.security_context else { return };
        let context = path.child("securityContext");
        for (field, there) in [
            ("appArmorProfile", security.app_armor_profile.is_some()),
            ("seLinuxOptions", security.se_linux_options.is_some()),
            ("seccompProfile", security.seccomp_profile.is_some()),
            ("capabilities", security.capabilities.is_some()),
            ("readOnlyRootFilesystem", security.read_only_root_filesystem.is_some()),
            ("privileged", security.privileged.is_some()),
            ("allowPrivilegeEscalation", security.allow_privilege_escalation.is_some()),
            ("procMount", security.proc_mount.is_some()),
            ("runAsUser", security.run_as_user.is_some()),
            ("runAsGroup", security.run_as_group.is_some()),
        ] {
            if there {
                errors.push(FieldError::forbidden(&context.child(field), NOT_FOR_WINDOWS));
            }
        }
    });
}
