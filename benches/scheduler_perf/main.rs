//! The workloads of upstream's scheduler_perf, by their names: the same nodes and pods, how many of each,
//! and what goes on beside.
//!
//! ```sh
//! cargo bench --bench scheduler_perf                              # all, on 500, 5,000 and 15,000 nodes
//! cargo bench --bench scheduler_perf -- 5000                      # on 5,000 nodes only
//! cargo bench --bench scheduler_perf -- SchedulingBasic 5000 500  # one of them
//! cargo bench --bench scheduler_perf -- --steady                  # latency at a steady rate of arrival
//! cargo bench --bench scheduler_perf -- --flat                    # from 5,000 to 100,000 nodes
//! cargo bench --bench scheduler_perf -- --million                 # 1,000,000 pods on 100,000 nodes, once
//! cargo bench --bench scheduler_perf -- --million 5000            # ten pods a node on fewer
//! ```
//!
//! Figures that say different things. *Decisions a second* are the engine's alone, on one core, by the time
//! that it had the core: a pod decided and assumed, no API server. *Bound a second* is a whole cluster in this
//! process, memory store, all cores, by the clock: from the first pod's creation, by one client, to the last
//! one's binding seen by a watch; creation is in it, and how fast that went while the others worked is *created
//! a second*. *CPU a pod* is what all threads together took for that,
//! which other work on the machine changes least. `benches/README.md` says what differs from upstream's
//! measurement.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a program that reports"
)]

mod decisions;
mod pipeline;
mod volumes;
mod workloads;

use std::{path::Path, sync::Arc, time::Duration};

use pipeline::Rates;
use workloads::Workload;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Each figure is the middle one of so many runs.
const RUNS: usize = 3;

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// How long threads have been on a core, by a folder of `/proc`.
fn on_core(thread: &Path) -> Duration {
    let times = std::fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    let nanoseconds = times.split_whitespace().next().and_then(|time| time.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// How long this thread has been on a core.
fn thread_time() -> Duration {
    on_core(Path::new("/proc/thread-self"))
}

/// How long all threads of this process have been on cores, those that ended too, in steps of 10 ms.
fn process_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // User and system time are the 12th and 13th field behind the name, in hundredths of a second.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn report(workload: &Arc<Workload>, nodes: usize) {
    let sizes = workload.sizes(nodes);
    let decided = median((0..RUNS).map(|_| decisions::rate(workload, nodes)).collect());
    let runs: Vec<Rates> = (0..RUNS).map(|_| pipeline::run(workload, nodes)).collect();
    let middle = |figure: fn(&Rates) -> f64| median(runs.iter().map(figure).collect());
    let (created, bound) = (middle(|run| run.created), middle(|run| run.bound));
    let each = middle(|run| run.each);
    let threshold = workload.threshold.map_or_else(String::new, |least| format!("{least}/s"));
    println!(
        "| {} | {nodes} | {} | {} | {decided:.0}/s | {created:.0}/s | {bound:.0}/s | {each:.0} us | {threshold} |",
        workload.name, sizes.first, sizes.measured
    );
}

/// A line of what the kernel says of this process's memory, in bytes.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|it| it.starts_with(line)).unwrap_or_default();
    let kilobytes = line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

/// The most memory that this process had, in bytes.
fn most_memory() -> u64 {
    memory("VmHWM:")
}

/// The memory that it has now.
fn resident() -> u64 {
    memory("VmRSS:")
}

/// Many small pods in memory, one run.
fn million(nodes: usize) {
    let workload = Arc::new(workloads::million());
    let pods = workload.sizes(nodes).measured;
    let Rates { created, bound, each, a_node, a_pod } = pipeline::run(&workload, nodes);
    let most = most_memory() / 1_000_000;
    // Afterwards: it would be among the most memory.
    let decided = decisions::rate(&workload, nodes);
    println!(
        "| nodes | pods | decisions | created | bound | CPU a pod | a node takes | a pod takes | most memory |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    println!(
        "| {nodes} | {pods} | {decided:.0}/s | {created:.0}/s | {bound:.0}/s | {each:.0} us | {a_node} bytes | {a_pod} bytes | {most} MB |",
    );
}

/// What a pod costs on more and more nodes, in workloads whose pods form classes.
fn flat() {
    const SIZES: [usize; 3] = [5_000, 15_000, workloads::MOST_NODES];
    println!("| workload | nodes | pods | a decision | times | CPU a pod | times |");
    println!("|---|---|---|---|---|---|---|");
    for workload in
        workloads::all().into_iter().filter(|workload| workloads::CLASSED.contains(&workload.name))
    {
        let workload = Arc::new(workload);
        let mut first = None;
        for nodes in SIZES {
            let decision = 1e6 / median((0..RUNS).map(|_| decisions::rate(&workload, nodes)).collect());
            let each = median((0..RUNS).map(|_| pipeline::run(&workload, nodes).each).collect());
            let (of_decision, of_pod) = *first.get_or_insert((decision, each));
            println!(
                "| {} | {nodes} | {} | {decision:.2} us | {:.2} | {each:.0} us | {:.2} |",
                workload.name,
                workload.sizes(nodes).measured,
                decision / of_decision,
                each / of_pod
            );
        }
    }
}

/// How long the allocator keeps memory that nobody uses, in milliseconds, unless the caller has set it: with
/// its default of 10 the kernel clears the same pages again and again between one run and the next.
const KEEP: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "5000");

fn main() {
    if std::env::var_os(KEEP.0).is_none() {
        // It is read before anything else happens.
        let mut anew = std::process::Command::new(std::env::current_exe().unwrap());
        let status = anew.args(std::env::args_os().skip(1)).env(KEEP.0, KEEP.1).status().unwrap();
        std::process::exit(status.code().unwrap_or(1));
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if wanted.iter().any(|argument| argument == "--steady") {
        return pipeline::steady();
    }
    if wanted.iter().any(|argument| argument == "--flat") {
        return flat();
    }
    let sizes: Vec<usize> = wanted.iter().filter_map(|argument| argument.parse().ok()).collect();
    if wanted.iter().any(|argument| argument == "--million") {
        return million(sizes.first().copied().unwrap_or(workloads::MOST_NODES));
    }
    let sizes = if sizes.is_empty() { vec![500, 5_000, 15_000] } else { sizes };
    let named: Vec<&String> = wanted.iter().filter(|argument| argument.parse::<usize>().is_err()).collect();
    println!(
        "| workload | nodes | pods first | pods measured | decisions | created | bound | CPU a pod | upstream asks for |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for workload in workloads::all() {
        if named.is_empty() || named.iter().any(|name| *name == workload.name) {
            let workload = Arc::new(workload);
            sizes.iter().for_each(|&nodes| report(&workload, nodes));
        }
    }
}
