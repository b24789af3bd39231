//! What users ask of a simulator.

mod parity;

use rkube_api::client::ObjectKey;
use serde_json::{Value, json};

use super::*;
use crate::testing::NO_CLAIMS;

fn node(name: &str, cpu: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}}
    })
}

/// A pod of a replica set.
fn pod(name: &str, cpu: &str, mut spec: Value) -> Value {
    let resources = json!({"requests": {"cpu": cpu, "memory": "1Gi"}});
    spec["containers"] = json!([{"name": "c", "image": "i", "resources": resources}]);
    let owner =
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "s", "uid": "s", "controller": true});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "ownerReferences": [owner]},
        "spec": spec
    })
}

fn on(node: &str, mut pod: Value) -> Value {
    pod["spec"]["nodeName"] = json!(node);
    pod
}

fn new_pod(name: &str, cpu: &str, spec: Value) -> Pod {
    serde_json::from_value(pod(name, cpu, spec)).unwrap()
}

fn list(items: Vec<Value>) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn simulator(items: Vec<Value>) -> Simulator {
    Simulator::builder().seed(7).load(list(items)).unwrap().build().unwrap()
}

fn moves(report: &Report) -> Vec<(&str, Option<&str>, &str)> {
    report.moves.iter().map(|it| (&*it.pod.name, it.from.as_deref(), &*it.to)).collect()
}

fn waits(report: &Report) -> Vec<&str> {
    report.pending.iter().map(|it| &*it.pod.name).collect()
}

#[test]
fn an_answer_has_the_choice_the_runners_up_and_who_refused() {
    let mut tainted = node("tainted", "8");
    tainted["spec"] = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
    let full = on("full", pod("a", "4", json!({})));
    let simulator =
        simulator(vec![node("large", "8"), node("medium", "4"), node("full", "4"), tainted, full]);
    let answer = simulator.ask(new_pod("p", "1", json!({}))).unwrap();
    let Choice::Node { node, score, feasible: 2, best: 1 } = &answer.choice else { panic!("{answer}") };
    assert_eq!(node, "large");
    let Some(Verdict::Fits { total, scores }) = answer.of_node("large") else { panic!("{answer}") };
    assert_eq!(total, score);
    assert_eq!(scores.iter().map(PluginScore::weighted).sum::<i64>(), *total);
    let fit = scores.iter().find(|score| score.plugin == "NodeResourcesFit").unwrap();
    // A CPU of eight is asked for, and a GiB of eight: 87 each.
    assert_eq!((fit.raw, fit.normalized, fit.weight), (87, 87, 1));
    let taints = scores.iter().find(|score| score.plugin == "TaintToleration").unwrap();
    assert_eq!((taints.raw, taints.normalized, taints.weighted()), (0, 100, 300));
    assert_eq!(answer.runners_up().map(|(node, _)| node).collect::<Vec<_>>(), ["medium"]);
    let refused = |node| match answer.of_node(node) {
        Some(Verdict::Refused { plugin, reasons, may_change }) => {
            (plugin.unwrap(), &*reasons[0], *may_change)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("full"), ("NodeResourcesFit", "Insufficient cpu", true));
    assert_eq!(refused("tainted"), ("TaintToleration", "node(s) had untolerated taint(s)", false));
    assert_eq!(answer.nodes[0].node, "large");
    let text = answer.to_string();
    assert!(text.starts_with("default/p goes to large with "), "{text}");
    assert!(text.contains("full      NodeResourcesFit   Insufficient cpu\n"), "{text}");
    // Nothing has changed by asking.
    assert_eq!(simulator.ask(new_pod("p", "1", json!({}))).unwrap(), answer);
}

#[test]
fn each_pod_sees_those_before_it() {
    let mut simulator = simulator(vec![node("a", "2"), node("b", "2")]);
    let nodes: Vec<_> = (0..5)
        .map(|number| {
            let answer = simulator.place(new_pod(&format!("p{number}"), "1", json!({}))).unwrap();
            answer.choice.node().map(str::to_owned)
        })
        .collect();
    assert_eq!(nodes.iter().filter(|node| node.as_deref() == Some("a")).count(), 2);
    assert_eq!(nodes.iter().filter(|node| node.as_deref() == Some("b")).count(), 2);
    assert_eq!(nodes[4], None);
    let waiting = ObjectKey::new("default", "p4");
    let message = format!(
        "0/2 nodes are available: 2 Insufficient cpu. {NO_CLAIMS}preemption: 0/2 nodes are available: \
         2 No preemption victims found for incoming pod."
    );
    let answer = simulator.explain(&waiting).unwrap();
    assert_eq!(answer.message, message);
    assert_eq!(answer.choice, Choice::Nowhere { plugins: ["NodeResourcesFit"].into() });
    assert_eq!(simulator.pending().count(), 1);
    assert_eq!(simulator.node_of(&ObjectKey::new("default", "p0")), nodes[0].as_deref());
    let error = simulator.place(new_pod("p4", "1", json!({}))).unwrap_err();
    assert_eq!(error, PodError::Exists { pod: waiting });
}

#[test]
fn victims_are_named_and_wait_from_then_on() {
    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 100
    });
    let busy = on("a", pod("low", "3", json!({"priority": 0})));
    let mut simulator = simulator(vec![node("a", "4"), class, busy]);
    let high = || new_pod("high", "2", json!({"priorityClassName": "high"}));
    let answer = simulator.place(high()).unwrap();
    let victims = vec![ObjectKey::new("default", "low")];
    assert_eq!(answer.choice, Choice::Preempts { node: "a".into(), victims: victims.clone() });
    assert_eq!(answer.message, "0/1 nodes are available: 1 Insufficient cpu.");
    assert_eq!(simulator.node_of(&ObjectKey::of(&high())), Some("a"));
    let report = simulator.schedule();
    assert_eq!(report.pending[0].pod, victims[0]);
    assert_eq!(report.pending[0].cause, Cause::Preempted { by: ObjectKey::of(&high()) });
    let unknown = simulator.ask(new_pod("q", "1", json!({"priorityClassName": "other"})));
    assert!(matches!(unknown, Err(PodError::NoPriorityClass { class, .. }) if class == "other"));
}

