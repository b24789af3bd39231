//! What the plan makes of particular pods.

use std::time::Duration;

use rkube_node::{
    pod::{Action, Eviction},
    runtime::Probe,
};
use serde_json::json;

use crate::model::Model;

fn one(policy: &str) -> Model {
    Model::new(json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "nginx:1"}]}))
}

#[test]
fn a_pod_gets_a_sandbox_an_image_and_runs() {
    let mut model = one("Always");
    let first = model.plan();
    assert_eq!(first.actions, [Action::RunSandbox { attempt: 0 }]);
    assert_eq!(first.status.phase.as_deref(), Some("Pending"));
    model.pod.status = Some(first.status);
    assert_eq!(model.state("c"), "waiting:ContainerCreating");
    assert_eq!(model.condition("PodReadyToStartContainers"), "False");
    assert_eq!(model.condition("Ready"), "False:ContainersNotReady");
    model.settle();
    assert_eq!((model.phase(), model.state("c").as_str()), ("Running", "running"));
    for kind in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        assert_eq!(model.condition(kind), "True", "{kind}");
    }
    assert_eq!(model.status().pod_ip.as_deref(), Some("10.244.0.2"));
    assert_eq!(model.status().host_ip.as_deref(), Some("172.16.0.1"));
    assert_eq!(model.container("c").container_id.as_deref(), Some("sim://c-0"));
    assert_eq!(model.status().observed_generation, Some(1));
    // Nothing changes: nothing to do, nothing to report, however late it is.
    let before = model.status().clone();
    let plan = model.later(100).settle();
    assert_eq!((plan.status, plan.wake), (before, None));
}

#[test]
fn a_container_that_keeps_failing_waits_ever_longer() {
    let mut model = one("Always");
    model.settle();
    let mut waits = Vec::new();
    model.later(1).exit("c", 1);
    model.settle();
    assert_eq!((model.container("c").restart_count, model.state("c").as_str()), (1, "running"));
    for _ in 0..6 {
        model.later(1).exit("c", 1);
        let plan = model.settle();
        assert_eq!(model.state("c"), "waiting:CrashLoopBackOff");
        assert_eq!(
            (model.phase(), model.condition("Ready").as_str()),
            ("Running", "False:ContainersNotReady")
        );
        let wait = plan.wake.unwrap().duration_since(model.now).as_secs();
        let last = model.container("c").last_state.clone().unwrap().terminated.unwrap();
        assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
        waits.push(wait);
        let early = model.later(u64::try_from(wait).unwrap() - 1).plan();
        assert_eq!(early.actions, []);
        model.later(1).settle();
        assert_eq!(model.state("c"), "running");
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300]);
    assert_eq!(model.container("c").restart_count, 7);
    // Only what the status shows is kept.
    assert!(model.containers().len() <= 2);
    model.later(700).exit("c", 1);
    model.settle();
    assert_eq!(model.state("c"), "running", "after ten minutes of running the wait is forgotten");
}

#[test]
fn the_policy_decides_what_an_end_means() {
    let cases = [
        ("Never", 0, "Succeeded", "terminated:Completed:0"),
        ("Never", 3, "Failed", "terminated:Error:3"),
        ("OnFailure", 0, "Succeeded", "terminated:Completed:0"),
        ("OnFailure", 3, "Running", "running"),
        ("Always", 0, "Running", "running"),
    ];
    for (policy, code, phase, state) in cases {
        let mut model = one(policy);
        model.settle();
        model.later(5).exit("c", code);
        model.settle();
        assert_eq!((model.phase(), model.state("c").as_str()), (phase, state), "{policy} {code}");
        if phase == "Succeeded" {
            assert_eq!(model.condition("Initialized"), "True:PodCompleted");
            assert_eq!(model.condition("Ready"), "False:PodCompleted");
            assert!(!model.observed.pod.as_ref().unwrap().ready(), "the network is given back");
            assert_eq!(model.status().pod_ip.as_deref(), Some("10.244.0.2"), "the status keeps the address");
        }
    }
}

#[test]
fn rules_of_a_container_come_before_the_policy() {
    let mut model = Model::new(json!({"restartPolicy": "Never", "containers": [{
        "name": "c", "image": "nginx:1", "restartPolicy": "Never",
        "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
    }]}));
    model.settle();
    model.later(5).exit("c", 42);
    model.settle();
    assert_eq!((model.phase(), model.container("c").restart_count), ("Running", 1));
    model.later(50).exit("c", 1);
    model.settle();
    assert_eq!(model.phase(), "Failed");
}

