//! What to do about a deployment, as a pure function of what is there.
//!
//! The plan changes working copies of the replica sets and of the deployment, one step of the rollout at
//! a time; the actions are the difference to what was observed. Semantics: `pkg/controller/deployment`
//! of Kubernetes and the documentation page "Deployments".

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec},
        core::v1::{Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use rkube_api::meta::owners;

use super::{
    revision::{self, DESIRED_REPLICAS, HASH_LABEL, MAX_REPLICAS, REVISION, same_template},
    scale,
    size::{self, size},
    status::{self, PROGRESSING},
};
use crate::facts;

/// What is there.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The deployment.
    pub deployment: &'a Deployment,
    /// The replica sets that it controls.
    pub replica_sets: &'a [Arc<ReplicaSet>],
    /// The pods of those.
    pub pods: &'a [Arc<Pod>],
    /// The time.
    pub now: Time,
}

/// What to do, one after another.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the replica set of a new template.
    Create(Box<ReplicaSet>),
    /// Write a replica set; its size was `from`.
    Update {
        /// As it should be.
        set: Box<ReplicaSet>,
        /// The size it had.
        from: i32,
    },
    /// Delete a replica set that the history has no room for.
    Delete(Box<ReplicaSet>),
    /// Write the deployment's status (and revision annotation).
    UpdateStatus(Box<Deployment>),
    /// Tell that the selector selects everything, and do nothing else.
    SelectsAll,
}

/// The plan for a deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What to do.
    pub actions: Vec<Action>,
    /// When to look again even if nothing changes.
    pub look_again: Option<Duration>,
}

/// A replica set as it should be, beside what it was.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) set: ReplicaSet,
    observed: Option<Arc<ReplicaSet>>,
    delete: bool,
}

impl Set {
    pub(crate) fn size(&self) -> i32 {
        size(&self.set)
    }

    pub(crate) fn name(&self) -> &str {
        facts::name(&self.set.metadata)
    }

    fn action(self) -> Option<Action> {
        match self.observed {
            None => Some(Action::Create(Box::new(self.set))),
            Some(_) if self.delete => Some(Action::Delete(Box::new(self.set))),
            Some(observed) if *observed != self.set => {
                Some(Action::Update { from: size(&observed), set: Box::new(self.set) })
            }
            Some(_) => None,
        }
    }
}

/// The working copies.
#[derive(Clone, Debug)]
pub(crate) struct Work<'a> {
    pub(crate) deployment: Deployment,
    pub(crate) new: Option<Set>,
    pub(crate) old: Vec<Set>,
    observed: &'a Observed<'a>,
}

/// Decides what to do.
pub fn plan(observed: &Observed<'_>) -> Plan {
    let deployment = observed.deployment;
    let selector = &deployment.spec.selector;
    let selects_all = selector.match_labels.as_ref().is_none_or(|labels| labels.is_empty())
        && selector.match_expressions.as_ref().is_none_or(|list| list.is_empty());
    let mut work = Work::new(observed);
    if selects_all {
        work.deployment.status.get_or_insert_default().observed_generation = deployment.metadata.generation;
        let mut plan = work.finish();
        plan.actions.insert(0, Action::SelectsAll);
        return plan;
    }
    if deployment.metadata.deletion_timestamp.is_some() {
        work.count();
        return work.finish();
    }
    work.note_pause();
    if deployment.spec.paused == Some(true) || work.is_scaling() {
        work.sync_revision(false);
        scale::scale(&mut work);
        if deployment.spec.paused == Some(true) {
            work.clean_up();
        }
        work.count();
        return work.finish();
    }
    if size::is_rolling(deployment) {
        work.roll()
    } else {
        work.recreate()
    }
    let status = status::rolling(&work.deployment, &work.all(), work.newest(), &observed.now);
    work.deployment.status = Some(status);
    work.finish()
}

impl<'a> Work<'a> {
    fn new(observed: &'a Observed<'a>) -> Self {
        let mut sets: Vec<Set> = observed
            .replica_sets
            .iter()
            .map(|set| Set { set: (**set).clone(), observed: Some(set.clone()), delete: false })
            .collect();
        sets.sort_by(|a, b| facts::age_order(&a.set.metadata, &b.set.metadata));
        let template = Some(&observed.deployment.spec.template);
        let new = sets.iter().position(|set| same_template(set.set.spec.template.as_ref(), template));
        let new = new.map(|at| sets.remove(at));
        Self { deployment: observed.deployment.clone(), new, old: sets, observed }
    }

    pub(crate) fn newest(&self) -> Option<&ReplicaSet> {
        self.new.as_ref().map(|set| &set.set)
    }

    /// Every set, old ones first.
    fn all(&self) -> Vec<&ReplicaSet> {
        self.old.iter().chain(&self.new).map(|set| &set.set).collect()
    }

    fn total(&self) -> i32 {
        size::sum(self.old.iter().chain(&self.new).map(Set::size))
    }

