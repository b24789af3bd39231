//! A process that is killed while it writes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rkube_store::backend::durable::{Durable, OpenError};
use rkube_store::testing::{Dice, Text};
use rkube_store::{Key, Revision, Store, Txn};

use super::folder;

const FOLDER: &str = "RKUBE_STORE_KILL_FOLDER";
const WRITERS: u64 = 8;

fn builder(path: impl Into<std::path::PathBuf>) -> rkube_store::backend::durable::Builder<Text> {
    Durable::builder(path).segment_bytes(30_000).history(100)
}

/// The process that is killed: says what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stdout, reason = "it talks to the process that started it")]
async fn child() {
    let Ok(path) = std::env::var(FOLDER) else { return };
    let store = builder(path).open().unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        async move {
            for at in 0_u64.. {
                let text = Text::new(format!("{at} {}", "x".repeat((at % 700) as usize)));
                let done = store.commit(Txn::new().put(format!("w/{writer}"), text)).await.unwrap();
                println!("\nacknowledged {writer} {}", done.revision);
            }
        }
    });
    futures::future::join_all(writers).await;
}

struct Killed(Child);

impl Killed {
    fn start(path: &std::path::Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "durable::kill::child", "--nocapture"]).env(FOLDER, path);
        Self(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Reads so many acknowledgements, kills it, and reads what else it had said. Tells the last revision of
    /// each writer.
    fn kill_after(mut self, count: u64, mut meanwhile: impl FnMut()) -> [Revision; WRITERS as usize] {
        let mut last = [Revision::ZERO; WRITERS as usize];
        let mut seen = 0;
        for line in BufReader::new(self.0.stdout.take().unwrap()).lines() {
            let Ok(line) = line else { break };
            let mut words = line.split(' ');
            if words.next() != Some("acknowledged") {
                continue;
            }
            let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
            // The last line may lack its end.
            if let [writer, revision] = numbers[..] {
                let last = &mut last[usize::try_from(writer).unwrap()];
                *last = Revision(revision).max(*last);
            }
            seen += 1;
            if seen == count {
                meanwhile();
                self.0.kill().unwrap();
            }
        }
        self.0.wait().unwrap();
        assert!(seen >= count, "it ended before it was killed");
        last
    }
}

#[tokio::test]
async fn what_a_killed_process_acknowledged_is_there() {
    let folder = folder();
    let mut dice = Dice::seeded(5);
    let mut reached = Revision(1);
    for round in 0..30 {
        let child = Killed::start(folder.path());
        let last = child.kill_after(1 + dice.roll(400), || {
            let second = builder(folder.path()).open();
            assert!(matches!(second, Err(OpenError::Locked)), "another process has it");
        });
        let store = builder(folder.path()).open().unwrap();
        let revision = store.revision().await.unwrap();
        assert!(revision >= *last.iter().max().unwrap() && revision > reached, "round {round}");
        reached = revision;
        for (writer, acknowledged) in last.into_iter().enumerate() {
            let entry = store.get(&Key::new(format!("w/{writer}")), None).await.unwrap().entry;
            let written = entry.map_or(Revision::ZERO, |entry| entry.mod_revision);
            assert!(written >= acknowledged, "round {round}: {writer} was at {acknowledged}, now {written}");
        }
    }
}