fn layered() -> Model {
    Model::new(json!({
        "restartPolicy": "Never",
        "initContainers": [
            {"name": "i1", "image": "nginx:1"},
            {"name": "side", "image": "nginx:1", "restartPolicy": "Always"},
            {"name": "i2", "image": "nginx:1"},
        ],
        "containers": [{"name": "c", "image": "nginx:1"}],
    }))
}

#[test]
fn init_containers_and_sidecars_come_first_in_order() {
    let mut model = layered();
    model.settle();
    assert_eq!(model.running(), ["i1"]);
    assert_eq!((model.phase(), model.state("c").as_str()), ("Pending", "waiting:PodInitializing"));
    assert_eq!(model.condition("Initialized"), "False:ContainersNotInitialized");
    model.probe("side", Probe { started: false, ready: false, alive: true });
    model.later(1).exit("i1", 0);
    model.settle();
    assert_eq!(model.running(), ["side"], "i2 waits until the sidecar has started");
    model.probe("side", Probe::PASSED);
    model.settle();
    assert_eq!(model.running(), ["side", "i2"]);
    model.later(1).exit("i2", 0);
    model.settle();
    assert_eq!((model.running().join(" ").as_str(), model.phase()), ("side c", "Running"));
    assert_eq!(model.condition("Initialized"), "True");
    // A sidecar starts again whatever the pod's policy; the pod ends with its containers, then it stops.
    model.later(1).exit("side", 1);
    model.settle();
    assert_eq!((model.container("side").restart_count, model.phase()), (1, "Running"));
    model.later(60).exit("c", 0);
    model.settle();
    assert_eq!((model.running().len(), model.phase()), (0, "Succeeded"));
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let mut model = layered();
    model.settle();
    model.exit("i1", 1);
    model.settle();
    assert_eq!((model.phase(), model.state("c").as_str()), ("Failed", "waiting:PodInitializing"));
    assert_eq!(model.log.iter().filter(|action| matches!(action, Action::Start { .. })).count(), 1);
}

#[test]
fn pulls_that_fail_are_tried_again_ever_later() {
    let mut model = one("Always");
    model.pulls = Err("not found".into());
    let plan = model.settle();
    assert_eq!(model.state("c"), "waiting:ErrImagePull");
    assert_eq!(plan.wake.unwrap().duration_since(model.now).as_secs(), 2);
    model.later(2).settle();
    assert_eq!((model.state("c").as_str(), model.phase()), ("waiting:ImagePullBackOff", "Pending"));
    model.later(8).settle();
    assert_eq!(model.state("c"), "waiting:ErrImagePull");
    let plan = model.later(5).settle();
    assert_eq!(plan.wake.unwrap().duration_since(model.now).as_secs(), 15);
    model.pulls = Ok(());
    model.later(15).settle();
    assert_eq!(model.state("c"), "running");
}

#[test]
fn the_pull_policy_is_followed() {
    let pulls = |policy: &str, image: &str| {
        let mut model = Model::new(json!({"containers": [
            {"name": "a", "image": image, "imagePullPolicy": policy},
        ]}));
        model.settle();
        model.later(1).exit("a", 1);
        model.settle();
        let count = model.log.iter().filter(|action| matches!(action, Action::Pull { .. })).count();
        (count, model.state("a"))
    };
    assert_eq!(pulls("IfNotPresent", "nginx:1"), (1, "running".into()));
    assert_eq!(pulls("Always", "nginx:1"), (2, "running".into()));
    let mut never = Model::new(json!({"containers": [
        {"name": "a", "image": "x:1", "imagePullPolicy": "Never"},
    ]}));
    never.settle();
    assert_eq!(never.state("a"), "waiting:ErrImageNeverPull");
}

