//! Which pods a node takes: each is looked at once, before anything is done for it.

use k8s_openapi::api::core::v1::{Node, Pod};
use rkube_api::{client::EventKind, helpers::pod as podutil};

use super::{
    pool::{Member, MemberState, Pool},
    template,
};
use crate::pod::{Note, Rejection, admit};

/// Whether a pod was taken, by this agent or, as its status shows, by the one before.
pub(super) fn taken(admitted: bool, pod: &Pod) -> bool {
    admitted || pod.status.as_ref().is_some_and(|status| status.start_time.is_some())
}

impl Pool {
    /// Takes a pod onto its node, or says why not. What ends anyway is not asked.
    pub(super) fn admit(&self, member: &Member, uid: &str, pod: &Pod) -> Result<(), Rejection> {
        if podutil::is_deleting(pod) || podutil::is_terminal(pod) || self.pods.taken(uid) {
            return Ok(());
        }
        let node = self.node_of(member);
        let mut state = member.state.lock();
        let MemberState { pods, used, .. } = &mut *state;
        let used = used.get_or_insert_with(|| self.pods.used(pods.iter()));
        let admitted = admit(pod, &node, used);
        if admitted.is_ok() {
            used.add(pod);
            self.pods.take(uid);
        }
        drop(state);
        if let Err(Rejection { reason, message }) = &admitted {
            let note = Note::of_pod(EventKind::Warning, reason.clone(), message.clone());
            self.tell(member, pod, || vec![note]);
        }
        admitted
    }

    /// The Node object as it is in the API, or as it will be.
    fn node_of(&self, member: &Member) -> std::sync::Arc<Node> {
        let known = self.node_informer.cache().get("", &member.name);
        known.unwrap_or_else(|| template::node(&self.facts(member, &Ok(()))).into())
    }
}