#[test]
fn the_queue_is_tried_in_its_order_and_again_while_it_helps() {
    let seeks = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "sought"}}}
    ]}}, "priority": 5});
    let mut sought = pod("sought", "1", json!({}));
    sought["metadata"]["labels"] = json!({"app": "sought"});
    let gated = pod("gated", "1", json!({"schedulingGates": [{"name": "wait"}]}));
    let foreign = pod("foreign", "1", json!({"schedulerName": "other"}));
    let huge = pod("huge", "9", json!({"priority": 9}));
    let mut simulator =
        simulator(vec![node("a", "4"), pod("seeks", "1", seeks), sought, gated, foreign, huge]);
    let report = simulator.schedule();
    assert_eq!(moves(&report), [("sought", None, "a"), ("seeks", None, "a")]);
    assert_eq!(waits(&report), ["huge", "gated", "foreign"]);
    let message = |index: usize| &*report.pending[index].message;
    assert!(message(0).starts_with("0/1 nodes are available: 1 Insufficient cpu."), "{}", message(0));
    assert_eq!(message(1), "waiting for scheduling gates: [wait]");
    assert_eq!(message(2), "it waits for the scheduler \"other\"");
    assert_eq!(report.pending[1].plugins, ["SchedulingGates"].into());
    // Another run has nothing to add.
    assert_eq!(simulator.schedule().moves, []);
}

#[test]
fn who_has_to_make_room_finds_another_place() {
    let low = on("small", pod("low", "1", json!({"priority": 0})));
    let high = pod(
        "high",
        "2",
        json!({"priority": 9, "nodeName": null, "nodeSelector": {"kubernetes.io/hostname": "small"}}),
    );
    let mut simulator = simulator(vec![node("small", "2"), node("large", "4"), low, high]);
    let report = simulator.schedule();
    assert_eq!(moves(&report), [("high", None, "small"), ("low", Some("small"), "large")]);
    assert_eq!(report.moves[0].victims, [ObjectKey::new("default", "low")]);
    assert_eq!(report.moves[1].cause, Cause::Preempted { by: ObjectKey::new("default", "high") });
    assert!(report.all_fit());
}

