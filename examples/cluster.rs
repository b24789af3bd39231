//! A cluster to point kubectl at: an API server over HTTPS, scheduler, controllers and simulated nodes.
//!
//! ```sh
//! cargo run --release --example cluster -- --nodes 5 --listen 127.0.0.1:6443 --kubeconfig rkube.kubeconfig
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use rkube::{
    config::{Listen, NodeGroup},
    prelude::*,
};

/// A control plane makes and drops many small objects from several threads: a host program gains by an
/// allocator made for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs a Kubernetes cluster in this process, with simulated nodes.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How many nodes to simulate.
    #[arg(long, default_value_t = 3)]
    nodes: u32,
    /// Address and port of the API server; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// The address by which pods and other machines reach the API server, if it is not the one it listens on.
    #[arg(long)]
    advertise: Option<IpAddr>,
    /// Where to write the administrator's kubeconfig.
    #[arg(long, default_value = "rkube.kubeconfig")]
    kubeconfig: PathBuf,
    /// Randomness, UIDs and generated names follow from this; another one each time unless said.
    #[arg(long)]
    seed: Option<u64>,
    /// Where to keep the cluster's state; in memory unless said.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Keeps the state in the etcd at this address, such as http://127.0.0.1:2379; several of these, with nodes
    /// of different names, serve one cluster.
    #[cfg(feature = "etcd")]
    #[arg(long, conflicts_with = "data")]
    etcd: Option<String>,
    /// Runs no scheduler: another process does, such as the example `scheduler`.
    #[arg(long)]
    without_scheduler: bool,
    /// What the names of the nodes begin with.
    #[arg(long, default_value = "node")]
    node_prefix: String,
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
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| "rkube=info,warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let started = tokio::time::Instant::now();
    let listen = Listen::on(arguments.listen).kubeconfig(&arguments.kubeconfig);
    let builder = Cluster::builder()
        .node_group(NodeGroup::new(&arguments.node_prefix, arguments.nodes))
        .listen(Listen { advertise: arguments.advertise, ..listen });
    let builder = match arguments.seed {
        Some(seed) => builder.seed(seed),
        None => builder,
    };
    let builder = if arguments.without_scheduler { builder.without_scheduler() } else { builder };
    let builder = match &arguments.data {
        Some(folder) => builder.data_dir(folder),
        None => builder,
    };
    #[cfg(feature = "etcd")]
    let builder = match &arguments.etcd {
        Some(endpoint) => builder.etcd(rkube::store::backend::etcd::Etcd::builder([endpoint.as_str()])),
        None => builder,
    };
    let cluster = builder.start().await?;
    let file = arguments.kubeconfig.canonicalize().unwrap_or(arguments.kubeconfig);
    let address = cluster.address().unwrap_or(arguments.listen);
    println!("rkube serves https://{address} after {:?}, {} nodes.", started.elapsed(), arguments.nodes);
    println!();
    println!("In another terminal:");
    println!("  export KUBECONFIG={}", file.display());
    println!("  kubectl get nodes");
    println!("  kubectl create deployment web --image nginx --replicas 3");
    println!("  kubectl get pods -o wide --watch");
    println!();
    println!("Ctrl-C stops it.");
    tokio::signal::ctrl_c().await?;
    println!("Stopping.");
    cluster.stop().await;
    Ok(())
}
