//! A runtime that does at once what it is asked, and a small API: enough to drive plans by hand.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use rkube_node::{
    pod::{Action, Input, Memory, NodeFacts, Observed, Plan, plan},
    runtime::{ContainerState, Exit, ImageState, Probe, RuntimeContainer, RuntimePod, Sandbox},
};

pub(crate) fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "p", "namespace": "default", "uid": "u", "generation": 1},
        "spec": spec,
    }))
    .unwrap()
}

pub(crate) struct Model {
    pub(crate) pod: Pod,
    pub(crate) gone: bool,
    pub(crate) observed: Observed,
    pub(crate) memory: Memory,
    pub(crate) node: NodeFacts,
    pub(crate) now: Timestamp,
    /// What pulls come to.
    pub(crate) pulls: Result<(), String>,
    pub(crate) log: Vec<Action>,
}

impl Model {
    pub(crate) fn new(spec: serde_json::Value) -> Self {
        Self {
            pod: pod(spec),
            gone: false,
            observed: Observed::default(),
            memory: Memory::default(),
            node: NodeFacts {
                ips: vec!["172.16.0.1".parse().unwrap()],
                runtime: "sim".into(),
                ..NodeFacts::default()
            },
            now: Timestamp::from_second(1_767_225_600).unwrap(),
            pulls: Ok(()),
            log: Vec::new(),
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        plan(&Input {
            pod: &self.pod,
            gone: self.gone,
            observed: &self.observed,
            memory: &self.memory,
            node: &self.node,
            now: self.now,
        })
    }

    /// Plans and acts until there is nothing to do; reports the status. Gives the last plan.
    pub(crate) fn settle(&mut self) -> Plan {
        for _ in 0..32 {
            let plan = self.plan();
            if !self.gone {
                self.pod.status = Some(plan.status.clone());
            }
            if plan.actions.is_empty() {
                return plan;
            }
            for action in &plan.actions {
                self.apply(action);
            }
        }
        panic!("no end of actions: {:?}", self.log);
    }

    pub(crate) fn later(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    pub(crate) fn apply(&mut self, action: &Action) {
        self.log.push(action.clone());
        self.memory.note(action, &self.node.backoff, self.now);
        let now = self.now;
        match action {
            Action::RunSandbox { attempt } => {
                let pod = self.observed.pod.get_or_insert_with(|| RuntimePod {
                    uid: "u".into(),
                    namespace: "default".into(),
                    name: "p".into(),
                    sandbox: None,
                    containers: Vec::new(),
                });
                pod.sandbox = Some(Sandbox {
                    id: format!("s{attempt}"),
                    attempt: *attempt,
                    ready: true,
                    created_at: now,
                    ips: vec!["10.244.0.2".parse().unwrap()],
                });
            }
            Action::Pull { image, .. } => {
                self.observed.images.retain(|(name, _)| name != image);
                let state = match &self.pulls {
                    Ok(()) => ImageState::Present { id: "sha256:1".into(), at: now },
                    Err(error) => ImageState::Failed { error: error.as_str().into(), at: now },
                };
                self.observed.images.push((image.clone(), state));
            }
            Action::Start { container, attempt, image, .. } => self.containers().push(RuntimeContainer {
                id: format!("{container}-{attempt}"),
                name: container.as_str().into(),
                attempt: *attempt,
                image: image.as_str().into(),
                image_id: "sha256:1".into(),
                state: ContainerState::Running { since: now },
            }),
            Action::Stop { container, .. } => self.exit(container, 0),
            Action::RemoveContainer { id } => self.containers().retain(|one| one.id != *id),
            Action::StopSandbox => {
                if let Some(sandbox) = self.observed.pod.as_mut().and_then(|pod| pod.sandbox.as_mut()) {
                    sandbox.ready = false;
                }
            }
            Action::RemovePod => self.observed.pod = None,
            Action::DeleteObject => self.gone = true,
        }
    }

    pub(crate) fn containers(&mut self) -> &mut Vec<RuntimeContainer> {
        &mut self.observed.pod.as_mut().unwrap().containers
    }

    pub(crate) fn running(&self) -> Vec<String> {
        let all = self.observed.pod.iter().flat_map(|pod| &pod.containers);
        all.filter(|one| matches!(one.state, ContainerState::Running { .. }))
            .map(|one| one.name.to_string())
            .collect()
    }

    /// A running container ends.
    pub(crate) fn exit(&mut self, name: &str, code: i32) {
        let now = self.now;
        for container in self.containers() {
            if let ContainerState::Running { since } = container.state
                && &*container.name == name
            {
                container.state = ContainerState::Exited(Exit {
                    started_at: Some(since),
                    finished_at: now,
                    code,
                    reason: None,
                    message: None,
                });
            }
        }
    }

    pub(crate) fn probe(&mut self, name: &str, probe: Probe) {
        self.observed.probes.retain(|(known, _)| &**known != name);
        self.observed.probes.push((Arc::from(name), probe));
    }

    pub(crate) fn delete(&mut self, grace: i64) {
        self.pod.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
    }

    pub(crate) fn status(&self) -> &PodStatus {
        self.pod.status.as_ref().unwrap()
    }

    pub(crate) fn phase(&self) -> &str {
        self.status().phase.as_deref().unwrap_or_default()
    }

    pub(crate) fn container(&self, name: &str) -> &ContainerStatus {
        let status = self.status();
        let inits = status.init_container_statuses.iter().flatten();
        inits.chain(status.container_statuses.iter().flatten()).find(|one| one.name == name).unwrap()
    }

    /// `waiting:Reason`, `running`, `terminated:Reason:code`.
    pub(crate) fn state(&self, name: &str) -> String {
        let state = self.container(name).state.clone().unwrap_or_default();
        match (state.waiting, state.running, state.terminated) {
            (Some(waiting), None, None) => format!("waiting:{}", waiting.reason.unwrap_or_default()),
            (None, Some(_), None) => "running".into(),
            (None, None, Some(ended)) => {
                format!("terminated:{}:{}", ended.reason.unwrap_or_default(), ended.exit_code)
            }
            other => panic!("not one state: {other:?}"),
        }
    }

    /// `True`, or `False:Reason`.
    pub(crate) fn condition(&self, kind: &str) -> String {
        let all = self.status().conditions.iter().flatten();
        let found = all.clone().filter(|condition| condition.type_ == kind).collect::<Vec<_>>();
        assert_eq!(found.len(), 1, "{kind} in {all:?}");
        match &found[0].reason {
            Some(reason) => format!("{}:{reason}", found[0].status),
            None => found[0].status.clone(),
        }
    }
}
