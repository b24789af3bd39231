//! ServiceAccount: a pod runs as a service account that exists, and has its token mounted.
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#serviceaccount-admission-controller>

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath,
    ObjectFieldSelector, Pod, PodSpec, ProjectedVolumeSource, ServiceAccount as Account,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use serde_json::Value;

use super::{Admission, AdmissionRequest, Operation, undo};
use crate::error::ApiError;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// An hour, and seven seconds by which such tokens are told from others.
const TOKEN_SECONDS: i64 = 3607;

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServiceAccount;

#[async_trait]
impl Admission for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.operation() == Operation::Create && request.is("", "pods")
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let Some(pod) = request.as_kind::<Pod>() else { return Ok(()) };
        // A mirror pod of a node has no access to the API.
        if pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR)) {
            return Ok(());
        }
        let spec = pod.spec.as_ref();
        let named =
            spec.and_then(|spec| spec.service_account_name.as_deref().or(spec.service_account.as_deref()));
        let named = named.filter(|name| !name.is_empty()).map(str::to_owned);
        let name = named.clone().unwrap_or_else(|| "default".into());
        let automount = spec.and_then(|spec| spec.automount_service_account_token);
        let account = account(request, &name).await?;
        let secrets = account.image_pull_secrets.clone().filter(|secrets| !secrets.is_empty());
        let mounts = automount.or(account.automount_service_account_token).unwrap_or(true);
        let suffix = request.context().rng.suffix(5);
        let mut added = Added { name: named.is_none(), ..Added::default() };
        if let Some(pod) = request.as_kind_mut::<Pod>() {
            let spec = pod.spec.get_or_insert_default();
            spec.service_account_name = Some(name.clone());
            spec.service_account = Some(name);
            if mounts {
                added.volume = mount(spec, suffix);
            }
            if spec.image_pull_secrets.as_deref().unwrap_or_default().is_empty() && secrets.is_some() {
                spec.image_pull_secrets = secrets;
                added.secrets = true;
            }
        }
        request.unowned(move |pod| added.undo(pod));
        Ok(())
    }
}

async fn account(request: &AdmissionRequest<'_>, name: &str) -> Result<std::sync::Arc<Account>, ApiError> {
    let namespace = request.namespace();
    let found = request.reader().get::<Account>(namespace, name).await?;
    found.ok_or_else(|| {
        request.forbidden(&format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        ))
    })
}

/// What the plugin has put into a pod.
#[derive(Default)]
struct Added {
    name: bool,
    volume: Option<String>,
    secrets: bool,
}

impl Added {
    fn undo(&self, pod: &mut Value) {
        undo::fields(pod, "/spec", &["serviceAccount"]);
        if self.name {
            undo::fields(pod, "/spec", &["serviceAccountName"]);
        }
        if self.secrets {
            undo::fields(pod, "/spec", &["imagePullSecrets"]);
        }
        let Some(volume) = &self.volume else { return };
        let is = |item: &Value| item.get("name").and_then(Value::as_str) == Some(volume);
        undo::items(pod, "/spec/volumes", is);
        for containers in ["/spec/containers", "/spec/initContainers"] {
            for container in pod.pointer_mut(containers).and_then(Value::as_array_mut).into_iter().flatten() {
                undo::items(container, "/volumeMounts", is);
            }
        }
    }
}

/// Mounts the token in each container that has nothing at its path. The name of the volume, if it is new.
fn mount(spec: &mut PodSpec, suffix: String) -> Option<String> {
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    let existing = volumes.iter().find(|volume| volume.name.starts_with(VOLUME_PREFIX));
    let existing = existing.map(|volume| volume.name.clone());
    let name = existing.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{suffix}"));
    let mut mounted = false;
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    for container in containers.filter(|container| !is_mounted(container)) {
        container.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: name.clone(),
            mount_path: MOUNT_PATH.into(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
        mounted = true;
    }
    if existing.is_some() || !mounted {
        return None;
    }
    spec.volumes.get_or_insert_default().push(volume(name.clone()));
    Some(name)
}

fn is_mounted(container: &Container) -> bool {
    container.volume_mounts.iter().flatten().any(|mount| mount.mount_path == MOUNT_PATH)
}

fn volume(name: String) -> Volume {
    let token = ServiceAccountTokenProjection {
        path: "token".into(),
        expiration_seconds: Some(TOKEN_SECONDS),
        ..ServiceAccountTokenProjection::default()
    };
    let certificate = ConfigMapProjection {
        name: "kube-root-ca.crt".into(),
        items: Some(vec![KeyToPath { key: "ca.crt".into(), path: "ca.crt".into(), ..KeyToPath::default() }]),
        optional: None,
    };
    let namespace = DownwardAPIProjection {
        items: Some(vec![DownwardAPIVolumeFile {
            path: "namespace".into(),
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".into()),
                field_path: "metadata.namespace".into(),
            }),
            ..DownwardAPIVolumeFile::default()
        }]),
    };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
        VolumeProjection { config_map: Some(certificate), ..VolumeProjection::default() },
        VolumeProjection { downward_api: Some(namespace), ..VolumeProjection::default() },
    ];
    Volume {
        name,
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o644),
            sources: Some(sources),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }
}
