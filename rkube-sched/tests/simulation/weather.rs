//! What goes wrong between a scheduler and its API server.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use rkube_api::{
    context::Rng,
    error::ApiError,
    k8s_openapi::api::core::v1::Binding,
    pipeline::Server,
    request::{ApiRequest, ApiResponse, Body, Target, Transport, WatchEvent, WatchStream},
};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep},
};

use crate::{binds::Watchman, log::Log};

/// How bad it is: each of these befalls so many requests of a hundred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Storm {
    /// Refused, without effect.
    pub(crate) refused: usize,
    /// Carried out, but the answer is lost.
    pub(crate) lost: usize,
    /// Slow, before or after it is carried out.
    pub(crate) slow: usize,
    /// Each event of a watch comes up to so many milliseconds late.
    pub(crate) lag: usize,
}

/// The longest that one request is held up.
const SLOWEST: Duration = Duration::from_secs(20);
/// When a request is given up.
const TIMEOUT: Duration = Duration::from_secs(30);
/// So long after a storm everybody knows everything again: informers pause up to a minute between tries.
const AFTERMATH: Duration = Duration::from_secs(180);

/// The weather between all schedulers and the server.
pub(crate) struct Weather {
    now: Mutex<(Storm, Instant)>,
    /// Every watch that is open ends, the oldest first: tokio's `watch` would wake them in any order.
    cuts: broadcast::Sender<()>,
}

impl Weather {
    pub(crate) fn fair() -> Self {
        Self { now: Mutex::new((Storm::default(), Instant::now())), cuts: broadcast::channel(1).0 }
    }

    pub(crate) fn change(&self, storm: Storm) {
        *self.now.lock() = (storm, Instant::now());
    }

    /// Ends every open watch.
    pub(crate) fn cut(&self) {
        let mut now = self.now.lock();
        now.1 = Instant::now();
        // There need not be any.
        let _ = self.cuts.send(());
    }

    /// Whether there has been no fault for so long that every scheduler knows what there is.
    pub(crate) fn is_settled(&self) -> bool {
        let (storm, since) = *self.now.lock();
        storm == Storm::default() && since.elapsed() >= AFTERMATH
    }

    fn storm(&self) -> Storm {
        self.now.lock().0
    }
}

#[derive(Debug)]
enum Fault {
    Refused(ApiError),
    /// It is never answered, nor carried out.
    TimedOut,
    Lost(ApiError),
    SlowThere(Duration),
    SlowBack(Duration),
}

/// One scheduler's way to the server.
pub(crate) struct Way {
    pub(crate) who: &'static str,
    pub(crate) server: Arc<Server>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) watchman: Arc<Watchman>,
    pub(crate) rng: Rng,
    pub(crate) log: Log,
}

impl Way {
    fn fault(&self, request: &ApiRequest) -> Option<Fault> {
        let storm = self.weather.storm();
        let dice = self.rng.below(100);
        let wait = || SLOWEST.mul_f64(self.rng.fraction());
        if dice < storm.refused {
            return Some(match self.rng.below(5) {
                0 => Fault::Refused(conflict(&request.target)),
                1 => Fault::Refused(ApiError::TooManyRequests {
                    message: "too many requests".into(),
                    retry_after: 1,
                    causes: Vec::new(),
                }),
                2 => Fault::Refused(ApiError::internal("a fault")),
                3 => Fault::Refused(unavailable()),
                _ => Fault::TimedOut,
            });
        }
        if dice < storm.refused + storm.lost {
            return Some(Fault::Lost(match self.rng.below(3) {
                0 => ApiError::Timeout { message: "the request timed out".into() },
                1 => ApiError::internal("a fault after the deed"),
                _ => unavailable(),
            }));
        }
        (dice < storm.refused + storm.lost + storm.slow).then(|| match self.rng.below(2) {
            0 => Fault::SlowThere(wait()),
            _ => Fault::SlowBack(wait()),
        })
    }

    /// Carries the request out, and has the watchman look at a binding.
    async fn pass(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let binding = match &request.body {
            Body::Object(object) => object.as_kind::<Binding>().cloned(),
            _ => None,
        };
        match (self.server.send(request).await?, binding) {
            (ApiResponse::Watch(events), _) => Ok(ApiResponse::Watch(self.unreliable(events))),
            (answer, Some(binding)) => {
                self.watchman.bound(self.who, &binding).await;
                Ok(answer)
            }
            (answer, None) => Ok(answer),
        }
    }

    /// A watch that is late and ends early, as the weather is.
    fn unreliable(&self, events: WatchStream) -> WatchStream {
        struct Watched {
            events: WatchStream,
            cuts: broadcast::Receiver<()>,
            weather: Arc<Weather>,
            rng: Rng,
            over: bool,
        }
        let watched = Watched {
            events,
            cuts: self.weather.cuts.subscribe(),
            weather: self.weather.clone(),
            rng: self.rng.clone(),
            over: false,
        };
        let next = |mut watched: Watched| async move {
            if watched.over {
                return None;
            }
            let event = tokio::select! {
                biased;
                _ = watched.cuts.recv() => {
                    watched.over = true;
                    match watched.rng.below(3) {
                        0 => None,
                        1 => Some(WatchEvent::Error(ApiError::Expired {
                            message: "too old resource version".into(),
                            continue_token: None,
                        })),
                        _ => Some(WatchEvent::Error(ApiError::internal("the watch broke"))),
                    }
                }
                event = watched.events.next() => event,
            };
            let lag = watched.weather.storm().lag;
            if lag > 0 {
                sleep(Duration::from_millis(watched.rng.below(lag) as u64)).await;
            }
            event.map(|event| (event, watched))
        };
        stream::unfold(watched, next).boxed()
    }
}

fn conflict(target: &Target) -> ApiError {
    ApiError::Conflict {
        group: target.group.clone(),
        resource: target.resource.clone(),
        name: target.name.clone().unwrap_or_default(),
        message: "the object has been modified".into(),
        causes: Vec::new(),
    }
}

fn unavailable() -> ApiError {
    ApiError::Unavailable { message: "the connection was reset".into() }
}

fn described(request: &ApiRequest) -> String {
    let Target { resource, name, subresource, .. } = &request.target;
    let mut text = format!("{} {resource}", request.verb);
    for part in [name, subresource].into_iter().flatten() {
        text.push('/');
        text.push_str(part);
    }
    text
}

#[async_trait]
impl Transport for Way {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let what = described(&request);
        let fault = self.fault(&request);
        if let Some(fault) = &fault {
            self.log.line(format_args!("{} {what}: fault {fault:?}", self.who));
        }
        let answer = match fault {
            None => self.pass(request).await,
            Some(Fault::Refused(error)) => Err(error),
            Some(Fault::TimedOut) => {
                sleep(TIMEOUT).await;
                Err(ApiError::Timeout { message: "the request timed out".into() })
            }
            Some(Fault::Lost(error)) => match self.pass(request).await {
                Ok(_) => Err(error),
                refused => refused,
            },
            Some(Fault::SlowThere(wait)) => {
                sleep(wait).await;
                self.pass(request).await
            }
            Some(Fault::SlowBack(wait)) => {
                let answer = self.pass(request).await;
                sleep(wait).await;
                answer
            }
        };
        let outcome = answer.as_ref().map_or_else(ToString::to_string, |_| "done".into());
        self.log.line(format_args!("{} {what}: {outcome}", self.who));
        answer
    }
}
