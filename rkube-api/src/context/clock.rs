//! Wall time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use tokio::time::Instant;

/// Wall time for timestamps; durations and deadlines use `tokio::time`.
///
/// Both forms advance with `tokio::time`, so pausing time pauses timestamps too.
#[derive(Clone, Debug)]
pub struct Clock {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    System,
    Since { epoch: Timestamp, start: Instant },
}

/// 2026-01-01T00:00:00Z: where simulated time begins.
const SIMULATED_EPOCH: i64 = 1_767_225_600;

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { kind: Kind::System }
    }

    /// A clock that starts at 2026-01-01T00:00:00Z and advances with `tokio::time`.
    pub fn simulated() -> Self {
        Self::simulated_after(None)
    }

    /// As [`Clock::simulated`], but not before a time.
    pub fn simulated_after(time: Option<Timestamp>) -> Self {
        let begin = Timestamp::from_second(SIMULATED_EPOCH).unwrap_or(Timestamp::UNIX_EPOCH);
        Self::starting_at(time.map_or(begin, |time| time.max(begin)))
    }

    /// A clock that starts at `epoch` and advances with `tokio::time`.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self { kind: Kind::Since { epoch, start: Instant::now() } }
    }

    /// The time now, to the nanosecond.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn timestamp(&self) -> Timestamp {
        match &self.kind {
            Kind::System => Timestamp::now(),
            Kind::Since { epoch, start } => {
                let elapsed = SignedDuration::try_from(start.elapsed()).unwrap_or(SignedDuration::ZERO);
                epoch.checked_add(elapsed).unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// The time now as `metav1.Time`: whole seconds, as it goes over the wire.
    pub fn now(&self) -> Time {
        Time(Timestamp::from_second(self.timestamp().as_second()).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// The time now as `metav1.MicroTime`: whole microseconds.
    pub fn now_micro(&self) -> MicroTime {
        MicroTime(
            Timestamp::from_microsecond(self.timestamp().as_microsecond()).unwrap_or(Timestamp::UNIX_EPOCH),
        )
    }

    /// How long ago `time` was; zero if it lies ahead.
    pub fn since(&self, time: &Time) -> Duration {
        Duration::try_from(self.timestamp().duration_since(time.0)).unwrap_or(Duration::ZERO)
    }
}
