//! Classes: pods of equal content share what the plugins say of each node.
//!
//! A class keeps the nodes that are feasible for its pods and their scores, in a tree that knows the best
//! of them and how many there are. It catches up with the snapshot by the log of changed nodes, asking
//! the plugins about those nodes only, through the same methods that the plain engine calls for all
//! nodes; so a decision costs about the same on a hundred nodes and on a hundred thousand. Plugins that
//! are not local (see [`Locality`](crate::framework::Locality)) are asked for every pod: of one node of each
//! group that they cannot tell apart, of the few nodes to which one of them confines the pod, or else of all
//! nodes that the class left over. Whatever a class cannot settle (no node fits, a plugin fails, room is held
//! for the pod) is left to [`Engine::decide`](super::Engine::decide).

mod bits;
mod class;
mod groups;
mod plan;
mod quick;
mod scale;
#[cfg(test)]
mod tests;
mod tournament;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use foldhash::fast::FixedState;

use self::{class::Class, plan::Localities};
use super::{Engine, memory::Memory};
use crate::{
    framework::Profile,
    snapshot::{PodInfo, Snapshot},
};

/// Rows of all classes together: what bounds their memory (about 12 bytes each).
const MOST_ROWS: usize = 1 << 22;
/// However many nodes there are, so many classes may be kept, and however few, not more.
const MOST_CLASSES: (usize, usize) = (16, 512);
/// So many classes remember what was found out about nodes.
const MOST_MEMORIES: usize = 8;
/// How many contents are remembered that were seen once.
const REMEMBERED: usize = 1024;

/// The classes that an engine has met: working memory beside the snapshot, never needed for a right
/// decision. The least recently used go first.
///
/// ```
/// use std::sync::Arc;
/// use rkube_api::context::Rng;
/// use rkube_sched::{engine::{Classes, Engine}, framework::Profiles, queue::Nominator};
/// use rkube_sched::snapshot::{PodInfo, Snapshot};
///
/// let (snapshot, nominator, rng) = (Snapshot::default(), Nominator::default(), Rng::seeded(1));
/// let profiles = Profiles::standard();
/// let pod = Arc::new(PodInfo::new(Default::default()));
/// let mut classes = Classes::default();
/// let engine = Engine { snapshot: &snapshot, nominator: &nominator, rng: &rng };
/// engine.decide_in(&mut classes, &pod, profiles.of(&pod).unwrap());
/// assert!(classes.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Classes {
    /// The snapshot that they follow.
    snapshot: Option<Arc<()>>,
    by_content: HashMap<u64, Vec<Class>, FixedState>,
    len: usize,
    /// What was found out about nodes for pods that fitted nowhere, the last class first.
    memories: VecDeque<Memory>,
    /// Contents seen lately: a class is made for the second pod of its kind.
    recent: Vec<u64>,
    clock: u64,
    hits: u64,
    made: u64,
    grouped: u64,
}

impl Classes {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many decisions they have settled.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// How many were made, or made anew.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// How many decisions they have settled by groups of nodes.
    pub fn grouped(&self) -> u64 {
        self.grouped
    }

    /// Takes out the class of a pod, up to date. `None`: there is none, and none is worth making.
    fn take(&mut self, snapshot: &Snapshot, pod: &Arc<PodInfo>, profile: &Arc<Profile>) -> Option<Class> {
        if !self.snapshot.as_ref().is_some_and(|mark| snapshot.lineage().is(mark)) {
            *self = Self { snapshot: Some(snapshot.lineage().mark()), ..Self::default() };
        }
        let localities = plan::localities(profile, pod, snapshot);
        if let Some(mut class) = self.find(pod, profile, &localities) {
            if class.catch_up(snapshot).is_none() {
                class = self.make(snapshot, pod, profile, localities)?;
            }
            return Some(class);
        }
        if !self.seen_before(pod.content_hash()) {
            return None;
        }
        self.make(snapshot, pod, profile, localities)
    }

    fn make(
        &mut self,
        snapshot: &Snapshot,
        pod: &Arc<PodInfo>,
        profile: &Arc<Profile>,
        localities: Localities,
    ) -> Option<Class> {
        self.made += 1;
        let mut class = Class::new(profile, localities, pod, snapshot)?;
        class.number = self.made;
        Some(class)
    }

    /// What was found out for pods of a class like this one.
    fn memory(&mut self, class: u64, pod: &PodInfo, engine: &Engine<'_>) -> &Memory {
        let place = self.memories.iter().position(|memory| memory.is_of(class, engine));
        let memory = place.and_then(|place| self.memories.remove(place));
        self.memories.truncate(MOST_MEMORIES - 1);
        let mut memory = memory.unwrap_or_else(|| Memory::of(class, engine));
        memory.own = engine.nominator.node_of(&pod.uid).and_then(|node| engine.snapshot.find(node));
        self.memories.push_front(memory);
        &self.memories[0]
    }

    fn find(&mut self, pod: &PodInfo, profile: &Arc<Profile>, localities: &Localities) -> Option<Class> {
        let bucket = self.by_content.get_mut(&pod.content_hash())?;
        let place = bucket.iter().position(|class| {
            let alike = || profile.parts.iter().all(|part| part.plugin.same_content(&class.pod, pod));
            Arc::ptr_eq(&class.profile, profile)
                && class.localities == *localities
                && class.pod.same_content(pod)
                && alike()
        })?;
        self.len -= 1;
        Some(bucket.swap_remove(place))
    }

    /// Whether a content was seen lately; it is remembered for the next time.
    fn seen_before(&mut self, content: u64) -> bool {
        self.recent.resize(REMEMBERED, 0);
        let place = content as usize % REMEMBERED;
        std::mem::replace(&mut self.recent[place], content) == content
    }

    fn put_back(&mut self, mut class: Class, rows: usize) {
        let most = (MOST_ROWS / rows.max(1)).clamp(MOST_CLASSES.0, MOST_CLASSES.1);
        while self.len >= most {
            self.drop_oldest();
        }
        self.clock += 1;
        class.used = self.clock;
        self.len += 1;
        self.by_content.entry(class.pod.content_hash()).or_default().push(class);
    }

    fn drop_oldest(&mut self) {
        let uses = self.by_content.values().flatten().map(|class| class.used);
        let Some(oldest) = uses.min() else { return };
        self.by_content.retain(|_, bucket| {
            bucket.retain(|class| class.used != oldest);
            !bucket.is_empty()
        });
        self.len -= 1;
    }
}
