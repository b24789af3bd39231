//! Power cuts and kills at any step of writing, rotating, saving and opening: exactly what was begun, in
//! order, and at least all that was acknowledged, is there afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use rkube_store::backend::durable::{Condition, Durable, OpenError};
use rkube_store::testing::disk::Volatile;
use rkube_store::testing::{Dice, Text};
use rkube_store::{
    CommitError, Key, ListOptions, Prefix, Revision, Store, StoreError, Txn, WatchItem, WatchOptions,
};

type Values = BTreeMap<String, String>;

/// One disk through many lives.
struct World {
    disk: Volatile,
    dice: Dice,
    /// What was there at `base`.
    values: Values,
    base: Revision,
    /// All that was begun since, a revision each.
    begun: Vec<(String, Option<String>)>,
    /// All up to here was acknowledged, or seen by a reader or a watcher.
    known: Revision,
    cuts: u64,
}

impl World {
    fn open(&self) -> Result<Durable<Text>, OpenError> {
        let disk = Arc::new(self.disk.clone());
        Durable::builder_on(disk).segment_bytes(6000).history(25).hot_bytes(2000).open()
    }

    /// What there would be after all that was begun.
    fn expected(&self) -> Values {
        let mut values = self.values.clone();
        for (key, text) in &self.begun {
            match text {
                Some(text) => values.insert(key.clone(), text.clone()),
                None => values.remove(key),
            };
        }
        values
    }

    /// Looks at what is there after a restart and takes it for granted from then on.
    async fn verify(&mut self, store: &Durable<Text>) {
        let page = store.list(&Prefix::all(), ListOptions::default()).await.unwrap();
        assert!(page.revision >= self.known, "{} was known before, now it is {}", self.known, page.revision);
        let done = usize::try_from(page.revision.0 - self.base.0).unwrap();
        assert!(done <= self.begun.len(), "more is there than was ever written");
        self.begun.truncate(done);
        self.values = self.expected();
        self.begun.clear();
        self.base = page.revision;
        self.known = page.revision;
        let found: Values = page
            .entries
            .into_iter()
            .map(|entry| (entry.key.as_str().to_owned(), entry.value.as_str().to_owned()))
            .collect();
        assert_eq!(found, self.values);
        self.cuts += u64::from(store.recovery().cut.is_some());
    }

    /// Several commits at once, in a known order.
    async fn write(&mut self, store: &Durable<Text>) {
        let (mut commits, first) = (Vec::new(), self.begun.len());
        for _ in 0..=self.dice.roll(6) {
            let key = format!("keys/{}", self.dice.roll(12));
            let present = self.expected().contains_key(&key);
            let txn = if present && self.dice.roll(3) == 0 {
                self.begun.push((key.clone(), None));
                Txn::new().remove(&*key)
            } else {
                let filling = if self.dice.coin() { "x" } else { "\0" };
                let text = filling.repeat(self.dice.roll(1500) as usize) + &self.dice.roll(1000).to_string();
                self.begun.push((key.clone(), Some(text.clone())));
                Txn::new().put(&*key, Text::new(text))
            };
            commits.push(store.commit(txn));
        }
        for (at, outcome) in join_all(commits).await.into_iter().enumerate() {
            match outcome {
                Ok(committed) => self.known = self.known.max(committed.revision),
                Err(CommitError::Unknown(_)) => {}
                Err(CommitError::Store(StoreError::ReadOnly(_))) => {
                    // It was never begun, and neither were those that follow.
                    self.begun.truncate(first + at);
                    return;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

/// A life that ends by a power cut or a kill at any step.
async fn live(world: &mut World, steps: u64) -> bool {
    world.disk.fail_power_after(steps);
    let store = match world.open() {
        Ok(store) => store,
        Err(OpenError::Io { .. }) => return false,
        Err(error) => panic!("{error}"),
    };
    world.verify(&store).await;
    let mut watch = store.watch(&Prefix::all(), WatchOptions::after(world.base)).await.unwrap();
    while !matches!(store.stats().condition, Condition::Failed(_)) {
        world.write(&store).await;
        let read = store.get(&Key::new("keys/1"), None).await.unwrap();
        world.known = world.known.max(read.revision);
        while let Some(Some(Ok(WatchItem::Events(batch)))) = watch.next().now_or_never() {
            world.known = world.known.max(batch.revision);
        }
    }
    let refused = store.commit(Txn::new().put("keys/1", Text::new("never"))).await;
    assert!(matches!(refused, Err(CommitError::Store(StoreError::ReadOnly(_)))), "{refused:?}");
    true
}

#[tokio::test]
async fn a_thousand_power_cuts_lose_nothing_that_was_acknowledged() {
    let mut world = World {
        disk: Volatile::new(),
        dice: Dice::seeded(1),
        values: Values::new(),
        base: Revision(1),
        begun: Vec::new(),
        known: Revision(1),
        cuts: 0,
    };
    let mut lives = 0;
    for round in 0..1000 {
        let steps = world.dice.roll(if round % 5 == 0 { 8 } else { 60 });
        lives += u64::from(live(&mut world, steps).await);
        world.disk = if world.dice.roll(4) == 0 {
            world.disk.kill()
        } else {
            world.disk.cut_power(world.dice.roll(u64::MAX))
        };
    }
    assert!(lives > 700 && world.cuts > 50, "{lives} lives, {} torn writes", world.cuts);
    assert!(world.base > Revision(5_000), "the store came to {}", world.base);
}

/// What a failed sync left in memory is not taken for durable by the next start.
#[tokio::test]
async fn a_failed_sync_is_never_tried_again() {
    for seed in 0..100 {
        let disk = Volatile::new();
        let open = |disk: &Volatile| Durable::<Text>::builder_on(Arc::new(disk.clone())).open().unwrap();
        let store = open(&disk);
        let put = |key: &str| Txn::new().put(key, Text::new("x"));
        store.commit(put("a/1")).await.unwrap();
        disk.fail_sync_after(0);
        let changes = disk.changes();
        assert!(matches!(store.commit(put("a/2")).await, Err(CommitError::Unknown(_))));
        let later = store.commit(put("a/3")).await;
        assert!(matches!(later, Err(CommitError::Store(StoreError::ReadOnly(_)))), "{later:?}");
        assert_eq!(disk.changes(), changes + 2, "one write, one sync, and nothing after that");
        let key = Key::new("a/2");
        assert!(store.get(&key, None).await.unwrap().entry.is_none(), "it may yet be lost");
        assert!(matches!(store.stats().condition, Condition::Failed(_)));
        drop(store);

        let store = open(&disk);
        let seen = store.get(&key, None).await.unwrap().entry.is_some();
        assert!(seen, "the system still has it in its cache");
        drop(store);
        let store = open(&disk.cut_power(seed));
        let still = store.get(&key, None).await.unwrap().entry.is_some();
        assert!(still, "what a reader saw was lost with the power, seed {seed}");
    }
}
