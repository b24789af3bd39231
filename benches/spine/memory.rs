//! Resident memory a stored pod, and a simulated node with its agent.

use rkube::prelude::*;

use crate::report::{line, one_core, resident};

pub(crate) fn run() {
    one_core().block_on(async {
        const PODS: usize = 100_000;
        let cluster =
            Cluster::builder().without_scheduler().retain_controllers(|_| false).start().await.unwrap();
        let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
        let before = resident();
        for number in 0..PODS {
            pods.create(&PostParams::default(), crate::api::small_pod(format!("pod-{number:06}")))
                .await
                .unwrap();
        }
        let each = resident().saturating_sub(before) as f64 / PODS as f64;
        line(
            &format!("memory: a stored pod, {PODS} of them"),
            &format!("{each:.0} bytes"),
            "1,000,000 in 24 GB",
        );
        cluster.stop().await;
    });
    one_core().block_on(async {
        const NODES: u32 = 1_000;
        let before = resident();
        let cluster = Cluster::builder().nodes(NODES).start().await.unwrap();
        let nodes: Api<Node> = Api::all(cluster.client());
        let ready = |node: Option<&Node>| {
            let status = node.and_then(|node| node.status.as_ref());
            let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
            conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        for number in 1..=NODES {
            cluster.wait_for(&nodes, &format!("node-{number}"), ready).await.unwrap();
        }
        let each = resident().saturating_sub(before) as f64 / f64::from(NODES);
        line(
            &format!("memory: a simulated node, ready, {NODES} of them"),
            &format!("{each:.0} bytes"),
            "100,000 in 24 GB",
        );
        cluster.stop().await;
    });
}
