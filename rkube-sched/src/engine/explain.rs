//! What the plugins say of every node: what a decision rests on.

use super::{Engine, Scorebook, Stop};
use crate::{
    framework::{CycleState, Profile, Status, Weighted},
    snapshot::{NodeId, PodInfo},
};

/// What the plugins say of every node for one pod.
#[derive(Clone, Debug, Default)]
pub struct Explained {
    /// The nodes that fit, in the order of the snapshot.
    pub scored: Vec<Scored>,
    /// The others, each with what spoke against it.
    pub rejected: Vec<(NodeId, Status)>,
}

/// A node that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scored {
    /// The node.
    pub node: NodeId,
    /// The sum of the weighted scores.
    pub total: i64,
    /// What each plugin has to say; nothing if it is the only node that fits, which is not scored.
    pub scores: Vec<PluginScore>,
}

/// What one plugin says of a node that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PluginScore {
    /// The plugin.
    pub plugin: &'static str,
    /// How much it counts.
    pub weight: i64,
    /// Its own measure: the better or the worse the higher, as the plugin will have it.
    pub raw: i64,
    /// From 0 to 100, the best.
    pub normalized: i64,
}

impl PluginScore {
    /// What it adds to the node's total.
    pub fn weighted(&self) -> i64 {
        self.normalized.saturating_mul(self.weight)
    }
}

impl Scorebook for Vec<Scored> {
    fn raw(&mut self, scores: &[i64]) {
        for (node, &raw) in self.iter_mut().zip(scores) {
            node.scores.push(PluginScore { plugin: "", weight: 0, raw, normalized: 0 });
        }
    }

    fn normalized(&mut self, weighted: &Weighted, scores: &[i64]) {
        for (node, &normalized) in self.iter_mut().zip(scores) {
            let Some(score) = node.scores.last_mut() else { continue };
            let (plugin, weight) = (weighted.plugin.name(), weighted.weight);
            *score = PluginScore { plugin, weight, normalized, ..*score };
            node.total = node.total.saturating_add(score.weighted());
        }
    }
}

impl Engine<'_> {
    /// What the plugins say of every node. It is as [`Engine::decide`] sees them, but that all nodes are looked
    /// at also where room is held for the pod. The error is that of a plugin that failed.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use rkube_api::context::Rng;
    /// use rkube_sched::{engine::Engine, framework::Profiles, queue::Nominator};
    /// use rkube_sched::snapshot::{PodInfo, Snapshot};
    ///
    /// let node = |name: &str, pods: &str| Arc::new(serde_json::from_value(serde_json::json!({
    ///     "metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": pods}}
    /// })).unwrap());
    /// let mut snapshot = Snapshot::default();
    /// ["a", "b"].map(|name| snapshot.set_node(node(name, "110")));
    /// snapshot.set_node(node("full", "0"));
    ///
    /// let (profiles, pod) = (Profiles::standard(), PodInfo::new(Arc::new(Default::default())));
    /// let (nominator, rng) = (Nominator::default(), Rng::seeded(1));
    /// let engine = Engine { snapshot: &snapshot, nominator: &nominator, rng: &rng };
    /// let explained = engine.explain(&pod, profiles.of(&pod).unwrap()).unwrap();
    /// assert_eq!(explained.scored.len(), 2);
    /// assert!(explained.scored[0].scores.iter().any(|score| score.plugin == "NodeResourcesFit"));
    /// assert_eq!(explained.rejected[0].1.message(), "Too many pods");
    /// ```
    pub fn explain(&self, pod: &PodInfo, profile: &Profile) -> Result<Explained, Status> {
        let mut state = CycleState::default();
        let mut diagnosis = super::Diagnosis::default();
        let all = || self.snapshot.nodes().iter().copied();
        let prepared = match self.pre_filter(pod, profile, &mut state, &mut diagnosis) {
            Ok(prepared) => prepared,
            Err(Stop::Fail(status)) => return Err(status),
            Err(Stop::Unfit(why)) => {
                let status = why.0.absent.unwrap_or_default();
                return Ok(Explained {
                    rejected: all().map(|id| (id, status.clone())).collect(),
                    ..Explained::default()
                });
            }
        };
        let is_in_question = |id: &NodeId| prepared.only.as_ref().is_none_or(|only| only.contains(id));
        let ids = all().filter(is_in_question).collect();
        let nodes = self.filter(ids, pod, &prepared, &state)?;
        let mut absent = diagnosis.absent.unwrap_or_default();
        if diagnosis.unschedulable_plugins.len() == 1 {
            absent = diagnosis
                .unschedulable_plugins
                .iter()
                .fold(absent, |status, plugin| status.from_plugin(plugin));
        }
        let mut rejected = nodes.rejected;
        rejected.extend(all().filter(|id| !is_in_question(id)).map(|id| (id, absent.clone())));
        rejected.sort_unstable_by_key(|(id, _)| *id);
        let unscored = |&node: &NodeId| Scored { node, total: 0, scores: Vec::new() };
        let mut scored: Vec<Scored> = nodes.ids.iter().map(unscored).collect();
        self.score_into(pod, profile, &mut state, &nodes.ids, &mut scored)?;
        Ok(Explained { scored, rejected })
    }
}
