//! Higher priority first, then who waits longest.

use std::cmp::Ordering;

use crate::{
    framework::{Args, ConfigError, Handle, Interest, Plugin, PointSet, Points, QueueSort},
    queue::QueuedPod,
};

/// The plugin's name.
pub const NAME: &str = "PrioritySort";

/// Sorts the queue. See the module's documentation.
#[derive(Debug)]
pub struct PrioritySort;

/// Makes the plugin; it has no arguments.
pub fn make(_: &Args, _: &Handle) -> Result<PointSet, ConfigError> {
    Ok(Points::of(PrioritySort).queue_sort().done())
}

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        Vec::new()
    }
}

impl QueueSort for PrioritySort {
    fn compare(&self, a: &QueuedPod, b: &QueuedPod) -> Ordering {
        b.info.priority.cmp(&a.info.priority).then(a.timestamp.cmp(&b.timestamp))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::Instant;

    use crate::{
        framework::Profiles,
        queue::{QueueConfig, SchedulingQueue},
        testing,
    };

    #[tokio::test(start_paused = true)]
    async fn priority_comes_first_then_time() {
        let mut queue = SchedulingQueue::new(Arc::new(Profiles::standard()), QueueConfig::default());
        let now = Instant::now();
        for (name, priority, after) in [("c", 0, 1), ("a", 9, 2), ("d", 0, 2), ("b", 5, 0)] {
            let pod = testing::pod(name, serde_json::json!({"priority": priority}));
            queue.add(Arc::new(pod), now + Duration::from_secs(after));
        }
        let order: Vec<_> =
            std::iter::from_fn(|| queue.pop(now)).map(|pod| pod.info.key.name.clone()).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }
}
