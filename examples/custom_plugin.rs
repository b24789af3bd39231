//! A scheduler plugin of your own: among the nodes that fit, pods go to the cheapest, by a label of the
//! node; a pod can say what it is willing to pay at most.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

use std::process::ExitCode;

use std::collections::BTreeMap;

use rkube::{
    config::NodeGroup,
    node::agent::NodeTemplate,
    prelude::*,
    sched::{
        Config,
        framework::{CycleState, Filter, Plugin, Points, ProfileConfig, Score, Status, default_normalize},
        snapshot::{NodeView, PodInfo},
    },
};

const NAME: &str = "Price";
const PRICE: &str = "example.com/price";
const LIMIT: &str = "example.com/max-price";

struct Price;

fn price(node: NodeView<'_>) -> i64 {
    node.label(PRICE).and_then(|price| price.parse().ok()).unwrap_or(i64::from(u16::MAX))
}

impl Plugin for Price {
    fn name(&self) -> &'static str {
        NAME
    }
}

impl Filter for Price {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        let annotations = pod.pod.metadata.annotations.as_ref();
        let limit = annotations.and_then(|all| all.get(LIMIT)).and_then(|limit| limit.parse().ok());
        match limit {
            Some(limit) if price(node) > limit => Status::unschedulable("node(s) were too expensive"),
            _ => Status::success(),
        }
    }
}

impl Score for Price {
    fn score(&self, _: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        Ok(price(node))
    }

    fn normalize(&self, _: &CycleState, _: &PodInfo, scores: &mut [i64]) -> Status {
        default_normalize(100, true, scores);
        Status::success()
    }
}

fn nodes(name: &str, count: u32, price: &str) -> NodeGroup {
    let labels = BTreeMap::from([(PRICE.to_owned(), price.to_owned())]);
    NodeGroup::new(name, count).template(NodeTemplate { labels, ..NodeTemplate::default() })
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::default();
    config.plugins.add(NAME, |_args, _handle| Ok(Points::of(Price).filter().score().done()))?;
    // It outweighs what spreads pods evenly.
    config.profiles = vec![ProfileConfig::standard().with(NAME, 100)];
    let cluster = Cluster::builder()
        .scheduler(config)
        .node_group(nodes("cheap", 2, "1"))
        .node_group(nodes("dear", 2, "9"))
        .start()
        .await?;
    let all: Api<Node> = Api::all(cluster.client());
    for node in ["cheap-1", "cheap-2", "dear-1", "dear-2"] {
        cluster.wait_for(&all, node, |node| node.is_some()).await?;
    }

    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    for number in 0..4 {
        let name = format!("web-{number}");
        pods.create(&PostParams::default(), rkube::pod(&name, "nginx")).await?;
        let pod = cluster.wait_for(&pods, &name, |pod| pod.and_then(rkube::node_of).is_some()).await?;
        let node = rkube::node_of(&pod).unwrap_or_default();
        println!("{name} runs on {node}");
        assert!(node.starts_with("cheap-"), "the cheapest nodes come first");
    }

    let mut stingy = rkube::pod("stingy", "nginx");
    stingy.metadata.annotations = Some([(LIMIT.into(), "0".into())].into());
    pods.create(&PostParams::default(), stingy).await?;
    let refusal = |pod: &Pod| {
        let conditions = pod.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == "PodScheduled")?.message.clone()
    };
    let pod = cluster.wait_for(&pods, "stingy", |pod| pod.and_then(refusal).is_some()).await?;
    println!("stingy waits: {}", refusal(&pod).unwrap_or_default());
    cluster.stop().await;
    Ok(())
}
