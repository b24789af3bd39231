use std::collections::BTreeMap;

use super::{Answer, Call, History, Operation, Violation};
use crate::testing::Text;
use crate::testing::model::change;
use crate::{Change, Entry, Key, Op, Prefix, Revision, Txn, WatchItem};

/// The commits of a history in the order in which they happened, and the states between them.
pub(super) struct Timeline<'a> {
    pub(super) writes: BTreeMap<Revision, Write<'a>>,
    versions: BTreeMap<Key, Vec<Version>>,
}

/// What a key was from this revision on.
type Version = (Revision, Option<Entry<Text>>);

pub(super) struct Write<'a> {
    pub(super) operation: &'a Operation,
    pub(super) txn: &'a Txn<Text>,
    /// What it must have done, by the state before it.
    pub(super) changes: Vec<Change<Text>>,
}

/// Something that a client saw: this key was written, or deleted (`None`), at this revision.
struct Sighting<'a> {
    key: &'a Key,
    revision: Revision,
    text: Option<&'a str>,
}

impl Sighting<'_> {
    /// Whether the transaction writes what was seen.
    fn is_of(&self, txn: &Txn<Text>) -> bool {
        txn.ops.iter().any(|op| match op {
            Op::Put { key, value, .. } => key == self.key && Some(value.as_str()) == self.text,
            Op::Delete { key } => key == self.key && self.text.is_none(),
        })
    }
}

impl<'a> Timeline<'a> {
    pub(super) fn new(history: &'a History, violations: &mut Vec<Violation>) -> Self {
        let mut writes = BTreeMap::new();
        for operation in &history.operations {
            let (Call::Commit(txn), Answer::Committed(committed)) = (&operation.call, &operation.answer)
            else {
                continue;
            };
            if committed.changes.iter().all(|change| change.key().is_none()) {
                continue;
            }
            let write = Write { operation, txn, changes: Vec::new() };
            if writes.insert(committed.revision, write).is_some() {
                let what = format!("two commits have revision {}", committed.revision);
                violations.push(Violation { promise: 1, what });
            }
        }
        add_unacknowledged(history, &mut writes, violations);
        let mut timeline = Self { writes, versions: BTreeMap::new() };
        timeline.replay();
        timeline
    }

    fn replay(&mut self) {
        let mut state = BTreeMap::new();
        for (revision, write) in &mut self.writes {
            for op in &write.txn.ops {
                write.changes.push(change(&mut state, op.clone(), *revision));
                let now = state.get(op.key()).cloned();
                self.versions.entry(op.key().clone()).or_default().push((*revision, now));
            }
        }
    }

    /// A key's entry at a revision.
    pub(super) fn get(&self, key: &Key, at: Revision) -> Option<&Entry<Text>> {
        at_revision(self.versions.get(key)?, at)
    }

    /// The entries of a folder at a revision.
    pub(super) fn list<'t>(
        &'t self,
        prefix: &'t Prefix,
        at: Revision,
    ) -> impl Iterator<Item = &'t Entry<Text>> {
        let of_prefix = self.versions.iter().filter(move |(key, _)| prefix.contains(key));
        of_prefix.filter_map(move |(_, versions)| at_revision(versions, at))
    }

    /// The revisions above one that changed something in a folder.
    pub(super) fn matching(&self, prefix: &Prefix, after: Revision) -> Vec<Revision> {
        let later = self.writes.range(after.next()..);
        let matches = |change: &Change<Text>| change.key().is_some_and(|key| prefix.contains(key));
        later.filter(|(_, write)| write.changes.iter().any(matches)).map(|(revision, _)| *revision).collect()
    }
}

fn at_revision(versions: &[Version], at: Revision) -> Option<&Entry<Text>> {
    let end = versions.partition_point(|(revision, _)| *revision <= at);
    versions.get(end.checked_sub(1)?)?.1.as_ref()
}

/// Commits whose outcome nobody was told, but whose writes somebody saw. One that was reported as failed
/// breaks a promise.
fn add_unacknowledged<'a>(
    history: &'a History,
    writes: &mut BTreeMap<Revision, Write<'a>>,
    violations: &mut Vec<Violation>,
) {
    let mut candidates: Vec<(&Operation, &Txn<Text>)> = history
        .operations
        .iter()
        .filter(|operation| !matches!(operation.answer, Answer::Committed(_)))
        .filter_map(|operation| match &operation.call {
            Call::Commit(txn) => Some((operation, txn)),
            _ => None,
        })
        .collect();
    let mut seen: BTreeMap<Revision, Vec<Sighting<'_>>> = BTreeMap::new();
    for sighting in sightings(history) {
        if !writes.contains_key(&sighting.revision) {
            seen.entry(sighting.revision).or_default().push(sighting);
        }
    }
    for (revision, seen) in seen {
        let unknown = |operation: &Operation| matches!(operation.answer, Answer::Unknown);
        // A deletion tells nothing of who did it: rather one of unknown outcome than one that failed, rather one
        // that did all that was seen at this revision, rather one that did nothing else.
        let fits = |(operation, txn): &(&Operation, &Txn<Text>)| {
            let missing = seen.iter().filter(|sighting| !sighting.is_of(txn)).count();
            let unseen = txn.ops.iter().filter(|op| seen.iter().all(|sighting| sighting.key != op.key()));
            (missing < seen.len()).then(|| (!unknown(operation), missing, unseen.count()))
        };
        let ranked = candidates.iter().enumerate().filter_map(|(at, it)| fits(it).map(|rank| (rank, at)));
        let Some((_, at)) = ranked.min() else { continue };
        let (operation, txn) = candidates.remove(at);
        if !unknown(operation) {
            let what = format!(
                "the commit called at tick {} was reported as failed, but is there at revision {revision}",
                operation.called
            );
            violations.push(Violation { promise: 16, what });
        }
        writes.insert(revision, Write { operation, txn, changes: Vec::new() });
    }
}

fn sightings(history: &History) -> Vec<Sighting<'_>> {
    let mut entries: Vec<&Entry<Text>> = Vec::new();
    let mut deletions = Vec::new();
    for operation in &history.operations {
        match &operation.answer {
            Answer::Read(read) => entries.extend(&read.entry),
            Answer::Page(page) => entries.extend(&page.entries),
            Answer::Conflict(conflict) => entries.extend(&conflict.current),
            Answer::Committed(committed) => {
                entries.extend(committed.changes.iter().filter_map(Change::previous));
            }
            _ => {}
        }
    }
    for (_, item) in history.watches.iter().flat_map(|watched| &watched.items) {
        let WatchItem::Events(batch) = item else { continue };
        for event in &batch.events {
            entries.extend(event.change.entry());
            entries.extend(event.change.previous());
            if event.change.is_delete() {
                deletions.push(Sighting { key: &event.key, revision: event.revision, text: None });
            }
        }
    }
    let puts = entries.into_iter().map(|entry| Sighting {
        key: &entry.key,
        revision: entry.mod_revision,
        text: Some(entry.value.as_str()),
    });
    puts.chain(deletions).collect()
}
