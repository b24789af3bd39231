//! `pods/eviction`: a delete that disruption budgets may refuse.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>

use async_trait::async_trait;
use k8s_openapi::api::{core::v1::Pod, policy::v1::Eviction};

use super::{Handler, admit, check_place, success, typed_body};
use crate::{
    error::{ApiError, Cause},
    pipeline::{Call, Reader, Wanted, read_object, remove},
    request::{ApiResponse, Body},
};

/// A budget that a pod is under, as an eviction sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its name, in the pod's namespace.
    pub name: String,
    /// How many pods it wants healthy.
    pub desired: i32,
    /// How many are.
    pub healthy: i32,
}

/// Knows the budgets that guard pods against evictions. Without any, every eviction goes through.
#[async_trait]
pub trait DisruptionBudgets: Send + Sync + 'static {
    /// The budgets that a pod is under.
    async fn of(&self, reader: &Reader, pod: &Pod) -> Result<Vec<Budget>, ApiError>;

    /// Takes one disruption from a budget; whether there was one left. A dry run takes none.
    async fn take(
        &self,
        reader: &Reader,
        budget: &Budget,
        pod: &Pod,
        dry_run: bool,
    ) -> Result<bool, ApiError>;
}

/// There are no budgets.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBudgets;

#[async_trait]
impl DisruptionBudgets for NoBudgets {
    async fn of(&self, _: &Reader, _: &Pod) -> Result<Vec<Budget>, ApiError> {
        Ok(Vec::new())
    }

    async fn take(&self, _: &Reader, _: &Budget, _: &Pod, _: bool) -> Result<bool, ApiError> {
        Ok(true)
    }
}

/// The handler.
pub(super) struct EvictPod;

#[async_trait]
impl Handler for EvictPod {
    fn serves(&self) -> (&str, &str, &str) {
        ("", "pods", "eviction")
    }

    async fn serve(&self, call: &Call<'_>, body: Body) -> Result<ApiResponse, ApiError> {
        let eviction = typed_body::<Eviction>(body)?;
        check_place(call, &eviction.metadata, "Eviction")?;
        let runs = eviction.delete_options.as_ref().and_then(|options| options.dry_run.as_deref());
        let dry_run = call.options.dry_run || runs.is_some_and(|runs| runs.iter().any(|run| run == "All"));
        let mut warnings = Vec::new();
        let eviction = admit(call, eviction, dry_run, &mut warnings).await?;
        let mut options = eviction.delete_options.unwrap_or_default();
        let object = read_object(call).await?;
        let Some(pod) = object.as_kind::<Pod>() else {
            return Err(ApiError::internal("a pod is stored as another kind"));
        };
        if is_guarded(pod) {
            check_budgets(call, pod, dry_run).await?;
            // The pod whose budget was asked, not another of its name.
            let wanted = options.preconditions.get_or_insert_default();
            wanted.uid.get_or_insert_with(|| object.uid().to_owned());
        }
        let wanted = Wanted { options: &options, dry_run, admit: false };
        remove(call, &call.key()?, &wanted, &mut warnings).await?;
        Ok(success(warnings))
    }
}

/// Whether the pod counts for budgets: it runs, and stays.
fn is_guarded(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none() && !["Pending", "Succeeded", "Failed"].contains(&phase)
}

async fn check_budgets(call: &Call<'_>, pod: &Pod, dry_run: bool) -> Result<(), ApiError> {
    let (guards, reader) = (call.server.budgets(), call.server.reader());
    let budgets = guards.of(reader, pod).await?;
    match budgets.as_slice() {
        [] => Ok(()),
        [budget] if guards.take(reader, budget, pod, dry_run).await? => Ok(()),
        [budget] => Err(ApiError::TooManyRequests {
            message: "Cannot evict pod as it would violate the pod's disruption budget.".into(),
            retry_after: 10,
            causes: vec![Cause::new(
                "DisruptionBudget",
                "",
                format!(
                    "The disruption budget {} needs {} healthy pods and has {} currently",
                    budget.name, budget.desired, budget.healthy
                ),
            )],
        }),
        _ => Err(ApiError::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        )),
    }
}