#[test]
fn a_deleted_pod_stops_reports_and_goes() {
    let mut model = one("Always");
    model.settle();
    model.delete(30);
    let plan = model.plan();
    let [Action::Stop { container, grace, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
    assert_eq!((container.as_str(), *grace), ("c", Duration::from_secs(30)));
    // It takes its time: no second request, unless the grace is cut.
    model.memory.note(&plan.actions[0], &model.node.backoff, model.now);
    assert_eq!(model.later(3).plan().actions, []);
    model.delete(5);
    assert!(matches!(&model.plan().actions[..], [Action::Stop { grace, .. }] if grace.as_secs() == 5));
    model.exit("c", 0);
    let plan = model.settle();
    assert!(plan.finished);
    assert_eq!(model.phase(), "Succeeded");
    let tail = &model.log[model.log.len() - 3..];
    assert_eq!(tail, [Action::StopSandbox, Action::DeleteObject, Action::RemovePod]);
}

#[test]
fn a_pod_deleted_before_it_ran_fails_and_goes() {
    let mut model = one("Always");
    model.pod.status = Some(model.plan().status);
    model.delete(30);
    assert!(model.settle().finished);
    assert_eq!(
        (model.phase(), model.state("c").as_str()),
        ("Failed", "terminated:ContainerStatusUnknown:137")
    );
}

#[test]
fn finalizers_do_not_make_it_delete_again_and_again() {
    let mut model = one("Always");
    model.settle();
    model.delete(0);
    model.settle();
    assert!(!model.log.contains(&Action::DeleteObject));
    model.gone = true;
    assert!(model.settle().finished);
}

#[test]
fn a_pod_that_is_gone_is_cleaned_up() {
    let mut model = one("Always");
    model.settle();
    model.gone = true;
    assert!(model.settle().finished);
    assert_eq!(model.observed.pod, None);
}

#[test]
fn the_deadline_ends_a_pod_after_its_containers() {
    let mut model = Model::new(json!({
        "activeDeadlineSeconds": 60, "containers": [{"name": "c", "image": "nginx:1"}],
    }));
    let plan = model.settle();
    assert_eq!(plan.wake.unwrap().duration_since(model.now).as_secs(), 60);
    let plan = model.later(60).plan();
    assert!(matches!(&plan.actions[..], [Action::Stop { .. }]));
    assert_eq!(plan.status.phase.as_deref(), Some("Running"));
    model.settle();
    assert_eq!((model.phase(), model.status().reason.as_deref()), ("Failed", Some("DeadlineExceeded")));
    let before = model.status().clone();
    model.later(60).settle();
    assert_eq!(*model.status(), before);
}

#[test]
fn an_evicted_pod_fails_with_the_reason() {
    let mut model = one("Always");
    model.settle();
    model.memory.eviction = Some(Eviction {
        reason: "Evicted".into(),
        message: "The node was low on resource: memory. ".into(),
        grace: None,
    });
    model.settle();
    assert_eq!((model.phase(), model.status().reason.as_deref()), ("Failed", Some("Evicted")));
    assert_eq!(model.condition("DisruptionTarget"), "True:TerminationByKubelet");
}

#[test]
fn containers_that_the_runtime_lost_start_again_and_are_counted() {
    let mut model = one("Always");
    model.settle();
    model.observed.pod = None;
    model.memory = Default::default();
    model.later(5).settle();
    let status = model.container("c");
    assert_eq!((status.restart_count, model.state("c").as_str()), (1, "running"));
    let last = status.last_state.clone().unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    let mut never = one("Never");
    never.settle();
    never.observed.pod = None;
    never.settle();
    assert_eq!(
        (never.phase(), never.state("c").as_str()),
        ("Failed", "terminated:ContainerStatusUnknown:137")
    );
}

#[test]
fn readiness_gates_and_probes_decide_ready() {
    let mut model = Model::new(json!({
        "readinessGates": [{"conditionType": "x/y"}],
        "containers": [{"name": "c", "image": "nginx:1"}],
    }));
    model.settle();
    assert_eq!(model.condition("ContainersReady"), "True");
    assert_eq!(model.condition("Ready"), "False:ReadinessGatesNotReady");
    model.probe("c", Probe { ready: false, ..Probe::PASSED });
    model.settle();
    assert_eq!(model.condition("ContainersReady"), "False:ContainersNotReady");
    model.probe("c", Probe { alive: false, ..Probe::PASSED });
    let plan = model.plan();
    assert!(matches!(&plan.actions[..], [Action::Stop { .. }]), "{plan:?}");
}

#[test]
fn the_node_s_network_gives_the_node_s_address() {
    let mut model = Model::new(json!({
        "hostNetwork": true, "containers": [{"name": "c", "image": "nginx:1"}],
    }));
    model.settle();
    assert_eq!(model.status().pod_ip.as_deref(), Some("172.16.0.1"));
}
