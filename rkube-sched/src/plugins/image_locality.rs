//! Prefers nodes that have a pod's images already.
//!
//! An image counts by its size, and for less the fewer nodes have it: else all pods of one image would
//! gather where its first one ran.

use smallvec::SmallVec;

use crate::{
    framework::{
        Args, ConfigError, CycleState, Handle, Interest, Locality, MAX_NODE_SCORE, Normalization, Plugin,
        PointSet, Points, PreScore, Score, Status,
    },
    snapshot::{NodeSet, NodeView, PodInfo, Snapshot, images},
};

/// The plugin's name.
pub const NAME: &str = "ImageLocality";

const MEBIBYTE: i64 = 1 << 20;
/// Images of less than this together make no difference.
const LEAST: i64 = 23 * MEBIBYTE;
/// What is above this for each image makes no difference either.
const MOST_EACH: i64 = 1000 * MEBIBYTE;

/// Scores by images. See the module's documentation.
#[derive(Debug)]
pub struct ImageLocality;

/// Makes the plugin; it has no arguments.
pub fn make(_: &Args, _: &Handle) -> Result<PointSet, ConfigError> {
    Ok(Points::of(ImageLocality).pre_score().score().done())
}

/// The number of an image that some node has; one without a tag is the latest.
fn find(snapshot: &Snapshot, name: &str) -> Option<u32> {
    let tagged = name.rfind(':') > name.rfind('/');
    if tagged { snapshot.images().find(name) } else { snapshot.images().find(&format!("{name}:latest")) }
}

/// A pod's images that nodes have, what each counts where it is, and how many images the pod has.
#[derive(Clone, PartialEq)]
struct ScoreState {
    worth: SmallVec<[(u32, i64); 4]>,
    images: i64,
}

impl ScoreState {
    fn new(pod: &PodInfo, snapshot: &Snapshot) -> Self {
        let nodes = snapshot.nodes().len() as f64;
        let known = pod.spec().into_iter().flat_map(images).filter_map(|name| find(snapshot, name));
        let worth = known.map(|number| {
            let image = snapshot.images().get(number);
            (number, (image.size as f64 * (f64::from(image.nodes) / nodes)) as i64)
        });
        Self { worth: worth.collect(), images: pod.spec().into_iter().flat_map(images).count() as i64 }
    }

    fn score(&self, node: NodeView<'_>) -> i64 {
        let there = self.worth.iter().filter(|(number, _)| node.has_image(*number));
        let sum = there.fold(0_i64, |sum, (_, worth)| sum.saturating_add(*worth));
        let most = MOST_EACH * self.images;
        if most == 0 {
            return 0;
        }
        MAX_NODE_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
    }
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        NAME
    }

    /// It refuses no pod.
    fn events(&self) -> Vec<Interest> {
        Vec::new()
    }

    /// How far an image has spread is what all nodes say.
    fn locality(&self, pod: &PodInfo, snapshot: &Snapshot) -> Locality {
        let known = pod.spec().into_iter().flat_map(images).any(|name| find(snapshot, name).is_some());
        if known { Locality::Nodes } else { Locality::Node }
    }

    /// Most changes of nodes are none of how far the pod's images have spread.
    fn same_state(&self, before: &CycleState, now: &CycleState) -> bool {
        before.read::<ScoreState>() == now.read::<ScoreState>()
    }
}

impl PreScore for ImageLocality {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: NodeSet<'_>) -> Status {
        let prepared = ScoreState::new(pod, nodes.snapshot());
        if prepared.worth.is_empty() {
            // Every node scores nothing.
            return Status::skip();
        }
        state.write(prepared);
        Status::success()
    }
}

impl Score for ImageLocality {
    fn score(&self, state: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        let prepared = state.read_or(|| Some(ScoreState::new(pod, node.snapshot())));
        Ok(prepared.map_or(0, |prepared| prepared.score(node)))
    }

    fn normalization(&self) -> Normalization {
        Normalization::None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing;

    fn node(name: &str, images: &[(&str, i64)]) -> Value {
        let images: Vec<_> = images
            .iter()
            .map(|(name, size)| json!({"names": [name], "sizeBytes": size * MEBIBYTE}))
            .collect();
        json!({"metadata": {"name": name}, "status": {"images": images}})
    }

    fn with_images(names: &[&str]) -> PodInfo {
        let containers: Vec<_> = names.iter().map(|name| json!({"name": "c", "image": name})).collect();
        testing::pod("p", json!({"containers": containers}))
    }

    fn scores(pod: &PodInfo, snapshot: &Snapshot, expected: &[i64]) {
        testing::assert_scores(&ImageLocality, Some(&ImageLocality), pod, snapshot, expected);
    }

    /// By hand, of two nodes and one or two images: 40 Mi on one of two counts 20 Mi, less than 23;
    /// 300 Mi on one counts 150: 100 * (150 - 23) / (1000 - 23) = 12; 2000 Mi on both counts in full,
    /// more than 1000.
    #[test]
    fn an_image_counts_by_its_size_and_spread() {
        let snapshot = testing::snapshot([
            node("a", &[("small:1", 40), ("both:1", 2000)]),
            node("b", &[("r.io:5000/x:latest", 300), ("both:1", 2000)]),
        ]);
        scores(&with_images(&["small:1"]), &snapshot, &[0, 0]);
        scores(&with_images(&["r.io:5000/x"]), &snapshot, &[0, 12]);
        scores(&with_images(&["both:1"]), &snapshot, &[100, 100]);
        // (2000 - 23) / (2000 - 23) and the same beside 20 more.
        scores(&with_images(&["both:1", "small:1"]), &snapshot, &[100, 100]);
        // 100 * (150 - 23) / (2000 - 23) = 6
        scores(&with_images(&["r.io:5000/x", "nobody"]), &snapshot, &[0, 6]);
        assert_eq!(ImageLocality.locality(&with_images(&["nobody"]), &snapshot), Locality::Node);
        assert_eq!(ImageLocality.locality(&with_images(&["both:1"]), &snapshot), Locality::Nodes);
    }

    #[test]
    fn init_containers_and_volumes_count_too() {
        let snapshot = testing::snapshot([node("a", &[("i:1", 523), ("v:1", 523)]), node("b", &[])]);
        let pod = testing::pod(
            "p",
            json!({
                "initContainers": [{"name": "i", "image": "i:1"}],
                "volumes": [{"name": "v", "image": {"reference": "v:1"}}]
            }),
        );
        // Each counts half of 523, whole numbers: 2 * 261.5 Mi = 523; 100 * (523 - 23) / (2000 - 23) = 25
        scores(&pod, &snapshot, &[25, 0]);
    }

    #[test]
    fn images_come_and_go_with_their_nodes() {
        let mut snapshot = testing::snapshot([node("a", &[("x:1", 100)]), node("b", &[("x:1", 900)])]);
        let image = |snapshot: &Snapshot| snapshot.images().find("x:1").map(|it| snapshot.images().get(it));
        let of = |nodes, size| Some(crate::snapshot::Image { nodes, size: size * MEBIBYTE });
        assert_eq!(image(&snapshot), of(2, 100));
        snapshot.set_node(testing::as_node(node("a", &[])));
        assert_eq!(image(&snapshot), of(1, 100));
        snapshot.set_node(testing::as_node(node("b", &[("x:1", 800), ("x:1", 700)])));
        assert_eq!(image(&snapshot), of(1, 800));
        snapshot.remove_node("b");
        assert_eq!(image(&snapshot), None);
    }
}
