//! The memory backend against the reference model, with compaction and cold values.

use futures::{FutureExt, StreamExt};
use proptest::prelude::*;
use rkube_store::testing::Text;
use rkube_store::testing::model::Model;
use rkube_store::{
    Batch, Check, CommitError, Key, ListOptions, Memory, Prefix, Revision, Store, StoreError, Txn, Watch,
    WatchItem, WatchOptions,
};

#[derive(Clone, Debug)]
enum Step {
    /// Keys to put (`true`) or delete, and checks: (key, kind, how many revisions back).
    Commit(Vec<(usize, bool)>, Vec<(usize, u8, u64)>),
    Get(usize, Option<u64>),
    List(usize, Option<u64>, Option<usize>, Option<usize>),
    /// Opens a watch of a folder, some revisions back, or ahead.
    Watch(usize, i64),
    /// Polls the n-th watch up to so many times.
    Poll(usize, usize),
    Compact(u64),
}

const KEYS: [&str; 7] = ["a/1", "a/2", "a/foo/1", "a/foobar/1", "b/1", "b/2", "c"];
const FOLDERS: [&str; 5] = ["", "a", "a/foo", "b", "d"];

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS.len();
    let back = || proptest::option::of(0..12_u64);
    prop_oneof![
        8 => (
            proptest::collection::vec((key(), any::<bool>()), 0..4),
            proptest::collection::vec((key(), 0..3_u8, 0..3_u64), 0..2),
        )
            .prop_map(|(ops, checks)| Step::Commit(ops, checks)),
        3 => (key(), back()).prop_map(|(key, back)| Step::Get(key, back)),
        3 => (0..FOLDERS.len(), back(), proptest::option::of(0..4_usize), proptest::option::of(key()))
            .prop_map(|(folder, back, limit, after)| Step::List(folder, back, limit, after)),
        2 => (0..FOLDERS.len(), -3..12_i64).prop_map(|(folder, back)| Step::Watch(folder, back)),
        4 => (0..4_usize, 1..6_usize).prop_map(|(watch, times)| Step::Poll(watch, times)),
        1 => (0..12_u64).prop_map(Step::Compact),
    ]
}

struct Pair {
    memory: Memory<Text>,
    model: Model<Text>,
    /// The watch, its folder, and up to where it was compared.
    watches: Vec<(Watch<Text>, Prefix, Revision)>,
    writes: u64,
}

impl Pair {
    fn at(&self, back: Option<u64>) -> Option<Revision> {
        back.map(|back| Revision(self.model.head().0.saturating_sub(back)))
    }

    fn commit(&mut self, ops: &[(usize, bool)], checks: &[(usize, u8, u64)]) {
        let mut txn = Txn::new();
        for (key, put) in ops {
            self.writes += 1;
            let key = KEYS[*key];
            txn = if *put { txn.put(key, Text::new(format!("{}", self.writes))) } else { txn.remove(key) };
        }
        for (key, kind, back) in checks {
            let key = Key::new(KEYS[*key]);
            let revision = Revision(self.model.head().0.saturating_sub(*back));
            txn = txn.check(match kind {
                0 => Check::Absent(key),
                1 => Check::Exists(key),
                _ => Check::Unchanged { key, revision },
            });
        }
        let of_memory = self.memory.commit(txn.clone()).now_or_never().unwrap();
        match (of_memory, self.model.commit(txn)) {
            (Ok(memory), Ok(model)) => assert_eq!(memory, model),
            (Err(CommitError::Conflict(memory)), Err(CommitError::Conflict(model))) => {
                assert_eq!(
                    (memory.check, &memory.key, memory.revision),
                    (model.check, &model.key, model.revision)
                );
                assert_eq!(memory.current, model.current);
            }
            (Err(memory), Err(model)) => assert_eq!(memory.to_string(), model.to_string()),
            (memory, model) => panic!("{memory:?} but {model:?}"),
        }
    }

    fn list(&self, folder: usize, back: Option<u64>, limit: Option<usize>, after: Option<usize>) {
        let (prefix, at) = (Prefix::new(FOLDERS[folder]), self.at(back));
        let after = after.map(|key| Key::new(KEYS[key]));
        let options = ListOptions { at, limit, after: after.clone(), uncounted: false };
        let of_memory = self.memory.list(&prefix, options).now_or_never().unwrap();
        match (of_memory, self.model.list(&prefix, at)) {
            (Ok(page), Ok(mut entries)) => {
                entries.retain(|entry| after.as_ref().is_none_or(|after| entry.key > *after));
                let rest = entries.split_off(limit.unwrap_or(usize::MAX).min(entries.len()));
                assert_eq!(page.entries, entries);
                assert_eq!((page.more, page.remaining), (!rest.is_empty(), rest.len() as u64));
                assert_eq!(page.revision, at.unwrap_or(self.model.head()));
            }
            (memory, model) => assert_eq!(text(memory.map(drop)), text(model.map(drop))),
        }
    }