#[test]
fn a_drain_spares_daemons_and_mirrors_and_leaves_its_node_cordoned() {
    let mut daemon = on("a", pod("daemon", "1", json!({})));
    daemon["metadata"]["ownerReferences"][0]["kind"] = json!("DaemonSet");
    let mut mirror = on("a", pod("mirror", "1", json!({})));
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    let mut alone = on("a", pod("alone", "1", json!({})));
    alone["metadata"]["ownerReferences"] = json!([]);
    let mut leaving = on("a", pod("leaving", "1", json!({})));
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut done = on("a", pod("done", "1", json!({})));
    done["status"] = json!({"phase": "Succeeded"});
    let base = simulator(vec![
        node("a", "8"),
        node("b", "2"),
        daemon,
        mirror,
        alone,
        leaving,
        done,
        on("a", pod("web", "1", json!({}))),
        on("a", pod("big", "2", json!({}))),
    ]);
    let mut drained = base.clone();
    let report = drained.apply(&[Change::Drain("a".into())]).unwrap();
    assert_eq!(moves(&report), [("alone", Some("a"), "b"), ("web", Some("a"), "b")]);
    assert_eq!((report.moves[0].is_controlled, report.moves[1].is_controlled), (false, true));
    assert_eq!(report.moves[0].cause, Cause::Drained);
    assert_eq!(waits(&report), ["big"]);
    assert_eq!(
        report.pending[0].message,
        format!(
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. {NO_CLAIMS}preemption: \
             0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not \
             helpful for scheduling."
        )
    );
    assert_eq!(report.gone, [ObjectKey::new("default", "leaving")]);
    let cpu = |usage: &Usage, node: &str| {
        let usage = usage.of_node(node).unwrap();
        (usage.is_schedulable, usage.resources[0].requested, usage.resources[0].allocatable)
    };
    assert_eq!(cpu(&report.before, "a"), (true, 7000, 8000));
    assert_eq!(cpu(&report.after, "a"), (false, 2000, 8000));
    assert_eq!(cpu(&report.after, "b"), (true, 2000, 2000));
    assert_eq!(drained.usage(), report.after);
    let text = report.to_string();
    assert!(text.contains("default/alone (no controller)   a      b    drained\n"), "{text}");
    assert!(text.contains("a (cordoned)   after    2/8 (25%)"), "{text}");
    // The original is as it was.
    assert_eq!(base.usage(), report.before);
    let report = drained.apply(&[Change::Uncordon("a".into())]).unwrap();
    assert_eq!(moves(&report), [("big", Some("a"), "a")]);
}

#[test]
fn a_drain_tells_the_budgets_that_hold_it_up() {
    let labelled = |name: &str, app: &str| {
        let mut pod = on("a", pod(name, "1", json!({})));
        pod["metadata"]["labels"] = json!({"app": app});
        pod
    };
    let budget = |name: &str, allowed: u32| {
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": name}}}, "status": {"disruptionsAllowed": allowed}
        })
    };
    let pods = [labelled("1", "tight"), labelled("2", "tight"), labelled("3", "loose")];
    let mut objects = vec![node("a", "4"), node("b", "4"), budget("tight", 1), budget("loose", 1)];
    objects.extend(pods);
    let base = simulator(objects);
    let report = base.clone().apply(&[Change::Drain("a".into())]).unwrap();
    let tight = HoldUp { budget: ObjectKey::new("default", "tight"), allowed: 1, leaving: 2 };
    assert_eq!(report.held_up, [tight]);
    assert!(report.to_string().starts_with("Held up by the disruption budget default/tight: only 1 of 2"));
    // A node that goes asks nobody.
    assert_eq!(base.clone().apply(&[Change::Remove("a".into())]).unwrap().held_up, []);
}

