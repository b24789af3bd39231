//! The figures of a whole cluster, against the table of the design.
//!
//! ```sh
//! cargo bench --bench spine                    # all
//! cargo bench --bench spine -- boot watch      # some
//! ```
//!
//! Each line is the median of several runs on fresh clusters. Everything is in one process unless the
//! line says HTTPS. `benches/README.md` says what is measured, and against what.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a program that reports"
)]

mod api;
mod boot;
mod https;
mod memory;
mod report;
mod scheduling;
mod watch;

/// A control plane makes and drops many small objects from several threads: a host program gains by an
/// allocator made for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTS: [(&str, fn()); 6] = [
    ("boot", boot::run),
    ("api", api::run),
    ("watch", watch::run),
    ("https", https::run),
    ("scheduling", scheduling::run),
    ("memory", memory::run),
];

/// How long the allocator keeps memory that nobody uses, in milliseconds, unless the caller has set it: with
/// its default of 10 the kernel clears the same pages again and again between one run and the next.
const KEEP: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "5000");

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, part] = arguments.as_slice()
        && flag == "--part"
    {
        let (_, bench) = PARTS.iter().find(|(name, _)| name == part).expect("a part");
        return bench();
    }
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if let Some(unknown) = wanted.iter().find(|wanted| PARTS.iter().all(|(name, _)| *name != wanted.as_str()))
    {
        panic!("no such part: {unknown}");
    }
    // `memory` measures the process itself, so each part has a process of its own.
    let this = std::env::current_exe().unwrap();
    for (name, _) in
        PARTS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|it| it.as_str() == *name))
    {
        let mut part = std::process::Command::new(&this);
        if std::env::var_os(KEEP.0).is_none() {
            part.env(KEEP.0, KEEP.1);
        }
        let status = part.args(["--part", name]).status().unwrap();
        assert!(status.success(), "{name} failed");
    }
}
