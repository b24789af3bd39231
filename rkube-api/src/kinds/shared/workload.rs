//! What workloads share: a pod template and its defaults.

use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::pod_defaults;

/// Fills a template's pod spec.
pub(crate) fn default_template(template: &mut PodTemplateSpec) {
    if let Some(spec) = &mut template.spec {
        pod_defaults::pod_spec(spec);
    }
}
