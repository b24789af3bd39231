//! The conditions of a pod that are the agent's: all others stay as they are.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use rkube_api::meta::conditions;

use super::{Input, status::time};

/// A duration as Go prints it, whole seconds: `10s`, `2m40s`, `5m0s`.
pub(super) fn span(wait: Duration) -> String {
    match (wait.as_secs() / 60, wait.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

struct Draft {
    kind: &'static str,
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Draft {
    fn yes(kind: &'static str) -> Self {
        Self { kind, status: true, reason: None, message: None }
    }

    fn no(kind: &'static str, reason: &'static str, message: Option<String>) -> Self {
        Self { kind, status: false, reason: Some(reason), message }
    }
}

fn names<'a>(
    statuses: impl Iterator<Item = &'a ContainerStatus>,
    wrong: fn(&ContainerStatus) -> bool,
) -> Vec<&'a str> {
    statuses.filter(|status| wrong(status)).map(|status| status.name.as_str()).collect()
}

fn initialized(status: &PodStatus, initialized: bool, phase: &str) -> Draft {
    if phase == "Succeeded" {
        return Draft { reason: Some("PodCompleted"), ..Draft::yes("Initialized") };
    }
    if initialized {
        return Draft::yes("Initialized");
    }
    let incomplete = names(status.init_container_statuses.iter().flatten(), |status| !status.ready);
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Draft::no("Initialized", "ContainersNotInitialized", Some(message))
}

fn containers_ready(input: &Input<'_>, status: &PodStatus, phase: &str) -> Draft {
    const KIND: &str = "ContainersReady";
    match phase {
        "Succeeded" => return Draft::no(KIND, "PodCompleted", None),
        "Failed" => return Draft::no(KIND, "PodFailed", None),
        _ => {}
    }
    let inits = input.pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars: Vec<&str> = inits
        .filter(|init| init.restart_policy.as_deref() == Some("Always"))
        .map(|init| init.name.as_str())
        .collect();
    let sidecars =
        status.init_container_statuses.iter().flatten().filter(|one| sidecars.contains(&&*one.name));
    let all = sidecars.chain(status.container_statuses.iter().flatten());
    let unready = names(all, |status| !status.ready);
    if unready.is_empty() {
        return Draft::yes(KIND);
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Draft::no(KIND, "ContainersNotReady", Some(message))
}

fn ready(input: &Input<'_>, status: &PodStatus, containers: &Draft) -> Draft {
    if !containers.status {
        return Draft { kind: "Ready", message: containers.message.clone(), ..*containers };
    }
    let have = status.conditions.as_deref().unwrap_or_default();
    let gates = input.pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let open: Vec<String> = gates
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match conditions::get(have, kind) {
                None => {
                    Some(format!("corresponding condition of pod readiness gate \"{kind}\" does not exist."))
                }
                Some(found) if found.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                    found.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if open.is_empty() {
        return Draft::yes("Ready");
    }
    Draft::no("Ready", "ReadinessGatesNotReady", Some(open.join(", ")))
}

/// Sets them; their transition times move with their status only.
pub(super) fn set(input: &Input<'_>, done: bool, status: &mut PodStatus) {
    let phase = status.phase.clone().unwrap_or_default();
    let sandbox = input.observed.pod.as_ref().is_some_and(|pod| pod.ready());
    let containers = containers_ready(input, status, &phase);
    let ready = ready(input, status, &containers);
    let network = Draft { status: sandbox, ..Draft::yes("PodReadyToStartContainers") };
    let mut drafts =
        vec![network, initialized(status, done, &phase), ready, containers, Draft::yes("PodScheduled")];
    if let (Some(eviction), "Failed") = (&input.memory.eviction, phase.as_str()) {
        drafts.push(Draft {
            reason: Some("TerminationByKubelet"),
            message: Some(eviction.message.clone()),
            ..Draft::yes("DisruptionTarget")
        });
    }
    let now = time(input.now).0;
    let reported = input.pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let ended = matches!(reported, Some("Failed" | "Succeeded"));
    let list = status.conditions.get_or_insert_default();
    for draft in drafts {
        let known = conditions::get(list, draft.kind);
        if draft.kind == "PodScheduled" && known.is_some_and(|known| known.status == "True") {
            // The scheduler's binding wrote it.
            continue;
        }
        if draft.kind == "Initialized" && ended && known.is_some() {
            // What became of the init containers is settled with the pod's end.
            continue;
        }
        let condition = PodCondition {
            type_: draft.kind.to_owned(),
            status: if draft.status { "True" } else { "False" }.to_owned(),
            reason: draft.reason.map(Into::into),
            message: draft.message,
            observed_generation: input.pod.metadata.generation,
            ..PodCondition::default()
        };
        conditions::set(list, condition, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_go_prints_them() {
        let texts: Vec<String> = [10, 160, 300].map(|s| span(Duration::from_secs(s))).into();
        assert_eq!(texts, ["10s", "2m40s", "5m0s"]);
    }
}
