//! The real schedulers: they come, stop in order, or are gone in the middle of whatever they do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rkube_api::{
    client::{Client, Informers},
    context::Context,
    request::{Credentials, UserInfo},
};
use rkube_sched::{
    Config, Scheduler,
    driver::Inspector,
    framework::{ProfileConfig, WaitingPods},
    queue::QueueConfig,
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::World,
    probe::{self, Probe},
    weather::Way,
};

/// What all schedulers of a run have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Whether pods that no event helps are tried again after five minutes. If not, every pod must be helped
    /// by the events alone.
    pub(crate) flush: bool,
    /// Whether the plugin that panics serves the points that look at nodes.
    pub(crate) probed: bool,
}

/// Who schedules: a process, and the name under which pods ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) process: &'static str,
    pub(crate) name: &'static str,
}

/// A scheduler, at work or not.
pub(crate) struct Process {
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
    pub(crate) running: Option<Running>,
    starts: u32,
}

pub(crate) struct Running {
    pub(crate) waiting: WaitingPods,
    pub(crate) inspector: Inspector,
    pub(crate) probe: Probe,
    context: Context,
    token: CancellationToken,
    ended: Arc<AtomicBool>,
}

/// Says that a task is over, whichever way.
struct Ending(Arc<AtomicBool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Running {
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

impl Process {
    pub(crate) fn new(identity: Identity, settings: Settings) -> Self {
        Self { identity, settings, running: None, starts: 0 }
    }

    pub(crate) fn start(&mut self, world: &World, armed: bool) {
        if self.running.is_some() {
            return;
        }
        self.starts += 1;
        let Identity { process, name } = self.identity;
        let context = world.context.child(&format!("{process}-{}", self.starts));
        let way = Way {
            who: process,
            server: world.server.clone(),
            weather: world.weather.clone(),
            watchman: world.watchman.clone(),
            rng: context.rng.fork("weather"),
            log: world.log.clone(),
        };
        let user = Credentials::InProcess(Arc::new(UserInfo::component("system:kube-scheduler")));
        let client = Client::new(Arc::new(way), user, "kube-scheduler/v1.37", context.clone());
        let probe = Probe::default();
        probe.armed.store(armed, Ordering::Relaxed);
        let config = self.config(name, &probe);
        let scheduler = Scheduler::new(client.clone(), Informers::new(client), config).unwrap();
        let (waiting, inspector) = (scheduler.waiting(), scheduler.inspector());
        let (token, ended) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let (run, ending) = (scheduler.run(token.clone()), Ending(ended.clone()));
        context.spawner.spawn("scheduler", async move {
            let _ending = ending;
            run.await;
        });
        self.running = Some(Running { waiting, inspector, probe, context, token, ended });
    }

    fn config(&self, name: &str, probe: &Probe) -> Config {
        let mut plugins = rkube_sched::plugins::all();
        probe.register(&mut plugins, self.settings.probed).unwrap();
        let mut profile = ProfileConfig::standard().named(name).with(probe::NAME, 1);
        // It is asked before the default binder.
        profile.plugins.rotate_right(1);
        let mut queue = QueueConfig::default();
        if !self.settings.flush {
            queue.max_unschedulable = Duration::from_secs(30 * 24 * 3600);
        }
        Config { profiles: vec![profile], plugins, queue, ..Config::default() }
    }

    /// It ends in order, as on a signal.
    pub(crate) async fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.token.cancel();
        let patience = Instant::now() + Duration::from_secs(60);
        while !running.has_ended() {
            assert!(Instant::now() < patience, "{} does not stop", self.identity.process);
            sleep(Duration::from_millis(100)).await;
        }
        running.context.spawner.stop().await;
        sleep(Duration::from_millis(1)).await;
    }

    /// It is gone at once, whatever it was about to do.
    pub(crate) async fn kill(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.context.spawner.stop().await;
        sleep(Duration::from_millis(1)).await;
    }
}