    /// The difference between the working copies and what was observed.
    fn finish(self) -> Plan {
        let status = self.deployment.status.clone().unwrap_or_default();
        let look_again = status::look_again(&self.deployment, &status, &self.observed.now)
            .filter(|_| self.deployment.spec.paused != Some(true));
        let mut actions: Vec<Action> = self.new.into_iter().chain(self.old).filter_map(Set::action).collect();
        if self.deployment != *self.observed.deployment {
            actions.push(Action::UpdateStatus(Box::new(self.deployment)));
        }
        Plan { actions, look_again }
    }

    /// Counts without touching the rollout's conditions.
    fn count(&mut self) {
        let status = status::counted(&self.deployment, &self.all(), self.newest(), &self.observed.now);
        self.deployment.status = Some(status);
    }

    /// Says in the condition Progressing that the rollout pauses or goes on, so that the deadline starts
    /// anew.
    fn note_pause(&mut self) {
        let status = self.deployment.status.clone().unwrap_or_default();
        let timed_out = status::has_reason(&status, PROGRESSING, status::TIMED_OUT);
        if status::progress_deadline(&self.deployment).is_none() || timed_out {
            return;
        }
        let noted = status::has_reason(&status, PROGRESSING, status::PAUSED);
        let (reason, message) = match (self.deployment.spec.paused == Some(true), noted) {
            (true, false) => (status::PAUSED, "Deployment is paused"),
            (false, true) => (status::RESUMED, "Deployment is resumed"),
            _ => return,
        };
        let condition = status::condition(PROGRESSING, "Unknown", reason, message.into(), &self.observed.now);
        status::set(self.deployment.status.get_or_insert_default(), condition);
    }

    /// Whether the deployment's size has changed since its sets were last sized.
    fn is_scaling(&self) -> bool {
        let wanted = size::replicas(&self.deployment);
        let resized =
            |set: &Set| revision::number(&set.set, DESIRED_REPLICAS).is_some_and(|desired| desired != wanted);
        self.old.iter().chain(&self.new).any(|set| set.size() > 0 && resized(set))
    }

    /// Brings the new set's annotations and the deployment's revision up to date; makes the set if it is
    /// missing and `create` says so.
    fn sync_revision(&mut self, create: bool) {
        let of = |set: &Set| revision::revision(set.set.metadata.annotations.as_ref());
        let next = self.old.iter().map(of).max().unwrap_or(0).saturating_add(1);
        if let Some(new) = &mut self.new {
            revision::annotate(&self.deployment, &mut new.set, next);
            new.set.spec.min_ready_seconds = self.deployment.spec.min_ready_seconds;
            let (revision, name) = (of(new), new.name().to_owned());
            self.set_revision(revision);
            let status = self.deployment.status.get_or_insert_default();
            if status::get(status, PROGRESSING).is_none() {
                self.note_progress("FoundNewReplicaSet", format!("Found new replica set {name:?}"));
            }
        } else if create {
            let set = self.new_set(next);
            let name = facts::name(&set.metadata).to_owned();
            self.new = Some(Set { set, observed: None, delete: false });
            self.set_revision(next);
            self.note_progress("NewReplicaSetCreated", format!("Created new replica set {name:?}"));
        }
    }

    fn set_revision(&mut self, revision: i64) {
        let annotations = self.deployment.metadata.annotations.get_or_insert_default();
        annotations.insert(REVISION.into(), revision.to_string());
    }

    fn note_progress(&mut self, reason: &str, message: String) {
        if status::progress_deadline(&self.deployment).is_some() {
            let condition = status::condition(PROGRESSING, "True", reason, message, &self.observed.now);
            status::set(self.deployment.status.get_or_insert_default(), condition);
        }
    }

