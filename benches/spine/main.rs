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

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let benches: [(&str, fn()); 6] = [
        ("boot", boot::run),
        ("api", api::run),
        ("watch", watch::run),
        ("https", https::run),
        ("scheduling", scheduling::run),
        ("memory", memory::run),
    ];
    // `memory` measures the process itself, so each part has a process of its own.
    match wanted.as_slice() {
        [one] => match benches.iter().find(|(name, _)| name == one) {
            Some((_, bench)) => bench(),
            None => println!("no such part: {one}"),
        },
        _ => {
            let this = std::env::current_exe().unwrap();
            for (name, _) in benches
                .iter()
                .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name))
            {
                let status = std::process::Command::new(&this).arg(name).status().unwrap();
                assert!(status.success(), "{name} failed");
            }
        }
    }
}
