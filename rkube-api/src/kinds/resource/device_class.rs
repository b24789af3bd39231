//! DeviceClass. Semantics: <https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>

use k8s_openapi::api::resource::v1::{DeviceClass, DeviceClassSpec};

use crate::{
    kinds::shared::{
        devices::{CONFIGS, Stored, configuration, selectors, too_many},
        items,
        pod::is_extended,
        semantic,
    },
    meta::{ErrorList, FieldError, FieldPath},
    registry::Definition,
};

/// The definition of DeviceClass.
pub fn definition() -> Definition {
    Definition::of::<DeviceClass>()
        .cluster()
        .validate_create(|class| validate(class.spec.as_ref(), None))
        .validate_update(|new, old| validate(new.spec.as_ref(), old.spec.as_ref()))
        .generation(|new, old| !semantic::equal(&new.spec, &old.spec))
        .build()
}

/// What was there before is not looked at again: it was fine when it came.
fn validate(spec: Option<&DeviceClassSpec>, old: Option<&DeviceClassSpec>) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(spec) = spec else { return errors };
    let path = FieldPath::new("spec");
    let stored = Stored(old.is_some_and(|old| semantic::equal(&old.selectors, &spec.selectors)));
    selectors(items(&spec.selectors), stored, &path.child("selectors"), &mut errors);
    let stored = Stored(old.is_some_and(|old| semantic::equal(&old.config, &spec.config)));
    let (configs, configs_path) = (items(&spec.config), path.child("config"));
    if !too_many(configs.len(), CONFIGS, &configs_path, &mut errors) {
        for (at, config) in configs.iter().enumerate() {
            configuration(config.opaque.as_ref(), stored, &configs_path.index(at), &mut errors);
        }
    }
    if let Some(name) = spec.extended_resource_name.as_ref().filter(|name| !is_extended(name)) {
        let path = path.child("extendedResourceName");
        errors.push(FieldError::invalid(&path, name, "must be a valid extended resource name"));
    }
    errors
}
