//! A controller of your own: every namespace labelled `team` gets a ConfigMap `team` that names it.
//!
//! Without arguments it runs on a cluster in this process and shows that it works. With `--kubeconfig FILE`
//! the same controller runs on that cluster until Ctrl-C.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use async_trait::async_trait;
use clap::Parser;
use rkube::{
    api::{context::Context, meta::owners::controller_ref, remote::Remote, request::Credentials},
    controllers::runtime::{Component, Controller, Manager, Outcome, Reconcile, ReconcileError},
    prelude::*,
};
use tokio_util::sync::CancellationToken;

const LABEL: &str = "team";

struct Teams {
    client: Client,
}

/// What the ConfigMap of a namespace should say; `None` if there should be none. A pure function, so that
/// it can be tested without a cluster.
fn plan(namespace: &Namespace) -> Option<ConfigMap> {
    let team = namespace.metadata.labels.as_ref()?.get(LABEL)?;
    let mut map = ConfigMap { data: Some([(LABEL.into(), team.clone())].into()), ..ConfigMap::default() };
    map.metadata.name = Some(LABEL.into());
    map.metadata.namespace.clone_from(&namespace.metadata.name);
    map.metadata.owner_references = controller_ref(namespace).map(|owner| vec![owner]);
    Some(map)
}

#[async_trait]
impl Reconcile for Teams {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.name);
        let Some(namespace) = namespaces.get_opt(&key.name).await? else { return Ok(Outcome::Done) };
        match (plan(&namespace), maps.get_opt(LABEL).await?) {
            (Some(wanted), None) => {
                maps.create(&PostParams::default(), wanted).await?;
            }
            (Some(wanted), Some(found)) if wanted.data != found.data => {
                let changed = ConfigMap { data: wanted.data, ..(*found).clone() };
                maps.update(&PostParams::default(), changed).await?;
            }
            (None, Some(_)) => {
                maps.delete(LABEL, &DeleteParams::default()).await?;
            }
            _ => {}
        }
        Ok(Outcome::Done)
    }
}

/// The controller, for any client.
fn teams(client: Client) -> Controller {
    Controller::builder("teams")
        .for_kind::<Namespace>()
        .watches::<ConfigMap>(|map| {
            let namespace = map.metadata.namespace.clone().unwrap_or_default();
            if map.metadata.name.as_deref() == Some(LABEL) {
                vec![ObjectKey::new("", namespace)]
            } else {
                Vec::new()
            }
        })
        .build(Teams { client })
}

#[derive(Parser)]
struct Arguments {
    /// Run on this cluster instead of one in this process.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
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
    match Arguments::parse().kubeconfig {
        Some(path) => remote(path).await,
        None => demonstrate().await,
    }
}

async fn remote(path: PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    let config = rkube::kube::config::Kubeconfig::read_from(path)?;
    let config = rkube::kube::Config::from_custom_kubeconfig(config, &Default::default()).await?;
    let remote = Arc::new(Remote::new(rkube::kube::Client::try_from(config)?));
    let client = Client::new(remote, Credentials::Anonymous, "teams", Context::system(0));
    let stop = CancellationToken::new();
    let manager = Manager::new(client.clone()).controller(teams(client));
    let running = manager.run(stop.clone());
    tokio::pin!(running);
    tokio::select! {
        biased;
        result = &mut running => result?,
        _ = tokio::signal::ctrl_c() => {
            stop.cancel();
            running.await?;
        }
    }
    Ok(())
}

async fn demonstrate() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::builder()
        .component(|deps| Arc::new(teams(deps.client().clone())) as Arc<dyn Component>)
        .start()
        .await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("shop".into());
    namespace.metadata.labels = Some([(LABEL.into(), "blue".into())].into());
    namespaces.create(&PostParams::default(), namespace).await?;

    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "shop");
    let says = |map: Option<&ConfigMap>, team: &str| {
        map.and_then(|map| map.data.as_ref())
            .and_then(|data| data.get(LABEL))
            .is_some_and(|found| found == team)
    };
    cluster.wait_for(&maps, LABEL, |map| says(map, "blue")).await?;
    println!("shop belongs to blue");
    let patch = Patch::Merge(serde_json::json!({"metadata": {"labels": {LABEL: "red"}}}));
    namespaces.patch("shop", &PatchParams::default(), &patch).await?;
    cluster.wait_for(&maps, LABEL, |map| says(map, "red")).await?;
    println!("shop belongs to red");
    maps.delete(LABEL, &DeleteParams::default()).await?;
    cluster.wait_for(&maps, LABEL, |map| says(map, "red")).await?;
    println!("what was deleted is back");
    cluster.stop().await;
    Ok(())
}
