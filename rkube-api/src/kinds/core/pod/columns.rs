//! A pod's row: what `kubectl get pods` shows of it.

use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};

use crate::{
    helpers::pod::is_sidecar,
    kinds::shared::{items, printing, text},
    meta::conditions,
    registry::{Builder, Cell},
};

/// Adds the columns.
pub(super) fn add(builder: Builder<Pod>) -> Builder<Pod> {
    builder
        .column("Ready", "string", "How many of the containers are ready.", |pod, _| {
            let summary = Summary::of(pod);
            json!(format!("{}/{}", summary.ready, summary.total))
        })
        .column("Status", "string", "What the containers are doing, together.", |pod, _| {
            json!(Summary::of(pod).reason)
        })
        .column("Restarts", "string", "How often containers were restarted, and when last.", |pod, at| {
            json!(Summary::of(pod).restarts_text(at))
        })
        .age()
        .wide("IP", "string", "The pod's first address.", |pod, _| {
            let addresses = pod.status.as_ref().map_or(&[][..], |status| items(&status.pod_ips));
            printing::or(addresses.first().map_or("", |address| &address.ip), printing::NONE)
        })
        .wide("Node", "string", "The node that runs it.", |pod, _| {
            printing::or(pod.spec.as_ref().map_or("", |spec| text(&spec.node_name)), printing::NONE)
        })
        .wide("Nominated Node", "string", "The node where others make room for it.", |pod, _| {
            let nominated = pod.status.as_ref().map_or("", |status| text(&status.nominated_node_name));
            printing::or(nominated, printing::NONE)
        })
        .wide("Readiness Gates", "string", "How many of its readiness gates are open.", |pod, _| gates(pod))
}

fn gates(pod: &Pod) -> Value {
    let gates = pod.spec.as_ref().map_or(&[][..], |spec| items(&spec.readiness_gates));
    if gates.is_empty() {
        return json!(printing::NONE);
    }
    let conditions = pod.status.as_ref().map_or(&[][..], |status| items(&status.conditions));
    let open = gates.iter().filter(|gate| conditions::is_true(conditions, &gate.condition_type)).count();
    json!(format!("{open}/{}", gates.len()))
}

/// What a row says of a pod's containers.
#[derive(Debug, Default, PartialEq)]
struct Summary<'a> {
    ready: usize,
    total: usize,
    reason: String,
    restarts: Restarts<'a>,
}

/// How often containers were restarted, and when one last ended before that.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Restarts<'a> {
    count: i32,
    last: Option<&'a Time>,
}

impl<'a> Restarts<'a> {
    fn add(&mut self, container: &'a ContainerStatus) {
        self.count = self.count.saturating_add(container.restart_count);
        let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        self.last = self.last.max(ended.and_then(|ended| ended.finished_at.as_ref()));
    }
}

impl<'a> Summary<'a> {
    fn of(pod: &'a Pod) -> Self {
        let inits = pod.spec.as_ref().map_or(&[][..], |spec| items(&spec.init_containers));
        let sidecars = inits.iter().filter(|init| is_sidecar(init)).count();
        let mut summary = Self {
            total: pod.spec.as_ref().map_or(0, |spec| spec.containers.len()) + sidecars,
            ..Self::default()
        };
        if let Some(status) = &pod.status {
            summary.containers(pod, status);
        }
        summary.deletion(pod);
        summary
    }

    fn containers(&mut self, pod: &'a Pod, status: &'a PodStatus) {
        self.reason = match text(&status.reason) {
            "" => text(&status.phase).to_owned(),
            reason => reason.to_owned(),
        };
        let conditions = items(&status.conditions);
        if conditions.iter().any(|c| c.type_ == "PodScheduled" && text(&c.reason) == "SchedulingGated") {
            self.reason = "SchedulingGated".into();
        }
        let mut sidecar_restarts = Restarts::default();
        let initializing = self.init_containers(pod, status, &mut sidecar_restarts);
        if !initializing || conditions::is_true(conditions, "Initialized") {
            self.restarts = sidecar_restarts;
            self.main_containers(status);
        }
    }

    /// Whether the pod is still at its init containers.
    fn init_containers(
        &mut self,
        pod: &'a Pod,
        status: &'a PodStatus,
        sidecar_restarts: &mut Restarts<'a>,
    ) -> bool {
        let inits = pod.spec.as_ref().map_or(&[][..], |spec| items(&spec.init_containers));
        for (at, container) in items(&status.init_container_statuses).iter().enumerate() {
            let sidecar = inits.iter().any(|init| init.name == container.name && is_sidecar(init));
            self.restarts.add(container);
            if sidecar {
                sidecar_restarts.add(container);
            }
            let state = container.state.as_ref();
            let ended = state.and_then(|state| state.terminated.as_ref());
            let waiting = state.and_then(|state| state.waiting.as_ref()).map_or("", |w| text(&w.reason));
            match ended {
                Some(ended) if ended.exit_code == 0 => continue,
                _ if sidecar && container.started == Some(true) => {
                    self.ready += usize::from(container.ready);
                    continue;
                }
                Some(ended) => self.reason = format!("Init:{}", end_reason(ended)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => {
                    self.reason = format!("Init:{waiting}");
                }
                None => self.reason = format!("Init:{at}/{}", inits.len()),
            }
            return true;
        }
        false
    }

    fn main_containers(&mut self, status: &'a PodStatus) {
        let mut running = false;
        for container in items(&status.container_statuses).iter().rev() {
            self.restarts.add(container);
            let nothing = ContainerState::default();
            let state = container.state.as_ref().unwrap_or(&nothing);
            let waiting = state.waiting.as_ref().map_or("", |waiting| text(&waiting.reason));
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(ended) = &state.terminated {
                self.reason = end_reason(ended);
            } else if container.ready && state.running.is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = conditions::is_true(items(&status.conditions), "Ready");
            self.reason = if ready { "Running" } else { "NotReady" }.into();
        }
    }

    fn deletion(&mut self, pod: &Pod) {
        if pod.metadata.deletion_timestamp.is_none() {
            return;
        }
        let (reason, phase) =
            pod.status.as_ref().map_or(("", ""), |status| (text(&status.reason), text(&status.phase)));
        if reason == "NodeLost" {
            self.reason = "Unknown".into();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            self.reason = "Terminating".into();
        }
    }

    fn restarts_text(&self, at: &Cell) -> String {
        match self.restarts {
            Restarts { count, last: Some(last) } if count != 0 => {
                format!("{count} ({} ago)", printing::since(Some(last), at.now))
            }
            Restarts { count, .. } => count.to_string(),
        }
    }
}

fn end_reason(ended: &ContainerStateTerminated) -> String {
    match (text(&ended.reason), ended.signal.unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", ended.exit_code),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}