#[test]
fn copies_bring_their_daemons_and_removed_nodes_take_theirs_along() {
    let mut daemon = on("a", pod("daemon", "1", json!({})));
    daemon["metadata"]["ownerReferences"][0]["kind"] = json!("DaemonSet");
    let big = |name| pod(name, "3", json!({}));
    let base = simulator(vec![node("a", "4"), daemon, big("one"), big("two"), big("three")]);
    let mut grown = base.clone();
    let report = grown.apply(&[Change::Copy { node: "a".into(), count: 2 }]).unwrap();
    assert_eq!(report.added, ["a-copy-1", "a-copy-2"]);
    assert!(report.all_fit());
    let daemons = |simulator: &Simulator| {
        simulator.world.pods().filter(|pod| pod.key.name.starts_with("daemon")).count()
    };
    assert_eq!(daemons(&grown), 3);
    let hostnames: Vec<_> = grown.nodes().filter_map(|node| node.metadata.labels.clone()).collect();
    assert_eq!(hostnames[2]["kubernetes.io/hostname"], "a-copy-2");
    let report = grown.apply(&[Change::Remove("a".into())]).unwrap();
    assert_eq!(report.gone, [ObjectKey::new("default", "daemon")]);
    assert_eq!(report.pending[0].from.as_deref(), Some("a"));
    assert_eq!(report.pending[0].cause, Cause::NodeGone);
    assert_eq!(grown.nodes().count(), 2);

    let added: Node = serde_json::from_value(node("b", "3")).unwrap();
    let report = base.clone().apply(&[Change::Add(Box::new(added.clone()))]).unwrap();
    assert_eq!((report.moves.len(), waits(&report).len()), (2, 1));
    let mut failing = base.clone();
    let wrong = [
        (Change::Cordon("x".into()), ChangeError::NoSuchNode("x".into())),
        (Change::Drain("x".into()), ChangeError::NoSuchNode("x".into())),
        (Change::Remove("x".into()), ChangeError::NoSuchNode("x".into())),
        (Change::Copy { node: "x".into(), count: 1 }, ChangeError::NoSuchNode("x".into())),
        (Change::Add(Box::new(Node { metadata: Default::default(), ..added })), ChangeError::Unnamed),
        (
            Change::Add(Box::new(serde_json::from_value(node("a", "1")).unwrap())),
            ChangeError::Exists("a".into()),
        ),
    ];
    for (change, error) in wrong {
        assert_eq!(failing.apply(&[Change::Cordon("a".into()), change]).unwrap_err(), error);
        assert_eq!(failing.usage(), base.usage());
    }
}

#[test]
fn what_plugins_look_up_is_in_the_text_too() {
    let namespace = |name: &str, team: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}});
    let mut noisy = on("a", pod("noisy", "1", json!({})));
    noisy["metadata"]["namespace"] = json!("loud");
    let mut quiet = on("b", pod("quiet", "1", json!({})));
    quiet["metadata"]["namespace"] = json!("library");
    let shuns = |key: &str, value: &str| {
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "kubernetes.io/hostname", "labelSelector": {},
            "namespaceSelector": {"matchLabels": {key: value}}
        }]}}})
    };
    let objects =
        vec![node("a", "4"), node("b", "4"), noisy, quiet, namespace("loud", "x"), namespace("library", "y")];
    let known = simulator(objects.clone());
    let ask = |simulator: &Simulator, spec| {
        simulator.ask(new_pod("p", "1", spec)).unwrap().choice.node().map(str::to_owned)
    };
    assert_eq!(ask(&known, shuns("team", "x")).as_deref(), Some("b"));
    assert_eq!(ask(&known, shuns("team", "y")).as_deref(), Some("a"));
    // Without them, what every namespace is labelled with is known all the same.
    let guessed = simulator(objects[..4].to_vec());
    assert_eq!(ask(&guessed, shuns("kubernetes.io/metadata.name", "library")).as_deref(), Some("a"));
}

