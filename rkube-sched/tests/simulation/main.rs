//! The real scheduler against the real API server for hours of virtual time, with everything going wrong that
//! can: nodes and pods, gangs, volumes and devices come, go and change, requests fail, answers are lost, watches
//! break, schedulers compete and are killed in the middle of their work, a plugin panics. All of it follows from
//! a seed, and what must hold is checked after every step: no node over capacity, no pod bound twice, no volume
//! or device with two claims, no pod without its own; and at rest: no pod forgotten, no gang there in part,
//! nothing leaked.
//!
//! CI runs a few seeds. Many, or one, or a longer run:
//!
//! ```text
//! SIMULATION_SEEDS=0..500 cargo test -p rkube-sched --test simulation -- --nocapture many
//! SIMULATION_SEEDS=17..18 SIMULATION_ROUNDS=100 SIMULATION_LOG=/tmp/log cargo test ... many
//! ```
//!
//! A seed that fails says so with the end of its log; `SIMULATION_LOG` names a file for the whole log, and
//! `SIMULATION_ALOUD=1` prints it line by line as it comes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod binds;
mod checks;
mod cluster;
mod devices;
mod gangs;
mod log;
mod probe;
mod schedulers;
mod shapes;
mod steps;
mod storage;
mod weather;

use std::{ops::Range, time::Duration};

use rkube_api::context::Rng;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    checks::{Broken, Places},
    cluster::World,
    gangs::Gangs,
    schedulers::{Identity, Process, Settings},
    shapes::{Palette, chance, pick},
    weather::Storm,
};

/// What a seed decides for its whole run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    settings: Settings,
    palette: Palette,
    /// Whether requests fail, watches break and schedulers are killed.
    stormy: bool,
    processes: Vec<Identity>,
    /// How often the cluster comes to rest.
    rounds: usize,
    /// How many steps there are before it does.
    steps: usize,
}

impl Plan {
    fn new(rng: &Rng, rounds: usize) -> Self {
        let identity = |process, name| Identity { process, name };
        let first = identity("first", "default-scheduler");
        let (twin, other) = (identity("twin", "default-scheduler"), identity("other", "other-scheduler"));
        let companies: [&[Identity]; 4] = [&[first], &[first], &[first, other], &[first, twin, other]];
        Self {
            settings: Settings { flush: chance(rng, 1, 2), probed: chance(rng, 1, 2) },
            palette: Palette {
                panics: chance(rng, 1, 2),
                absurd: chance(rng, 1, 3),
                gangs: chance(rng, 1, 2),
                volumes: chance(rng, 1, 2),
                devices: cfg!(feature = "dra") && chance(rng, 1, 2),
            },
            stormy: chance(rng, 3, 4),
            processes: pick(rng, &companies).to_vec(),
            rounds,
            steps: 20 + rng.below(60),
        }
    }
}

/// A run under way.
pub(crate) struct Run {
    world: World,
    plan: Plan,
    processes: Vec<Process>,
    places: Places,
    gangs: Gangs,
    armed: bool,
    /// How many pods there have been.
    pods: usize,
    /// How many groups of pods.
    groups: usize,
}

impl Run {
    async fn begin(seed: u64, plan: Plan) -> Self {
        let world = World::new(seed, plan.palette).await;
        world.log.line(format_args!("seed {seed}: {plan:?}"));
        let process = |identity: &Identity| Process::new(*identity, plan.settings);
        let processes = plan.processes.iter().map(process).collect();
        let (places, gangs) = Default::default();
        let mut run = Self { world, plan, processes, places, gangs, armed: true, pods: 0, groups: 0 };
        run.start_all();
        run
    }

    fn start_all(&mut self) {
        for process in &mut self.processes {
            process.start(&self.world, self.armed);
        }
    }

