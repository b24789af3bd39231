//! What holds for every pod and every course of events.

use proptest::prelude::*;
use rkube_node::runtime::Probe;
use serde_json::{Value, json};

use crate::model::Model;

#[derive(Clone, Debug)]
enum Happening {
    Later(u64),
    Exit(usize, i32),
    Probe(usize, bool, bool),
    PullsFail(bool),
    SandboxDies,
    RuntimeForgets,
    AgentRestarts,
    Delete(i64),
    Gone,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0_u64..700).prop_map(Happening::Later),
        6 => (0_usize..4, prop_oneof![Just(0), Just(1), Just(137)]).prop_map(|(c, code)| Happening::Exit(c, code)),
        2 => (0_usize..4, any::<bool>(), any::<bool>()).prop_map(|(c, r, a)| Happening::Probe(c, r, a)),
        1 => any::<bool>().prop_map(Happening::PullsFail),
        1 => Just(Happening::SandboxDies),
        1 => Just(Happening::RuntimeForgets),
        1 => Just(Happening::AgentRestarts),
        1 => (1_i64..60).prop_map(Happening::Delete),
        1 => Just(Happening::Gone),
    ]
}

const NAMES: [&str; 4] = ["i", "side", "a", "b"];

fn spec() -> impl Strategy<Value = Value> {
    let policy = prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")];
    (policy, any::<bool>(), any::<bool>(), any::<bool>(), proptest::option::of(1_i64..2000)).prop_map(
        |(policy, init, side, second, deadline)| {
            let container = |name: &str| json!({"name": name, "image": "nginx:1"});
            let mut inits = Vec::new();
            if init {
                inits.push(container("i"));
            }
            if side {
                inits.push(json!({"name": "side", "image": "nginx:1", "restartPolicy": "Always"}));
            }
            let mut mains = vec![container("a")];
            if second {
                mains.push(container("b"));
            }
            let mut spec = json!({"restartPolicy": policy, "initContainers": inits, "containers": mains});
            if let Some(deadline) = deadline {
                spec["activeDeadlineSeconds"] = json!(deadline);
            }
            spec
        },
    )
}

fn happen(model: &mut Model, happening: &Happening) {
    let has_runtime = model.observed.pod.is_some();
    match happening {
        Happening::Later(seconds) => {
            model.later(*seconds);
        }
        Happening::Exit(at, code) if has_runtime => model.exit(NAMES[*at], *code),
        Happening::Probe(at, ready, alive) => {
            model.probe(NAMES[*at], Probe { started: *ready, ready: *ready, alive: *alive });
        }
        Happening::PullsFail(fail) => {
            model.pulls = if *fail { Err("no".into()) } else { Ok(()) };
        }
        Happening::SandboxDies if has_runtime => {
            for name in NAMES {
                model.exit(name, 137);
            }
            if let Some(sandbox) = model.observed.pod.as_mut().and_then(|pod| pod.sandbox.as_mut()) {
                sandbox.ready = false;
            }
        }
        Happening::RuntimeForgets => model.observed.pod = None,
        Happening::AgentRestarts => model.memory = Default::default(),
        Happening::Delete(grace) => model.delete(*grace),
        Happening::Gone => model.gone = true,
        Happening::Exit(..) | Happening::SandboxDies => {}
    }
}

/// Phase and restart counts as reported.
fn reported(model: &Model) -> (String, Vec<(String, i32)>) {
    let status = model.pod.status.clone().unwrap_or_default();
    let inits = status.init_container_statuses.into_iter().flatten();
    let all = inits.chain(status.container_statuses.into_iter().flatten());
    (status.phase.unwrap_or_default(), all.map(|one| (one.name, one.restart_count)).collect())
}

/// At most one instance of a container is alive, and each status has exactly one state.
fn check(model: &Model) {
    let mut running = model.running();
    running.sort_unstable();
    let mut unique = running.clone();
    unique.dedup();
    assert_eq!(running, unique);
    let (phase, counts) = reported(model);
    for (name, _) in &counts {
        model.state(name);
    }
    if !model.gone && ["Succeeded", "Failed"].contains(&phase.as_str()) {
        assert_eq!(running, Vec::<String>::new(), "an end is reported only after the containers'");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn ends_are_final_counts_never_fall_and_plans_settle(
        spec in spec(),
        happenings in proptest::collection::vec(happening(), 0..24),
    ) {
        let mut model = Model::new(spec);
        let mut before = reported(&model);
        for happening in &happenings {
            happen(&mut model, happening);
            model.settle();
            let after = reported(&model);
            if ["Succeeded", "Failed"].contains(&before.0.as_str()) {
                prop_assert_eq!(&after.0, &before.0);
            }
            for (name, count) in &before.1 {
                let now = after.1.iter().find(|(known, _)| known == name).map(|(_, count)| *count);
                prop_assert!(now.is_some_and(|now| now >= *count), "{} {:?} {:?}", name, before, after);
            }
            check(&model);
            before = after;
            // Settled is settled: the same plan again has nothing to do and nothing to report.
            let again = model.plan();
            prop_assert!(again.actions.is_empty());
            if !model.gone {
                prop_assert_eq!(&Some(again.status), &model.pod.status);
            }
        }
    }

    #[test]
    fn a_deleted_pod_finally_goes(
        spec in spec(),
        happenings in proptest::collection::vec(happening(), 0..16),
        grace in 1_i64..60,
    ) {
        let mut model = Model::new(spec);
        for happening in &happenings {
            happen(&mut model, happening);
            model.settle();
        }
        model.delete(grace);
        let plan = model.settle();
        prop_assert!(plan.finished);
        prop_assert!(model.gone && model.observed.pod.is_none());
    }
}