#[test]
fn generated_names_defaults_and_validation_are_those_of_an_api_server() {
    let mut simulator = simulator(vec![node("a", "4")]);
    let mut pod = new_pod("p", "1", json!({}));
    pod.metadata.name = None;
    pod.metadata.namespace = None;
    pod.metadata.generate_name = Some("web-".into());
    let names = [(); 2].map(|()| simulator.place(pod.clone()).unwrap().pod.to_string());
    assert_eq!(names, ["default/web-1", "default/web-2"]);
    // What a container may take is what it asks for.
    let limits = json!({"name": "c", "image": "i", "resources": {"limits": {"cpu": "3"}}});
    let limited: Pod =
        serde_json::from_value(json!({"metadata": {"name": "l"}, "spec": {"containers": [limits]}})).unwrap();
    assert_eq!(simulator.ask(limited).unwrap().choice.node(), None);
    let wrong: Pod =
        serde_json::from_value(json!({"metadata": {"name": "Wrong"}, "spec": {"containers": []}})).unwrap();
    let PodError::Invalid { errors, .. } = simulator.ask(wrong).unwrap_err() else { panic!() };
    let fields: Vec<&str> = errors.iter().map(|error| &*error.field).collect();
    assert_eq!(fields, ["metadata.name", "spec.containers"]);
}

#[test]
fn texts_that_are_wrong_say_where() {
    let node = |rest: &str| format!("kind: Node\napiVersion: v1\nmetadata: {{name: a}}\n{rest}");
    let cases = [
        ("a: [".to_owned(), "document 1: ", None),
        (
            format!("{}\n---\n- x\n", node("")),
            "document 2: the document must be an object",
            Some("the document"),
        ),
        (
            "{\"kind\": \"Node\"}".into(),
            "document 1: apiVersion must be a text such as v1",
            Some("apiVersion"),
        ),
        ("{\"apiVersion\": \"v1\", \"kind\": 3}".into(), "document 1: kind must be", Some("kind")),
        (
            "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": {}}".into(),
            "document 1: items must be a list",
            Some("items"),
        ),
        (list(vec![json!(3)]), "document 1, items[0]: the item must be an object", Some("the item")),
        (node("status: {allocatable: {cpu: many}}"), "document 1, Node a: ", Some("status.allocatable.cpu")),
        (
            list(vec![pod("p", "1", json!({})), pod("q", "1", json!({"priority": "high"}))]),
            "document 1, items[1], Pod q: json: cannot unmarshal string into Go struct field PodSpec.spec.priority of type int32",
            Some("spec.priority"),
        ),
        (
            "kind: Pod\napiVersion: v1".into(),
            "document 1, Pod without a name: metadata.name: ",
            Some("metadata.name"),
        ),
        ("{\"kind\": \"Pod\"".into(), "document 1: ", None),
    ];
    for (text, message, field) in cases {
        let error = Manifest::read(&text).unwrap_err();
        assert!(error.to_string().starts_with(message), "{text}: {error}");
        assert_eq!(error.field(), field, "{error}");
    }
    assert_eq!(Manifest::read(b"a: \xff").unwrap_err(), LoadError::Encoding { at: 3 });
}

#[test]
fn all_forms_of_kubectl_are_read() {
    let item = |text: &str| format!("{{apiVersion: v1, kind: Node, metadata: {{name: {text}}}}}");
    let typed =
        json!({"apiVersion": "v1", "kind": "NodeList", "items": [{"metadata": {"name": "d"}}]}).to_string();
    let texts = [
        format!("# two\n---\n{}\n---\n\n---\n{}\n", item("a"), item("b")),
        format!("apiVersion: v1\nkind: List\nitems:\n- {}\n- {}\n", item("a"), item("b")),
        format!("{}\n{}", node("a", "1"), node("b", "1")),
        format!("{typed}{typed}"),
    ];
    for text in texts {
        assert_eq!(Manifest::read(&text).unwrap().nodes().len(), 2, "{text}");
    }
    let other =
        Manifest::read("kind: List\napiVersion: v1\nitems: null\n---\nkind: Lamp\napiVersion: x.io/v1")
            .unwrap();
    assert_eq!(other.skipped().collect::<Vec<_>>(), [("Lamp", 1)]);
    assert_eq!(Manifest::read("").unwrap().nodes().len(), 0);
}

