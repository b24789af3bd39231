//! The workers: observe a pod, plan, act, report, until there is nothing to do.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodStatus};
use rkube_api::{
    client::{Api, DeleteParams, EventKind, PostParams, reference_to},
    error::ApiError,
};

use super::{
    AddressError,
    pods::News,
    pool::{Member, Pool},
};
use crate::{
    crowd::Crowd,
    pod::{Action, Input, Memory, Note, Observed, about, container_of, images, notes, notes_of_action, plan},
    runtime::{ContainerRequest, ContainerState, PullRequest, RuntimeError, RuntimePod, SandboxRequest},
};

/// A pod that is not done after so many rounds goes to the end of the queue.
const ROUNDS: usize = 16;

/// Why a pod has to wait and be tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// What a worker does with a pod next.
enum Next {
    /// Nothing, until something changes.
    Rest,
    /// Look again after this.
    After(Duration),
}

impl Pool {
    /// One worker: one pod at a time, besides those that wait for their runtimes. When the pool stops, what
    /// is under way is brought to an end and nothing else is begun.
    pub(super) async fn work(self: Arc<Self>) {
        // What a node has room for is known only when all its pods are.
        let synced = async {
            self.pod_informer.synced().await;
            self.node_informer.synced().await;
        };
        self.stopping.run_until_cancelled(synced).await;
        let mut busy = Crowd::new(1);
        loop {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => break,
                () = busy.step() => {}
                uid = self.queue.next(), if busy.has_room() => match uid {
                    Some(uid) => busy.add(self.work_on(uid)),
                    None => break,
                },
            }
        }
        while !busy.is_empty() {
            busy.step().await;
        }
    }

    /// Works on one pod. A panic on the way (a runtime's, say) is its pod's affair: others are worked on, and
    /// it is tried again.
    async fn work_on(&self, uid: Arc<str>) {
        match AssertUnwindSafe(self.sync(&uid)).catch_unwind().await {
            Ok(Ok(next)) => {
                self.queue.forget(&uid);
                if let Next::After(wait) = next {
                    self.queue.add_after(uid.clone(), wait);
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(pod = %uid, %error, "a pod is tried again later");
                self.queue.add_rate_limited(uid.clone());
            }
            Err(_) => {
                tracing::error!(pod = %uid, "the work on a pod panicked");
                self.queue.add_rate_limited(uid.clone());
            }
        }
        self.queue.done(&uid);
    }

    async fn sync(&self, uid: &Arc<str>) -> Result<Next, SyncError> {
        let Some((member, ..)) = self.pods.look(uid) else { return Ok(Next::Rest) };
        let mut memory = self.pods.memory(uid);
        let next = self.rounds(&member, uid, &mut memory).await;
        self.pods.remember(uid, memory);
        next
    }

    async fn rounds(
        &self,
        member: &Arc<Member>,
        uid: &Arc<str>,
        memory: &mut Memory,
    ) -> Result<Next, SyncError> {
        for _ in 0..ROUNDS {
            if !member.running() || self.stopping.is_cancelled() {
                return Ok(Next::Rest);
            }
            let Some((_, pod, gone)) = self.pods.look(uid) else { return Ok(Next::Rest) };
            if !gone
                && memory.rejection.is_none()
                && let Err(rejection) = self.admit(member, uid, &pod)
            {
                memory.rejection.get_or_insert(rejection);
            }
            let observed = self.observe(member, uid, &pod, gone).await?;
            let now = self.context.clock.timestamp();
            let plan =
                plan(&Input { pod: &pod, gone, observed: &observed, memory, node: &member.facts, now });
            if plan.finished {
                self.forget(member, uid);
                return Ok(Next::Rest);
            }
            let report = plan.actions.is_empty()
                || plan.actions.contains(&Action::DeleteObject)
                || member.info.capabilities.slow;
            if report && !gone && !self.report(member, uid, &pod, &plan.status).await? {
                // Someone else changed it meanwhile: plan anew.
                continue;
            }
            if plan.actions.is_empty() {
                let wait = plan.wake.map(|wake| Duration::try_from(wake.duration_since(now)));
                return Ok(wait.map_or(Next::Rest, |wait| Next::After(wait.unwrap_or_default())));
            }
            for action in &plan.actions {
                if let Err(error) = self.act(member, uid, &pod, action).await {
                    self.failed(member, uid, &pod, action, &error);
                    if !gone {
                        self.report(member, uid, &pod, &plan.status).await?;
                    }
                    return Err(error);
                }
                self.tell(member, &pod, || notes_of_action(&pod, action, memory));
                memory.note(action, &member.facts.backoff, now);
            }
        }
        Ok(Next::After(Duration::ZERO))
    }

    /// Takes a newer version of a pod from a write's answer.
    fn refresh(&self, member: &Arc<Member>, uid: &Arc<str>, pod: &Arc<Pod>) {
        if self.pods.put(uid, member, pod, false) == (News::Changed { room: true }) {
            member.state.lock().used = None;
        }
    }

    /// Nothing is left of a pod.
    fn forget(&self, member: &Member, uid: &Arc<str>) {
        self.addresses.release(&member.name, uid);
        self.pods.remove(uid);
        let mut state = member.state.lock();
        state.pods.remove(uid);
        state.used = None;
    }

    /// A pod's object is no more, as an answer shows before the informer does: it takes no room.
    fn gone(&self, member: &Member, uid: &Arc<str>) {
        self.pods.mark_gone(uid);
        member.state.lock().used = None;
    }

    /// Writes the status if there is news. `false`: the pod has changed meanwhile and was read anew.
    async fn report(
        &self,
        member: &Arc<Member>,
        uid: &Arc<str>,
        pod: &Arc<Pod>,
        status: &PodStatus,
    ) -> Result<bool, SyncError> {
        if pod.status.as_ref() == Some(status) {
            return Ok(true);
        }
        let api = self.pod_api(member, pod);
        let mut new = Pod::clone(pod);
        new.status = Some(status.clone());
        match api.update_status(&PostParams::default(), new).await {
            Ok(written) => {
                let old = pod.status.clone().unwrap_or_default();
                self.tell(member, pod, || notes(pod, &old, status));
                self.refresh(member, uid, &written);
                Ok(true)
            }
            Err(ApiError::Conflict { .. }) => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                match api.get_opt(name).await? {
                    Some(newer) if newer.metadata.uid == pod.metadata.uid => {
                        self.refresh(member, uid, &newer)
                    }
                    _ => self.gone(member, uid),
                }
                Ok(false)
            }
            Err(ApiError::NotFound { .. }) => {
                self.gone(member, uid);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks the runtime what the plan needs to know.
    async fn observe(
        &self,
        member: &Member,
        uid: &str,
        pod: &Pod,
        gone: bool,
    ) -> Result<Observed, RuntimeError> {
        let found = self.answer(member.runtime.pod(uid)).await?;
        let mut observed = Observed::default();
        if !gone {
            for image in missing_images(pod, found.as_ref()) {
                let state = self.answer(member.runtime.image(uid, image)).await?;
                observed.images.push((image.to_owned(), state));
            }
        }
        if let (Some(probes), Some(found)) = (&member.info.capabilities.probes, &found) {
            for container in &found.containers {
                if matches!(container.state, ContainerState::Running { .. }) {
                    observed.probes.push((container.name.clone(), probes.probe(uid, container)));
                }
            }
        }
        observed.pod = found;
        Ok(observed)
    }

    /// An answer of a runtime, if it comes in time.
    async fn answer<T>(
        &self,
        call: impl Future<Output = Result<T, RuntimeError>>,
    ) -> Result<T, RuntimeError> {
        let limit = self.config.runtime_timeout;
        tokio::time::timeout(limit, call).await.unwrap_or(Err(RuntimeError::TimedOut))
    }

    fn pod_api(&self, member: &Member, pod: &Pod) -> Api<Pod> {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        Api::namespaced(self.client_of(member), namespace)
    }

    async fn act(
        &self,
        member: &Arc<Member>,
        uid: &Arc<str>,
        pod: &Arc<Pod>,
        action: &Action,
    ) -> Result<(), SyncError> {
        let runtime = &member.runtime;
        match action {
            Action::RunSandbox { attempt } => {
                let ips = self.addresses_of(member, uid, pod)?;
                let request = SandboxRequest { pod, uid, attempt: *attempt, ips: &ips };
                self.answer(runtime.run_sandbox(request)).await?;
            }
            Action::Pull { image, .. } => {
                self.answer(runtime.pull_image(PullRequest { pod, uid, image })).await?
            }
            Action::Start { container, role, attempt, .. } => {
                let container = pod.spec.as_ref().and_then(|spec| container_of(spec, container));
                if let Some(container) = container.as_deref() {
                    let request = ContainerRequest { pod, uid, container, role: *role, attempt: *attempt };
                    self.answer(runtime.start_container(request)).await?;
                }
            }
            Action::Stop { id, grace, .. } => self.answer(runtime.stop_container(uid, id, *grace)).await?,
            Action::RemoveContainer { id } => self.answer(runtime.remove_container(uid, id)).await?,
            Action::StopSandbox => {
                self.answer(runtime.stop_sandbox(uid)).await?;
                self.addresses.release(&member.name, uid);
            }
            Action::RemovePod => {
                self.answer(runtime.remove_pod(uid)).await?;
                self.addresses.release(&member.name, uid);
            }
            Action::DeleteObject => self.delete(member, uid, pod).await?,
        }
        Ok(())
    }

    fn addresses_of(
        &self,
        member: &Member,
        uid: &str,
        pod: &Pod,
    ) -> Result<Vec<std::net::IpAddr>, AddressError> {
        let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or_default();
        if host_network || member.info.capabilities.assigns_addresses {
            return Ok(Vec::new());
        }
        self.addresses.allocate(&member.name, uid)
    }

    /// Deletes the object, which waited for its containers to end.
    async fn delete(&self, member: &Arc<Member>, uid: &Arc<str>, pod: &Pod) -> Result<(), ApiError> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        match self.pod_api(member, pod).delete(name, &DeleteParams::now().uid(&**uid)).await {
            // Finalizers hold it.
            Ok(Some(left)) if left.metadata.finalizers.as_ref().is_some_and(|all| !all.is_empty()) => {
                self.refresh(member, uid, &left);
            }
            // Gone; or the name belongs to another pod by now, so this one is gone too.
            Ok(_) | Err(ApiError::NotFound { .. } | ApiError::Conflict { .. }) => self.gone(member, uid),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn failed(&self, member: &Member, uid: &str, pod: &Pod, action: &Action, error: &SyncError) {
        let (reason, what) = match action {
            // A new node gets its range a moment after it registers: only a lasting lack is worth telling.
            _ if matches!(error, SyncError::Address(AddressError::NotReady { .. })) => {
                if self.queue.requeues(&uid.into()) < 3 {
                    return;
                }
                ("NetworkNotReady", "network is not ready")
            }
            Action::RunSandbox { .. } => ("FailedCreatePodSandBox", "Failed to create pod sandbox"),
            Action::Start { .. } | Action::Pull { .. } => ("Failed", "Error"),
            Action::Stop { .. } | Action::StopSandbox | Action::RemovePod => {
                ("FailedKillPod", "error killing pod")
            }
            Action::RemoveContainer { .. } | Action::DeleteObject => return,
        };
        let text = format!("{what}: {error}");
        let note = match action {
            Action::Start { container, .. } | Action::Pull { container, .. } => {
                about(pod, container)(EventKind::Warning, reason, text)
            }
            _ => Note::of_pod(EventKind::Warning, reason, text),
        };
        self.tell(member, pod, || vec![note]);
    }

    pub(super) fn tell(&self, member: &Member, pod: &Pod, notes: impl FnOnce() -> Vec<Note>) {
        let Some(recorder) = &self.recorder else { return };
        let recorder = recorder.on_host(member.name.clone());
        for Note { kind, reason, text, part } in notes() {
            let regarding = ObjectReference { field_path: part, ..reference_to(pod) };
            recorder.record_reference(regarding, kind, &reason, "", text);
        }
    }
}

/// The images of containers that do not run.
fn missing_images<'a>(pod: &'a Pod, found: Option<&RuntimePod>) -> Vec<&'a str> {
    let runs = |name: &str| {
        let latest = found.and_then(|found| found.latest(name));
        latest.is_some_and(|latest| !matches!(latest.state, ContainerState::Exited(_)))
    };
    let all = pod.spec.iter().flat_map(images);
    let mut images: Vec<&str> = all.filter(|(name, _)| !runs(name)).map(|(_, image)| image).collect();
    images.sort_unstable();
    images.dedup();
    images
}
