//! Looks into the folder of a store on disk, whatever it holds.
//!
//! ```sh
//! cargo run -p rkube-store --features durable --example inspect -- DIR verify
//! cargo run -p rkube-store --features durable --example inspect -- DIR keys registry/pods --values
//! cargo run -p rkube-store --features durable --example inspect -- DIR revisions
//! cargo run -p rkube-store --features durable --example inspect -- DIR compact 5000
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use futures::StreamExt;
use rkube_store::backend::durable::{Durable, Folder, Raw, Recovery, verify};
use rkube_store::{ListOptions, Prefix, Revision, Store, Value, WatchItem, WatchOptions};

/// Looks into the folder of a store that no process has open.
#[derive(Parser)]
struct Arguments {
    /// The store's folder.
    folder: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reads all of it and says whether it is as it was written. Changes nothing.
    Verify,
    /// Lists keys with their revisions.
    Keys {
        /// Only those in this folder.
        #[arg(default_value = "")]
        prefix: String,
        /// As they were at this revision.
        #[arg(long)]
        at: Option<u64>,
        /// With their values, as far as they are text.
        #[arg(long)]
        values: bool,
    },
    /// Shows what each revision did that history still has.
    Revisions {
        /// Only to keys in this folder.
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Forgets history and gives its space back.
    Compact {
        /// All before this revision; before the present one unless said.
        revision: Option<u64>,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let found = verify(&Folder::new(&arguments.folder))?;
    if matches!(arguments.command, Command::Verify) {
        tell(&found);
        return Ok(());
    }
    // No bound of this program's may shorten a history.
    let store: Durable<Raw> = Durable::builder(&arguments.folder).history(u64::MAX).open()?;
    match arguments.command {
        Command::Verify => {}
        Command::Keys { prefix, at, values } => keys(&store, &prefix, at.map(Revision), values).await?,
        Command::Revisions { prefix } => revisions(&store, &prefix).await?,
        Command::Compact { revision } => {
            let revision = revision.map_or(found.revision, Revision);
            store.compact(revision).await?;
            store.close().await;
            println!(
                "history starts at revision {revision}, {} bytes are on disk",
                store.stats().disk.bytes()
            );
        }
    }
    Ok(())
}

fn tell(found: &Recovery) {
    println!("sound, at revision {}", found.revision);
    match found.snapshot {
        Some(snapshot) => println!("a snapshot at revision {snapshot}, {} commits after it", found.replayed),
        None => println!("no snapshot, {} commits", found.replayed),
    }
    if let Some(cut) = &found.cut {
        println!(
            "a crash interrupted a write: {} bytes at {} in {} are void",
            cut.bytes, cut.offset, cut.file
        );
    }
}

async fn keys(
    store: &Durable<Raw>,
    prefix: &str,
    at: Option<Revision>,
    values: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let options = ListOptions { at, ..ListOptions::default() };
    for entry in store.list(&Prefix::new(prefix), options).await?.entries {
        let bytes = entry.value.encode()?;
        let lease = entry.lease.map(|lease| format!(" lease {lease}")).unwrap_or_default();
        println!(
            "{} revision {} (created {}, version {}), {} bytes{lease}",
            entry.key,
            entry.mod_revision,
            entry.create_revision,
            entry.version,
            bytes.len()
        );
        if values {
            println!("  {}", String::from_utf8_lossy(&bytes));
        }
    }
    Ok(())
}

async fn revisions(store: &Durable<Raw>, prefix: &str) -> Result<(), Box<dyn std::error::Error>> {
    let stats = store.stats().store;
    let options = WatchOptions::after(stats.compacted).with_progress();
    let mut watch = store.watch(&Prefix::new(prefix), options).await?;
    store.request_progress().await?;
    println!("history starts at revision {}", stats.compacted);
    while let Some(item) = watch.next().await {
        let WatchItem::Events(batch) = item? else { break };
        for event in &batch.events {
            let done = match (event.change.is_delete(), event.change.is_create()) {
                (true, _) => "deleted",
                (_, true) => "created",
                _ => "changed",
            };
            println!("{} {done} {}", batch.revision, event.key);
        }
    }
    Ok(())
}
