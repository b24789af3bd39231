//! Registration, leases and node status: one set of timers for all nodes of a pool.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Node,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use rkube_api::{
    client::{Api, Patch, PatchParams, PostParams},
    error::ApiError,
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    pool::{Member, MemberState, Pool, Tick},
    template::{self, Facts},
};
use crate::{crowd::Crowd, runtime::RuntimeError};

/// Where the leases of nodes are.
const LEASES: &str = "kube-node-lease";
/// How many nodes are checked at once, besides those whose runtimes keep them waiting.
const AT_ONCE: usize = 64;
/// When to try again what failed.
const AGAIN: Duration = Duration::from_secs(1);
/// When to look again at a node that is being checked.
const SHORTLY: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
enum BeatError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("the check panicked")]
    Panicked,
}

/// Spreads nodes over a period: the fraction of it after which the node's turn is.
fn phase(name: &str, period: Duration) -> Duration {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    // The low bits of the last step carry little of the earlier bytes.
    let mixed = (hash ^ (hash >> 15)).wrapping_mul(0x2c1b_3c6d);
    period.mul_f64((f64::from(mixed ^ (mixed >> 13)) + 1.0) / (f64::from(u32::MAX) + 1.0))
}

impl Pool {
    /// The task of all heartbeats.
    pub(super) async fn beat(self: Arc<Self>) {
        // What runs without being in the API can be told only when the API has been seen.
        self.pod_informer.synced().await;
        let mut beating = Crowd::new(AT_ONCE);
        loop {
            tokio::select! {
                biased;
                () = beating.step() => {}
                tick = self.ticks.next(), if beating.has_room() => beating.add(self.tick(tick)),
            }
        }
    }

    async fn tick(&self, tick: Tick) {
        let Tick { at, member, epoch } = tick;
        let again = |after| {
            let at = Instant::now() + after;
            self.ticks.add(at, Tick { at, member: member.clone(), epoch });
            at
        };
        let next = {
            let mut state = member.state.lock();
            if !state.running || state.epoch != epoch {
                return;
            }
            if state.checking {
                drop(state);
                again(SHORTLY);
                return;
            }
            state.checking = true;
            self.next_regular(&member.name, &mut state, at)
        };
        let outcome = AssertUnwindSafe(self.check(&member)).catch_unwind().await;
        let outcome = outcome.unwrap_or(Err(BeatError::Panicked));
        member.state.lock().checking = false;
        if let Err(error) = &outcome {
            tracing::debug!(node = %member.name, %error, "a node's check is tried again");
            let at = again(AGAIN);
            if next.is_some() {
                member.state.lock().next_check = Some(at);
            }
        } else if let Some(next) = next {
            self.ticks.add(next, Tick { at: next, member: member.clone(), epoch });
        }
    }

    /// If this tick carries the node's period on: when the next one is due.
    fn next_regular(&self, name: &str, state: &mut MemberState, at: Instant) -> Option<Instant> {
        let period = self.config.lease / 4;
        let wait = match state.next_check {
            None => phase(name, period),
            Some(due) if due <= at => period,
            Some(_) => return None,
        };
        // From when it was due, so that the turns of nodes do not drift together.
        let next = (at + wait).max(Instant::now());
        state.next_check = Some(next);
        Some(next)
    }

    async fn check(&self, member: &Arc<Member>) -> Result<(), BeatError> {
        let mut health = self.ask(async { member.runtime.health().await }).await;
        self.register(member, &health).await?;
        let mut listed = Ok(());
        if health.is_ok() && !member.state.lock().recovered {
            match self.ask(async { member.runtime.pods().await }).await {
                Ok(all) => {
                    all.iter().for_each(|found| self.on_found(member, found));
                    member.state.lock().recovered = true;
                }
                Err(error) => {
                    health = Err(error.clone());
                    listed = Err(error);
                }
            }
        }
        // The agent is alive whatever its runtime is: the lease says the one, the status the other.
        self.renew(member).await?;
        self.report_node(member, &health).await?;
        Ok(listed?)
    }

