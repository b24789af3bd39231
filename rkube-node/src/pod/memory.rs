//! What the agent remembers of a pod besides what the API and the runtime say: how long to wait before
//! the next try. It is lost when the agent restarts, as the kubelet's is.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Action, Rejection};

/// How long to wait between starts of a container that keeps ending, or pulls that keep failing.
/// Kubernetes': 10 s, doubled up to 5 minutes, forgotten after twice that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// The first wait.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
    /// Forgotten when the container ran for so long.
    pub reset: Duration,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { first: seconds(10), longest: seconds(300), reset: seconds(600) }
    }
}

/// The wait in force for one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// How long.
    pub wait: Duration,
    /// When it was last lengthened.
    pub since: Timestamp,
}

impl Backoff {
    fn expired(self, policy: &BackoffPolicy, at: Timestamp) -> bool {
        let signed = SignedDuration::try_from(policy.reset).unwrap_or(SignedDuration::MAX);
        at.duration_since(self.since) > signed
    }

    /// The wait after one more start.
    pub fn next(earlier: Option<Self>, policy: &BackoffPolicy, ended: Timestamp, now: Timestamp) -> Self {
        let wait = match earlier {
            Some(earlier) if !earlier.expired(policy, ended) => (earlier.wait * 2).min(policy.longest),
            _ => policy.first,
        };
        Self { wait, since: now }
    }

    /// Until when to wait after an end, if at all.
    pub fn until(self, policy: &BackoffPolicy, ended: Timestamp) -> Option<Timestamp> {
        (!self.expired(policy, ended)).then(|| later(ended, self.wait))
    }
}

/// A time later than another; the end of time if there is no such.
pub(crate) fn later(time: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| time.checked_add(wait).ok()).unwrap_or(Timestamp::MAX)
}

/// The last pull that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pull {
    /// For which start of the container.
    pub attempt: u32,
    /// When.
    pub asked: Timestamp,
    /// How long to wait after it, should it fail.
    pub wait: Duration,
}

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopRequest {
    /// Which start of the container is to end.
    pub attempt: u32,
    /// When it will be killed.
    pub deadline: Timestamp,
    /// It is to start again, whatever the policy says of its end.
    pub restart: bool,
}

/// What is remembered of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerMemory {
    /// Its name.
    pub name: String,
    /// The image that the waits are of: with another one they begin anew.
    pub image: String,
    /// Between starts.
    pub restart: Option<Backoff>,
    /// Its image.
    pub pull: Option<Pull>,
    /// Its end.
    pub stop: Option<StopRequest>,
}

/// Why the agent ends a pod on its own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// `Evicted`, `Preempting`, ...: `status.reason`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// How long its containers get to stop; absent: what the pod asks for.
    pub grace: Option<Duration>,
}

/// What is remembered of one pod. It is empty for a pod that simply runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Of containers with something to remember.
    pub containers: Vec<ContainerMemory>,
    /// Set when the agent evicts it.
    pub eviction: Option<Eviction>,
    /// Set when the node does not take it.
    pub rejection: Option<Rejection>,
}

impl Memory {
    /// What is remembered of a container.
    pub fn container(&self, name: &str) -> Option<&ContainerMemory> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// What is remembered of a container with this image: nothing of what happened with another one.
    pub fn of_image(&self, name: &str, image: &str) -> Option<&ContainerMemory> {
        self.container(name).filter(|memory| memory.image == image)
    }

    fn container_mut(&mut self, name: &str) -> &mut ContainerMemory {
        let at = self.containers.iter().position(|container| container.name == name).unwrap_or_else(|| {
            self.containers.push(ContainerMemory { name: name.into(), ..ContainerMemory::default() });
            self.containers.len() - 1
        });
        &mut self.containers[at]
    }

    fn of_image_mut(&mut self, name: &str, image: &str) -> &mut ContainerMemory {
        let memory = self.container_mut(name);
        if memory.image != image {
            (memory.restart, memory.pull) = (None, None);
            image.clone_into(&mut memory.image);
        }
        memory
    }

    /// Notes that an action was taken.
    pub fn note(&mut self, action: &Action, policy: &BackoffPolicy, now: Timestamp) {
        match action {
            Action::Pull { container, attempt, image, failed } => {
                let memory = self.of_image_mut(container, image);
                let wait = match memory.pull {
                    Some(earlier) if *failed => (earlier.wait * 2).min(policy.longest),
                    _ => policy.first,
                };
                memory.pull = Some(Pull { attempt: *attempt, asked: now, wait });
            }
            Action::Start { container, image, restart_after: Some(ended), .. } => {
                let memory = self.of_image_mut(container, image);
                memory.restart = Some(Backoff::next(memory.restart, policy, *ended, now));
                memory.stop = None;
            }
            Action::Stop { container, attempt, grace, restart, .. } => {
                let deadline = later(now, *grace);
                let request = StopRequest { attempt: *attempt, deadline, restart: *restart };
                self.container_mut(container).stop = Some(request);
            }
            Action::RunSandbox { .. }
            | Action::Start { .. }
            | Action::RemoveContainer { .. }
            | Action::StopSandbox
            | Action::RemovePod
            | Action::DeleteObject => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_forgotten() {
        let policy = BackoffPolicy::default();
        let mut backoff = None;
        let mut waits = Vec::new();
        let mut now = 0;
        for _ in 0..8 {
            let next = Backoff::next(backoff, &policy, at(now), at(now));
            waits.push(next.wait.as_secs());
            now += 300;
            backoff = Some(next);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
        let last = backoff.unwrap();
        assert_eq!(last.until(&policy, at(now)), Some(at(now + 300)));
        // It ran for more than ten minutes before it ended: no wait, and the next one is the first again.
        assert_eq!(last.until(&policy, at(now + 601)), None);
        assert_eq!(Backoff::next(backoff, &policy, at(now + 601), at(now + 601)).wait.as_secs(), 10);
    }
}
