//! A scheduler of its own for any Kubernetes API server, in the place of kube-scheduler or beside it.
//!
//! ```sh
//! cargo run --release --example scheduler -- --kubeconfig ~/.kube/config --scheduler-name mine
//! cargo run --release --example scheduler -- --kubeconfig FILE --config scheduler.yaml --leader-elect
//! ```
//!
//! Several processes elect a leader by the lease that kube-scheduler takes, `kube-system/kube-scheduler`; the
//! others stand by. Beside kube-scheduler itself, which holds that lease, name another one in the configuration's
//! `leaderElection`, or elect none.
#![allow(clippy::print_stderr, reason = "it talks to a person")]

use std::{error::Error, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use rkube::{
    api::{
        client::leader::{LeaderConfig, LeaderElector},
        context::Context,
        remote::Remote,
        request::Credentials,
    },
    kube,
    prelude::*,
    sched::{
        Config, Configuration, Scheduler,
        framework::{ConfigError, ProfileConfig},
    },
};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Schedules the pods of a Kubernetes cluster.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How to reach the API server; unless said, what the configuration's clientConnection says, what
    /// $KUBECONFIG names, or what a pod of the cluster is given.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A KubeSchedulerConfiguration: profiles, plugins, the election; kube-scheduler's defaults unless said.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serves the pods with this schedulerName, by the default profile.
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    scheduler_name: Option<String>,
    /// Whether to work only as the leader of several; unless said, what the configuration says, else true.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    leader_elect: Option<bool>,
    /// This process, different from all others in the election; made of the host's name unless said.
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "rkube_sched=info,rkube_api=info,warn".into()))
        .with_writer(std::io::stderr)
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let configuration = configuration(&arguments)?;
    let remote = remote(&arguments, &configuration).await?;
    let context = Context::system(getrandom::u64().map_err(|error| error.to_string())?);
    let client = Client::new(Arc::new(remote), Credentials::Anonymous, "kube-scheduler", context.clone());

    let mut config = configuration.config();
    if let Some(name) = &arguments.scheduler_name {
        config.profiles = vec![ProfileConfig::standard().named(name)];
    }
    let stop = stop_at_a_signal(&context);
    let names: Vec<&str> = config.profiles.iter().map(|profile| &*profile.scheduler_name).collect();
    let names = names.join(", ");
    let ended = match election(&arguments, &configuration, &context)? {
        None => {
            eprintln!("Schedules the pods of {names}.");
            scheduler(&client, config)?.run(stop).await;
            Ok(())
        }
        Some(election) => {
            eprintln!("Stands by as {} to schedule the pods of {names}.", election.identity);
            let elector = LeaderElector::new(client.clone(), election)?;
            // A configuration that makes no sense is told now, and its caches are warm when this process leads.
            let scheduler = scheduler(&client, config)?;
            elector.run(stop, |lead| scheduler.run(lead)).await
        }
    };
    context.spawner.stop().await;
    // Who has lost the lead begins anew, as kube-scheduler does: whatever keeps it running starts it again.
    Ok(ended?)
}

fn configuration(arguments: &Arguments) -> Result<Configuration, Box<dyn Error>> {
    let Some(file) = &arguments.config else { return Ok(Configuration::default()) };
    let told = |error: &dyn Error| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| told(&error))?;
    Ok(Configuration::read(&text).map_err(|error| told(&error))?)
}

async fn remote(arguments: &Arguments, configuration: &Configuration) -> Result<Remote, Box<dyn Error>> {
    let said = configuration.client_connection["kubeconfig"].as_str().filter(|file| !file.is_empty());
    let file = arguments.kubeconfig.clone().or_else(|| said.map(PathBuf::from));
    let config = match file {
        Some(file) => {
            let kubeconfig = kube::config::Kubeconfig::read_from(&file)?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?
        }
        None => kube::Config::infer().await?,
    };
    Ok(Remote::new(kube::Client::try_from(config)?))
}

/// How this process takes part in the election, if there is one.
fn election(
    arguments: &Arguments,
    configuration: &Configuration,
    context: &Context,
) -> Result<Option<LeaderConfig>, Box<dyn Error>> {
    let election = &configuration.leader_election;
    if !arguments.leader_elect.unwrap_or(election.leader_elect) {
        return Ok(None);
    }
    let identity = arguments.identity.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}_{}", host.trim(), context.rng.uid())
    });
    Ok(Some(election.config(identity)?))
}

fn scheduler(client: &Client, config: Config) -> Result<Scheduler, ConfigError> {
    Scheduler::new(client.clone(), Informers::new(client.clone()), config)
}

/// Ctrl-C and what a container is told to stop by end the work in order: bindings under way are waited for and
/// the lease is given back.
fn stop_at_a_signal(context: &Context) -> CancellationToken {
    let stop = CancellationToken::new();
    let token = stop.clone();
    context.spawner.spawn("signals", async move {
        terminated().await;
        token.cancel();
    });
    stop
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

#[cfg(not(unix))]
async fn terminated() {
    drop(tokio::signal::ctrl_c().await);
}
