//! DefaultTolerationSeconds: a pod stays for five minutes on a node that is not ready or unreachable.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions>

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Toleration};

use super::{Admission, AdmissionRequest, Operation, undo};
use crate::error::ApiError;

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: i64 = 300;

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultTolerationSeconds;

#[async_trait]
impl Admission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        matches!(request.operation(), Operation::Create | Operation::Update) && request.is("", "pods")
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let Some(pod) = request.as_kind::<Pod>() else { return Ok(()) };
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        let missing = TAINTS.map(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)));
        if missing == [false, false] {
            return Ok(());
        }
        if let Some(pod) = request.as_kind_mut::<Pod>() {
            let tolerations = pod.spec.get_or_insert_default().tolerations.get_or_insert_default();
            // Most pods have no others: room for just these is half of what a list that grows would take.
            tolerations.reserve_exact(missing.iter().filter(|missing| **missing).count());
            let wanted = TAINTS.iter().zip(missing).filter(|(_, missing)| *missing);
            tolerations.extend(wanted.map(|(taint, _)| toleration(taint)));
        }
        request.unowned(move |pod| {
            undo::items(pod, "/spec/tolerations", |item| {
                let key = item.get("key").and_then(serde_json::Value::as_str).unwrap_or_default();
                TAINTS.iter().zip(missing).any(|(taint, added)| added && *taint == key)
            });
        });
        Ok(())
    }
}

fn tolerates(toleration: &Toleration, taint: &str) -> bool {
    let is = |field: &Option<String>, wanted: &str| {
        let field = field.as_deref().unwrap_or_default();
        field.is_empty() || field == wanted
    };
    is(&toleration.key, taint) && is(&toleration.effect, "NoExecute")
}

fn toleration(taint: &str) -> Toleration {
    Toleration {
        key: Some(taint.into()),
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        toleration_seconds: Some(SECONDS),
        ..Toleration::default()
    }
}