#[test]
fn values_are_json_too() {
    let mut simulator = simulator(vec![node("a", "1")]);
    let answer = serde_json::to_value(simulator.place(new_pod("p", "1", json!({}))).unwrap()).unwrap();
    assert_eq!(answer["pod"], "default/p");
    assert_eq!((&answer["outcome"], &answer["node"]), (&json!("node"), &json!("a")));
    assert_eq!((&answer["nodes"][0]["node"], &answer["nodes"][0]["verdict"]), (&json!("a"), &json!("fits")));
    let report = serde_json::to_value(simulator.apply(&[Change::Drain("a".into())]).unwrap()).unwrap();
    assert_eq!(
        (&report["pending"][0]["pod"], &report["pending"][0]["cause"]),
        (&json!("default/p"), &json!("drained"))
    );
    assert_eq!(
        report["before"]["nodes"][0]["resources"][0],
        json!({"resource": "cpu", "requested": 1000, "allocatable": 1000})
    );
}

#[test]
fn workloads_stand_for_the_pods_that_they_make() {
    let template =
        json!({"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let workload = |version: &str, kind: &str, spec: Value| {
        let mut spec = spec;
        spec["template"] = template.clone();
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": "w", "namespace": "n"}, "spec": spec})
    };
    let text = list(vec![
        workload("apps/v1", "Deployment", json!({"replicas": 2})),
        workload("apps/v1", "StatefulSet", json!({})),
        workload("batch/v1", "Job", json!({"parallelism": 0})),
        pod("alone", "1", json!({})),
        node("a", "1"),
    ]);
    let pods = new_pods(&text).unwrap();
    let names = |pod: &Pod| pod.metadata.name.clone().or(pod.metadata.generate_name.clone()).unwrap();
    assert_eq!(pods.iter().map(names).collect::<Vec<_>>(), ["w-", "w-", "w-", "alone"]);
    assert_eq!(pods[0].metadata.namespace.as_deref(), Some("n"));
    assert_eq!(pods[0].metadata.labels.as_ref().unwrap()["app"], "w");
    assert_eq!(pods[0].metadata.owner_references.as_ref().unwrap()[0].kind, "Deployment");
    let mut simulator = simulator(vec![node("a", "4")]);
    let placed: Vec<_> = pods.into_iter().map(|pod| simulator.place(pod).unwrap().pod.to_string()).collect();
    assert_eq!(placed, ["n/w-1", "n/w-2", "n/w-3", "default/alone"]);
    let wrong = workload("apps/v1", "Deployment", json!({"replicas": "two"}));
    let error = new_pods(list(vec![wrong])).unwrap_err();
    assert_eq!(error.to_string(), "document 1, items[0]: spec.replicas must be a number");
    let empty = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "w"}});
    assert_eq!(new_pods(list(vec![empty])).unwrap_err().field(), Some("spec.template"));
}

fn gang(names: &[&str], cpu: &str, least: u32) -> Vec<Value> {
    let group = json!({
        "apiVersion": "scheduling.k8s.io/v1beta1", "kind": "PodGroup",
        "metadata": {"name": "g", "namespace": "default"},
        "spec": {"schedulingPolicy": {"gang": {"minCount": least}}}
    });
    let member = |name: &&str| pod(name, cpu, json!({"schedulingGroup": {"podGroupName": "g"}}));
    names.iter().map(member).chain([group]).collect()
}

#[test]
fn a_gang_gets_its_nodes_together_or_not_at_all() {
    let nodes = || vec![node("a", "2"), node("b", "2")];
    let mut fits = simulator([nodes(), gang(&["1", "2", "3"], "1", 3)].concat());
    let report = fits.schedule();
    assert!(report.all_fit(), "{report}");
    assert_eq!(report.moves.len(), 3);

    // Two find a node and give it back: a pod that came later gets the room.
    let small = pod("small", "1", json!({"priority": -1}));
    let too_many = [nodes(), gang(&["1", "2", "3"], "2", 3), vec![small]].concat();
    let mut base = simulator(too_many);
    let before = base.usage();
    let copy = base.clone();
    let report = base.schedule();
    assert_eq!(report.moves.iter().map(|it| &*it.pod.name).collect::<Vec<_>>(), ["small"], "{report}");
    assert_eq!(waits(&report), ["1", "2", "3"]);
    assert_eq!(copy.usage(), before);

    // Now there is room, for the copy as for the original; each counts its own pods.
    let more = [Change::Copy { node: "a".into(), count: 2 }];
    for mut simulator in [copy.clone(), copy, base] {
        let report = simulator.apply(&more).unwrap();
        assert!(report.all_fit(), "{report}");
        assert_eq!(simulator.pending().count(), 0);
    }
}

