//! `/metrics`: what the server counts, under the names that Kubernetes' dashboards know.
//!
//! Names: <https://kubernetes.io/docs/reference/instrumentation/metrics/>

use std::{sync::Arc, time::Duration};

use http::{Response, StatusCode};
use parking_lot::RwLock;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{body::ResponseBody, render};
use crate::error::ApiError;

#[derive(Clone, Debug, Default, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) verb: String,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    pub(super) scope: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CountLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResourceLabels {
    group: String,
    version: String,
    resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    request_kind: String,
}

/// The server's counters. Clones share them; a host program can register its own beside them.
///
/// ```
/// use prometheus_client::metrics::counter::Counter;
/// use rkube_api::http::Metrics;
///
/// let metrics = Metrics::new();
/// let lamps = Counter::<u64>::default();
/// metrics.register(|registry| registry.register("lamps", "Lamps lit", lamps.clone()));
/// lamps.inc();
/// assert!(metrics.text().contains("lamps_total 1"));
/// ```
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<RwLock<Registry>>,
    requests: Family<CountLabels, Counter>,
    durations: Family<RequestLabels, Histogram, fn() -> Histogram>,
    long_running: Family<RequestLabels, Gauge>,
    inflight: Family<KindLabels, Gauge>,
    watch_events: Family<ResourceLabels, Counter>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn buckets() -> Histogram {
    Histogram::new([
        0.000_1, 0.000_5, 0.001, 0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
    ])
}

impl Metrics {
    /// Counters at zero.
    pub fn new() -> Self {
        let metrics = Self {
            registry: Arc::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(buckets as fn() -> Histogram),
            long_running: Family::default(),
            inflight: Family::default(),
            watch_events: Family::default(),
        };
        let mut registry = metrics.registry.write();
        registry.register(
            "apiserver_request",
            "Requests by verb, resource, scope and response code",
            metrics.requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Response latency of requests that are no watch",
            metrics.durations.clone(),
        );
        registry.register("apiserver_longrunning_requests", "Watches going on", metrics.long_running.clone());
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests going on that are no watch",
            metrics.inflight.clone(),
        );
        registry.register("apiserver_watch_events", "Events sent to watchers", metrics.watch_events.clone());
        drop(registry);
        metrics
    }

    /// Lets the caller register metrics of its own.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.write());
    }

    /// All metrics in OpenMetrics' text form.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut out, &self.registry.read());
        out
    }

    pub(super) fn answer(&self) -> Result<Response<ResponseBody>, ApiError> {
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        Ok(render::response(StatusCode::OK, content_type, self.text()))
    }

    pub(super) fn count(&self, labels: &RequestLabels, code: StatusCode, took: Option<Duration>) {
        let RequestLabels { verb, group, version, resource, subresource, scope } = labels.clone();
        let code = code.as_u16();
        self.requests
            .get_or_create(&CountLabels { verb, group, version, resource, subresource, scope, code })
            .inc();
        if let Some(took) = took {
            self.durations.get_or_create(labels).observe(took.as_secs_f64());
        }
    }

    /// Counts a request as going on until the guard is dropped.
    pub(super) fn going_on(&self, writes: bool) -> Guard {
        let request_kind = if writes { "mutating" } else { "readOnly" }.to_owned();
        Guard::new(self.inflight.get_or_create(&KindLabels { request_kind }).clone())
    }

    /// Counts a watch as going on until the guard is dropped.
    pub(super) fn watching(&self, labels: &RequestLabels) -> Guard {
        Guard::new(self.long_running.get_or_create(labels).clone())
    }

    /// The counter of a resource's watch events.
    pub(super) fn watch_events(&self, labels: &RequestLabels) -> Counter {
        let RequestLabels { group, version, resource, .. } = labels.clone();
        self.watch_events.get_or_create(&ResourceLabels { group, version, resource }).clone()
    }
}

/// Raises a gauge as long as it lives.
pub(super) struct Guard(Gauge);

impl Guard {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
