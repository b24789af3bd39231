//! One write to many watchers in process: until all are told, and until the last has polled.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::StreamExt;
use rkube::{api::client::WatchParams, prelude::*};
use tokio::{sync::Notify, time::Instant};

use crate::report::{line, median, one_core};

const WRITES: usize = 200;

async fn measure(watchers: usize) -> (f64, f64) {
    let cluster = Cluster::builder().without_scheduler().retain_controllers(|_| false).start().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "default");
    let seen = Arc::new(AtomicUsize::new(0));
    let all = Arc::new(Notify::new());
    for _ in 0..watchers {
        let mut events = maps.watch(&WatchParams::default()).await.unwrap();
        let (seen, all) = (seen.clone(), all.clone());
        cluster.context().spawner.spawn("watcher", async move {
            while let Some(Ok(_)) = events.next().await {
                if (seen.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(watchers) {
                    all.notify_one();
                }
            }
        });
    }
    tokio::task::yield_now().await;
    let (mut queued, mut polled) = (Vec::new(), Vec::new());
    for number in 0..WRITES {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(format!("map-{number}"));
        let start = Instant::now();
        // When the write returns, its event is queued for every watcher; on one thread none has run yet.
        maps.create(&PostParams::default(), map).await.unwrap();
        queued.push(start.elapsed().as_secs_f64() * 1e6);
        all.notified().await;
        polled.push(start.elapsed().as_secs_f64() * 1e6);
    }
    cluster.stop().await;
    (median(queued), median(polled))
}

pub(crate) fn run() {
    for watchers in [1, 100, 1_000, 10_000] {
        let (queued, polled) = one_core().block_on(measure(watchers));
        let target = if watchers == 1_000 { "<= 100 us, <= 250 us" } else { "" };
        line(
            &format!("watch: a create, {watchers} watchers: all queued, last polled"),
            &format!("{queued:.0} us, {polled:.0} us"),
            target,
        );
    }
}
