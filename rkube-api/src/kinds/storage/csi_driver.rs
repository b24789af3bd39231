//! CSIDriver: what a driver can. Semantics: <https://kubernetes-csi.github.io/docs/csi-driver-object.html>

use k8s_openapi::api::storage::v1::CSIDriver;
use serde_json::json;

use crate::{
    kinds::shared::{
        checks, fill, items,
        seen::Seen,
        text,
        volumes::{driver_name, flag},
    },
    meta::{ErrorList, FieldError, FieldPath},
    registry::Definition,
};

const LIFECYCLES: [&str; 2] = ["Ephemeral", "Persistent"];
const GROUP_POLICIES: [&str; 3] = ["File", "None", "ReadWriteOnceWithFSType"];
const SHORTEST_PERIOD: i64 = 10;
const SHORTEST_TOKEN: i64 = 600;
const LONGEST_TOKEN: i64 = 1 << 32;

/// The definition of CSIDriver.
pub fn definition() -> Definition {
    Definition::of::<CSIDriver>()
        .cluster()
        .returns_deleted()
        .unconditional_update(false)
        .default(default)
        .validate(validate)
        .validate_update(validate_update)
        .generation(|new, old| new.spec != old.spec)
        .column("AttachRequired", "boolean", "Whether its volumes are attached to nodes.", |driver, _| {
            json!(driver.spec.attach_required.unwrap_or(true))
        })
        .column("PodInfoOnMount", "boolean", "Whether it is told of the pod.", |driver, _| {
            flag(&driver.spec.pod_info_on_mount)
        })
        .column("StorageCapacity", "boolean", "Whether it says how much storage is left.", |driver, _| {
            flag(&driver.spec.storage_capacity)
        })
        .column("TokenRequests", "string", "For whom it gets tokens of the pod.", |driver, _| {
            let Some(requests) = &driver.spec.token_requests else { return json!("<unset>") };
            let audiences: Vec<&str> = requests.iter().map(|request| request.audience.as_str()).collect();
            json!(audiences.join(","))
        })
        .column("RequiresRepublish", "boolean", "Whether it is asked again and again.", |driver, _| {
            flag(&driver.spec.requires_republish)
        })
        .column("Modes", "string", "Whose lives its volumes live.", |driver, _| {
            let modes = items(&driver.spec.volume_lifecycle_modes);
            json!(if modes.is_empty() { "<none>".into() } else { modes.join(",") })
        })
        .age()
        .build()
}

fn default(driver: &mut CSIDriver) {
    let spec = &mut driver.spec;
    spec.attach_required.get_or_insert(true);
    spec.pod_info_on_mount.get_or_insert(false);
    spec.storage_capacity.get_or_insert(false);
    spec.requires_republish.get_or_insert(false);
    spec.se_linux_mount.get_or_insert(false);
    fill(&mut spec.fs_group_policy, "ReadWriteOnceWithFSType");
    if items(&spec.volume_lifecycle_modes).is_empty() {
        spec.volume_lifecycle_modes = Some(vec!["Persistent".into()]);
    }
}

fn validate(driver: &CSIDriver) -> ErrorList {
    let mut errors = ErrorList::new();
    let metadata = FieldPath::new("metadata");
    driver_name(text(&driver.metadata.name), &metadata.child("name"), &mut errors);
    let (spec, path) = (&driver.spec, FieldPath::new("spec"));
    let (field, mut audiences) = (path.child("tokenRequests"), Seen::new());
    for (at, request) in items(&spec.token_requests).iter().enumerate() {
        let path = field.index(at);
        if !audiences.insert(request.audience.as_str()) {
            errors.push(FieldError::duplicate(&path.child("audience"), &request.audience));
        }
        let detail = match request.expiration_seconds {
            Some(seconds) if seconds < SHORTEST_TOKEN => "may not specify a duration less than 10 minutes",
            Some(seconds) if seconds > LONGEST_TOKEN => "may not specify a duration larger than 2^32 seconds",
            _ => continue,
        };
        let path = path.child("expirationSeconds");
        errors.push(FieldError::invalid(&path, request.expiration_seconds, detail));
    }
    let policy = text(&spec.fs_group_policy);
    checks::supported(policy, &GROUP_POLICIES, &path.child("fsGroupPolicy"), &mut errors);
    for mode in items(&spec.volume_lifecycle_modes) {
        checks::supported(mode, &LIFECYCLES, &path.child("volumeLifecycleModes"), &mut errors);
    }
    if let Some(period) = spec.node_allocatable_update_period_seconds.filter(|it| *it < SHORTEST_PERIOD) {
        let detail = format!("must be greater than or equal to {SHORTEST_PERIOD} seconds");
        let path = path.child("nodeAllocatableUpdatePeriodSeconds");
        errors.push(FieldError::invalid(&path, period, detail));
    }
    errors
}

fn validate_update(new: &CSIDriver, old: &CSIDriver) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = FieldPath::new("spec");
    let (new, old) = (&new.spec, &old.spec);
    errors.immutable(&path.child("attachedRequired"), &new.attach_required, &old.attach_required);
    let modes = path.child("volumeLifecycleModes");
    errors.immutable(&modes, &new.volume_lifecycle_modes, &old.volume_lifecycle_modes);
    errors
}
