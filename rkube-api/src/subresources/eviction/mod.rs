//! `pods/eviction`: a delete that disruption budgets may refuse.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>

mod budget;

use async_trait::async_trait;
use k8s_openapi::{
    api::{
        core::v1::{Pod, PodCondition},
        policy::v1::Eviction,
    },
    apimachinery::pkg::apis::meta::v1::DeleteOptions,
};

use self::budget::Allowed;
use super::{Handler, admit, check_place, success, typed_body};
use crate::{
    error::ApiError,
    helpers::pod as pods,
    meta::conditions,
    object::Object,
    pipeline::{ATTEMPTS, Call, Wanted, check_preconditions, read_object, remove, rewrite},
    request::{ApiResponse, Body},
};

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
        let wanted = eviction.delete_options.unwrap_or_default();
        for _ in 0..ATTEMPTS {
            if evict(call, &wanted, dry_run, &mut warnings).await? == Evicted::Yes {
                return Ok(success(warnings));
            }
        }
        Err(call.modified(call.name()))
    }
}

#[derive(PartialEq, Eq)]
enum Evicted {
    Yes,
    /// The pod has changed meanwhile, so that budgets may be about it now.
    LookAgain,
}

/// One attempt.
async fn evict(
    call: &Call<'_>,
    wanted: &DeleteOptions,
    dry_run: bool,
    warnings: &mut Vec<String>,
) -> Result<Evicted, ApiError> {
    let object = read_object(call).await?;
    let Some(pod) = object.as_kind::<Pod>() else {
        return Err(ApiError::internal("a pod is stored as another kind"));
    };
    // What is refused anyway takes nothing from a budget.
    check_preconditions(call, wanted, &object)?;
    let leave = leave(call, pod, dry_run).await?;
    let mut options = wanted.clone();
    let conditions = options.preconditions.get_or_insert_default();
    // The pod that was looked at, not another of its name.
    conditions.uid.get_or_insert_with(|| object.uid().to_owned());
    let pinned = leave != Leave::Freely && conditions.resource_version.is_none();
    if pinned {
        conditions.resource_version = Some(object.resource_version().to_owned());
    }
    match (end(call, options, dry_run, warnings).await, leave) {
        (Ok(()), _) => Ok(Evicted::Yes),
        (Err(ApiError::Conflict { .. }), Leave::Pending) if pinned => Ok(Evicted::LookAgain),
        (Err(ApiError::Conflict { .. }), Leave::Unhealthy(budget)) if pinned => {
            Err(budget::unknown_yet(&budget))
        }
        (Err(error), _) => Err(error),
    }
}

/// How a pod may leave.
#[derive(PartialEq, Eq)]
enum Leave {
    Freely,
    /// As long as it hasn't begun to run: then budgets count it.
    Pending,
    /// As long as it isn't healthy: then this budget counts it.
    Unhealthy(String),
}

async fn leave(call: &Call<'_>, pod: &Pod, dry_run: bool) -> Result<Leave, ApiError> {
    if pods::is_terminal(pod) || pods::is_deleting(pod) {
        return Ok(Leave::Freely);
    }
    if pods::phase(pod) == "Pending" {
        return Ok(Leave::Pending);
    }
    Ok(match budget::ask(call, pod, dry_run).await? {
        Allowed::Freely => Leave::Freely,
        Allowed::Unhealthy(budget) => Leave::Unhealthy(budget),
    })
}

/// Says on the pod why it goes (KEP-3329), and deletes it.
async fn end(
    call: &Call<'_>,
    mut options: DeleteOptions,
    dry_run: bool,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    if !dry_run {
        let now = call.server.context().clock.now().0;
        let marked = rewrite(call, |object| {
            check_preconditions(call, &options, object)?;
            marked(object, now)
        })
        .await?;
        let version = options.preconditions.as_mut().and_then(|wanted| wanted.resource_version.as_mut());
        if let Some(version) = version {
            marked.resource_version().clone_into(version);
        }
    }
    remove(call, &call.key()?, &Wanted { options: &options, dry_run, admit: false }, warnings).await?;
    Ok(())
}

fn marked(object: &Object, now: jiff::Timestamp) -> Result<Object, ApiError> {
    let mut object = object.clone();
    let Some(pod) = object.as_kind_mut::<Pod>() else {
        return Err(ApiError::internal("a pod is stored as another kind"));
    };
    let condition = PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some("EvictionByEvictionAPI".into()),
        message: Some("Eviction API: evicting".into()),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    };
    let list = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions::set(list, condition, now);
    Ok(object)
}