    fn watch(&mut self, folder: usize, back: i64) {
        let prefix = Prefix::new(FOLDERS[folder]);
        let after = Revision(self.model.head().0.saturating_add_signed(-back));
        let watch = self.memory.watch(&prefix, WatchOptions::after(after)).now_or_never().unwrap();
        match (watch, self.model.events(&prefix, after)) {
            (Ok(watch), Ok(_)) => self.watches.push((watch, prefix, after)),
            (memory, model) => assert_eq!(text(memory.map(drop)), text(model.map(drop))),
        }
    }

    fn poll(&mut self, at: usize, times: usize) {
        let Some((mut watch, prefix, mut reached)) =
            (at < self.watches.len()).then(|| self.watches.remove(at))
        else {
            return;
        };
        for _ in 0..times {
            // What the model would still give, unless it is compacted.
            let due = self.model.events(&prefix, reached).map(|due| due.first().cloned());
            match (watch.next().now_or_never(), due) {
                (Some(Some(Ok(WatchItem::Events(batch)))), due) => {
                    if let Ok(due) = due {
                        assert_eq!(Some(Batch::clone(&batch)), due);
                    }
                    assert!(batch.revision > reached);
                    reached = batch.revision;
                }
                (Some(Some(Err(_))), due) => {
                    assert!(due.is_err(), "it ended although nothing it needs is compacted: {due:?}");
                    return;
                }
                // Nothing came. Either nothing is due, or what is compacted was nothing in this folder.
                (None, Ok(due)) => {
                    assert_eq!(due, None);
                    reached = reached.max(self.model.head());
                }
                (None, Err(_)) => reached = reached.max(self.model.head()),
                (other, _) => panic!("{other:?}"),
            }
        }
        self.watches.insert(at, (watch, prefix, reached));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(ops, checks) => self.commit(ops, checks),
            Step::Get(key, back) => {
                let (key, at) = (Key::new(KEYS[*key]), self.at(*back));
                let memory = self.memory.get(&key, at).now_or_never().unwrap();
                match (memory, self.model.get(&key, at)) {
                    (Ok(memory), Ok(model)) => assert_eq!(memory.entry, model),
                    (memory, model) => assert_eq!(text(memory.map(drop)), text(model.map(drop))),
                }
            }
            Step::List(folder, back, limit, after) => self.list(*folder, *back, *limit, *after),
            Step::Watch(folder, back) => self.watch(*folder, *back),
            Step::Poll(watch, times) => self.poll(*watch, *times),
            Step::Compact(back) => {
                let at = self.at(Some(*back)).unwrap();
                self.memory.compact(at).now_or_never().unwrap().unwrap();
                self.model.compact(at).unwrap();
            }
        }
    }
}

fn text(result: Result<(), StoreError>) -> String {
    format!("{result:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn memory_is_the_model(
        steps in proptest::collection::vec(step(), 1..80),
        hot in prop_oneof![Just(None), Just(Some(0)), (1..400_usize).prop_map(Some)],
        queue in 1..4_usize,
    ) {
        let builder = Memory::builder().watch_queue(queue);
        let memory = match hot {
            None => builder.all_hot().build(),
            Some(bytes) => builder.hot_bytes(bytes).build(),
        };
        let mut pair = Pair { memory, model: Model::new(), watches: Vec::new(), writes: 0 };
        for step in &steps {
            pair.step(step);
        }
        // In the end, each watch that lives is complete.
        for watch in (0..pair.watches.len()).rev() {
            pair.poll(watch, 1000);
        }
    }

    /// A bound on the number of revisions compacts exactly as the model does by hand.
    #[test]
    fn bounded_history_is_a_compaction_after_each_commit(
        steps in proptest::collection::vec(step(), 1..80), bound in 0..6_u64,
    ) {
        let memory = Memory::builder().history(bound).build();
        let mut pair = Pair { memory, model: Model::new(), watches: Vec::new(), writes: 0 };
        for step in &steps {
            pair.step(step);
            let at = Revision(pair.model.head().0.saturating_sub(bound));
            if pair.model.head() > Revision(1) {
                pair.model.compact(at).unwrap();
            }
        }
        prop_assert!(pair.memory.sizes().revisions as u64 <= bound + 1);
    }
}
