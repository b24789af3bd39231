//! What `/metrics` tells of the store: how much of what there is, how long commits take, how far watches
//! are behind. Names are Kubernetes' where it has such a figure; the others begin with `rkube_store_`.

use std::{fmt::Error, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use rkube_store::{DiskStats, Latency, Stats};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, timeout},
};

use super::Metrics;
use crate::{error::ApiError, pipeline::Server};

/// How long objects are not counted again: counting walks over all keys.
const FRESH: Duration = Duration::from_secs(5);

/// How long the page waits for the store: less than those who ask for it usually do.
const PATIENCE: Duration = Duration::from_secs(2);

/// The store behind a server, and what was seen of it last.
pub(super) struct Storage {
    server: Arc<Server>,
    seen: Seen,
    /// When objects were counted last, or it was tried; held by whoever counts.
    counted: AsyncMutex<Option<Instant>>,
}

/// As of the last refresh, so that writing it down waits for nothing.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<Figures>>);

#[derive(Debug, Default)]
struct Figures {
    /// By resource, as in `deployments.apps`.
    objects: Vec<(String, u64)>,
    /// Whether that is as of the last try.
    is_counted: bool,
    /// How often counting failed.
    failures: u64,
    stats: Stats,
}

impl Storage {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server, seen: Seen::default(), counted: AsyncMutex::default() }
    }

    pub(super) fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| registry.register_collector(Box::new(self.seen.clone())));
    }

    /// Looks at the store. If it does not answer, what was seen last is shown again, and that it is so: the
    /// page is read when something is wrong.
    pub(super) async fn refresh(&self) {
        self.seen.0.lock().stats = self.server.storage();
        let mut counted = self.counted.lock().await;
        if counted.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let found = match timeout(PATIENCE, self.count()).await {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        };
        *counted = Some(Instant::now());
        let mut seen = self.seen.0.lock();
        seen.is_counted = found.is_ok();
        match found {
            Ok(objects) => seen.objects = objects,
            Err(error) => {
                seen.failures += 1;
                tracing::warn!(error, "stored objects cannot be counted");
            }
        }
    }

    async fn count(&self) -> Result<Vec<(String, u64)>, ApiError> {
        let objects = self.server.stored().await?.into_iter().map(|(definition, count)| {
            let name = match definition.resource() {
                ("", plural) => plural.to_owned(),
                (group, plural) => format!("{plural}.{group}"),
            };
            (name, count)
        });
        Ok(objects.collect())
    }
}

impl Collector for Seen {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Figures { objects, is_counted, failures, stats } = &*self.0.lock();
        let name = "apiserver_storage_objects";
        let mut family = to.encode_descriptor(name, "Stored objects by resource", None, MetricType::Gauge)?;
        for (resource, count) in objects {
            family.encode_family(&[("resource", resource.as_str())])?.encode_gauge(count)?;
        }
        let help = "Times that stored objects could not be counted";
        to.encode_descriptor("rkube_store_count_failures", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(failures, None)?;
        let Stats { revision, compacted, sizes, watches, commits, disk: under } = stats;
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let gauges = [
            ("rkube_store_counted", "Whether the last count of objects succeeded", u64::from(*is_counted)),
            ("apiserver_storage_size_bytes", "What the present entries take", sizes.entry_bytes),
            ("rkube_store_revision", "The store's revision", revision.0),
            ("rkube_store_compacted_revision", "The oldest revision that can be read", compacted.0),
            ("rkube_store_history_revisions", "Revisions that are kept", count(sizes.revisions)),
            ("rkube_store_keys", "Keys, with deleted ones that history knows", count(sizes.keys)),
            ("rkube_store_hot_values", "Values that are kept decoded", count(sizes.hot_values)),
            ("rkube_store_hot_bytes", "What these weigh", count(sizes.hot_bytes)),
            ("rkube_store_watches", "Watches that have caught up with the log", count(watches.live)),
            ("rkube_store_lagging_watches", "Watches that must read the log again", count(watches.lagging)),
            ("rkube_store_watch_lag_revisions", "How far behind the slowest watch is", watches.behind),
            ("rkube_store_watch_lag_batches", "What the slowest watch has yet to take", count(watches.lag)),
        ];
        for (name, help, value) in gauges {
            to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let help = "Latency of what was asked of the store";
        let mut commit =
            to.encode_descriptor("etcd_request_duration_seconds", help, None, MetricType::Histogram)?;
        histogram(commit.encode_family(&[("operation", "commit")])?, commits)?;
        under.as_ref().map_or(Ok(()), |under| disk(&mut to, under))
    }
}

fn disk(to: &mut DescriptorEncoder<'_>, disk: &DiskStats) -> Result<(), Error> {
    let DiskStats { takes_writes, failed, syncs, bytes, free_bytes, queued } = disk;
    let gauges = [
        ("rkube_store_writable", "Whether the disk takes all writes", Some(u64::from(*takes_writes))),
        ("rkube_store_failed", "Whether something could not be written", Some(u64::from(*failed))),
        ("rkube_store_disk_bytes", "What log and snapshot take on disk", Some(*bytes)),
        ("rkube_store_disk_free_bytes", "What was free on the disk when last looked at", *free_bytes),
        ("rkube_store_queued_commits", "Commits that wait to be written", u64::try_from(*queued).ok()),
    ];
    for (name, help, value) in gauges {
        let Some(value) = value else { continue };
        to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
    }
    let (name, help) = ("rkube_store_sync_duration_seconds", "How long the disk took to sync commits");
    histogram(to.encode_descriptor(name, help, None, MetricType::Histogram)?, syncs)
}

fn histogram(mut to: MetricEncoder<'_>, latency: &Latency) -> Result<(), Error> {
    let bound = |bucket| Latency::bound(bucket).map_or(f64::INFINITY, |bound| bound.as_secs_f64());
    let buckets: Vec<_> =
        latency.buckets.iter().enumerate().map(|(bucket, count)| (bound(bucket), *count)).collect();
    to.encode_histogram::<NoLabelSet>(latency.sum.as_secs_f64(), latency.count, &buckets, None)
}