    /// Asks a runtime something. No answer in the time between two renewals, or a panic, is an answer too:
    /// the runtime is down.
    async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, RuntimeError>>,
    ) -> Result<T, RuntimeError> {
        let limit = self.config.lease / 4;
        let answer = tokio::time::timeout(limit, AssertUnwindSafe(question).catch_unwind()).await;
        let down = |message| Err(RuntimeError::Unavailable { message });
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => down("it panicked when asked".into()),
            Err(_) => down(format!("no answer within {} s", limit.as_secs_f32())),
        }
    }

    pub(super) fn facts<'a>(&self, member: &'a Member, health: &'a Result<(), RuntimeError>) -> Facts<'a> {
        Facts {
            name: &member.name,
            template: &member.template,
            ips: &member.facts.ips,
            runtime: &member.info,
            pressure: member.state.lock().pressure,
            health,
            now: self.context.clock.timestamp(),
        }
    }

    /// Makes the Node object, or takes the one that is there for its own.
    async fn register(&self, member: &Member, health: &Result<(), RuntimeError>) -> Result<(), ApiError> {
        if member.state.lock().registered.is_some() {
            return Ok(());
        }
        let api: Api<Node> = self.api(member);
        let wanted = template::node(&self.facts(member, health));
        let found = match api.create(&PostParams::default(), wanted).await {
            Ok(created) => created,
            Err(ApiError::AlreadyExists { .. }) => self.adopt(member, &api).await?,
            Err(error) => return Err(error),
        };
        let mut state = member.state.lock();
        state.registered = found.metadata.uid.clone();
        state.lease = None;
        state.dirty = true;
        Ok(())
    }

    /// Puts the labels that a node has of itself onto a Node that is there.
    async fn adopt(&self, member: &Member, api: &Api<Node>) -> Result<Arc<Node>, ApiError> {
        let found = api.get(&member.name).await?;
        let have = found.metadata.labels.as_ref();
        let mut missing = member.template.labels_of(&member.name);
        missing.retain(|key, value| have.and_then(|have| have.get(key)) != Some(value));
        if missing.is_empty() {
            return Ok(found);
        }
        let patch = Patch::Merge(json!({"metadata": {"labels": missing}}));
        api.patch(&member.name, &PatchParams::default(), &patch).await
    }

    /// Renews the lease if it is due.
    async fn renew(&self, member: &Member) -> Result<(), ApiError> {
        let api: Api<Lease> = Api::namespaced(self.client_of(member), LEASES);
        let now = self.context.clock.now_micro();
        let held = member.state.lock().lease.clone();
        let renewed = match held {
            Some(lease) => {
                let mut lease = Lease::clone(&lease);
                lease.spec.get_or_insert_default().renew_time = Some(now);
                api.update(&PostParams::default(), lease).await
            }
            None => match api.create(&PostParams::default(), self.lease(member, now.clone())).await {
                Err(ApiError::AlreadyExists { .. }) => {
                    let found = api.get(&member.name).await?;
                    let mut lease = Lease::clone(&found);
                    lease.spec = self.lease(member, now).spec;
                    api.update(&PostParams::default(), lease).await
                }
                created => created,
            },
        };
        let lost = matches!(renewed, Err(ApiError::Conflict { .. } | ApiError::NotFound { .. }));
        if lost {
            member.state.lock().lease = None;
        }
        let lease = renewed?;
        member.state.lock().lease = Some(lease);
        Ok(())
    }

    fn lease(
        &self,
        member: &Member,
        now: k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime,
    ) -> Lease {
        let uid = member.state.lock().registered.clone().unwrap_or_default();
        Lease {
            metadata: ObjectMeta {
                name: Some(member.name.to_string()),
                namespace: Some(LEASES.into()),
                owner_references: Some(vec![OwnerReference {
                    api_version: "v1".into(),
                    kind: "Node".into(),
                    name: member.name.to_string(),
                    uid,
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(member.name.to_string()),
                lease_duration_seconds: i32::try_from(self.config.lease.as_secs()).ok(),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Reports the node's status if it has news, or if the last report is old.
    async fn report_node(&self, member: &Member, health: &Result<(), RuntimeError>) -> Result<(), ApiError> {
        let old = {
            let mut state = member.state.lock();
            let due = state.reported.is_none_or(|last| last.elapsed() >= self.config.status);
            let changed = state.dirty || state.healthy != health.is_ok();
            if !due && !changed {
                return Ok(());
            }
            state.dirty = false;
            due && state.reported.is_some()
        };
        let written = self.write_node(member, health, old).await;
        let mut state = member.state.lock();
        match &written {
            Ok(()) => {
                state.reported = Some(Instant::now());
                state.healthy = health.is_ok();
            }
            Err(ApiError::NotFound { .. }) => {
                state.registered = None;
                state.dirty = true;
            }
            Err(_) => state.dirty = true,
        }
        written
    }

    async fn write_node(
        &self,
        member: &Member,
        health: &Result<(), RuntimeError>,
        always: bool,
    ) -> Result<(), ApiError> {
        let api: Api<Node> = self.api(member);
        let found = api.get(&member.name).await?;
        let mut node = Node::clone(&found);
        template::report(&self.facts(member, health), node.status.get_or_insert_default());
        let status = (found.status.as_ref(), node.status.as_ref());
        if let (false, (Some(old), Some(new))) = (always, status)
            && !template::differs(old, new)
        {
            return Ok(());
        }
        api.update_status(&PostParams::default(), node).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_spread_over_the_period() {
        let period = Duration::from_secs(10);
        let mut slots = [0; 10];
        for number in 0..10_000 {
            let turn = phase(&format!("node-{number}"), period);
            assert!(turn > Duration::ZERO && turn <= period);
            let second = usize::try_from(turn.as_millis().saturating_sub(1) / 1000).unwrap();
            slots[second.min(9)] += 1;
        }
        assert!(slots.iter().all(|count| (800..1200).contains(count)), "{slots:?}");
    }
}