#[test]
fn who_is_missing_keeps_a_gang_out() {
    let mut simulator = simulator([vec![node("a", "4")], gang(&["1", "2"], "1", 3)].concat());
    let report = simulator.schedule();
    let text = "waiting for minCount pods from a gang to appear in scheduling queue";
    assert!(report.pending.iter().all(|pod| pod.message == text), "{report}");
    let last = new_pod("3", "1", json!({"schedulingGroup": {"podGroupName": "g"}}));
    assert_eq!(simulator.place(last).unwrap().choice, Choice::Held { plugin: "GangScheduling" });
    assert_eq!(simulator.schedule().moves.len(), 3);
}

#[test]
fn a_volume_is_given_once_and_clones_know_it() {
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local"},
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"
    });
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
            "local": {"path": "/v"}, "persistentVolumeReclaimPolicy": "Retain",
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": ["a"]}
            ]}]}}
        },
        "status": {"phase": "Available"}
    });
    let claim = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                "resources": {"requests": {"storage": "1Gi"}}
            },
            "status": {"phase": "Pending"}
        })
    };
    let with =
        |claim: &str| json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]});
    let objects = vec![node("a", "4"), node("b", "4"), class, volume, claim("one"), claim("two")];
    let mut simulator = simulator(objects);
    let untouched = simulator.clone();
    assert_eq!(simulator.place(new_pod("p", "1", with("one"))).unwrap().choice.node(), Some("a"));
    for simulator in [&simulator, &simulator.clone()] {
        let answer = simulator.ask(new_pod("q", "1", with("two"))).unwrap();
        assert_eq!(answer.choice, Choice::Nowhere { plugins: ["VolumeBinding"].into() }, "{answer}");
    }
    assert_eq!(untouched.ask(new_pod("q", "1", with("two"))).unwrap().choice.node(), Some("a"));
}

#[cfg(feature = "dra")]
#[test]
fn a_device_is_given_once_and_clones_know_it() {
    let class =
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "gpu"}});
    let slice = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "b"},
        "spec": {
            "driver": "gpu.example.com", "nodeName": "b", "devices": [{"name": "d"}],
            "pool": {"name": "b", "generation": 1, "resourceSliceCount": 1}
        }
    });
    let claim = |name: &str| {
        let request = json!({"name": "r", "exactly": {"deviceClassName": "gpu"}});
        json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"devices": {"requests": [request]}}
        })
    };
    let with = |claim: &str| json!({"resourceClaims": [{"name": "d", "resourceClaimName": claim}]});
    let objects = vec![node("a", "8"), node("b", "4"), class, slice, claim("one"), claim("two")];
    let mut simulator = simulator(objects);
    let untouched = simulator.clone();
    assert_eq!(simulator.place(new_pod("p", "1", with("one"))).unwrap().choice.node(), Some("b"));
    for simulator in [&simulator, &simulator.clone()] {
        let answer = simulator.ask(new_pod("q", "1", with("two"))).unwrap();
        assert_eq!(answer.choice, Choice::Nowhere { plugins: ["DynamicResources"].into() }, "{answer}");
        // Who shares the claim goes where the device is.
        assert_eq!(simulator.ask(new_pod("r", "1", with("one"))).unwrap().choice.node(), Some("b"));
    }
    assert_eq!(untouched.ask(new_pod("q", "1", with("two"))).unwrap().choice.node(), Some("b"));
    let missing = simulator.ask(new_pod("s", "1", with("three"))).unwrap();
    assert!(missing.to_string().contains("could not find ResourceClaim \"default/three\""), "{missing}");
}
