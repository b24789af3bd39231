//! All or nothing: the pods of a group are bound when enough of them have a node, and not before.
//!
//! Semantics: <https://kubernetes.io/docs/concepts/scheduling-eviction/gang-scheduling/> (KEP-4671). Pods of a
//! gang stay out of the queue until their [`PodGroup`] exists and `minCount` of them do. Each then gets a node
//! of its own, and Permit holds it until `minCount` of them have one. As soon as so many have found none that
//! the rest cannot be enough, those that are held give their nodes back, so that two gangs never wait for
//! each other's; else they do after five minutes. The group's condition `PodGroupInitiallyScheduled` says how
//! it stands. Composite groups and topology constraints are not looked at.

mod gang;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::scheduling::v1beta1::{GangSchedulingPolicy, PodGroup};
use parking_lot::Mutex;
use rkube_api::client::{Cache, ObjectKey};

use self::gang::Gang;
use crate::{
    engine::{Diagnosis, WhatIf},
    framework::{
        Actions, Args, ClusterEvent, Code, ConfigError, CycleState, Handle, Hint, Interest, Permission,
        Permit, Plugin, PointSet, Points, PostFilter, PostFiltered, PreEnqueue, Reserve, Resource, Status,
        Subject,
    },
    snapshot::{NodeView, PodInfo, Uid},
};

/// The plugin's name.
pub const NAME: &str = "GangScheduling";

/// How long a pod with a node waits for the others.
const PATIENCE: Duration = Duration::from_secs(300);

/// Schedules gangs. See the module's documentation.
#[derive(Debug)]
pub struct GangScheduling {
    groups: Cache<PodGroup>,
    handle: Handle,
    gangs: Mutex<Gangs>,
}

#[derive(Debug, Default)]
struct Gangs {
    by_key: BTreeMap<ObjectKey, Gang>,
    /// How many there were after the last look for those that are over.
    swept: usize,
}

impl Gangs {
    /// The gang of a group. Gangs that nobody waits for are forgotten, so that there are as many as groups
    /// that are being scheduled.
    fn of(&mut self, key: &ObjectKey) -> &mut Gang {
        if self.by_key.len() > 2 * self.swept.max(16) {
            self.by_key.retain(|_, gang| !gang.is_over());
            self.swept = self.by_key.len();
        }
        self.by_key.entry(key.clone()).or_default()
    }
}

/// Makes the plugin; it has no arguments.
pub fn make(_: &Args, handle: &Handle) -> Result<PointSet, ConfigError> {
    let plugin = GangScheduling::new(handle);
    Ok(Points::of(plugin).pre_enqueue().post_filter().reserve().permit().done())
}

impl GangScheduling {
    fn new(handle: &Handle) -> Self {
        let groups = handle.listers.for_pods(|pod| pod.scheduling_group().is_some()).get();
        Self { groups, handle: handle.clone(), gangs: Mutex::default() }
    }

    /// The gang that a pod belongs to, and how many of it must be there. `Err`: its group is missing.
    fn gang_of(&self, pod: &PodInfo) -> Result<Option<(ObjectKey, usize)>, Status> {
        let Some(key) = pod.scheduling_group() else { return Ok(None) };
        let Some(group) = self.groups.get_key(&key) else {
            let text = format!("waiting for pods's pod group {:?} to appear in scheduling queue", key.name);
            return Err(Status::unresolvable(text));
        };
        Ok(min_count(group.spec.scheduling_policy.gang.as_ref()).map(|least| (key, least)))
    }

    /// How many pods of a group live, `one` among them even if it is not known yet.
    fn members(&self, key: &ObjectKey, one: &PodInfo) -> usize {
        let known = self.handle.members.contains(&one.uid);
        self.handle.members.count(key) + usize::from(!known)
    }

    /// How many have a node by what the server says, or are on their way to one.
    fn placed(&self, key: &ObjectKey, gang: &mut Gang) -> usize {
        if !gang.let_through.is_empty() {
            let unplaced = self.handle.members.unplaced(key);
            gang.let_through.retain(|uid| unplaced.contains(uid));
        }
        self.handle.members.placed(key) + gang.held.len() + gang.let_through.len()
    }

    /// Sends away those that are held, since the gang cannot be complete.
    fn dissolve(&self, key: &ObjectKey, held: BTreeSet<Uid>) {
        if held.is_empty() {
            return;
        }
        let text = format!("not enough pods of pod group {:?} fit at the same time", key.name);
        for uid in held {
            self.handle.waiting.reject(&uid, NAME, text.clone());
        }
        gang::tell(&self.handle, &self.groups, key, Err(text));
    }
}