    /// Steps, each with what must hold after it, then rest.
    async fn round(&mut self, rng: &Rng) -> Broken {
        steps::sweep(rng, self).await;
        for _ in 0..self.plan.steps {
            let step = steps::draw(rng, self);
            let text = format!("{step:?}");
            self.world.log.line(format_args!("step {}", &text[..text.floor_char_boundary(600)]));
            step.take(self).await;
            self.pause(rng).await;
            self.world.work(60).await;
            // What follows from that at once comes first.
            sleep(Duration::from_millis(1)).await;
            self.world.tell().await;
            let broken = self.check().await;
            if !broken.is_empty() {
                return broken;
            }
        }
        self.rest().await;
        self.check_rest().await
    }

    /// No more faults, every scheduler works, nobody waits for Permit: until nothing happens any more.
    async fn rest(&mut self) {
        const TICKS: u32 = 80;
        self.world.log.line("rest");
        self.world.weather.change(Storm::default());
        self.arm(false);
        self.start_all();
        self.world.ungate_members().await;
        self.world.add_node(shapes::node(&Rng::seeded(1), 99)).await;
        for tick in 0..TICKS {
            sleep(Duration::from_secs(10)).await;
            self.world.work(100).await;
            for running in self.processes.iter().filter_map(|process| process.running.as_ref()) {
                for uid in running.waiting.uids() {
                    running.waiting.allow(&uid, probe::NAME);
                }
            }
            // The word for those that the probe has kept.
            if tick.is_multiple_of(3) && tick < TICKS / 2 {
                self.world
                    .change_node("n99", json!({"metadata": {"annotations": {"tick": tick.to_string()}}}))
                    .await;
            }
        }
        self.world.tell().await;
    }
}

/// A run that ended well.
#[derive(Debug)]
struct Done {
    log: log::Log,
    /// How much time has passed in it.
    took: Duration,
    /// How many pods were bound.
    bound: usize,
}

/// Runs a seed on paused time; what is wrong, if something is.
fn run(seed: u64, rounds: usize) -> Result<Done, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (broken, done) = runtime.block_on(async {
        let rng = Rng::seeded(seed).fork("simulation");
        let mut run = Run::begin(seed, Plan::new(&rng, rounds)).await;
        let mut broken = Broken::new();
        for _ in 0..run.plan.rounds {
            broken = run.round(&rng).await;
            if !broken.is_empty() {
                break;
            }
        }
        let World { log, watchman, .. } = run.world;
        (broken, Done { took: log.elapsed(), bound: watchman.bound_so_far(), log })
    });
    let log = &done.log;
    if let Ok(path) = std::env::var("SIMULATION_LOG") {
        std::fs::write(path, log.text()).unwrap();
    }
    if broken.is_empty() {
        return Ok(done);
    }
    Err(format!("seed {seed}: {}\n\nends so:\n{}", broken.join("\n"), log.tail(40)))
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds() -> Option<Range<u64>> {
    let text = std::env::var("SIMULATION_SEEDS").ok()?;
    let (first, end) = text.split_once("..")?;
    Some(first.parse().ok()?..end.parse().ok()?)
}

#[test]
fn what_must_hold_holds_for_many_seeds() {
    let (mut failures, mut time, mut bindings) = (Vec::new(), Duration::ZERO, 0);
    let seeds = seeds().unwrap_or(0..5);
    for seed in seeds.clone() {
        match run(seed, setting("SIMULATION_ROUNDS").unwrap_or(2)) {
            Ok(Done { took, bound, .. }) => {
                eprintln!("seed {seed}: {} minutes, {bound} bindings", took.as_secs() / 60);
                time += took;
                bindings += bound;
            }
            Err(text) => {
                eprintln!("{text}\n");
                failures.push(seed);
            }
        }
    }
    let hours = time.as_secs() / 3600;
    eprintln!("{} seeds, {hours} virtual hours, {bindings} bindings", seeds.count());
    assert!(failures.is_empty(), "seeds {failures:?} failed");
    assert!(bindings > 0, "nothing was tried");
}

#[test]
fn a_seed_can_be_replayed() {
    for seed in [1001, 1002] {
        let text = || run(seed, 1).unwrap().log.text();
        assert!(text() == text(), "seed {seed}: compare two runs by SIMULATION_LOG");
    }
}
