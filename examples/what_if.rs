//! Asks the scheduler about a cluster that it need not reach: where would a pod go and why, what fits if nodes
//! come or go.
//!
//! ```sh
//! kubectl get nodes,pods,namespaces,priorityclasses,poddisruptionbudgets -A -o yaml > cluster.yaml
//! cargo run --example what_if -- cluster.yaml --pod deployment.yaml
//! cargo run --example what_if -- cluster.yaml --drain node-3
//! cargo run --example what_if -- cluster.yaml --add node-1x3 --drain node-3 --output json
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

use std::{
    error::Error,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, ValueEnum};
use rkube::sched::{
    Configuration, Simulator,
    simulator::{Answer, Change, Manifest, Report, new_pods},
};
use serde_json::json;

/// Asks the scheduler about a cluster that it need not reach.
///
/// The files are what `kubectl get nodes,pods -A -o yaml` (or -o json) prints. Namespaces, priority classes,
/// disruption budgets, services, replica sets, volumes and claims count too if they are in them; other kinds are
/// passed over. Without a question, it tells which of the pods that wait would find a node, and where.
///
/// Nodes change first, all at once, and the pods that wait or have to go find their places; then come the pods of
/// --pod, one after another. Exit codes: 0 if every pod has a node, 1 if one has none, 2 for a mistake.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Files with the cluster's objects, YAML or JSON; - is the standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A file with pods, or with Deployments, StatefulSets, Jobs that make some: where would they go?
    #[arg(long, value_name = "FILE")]
    pod: Vec<PathBuf>,
    /// Adds copies of a node that is there, with its daemons (node-1x3: three), or the nodes of a file.
    #[arg(long, value_name = "NODE[xCOUNT]|FILE")]
    add: Vec<String>,
    /// Lets a node take no new pods.
    #[arg(long, value_name = "NODE")]
    cordon: Vec<String>,
    /// Lets a cordoned node take pods again.
    #[arg(long, value_name = "NODE")]
    uncordon: Vec<String>,
    /// Cordons a node and moves its pods elsewhere, but for daemons and mirror pods.
    #[arg(long, value_name = "NODE")]
    drain: Vec<String>,
    /// Takes a node away, with all that runs there.
    #[arg(long, value_name = "NODE")]
    remove: Vec<String>,
    /// A KubeSchedulerConfiguration; kube-scheduler's defaults unless said.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Breaks ties: the same seed, the same answer.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Says of every pod of several what each plugin has to say of each node; of a single one it is said anyway.
    #[arg(long)]
    why: bool,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Tables.
    #[default]
    Table,
    /// One JSON object: what changed (`report`) and an answer a pod (`pods`).
    Json,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        // Who reads no further has read enough.
        Err(error) if is_closed(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn is_closed(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Whether every pod has a node.
fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let mut manifest = Manifest::default();
    for file in &arguments.files {
        manifest.add(read(file)?).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if manifest.nodes().is_empty() && arguments.add.is_empty() {
        eprintln!("There is no node in what was read.");
    }
    let skipped: Vec<String> = manifest.skipped().map(|(kind, count)| format!("{count} {kind}")).collect();
    if !skipped.is_empty() {
        eprintln!("Passed over: {}.", skipped.join(", "));
    }
    let builder = Simulator::builder().seed(arguments.seed).manifest(manifest);
    let mut simulator = match &arguments.config {
        Some(file) => {
            let text = String::from_utf8(read(file)?)?;
            let config =
                Configuration::read(&text).map_err(|error| format!("{}: {error}", file.display()))?;
            builder.config(config.config()).build()?
        }
        None => builder.build()?,
    };

    let changes = changes(arguments)?;
    // Pods that wait already are asked about if nothing else is.
    let is_asked = !changes.is_empty() || arguments.pod.is_empty();
    let report = is_asked.then(|| simulator.apply(&changes)).transpose()?;
    let mut answers = Vec::new();
    for file in &arguments.pod {
        let pods = new_pods(read(file)?).map_err(|error| format!("{}: {error}", file.display()))?;
        if pods.is_empty() {
            return Err(format!("{}: there is no pod in it, nor what makes some", file.display()).into());
        }
        for pod in pods {
            answers.push(simulator.place(pod)?);
        }
    }
    print(arguments, report.as_ref(), &answers)?;
    let all_fit = report.as_ref().is_none_or(Report::all_fit);
    Ok(all_fit && answers.iter().all(|answer| answer.choice.node().is_some()))
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = match file.to_str() {
        Some("-") => io::stdin().read_to_end(&mut bytes).map(|_| bytes),
        _ => std::fs::read(file),
    };
    read.map_err(|error| format!("{} cannot be read: {error}", file.display()))
}

fn changes(arguments: &Arguments) -> Result<Vec<Change>, Box<dyn Error>> {
    let mut changes = Vec::new();
    for add in &arguments.add {
        if Path::new(add).is_file() {
            let manifest =
                Manifest::read(read(Path::new(add))?).map_err(|error| format!("{add}: {error}"))?;
            if manifest.nodes().is_empty() {
                return Err(format!("{add}: there is no node in it").into());
            }
            changes.extend(manifest.nodes().into_iter().map(|node| Change::Add(Box::new(node.clone()))));
            continue;
        }
        let counted = add.rsplit_once('x').and_then(|(node, count)| Some((node, count.parse().ok()?)));
        let (node, count) = counted.unwrap_or((add, 1));
        changes.push(Change::Copy { node: node.to_owned(), count });
    }
    let each = |names: &[String], change: fn(String) -> Change| {
        names.iter().cloned().map(change).collect::<Vec<_>>()
    };
    changes.extend(each(&arguments.uncordon, Change::Uncordon));
    changes.extend(each(&arguments.cordon, Change::Cordon));
    changes.extend(each(&arguments.drain, Change::Drain));
    changes.extend(each(&arguments.remove, Change::Remove));
    Ok(changes)
}

fn print(arguments: &Arguments, report: Option<&Report>, answers: &[Answer]) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    if arguments.output == Output::Json {
        serde_json::to_writer_pretty(&mut out, &json!({"report": report, "pods": answers}))?;
        writeln!(out)?;
        return Ok(());
    }
    if let Some(report) = report {
        write!(out, "{report}")?;
    }
    for (index, answer) in answers.iter().enumerate() {
        let is_whole = arguments.why || answers.len() == 1;
        if report.is_some() && index == 0 || is_whole && index > 0 {
            writeln!(out)?;
        }
        if is_whole { write!(out, "{answer}")? } else { writeln!(out, "{}", answer.summary())? }
    }
    Ok(())
}