fn min_count(gang: Option<&GangSchedulingPolicy>) -> Option<usize> {
    gang.map(|gang| usize::try_from(gang.min_count).unwrap_or(0))
}

impl Plugin for GangScheduling {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        let group = Resource::Other(<PodGroup as k8s_openapi::Resource>::URL_PATH_SEGMENT);
        vec![Interest::new(group, Actions::ADD | Actions::UPDATE_OTHER)]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        match &event.subject {
            Subject::Object(group) => (pod.scheduling_group().as_ref() == Some(&group.key)).into(),
            _ => Hint::Queue,
        }
    }
}

impl PreEnqueue for GangScheduling {
    fn pre_enqueue(&self, pod: &PodInfo) -> Status {
        let (key, least) = match self.gang_of(pod) {
            Ok(Some(gang)) => gang,
            Ok(None) => return Status::success(),
            Err(status) => return status,
        };
        if self.members(&key, pod) >= least {
            return Status::success();
        }
        self.handle.members.wait_for(&key, least);
        Status::unresolvable("waiting for minCount pods from a gang to appear in scheduling queue")
    }
}

impl Reserve for GangScheduling {
    fn reserve(&self, _: &mut CycleState, pod: &PodInfo, _: NodeView<'_>) -> Status {
        if let Ok(Some((key, _))) = self.gang_of(pod) {
            let mut gangs = self.gangs.lock();
            let gang = gangs.of(&key);
            gang.without_node.remove(&pod.uid);
            gang.held.insert(pod.uid.clone());
        }
        Status::success()
    }

    fn unreserve(&self, _: &mut CycleState, pod: &PodInfo, _: &str) {
        let Some(key) = pod.scheduling_group() else { return };
        let mut gangs = self.gangs.lock();
        let Some(gang) = gangs.by_key.get_mut(&key) else { return };
        gang.let_through.remove(&pod.uid);
        if gang.held.remove(&pod.uid) {
            // Whatever stopped this one, the others would hold their nodes for nothing.
            let held = std::mem::take(&mut gang.held);
            drop(gangs);
            self.dissolve(&key, held);
        }
    }
}

impl Permit for GangScheduling {
    fn permit(&self, _: &mut CycleState, pod: &PodInfo, _: &str) -> Permission {
        let (key, least) = match self.gang_of(pod) {
            Ok(Some(gang)) => gang,
            Ok(None) => return Permission::Allow,
            Err(status) => return Permission::Deny(status),
        };
        let mut gangs = self.gangs.lock();
        let gang = gangs.of(&key);
        if self.placed(&key, gang) < least {
            if gang.held.len() == 1 {
                // The first one: whatever keeps the others, now is their time.
                let others = self.handle.members.unplaced(&key).into_iter().filter(|uid| *uid != pod.uid);
                self.handle.activations.ask(others);
            }
            return Permission::Wait(PATIENCE);
        }
        for uid in std::mem::take(&mut gang.held) {
            if uid != pod.uid {
                self.handle.waiting.allow(&uid, NAME);
            }
            gang.let_through.insert(uid);
        }
        gang::tell(&self.handle, &self.groups, &key, Ok(()));
        Permission::Allow
    }
}

impl PostFilter for GangScheduling {
    fn post_filter(&self, _: &mut CycleState, pod: &PodInfo, _: &WhatIf<'_>, _: &Diagnosis) -> PostFiltered {
        let unhelpful = PostFiltered::from(Status::new(Code::Unschedulable));
        let Ok(Some((key, least))) = self.gang_of(pod) else { return unhelpful };
        let mut gangs = self.gangs.lock();
        let gang = gangs.of(&key);
        gang.without_node.insert(pod.uid.clone());
        let members = self.members(&key, pod);
        if !gang.held.is_empty() && members - gang.without_node.len().min(members) < least {
            // Some of those may be gone by now, and others in their place.
            let unplaced = self.handle.members.unplaced(&key);
            gang.without_node.retain(|uid| *uid == pod.uid || unplaced.contains(uid));
            if members - gang.without_node.len().min(members) < least {
                let held = std::mem::take(&mut gang.held);
                drop(gangs);
                self.dissolve(&key, held);
            }
        }
        unhelpful
    }
}
