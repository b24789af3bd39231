//! The plan by examples and properties.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{
            Container, ContainerPort, Node, Pod, PodCondition, PodIP, PodSpec, PodStatus, Service,
            ServicePort, ServiceSpec,
        },
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, Time},
        util::intstr::IntOrString,
    },
};
use proptest::prelude::*;

use super::plan::{
    Action, HEADLESS_LABEL, MANAGED_BY_LABEL, MANAGER, MAX_ENDPOINTS, Observed, SERVICE_LABEL, plan,
};

fn service() -> Service {
    Service {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("default".into()),
            uid: Some("s".into()),
            labels: Some([("team".to_owned(), "a".to_owned())].into()),
            ..Default::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some("10.0.0.1".into()),
            ports: Some(vec![ServicePort {
                name: Some("http".into()),
                port: 80,
                target_port: Some(IntOrString::String("web".into())),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        status: None,
    }
}

fn pod(number: usize, ready: bool) -> Arc<Pod> {
    let port = ContainerPort { name: Some("web".into()), container_port: 8080, ..Default::default() };
    let container = Container { ports: Some(vec![port]), ..Default::default() };
    Arc::new(Pod {
        metadata: ObjectMeta {
            name: Some(format!("web-{number}")),
            namespace: Some("default".into()),
            uid: Some(format!("{number:05}")),
            ..Default::default()
        },
        spec: Some(PodSpec {
            containers: vec![container],
            node_name: Some("n1".into()),
            ..Default::default()
        }),
        status: Some(PodStatus {
            phase: Some("Running".into()),
            pod_ips: Some(vec![PodIP { ip: format!("10.1.{}.{}", number / 250, number % 250) }]),
            conditions: Some(vec![PodCondition {
                type_: "Ready".into(),
                status: if ready { "True" } else { "False" }.into(),
                ..Default::default()
            }]),
            ..Default::default()
        }),
    })
}

/// Applies the plan until it is content; gives the slices and how many writes it took.
fn settle(service: &Service, pods: &[Arc<Pod>], slices: &mut Vec<Arc<EndpointSlice>>) -> usize {
    let nodes = BTreeMap::new();
    let actions = plan(&Observed { service, pods, nodes: &nodes, slices });
    let writes = actions.len();
    for action in actions {
        match action {
            Action::Create(mut slice) => {
                let used: BTreeSet<_> = slices.iter().map(|slice| slice.metadata.name.clone()).collect();
                slice.metadata.name =
                    (0..).map(|n| Some(format!("web-{n:03}"))).find(|n| !used.contains(n)).unwrap();
                slices.push(Arc::new(*slice));
            }
            Action::Update(slice) => {
                let old = slices.iter_mut().find(|old| old.metadata.name == slice.metadata.name).unwrap();
                *old = Arc::new(*slice);
            }
            Action::Delete(slice) => slices.retain(|old| old.metadata.name != slice.metadata.name),
        }
    }
    assert_eq!(plan(&Observed { service, pods, nodes: &nodes, slices }), [], "one pass is enough");
    writes
}

fn endpoints(slices: &[Arc<EndpointSlice>]) -> Vec<&str> {
    let mut all: Vec<&str> = slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .map(|endpoint| endpoint.target_ref.as_ref().unwrap().uid.as_deref().unwrap())
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn a_service_without_pods_has_an_empty_slice() {
    let mut slices = Vec::new();
    settle(&service(), &[], &mut slices);
    let [slice] = &slices[..] else { panic!("{slices:?}") };
    assert_eq!(slice.endpoints.as_deref(), Some(&[][..]));
    assert_eq!(slice.metadata.generate_name.as_deref(), Some("web-"));
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(
        (&*labels[SERVICE_LABEL], &*labels[MANAGED_BY_LABEL], &*labels["team"]),
        ("web", MANAGER, "a")
    );
    assert!(!labels.contains_key(HEADLESS_LABEL));
    settle(&service(), &[pod(1, true)], &mut slices);
    assert_eq!(endpoints(&slices), ["00001"]);
    assert_eq!(slices.len(), 1, "the empty slice of no ports makes way");
}

#[test]
fn an_endpoint_tells_the_pods_state() {
    let mut slices = Vec::new();
    let mut leaving = (*pod(2, true)).clone();
    leaving.metadata.deletion_timestamp = Some(Time(Default::default()));
    let mut ended = (*pod(3, true)).clone();
    ended.status.as_mut().unwrap().phase = Some("Succeeded".into());
    let mut bare = (*pod(4, true)).clone();
    bare.status.as_mut().unwrap().pod_ips = None;
    let pods = [pod(0, true), pod(1, false), Arc::new(leaving), Arc::new(ended), Arc::new(bare)];
    settle(&service(), &pods, &mut slices);
    let state = |slices: &[Arc<EndpointSlice>]| -> Vec<_> {
        let all = slices[0].endpoints.iter().flatten().map(|endpoint| endpoint.conditions.clone().unwrap());
        all.map(|it| (it.ready.unwrap(), it.serving.unwrap(), it.terminating.unwrap())).collect()
    };
    assert_eq!(state(&slices), [(true, true, false), (false, false, false), (false, true, true)]);
    let port = &slices[0].ports.as_ref().unwrap()[0];
    assert_eq!(
        (port.name.as_deref(), port.port, port.protocol.as_deref()),
        (Some("http"), Some(8080), Some("TCP"))
    );
    let mut publishing = service();
    publishing.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
    settle(&publishing, &pods, &mut slices);
    assert!(state(&slices).iter().all(|(ready, ..)| *ready));
}

#[test]
fn a_headless_service_without_ports_still_lists_addresses() {
    let mut headless = service();
    let spec = headless.spec.as_mut().unwrap();
    (spec.cluster_ip, spec.ports) = (Some("None".into()), None);
    let mut named = (*pod(1, true)).clone();
    let spec = named.spec.as_mut().unwrap();
    (spec.hostname, spec.subdomain) = (Some("first".into()), Some("web".into()));
    let mut slices = Vec::new();
    settle(&headless, &[Arc::new(named)], &mut slices);
    assert!(slices[0].metadata.labels.as_ref().unwrap().contains_key(HEADLESS_LABEL));
    assert_eq!(slices[0].endpoints.as_ref().unwrap()[0].hostname.as_deref(), Some("first"));
}

#[test]
fn families_and_zones() {
    let mut dual = service();
    dual.spec.as_mut().unwrap().ip_families = Some(vec!["IPv4".into(), "IPv6".into()]);
    let mut both = (*pod(1, true)).clone();
    both.status.as_mut().unwrap().pod_ips.as_mut().unwrap().push(PodIP { ip: "fd00::1".into() });
    let mut node = Node::default();
    node.metadata.labels = Some([("topology.kubernetes.io/zone".to_owned(), "z".to_owned())].into());
    let nodes = [("n1".to_owned(), Arc::new(node))].into();
    let pods = [Arc::new(both)];
    let actions = plan(&Observed { service: &dual, pods: &pods, nodes: &nodes, slices: &[] });
    let found: Vec<_> = actions
        .iter()
        .map(|action| {
            let Action::Create(slice) = action else { panic!("{action:?}") };
            let endpoint = &slice.endpoints.as_ref().unwrap()[0];
            (&*slice.address_type, &*endpoint.addresses[0], endpoint.zone.as_deref())
        })
        .collect();
    assert_eq!(found, [("IPv4", "10.1.0.1", Some("z")), ("IPv6", "fd00::1", Some("z"))]);
}

#[test]
fn one_pod_less_is_one_write() {
    let pods: Vec<_> = (0..250).map(|n| pod(n, true)).collect();
    let mut slices = Vec::new();
    assert_eq!(settle(&service(), &pods, &mut slices), 3);
    assert_eq!(settle(&service(), &pods[1..], &mut slices), 1);
    assert_eq!(settle(&service(), &pods, &mut slices), 1);
    assert_eq!(slices.len(), 3);
}

proptest! {
    /// After any sequence of states: each pod once, no slice too large, no slice empty beside another.
    #[test]
    fn every_pod_is_in_one_slice(states in prop::collection::vec(prop::collection::btree_set(0..400_usize, 0..300), 1..5)) {
        let mut slices = Vec::new();
        for state in states {
            let pods: Vec<_> = state.iter().map(|n| pod(*n, true)).collect();
            settle(&service(), &pods, &mut slices);
            let wanted: Vec<String> = state.iter().map(|n| format!("{n:05}")).collect();
            prop_assert_eq!(endpoints(&slices), wanted);
            let sizes: Vec<usize> = slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect();
            prop_assert!(sizes.iter().all(|size| *size <= MAX_ENDPOINTS));
            prop_assert!(sizes.len() == 1 || !sizes.contains(&0), "{:?}", sizes);
        }
    }
}