    /// The replica set of the deployment's template, as large as it may be at first.
    fn new_set(&self, next: i64) -> ReplicaSet {
        let deployment = &self.deployment;
        let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = revision::template_hash(&deployment.spec.template, collisions);
        let template = labelled(&deployment.spec.template, &hash);
        let mut selector = deployment.spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.clone());
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", facts::name(&deployment.metadata))),
                namespace: deployment.metadata.namespace.clone(),
                labels: template.metadata.as_ref().and_then(|meta| meta.labels.clone()),
                owner_references: owners::controller_ref(deployment).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                min_ready_seconds: deployment.spec.min_ready_seconds,
                replicas: Some(size::new_size(deployment, 0, self.total())),
                selector,
                template: Some(template),
            },
            status: None,
        };
        revision::annotate(deployment, &mut set, next);
        let wanted = size::replicas(deployment);
        revision::annotate_size(&mut set, wanted, wanted.saturating_add(size::max_surge(deployment)));
        set
    }

    /// Gives a set a size, and notes on it how large the deployment was. Says whether the size changed.
    pub(crate) fn resize(deployment: &Deployment, set: &mut Set, to: i32) -> bool {
        let wanted = size::replicas(deployment);
        let max = wanted.saturating_add(size::max_surge(deployment));
        let changed = set.size() != to;
        let noted = revision::number(&set.set, DESIRED_REPLICAS) == Some(wanted)
            && revision::number(&set.set, MAX_REPLICAS) == Some(max);
        if changed || !noted {
            set.set.spec.replicas = Some(to);
            revision::annotate_size(&mut set.set, wanted, max);
        }
        changed
    }

    /// One step of a rolling update: grow the new set, or else shrink the old ones.
    fn roll(&mut self) {
        self.sync_revision(true);
        let created = self.new.as_ref().is_some_and(|set| set.observed.is_none());
        if created || self.resize_new() || self.shrink_old() {
            return;
        }
        self.clean_up_if_complete();
    }

    fn resize_new(&mut self) -> bool {
        let (wanted, total) = (size::replicas(&self.deployment), self.total());
        let Some(new) = &mut self.new else { return false };
        let to = match new.size() {
            size if size == wanted => return false,
            size if size > wanted => wanted,
            size => size::new_size(&self.deployment, size, total),
        };
        to != new.size() && Self::resize(&self.deployment, new, to)
    }

    /// Shrinks old sets: first what isn't available anyway, then as far as availability allows.
    fn shrink_old(&mut self) -> bool {
        if self.old.iter().all(|set| set.size() == 0) {
            return false;
        }
        // A set that shrank and grows again may have fewer pods than its status says. Its next status will
        // tell, and bring the deployment up again.
        if self.all().into_iter().any(status::is_behind) {
            return false;
        }
        let least = size::replicas(&self.deployment) - size::max_unavailable(&self.deployment);
        let missing = self.newest().map_or(0, |set| size(set) - status::staying(set));
        let mut spare = self.total() - least - missing;
        if spare <= 0 {
            return false;
        }
        let deployment = &self.deployment;
        let mut changed = false;
        for set in &mut self.old {
            let broken = set.size() - status::staying(&set.set);
            let less = broken.min(spare);
            if less > 0 {
                let to = set.size() - less;
                changed |= Self::resize(deployment, set, to);
                spare -= less;
            }
        }
        let available = size::sum(self.all().into_iter().map(status::staying));
        let mut spare = spare.min(available - least);
        for set in &mut self.old {
            let less = set.size().min(spare);
            if less > 0 {
                let to = set.size() - less;
                changed |= Self::resize(&self.deployment, set, to);
                spare -= less;
            }
        }
        changed
    }

    /// One step of a recreation: stop every old pod, and only then start new ones.
    fn recreate(&mut self) {
        self.sync_revision(false);
        let deployment = &self.deployment;
        let mut stopping = false;
        for set in self.old.iter_mut().filter(|set| set.size() > 0) {
            stopping |= Self::resize(deployment, set, 0);
        }
        if stopping || self.old_pods_run() {
            return;
        }
        if self.new.is_none() {
            self.sync_revision(true);
        }
        let wanted = size::replicas(&self.deployment);
        if let Some(new) = &mut self.new
            && new.size() != wanted
        {
            Self::resize(&self.deployment, new, wanted);
        }
        self.clean_up_if_complete();
    }

    fn old_pods_run(&self) -> bool {
        let new = self.newest().and_then(|set| set.metadata.uid.as_deref()).unwrap_or_default();
        let ended = |pod: &Pod| facts::is_finished(pod);
        self.old.iter().any(|set| status::actual(&set.set) > 0)
            || self
                .observed
                .pods
                .iter()
                .any(|pod| !owners::is_controlled_by(&pod.metadata, new) && !ended(pod))
    }

    fn clean_up_if_complete(&mut self) {
        let status = self.deployment.status.clone().unwrap_or_default();
        if status::is_complete(&self.deployment, &status) {
            self.clean_up();
        }
    }

    /// Deletes the oldest empty sets that the history has no room for.
    fn clean_up(&mut self) {
        let limit = self.deployment.spec.revision_history_limit.filter(|limit| *limit != i32::MAX);
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { return };
        let mut old: Vec<&mut Set> =
            self.old.iter_mut().filter(|set| set.set.metadata.deletion_timestamp.is_none()).collect();
        let surplus = old.len().saturating_sub(limit);
        old.sort_by(|a, b| {
            let revision = |set: &Set| revision::revision(set.set.metadata.annotations.as_ref());
            let age = || facts::age_order(&a.set.metadata, &b.set.metadata);
            revision(a).cmp(&revision(b)).then_with(age)
        });
        for set in old.into_iter().take(surplus) {
            set.delete = set.size() == 0 && status::actual(&set.set) == 0 && !status::is_behind(&set.set);
        }
    }
}

/// The template with the label that sets its pods apart.
fn labelled(template: &PodTemplateSpec, hash: &str) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.into());
    template
}

/// The deployment after another object was found under its new replica set's name: the next name differs.
pub(crate) fn after_collision(deployment: &Deployment) -> Deployment {
    let mut deployment = deployment.clone();
    let status = deployment.status.get_or_insert_default();
    status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
    deployment
}

/// The deployment after its new replica set could not be made.
pub(crate) fn after_failure(deployment: &Deployment, message: &str, now: &Time) -> Deployment {
    let mut deployment = deployment.clone();
    if status::progress_deadline(&deployment).is_some() {
        let condition = status::condition(PROGRESSING, "False", "ReplicaSetCreateError", message.into(), now);
        status::set(deployment.status.get_or_insert_with(DeploymentStatus::default), condition);
    }
    deployment
}
