use std::collections::BTreeSet;

use super::timeline::{Timeline, Write};
use super::{Answer, Call, End, History, Operation, Violation, Watched};
use crate::testing::Text;
use crate::{
    Batch, Change, Committed, Conflict, Entry, ListOptions, Page, Prefix, Read, Revision, Txn, WatchItem,
};

/// Everything in a history that breaks a promise; empty for a good one.
///
/// Commits of unknown outcome count as done if anyone saw their writes. So a history that has some needs a
/// watch of all its keys, which sees deletions, too.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    let timeline = Timeline::new(history, &mut violations);
    let mut checker = Checker { history, timeline, violations };
    checker.check_time();
    for operation in &history.operations {
        checker.check_answer(operation);
    }
    for watched in &history.watches {
        checker.check_watch(watched);
    }
    checker.violations
}

struct Checker<'a> {
    history: &'a History,
    timeline: Timeline<'a>,
    violations: Vec<Violation>,
}

impl Checker<'_> {
    fn report(&mut self, promise: u8, what: String) {
        self.violations.push(Violation { promise, what });
    }

    /// Whether the store was killed between two ticks.
    fn crashed(&self, from: u64, to: u64) -> bool {
        self.history.crashes.iter().any(|crash| (from..to).contains(crash))
    }

    /// Revisions never run against time: whoever asks after an answer is not answered from before it.
    fn check_time(&mut self) {
        let mut by_return: Vec<_> = self
            .history
            .operations
            .iter()
            .filter_map(|operation| Some((operation, revision(operation)?)))
            .collect();
        let mut by_call = by_return.clone();
        by_return.sort_by_key(|(operation, _)| operation.returned);
        by_call.sort_by_key(|(operation, _)| operation.called);
        let mut answered = by_return.into_iter().peekable();
        let mut known = (Revision::ZERO, 0);
        for (operation, at) in by_call {
            while let Some((earlier, revision)) =
                answered.next_if(|(earlier, _)| earlier.returned < operation.called)
            {
                if revision > known.0 {
                    known = (revision, earlier.returned);
                }
            }
            let writes = is_write(operation);
            if at < known.0 || (writes && at == known.0) {
                let promise = match operation.call {
                    _ if self.crashed(known.1, operation.called) => 15,
                    Call::Get { .. } | Call::List { .. } => 3,
                    Call::Commit(_) | Call::Revision => 1,
                };
                let what = format!(
                    "what was called at tick {} has revision {at}, but {} was known at tick {}",
                    operation.called, known.0, known.1
                );
                self.report(promise, what);
            }
        }
    }

    fn check_answer(&mut self, operation: &Operation) {
        match (&operation.call, &operation.answer) {
            (Call::Get { key, at }, Answer::Read(read)) => self.check_read(operation, key, *at, read),
            (Call::List { prefix, options }, Answer::Page(page)) => {
                self.check_page(operation, prefix, options, page);
            }
            (Call::Commit(txn), Answer::Committed(committed)) => self.check_commit(txn, committed),
            (Call::Commit(txn), Answer::Conflict(conflict)) => self.check_conflict(operation, txn, conflict),
            (_, Answer::Compacted { requested, compacted }) if requested >= compacted => {
                self.report(
                    4,
                    format!("{requested} is refused as compacted, but history starts at {compacted}"),
                );
            }
            _ => {}
        }
    }

    fn check_read(
        &mut self,
        operation: &Operation,
        key: &crate::Key,
        at: Option<Revision>,
        read: &Read<Text>,
    ) {
        let expected = self.timeline.get(key, read.revision);
        if at.is_some_and(|at| at != read.revision) {
            self.report(4, format!("{key} was asked for at {at:?} and answered at {}", read.revision));
        } else if expected != read.entry.as_ref() {
            let what = format!("{key} at {} is {:?}, not {expected:?}", read.revision, read.entry);
            let promise = self.blame(operation, at, expected.map(|entry| entry.mod_revision));
            self.report(promise, what);
        }
    }

    /// Which promise a wrong read breaks.
    fn blame(&self, operation: &Operation, at: Option<Revision>, missing: Option<Revision>) -> u8 {
        let written = missing.and_then(|revision| self.timeline.writes.get(&revision));
        let lost = written.is_some_and(|write| self.crashed(write.operation.returned, operation.called));
        match at {
            _ if lost => 15,
            None => 3,
            Some(_) => 4,
        }
    }

    fn check_page(
        &mut self,
        operation: &Operation,
        prefix: &Prefix,
        options: &ListOptions,
        page: &Page<Text>,
    ) {
        if let Some(outside) = page.entries.iter().find(|entry| !prefix.contains(&entry.key)) {
            return self.report(17, format!("the list of {prefix} has {}", outside.key));
        }
        let behind = |entry: &&Entry<Text>| options.after.as_ref().is_none_or(|after| entry.key > *after);
        let all: Vec<_> = self.timeline.list(prefix, page.revision).filter(behind).collect();
        let shown = options.limit.unwrap_or(usize::MAX).min(all.len());
        let expected = &all[..shown];
        let rest = all.len() - shown;
        if options.at.is_some_and(|at| at != page.revision) {
            self.report(
                4,
                format!("{prefix} was asked for at {:?}, answered at {}", options.at, page.revision),
            );
        } else if !page.entries.iter().eq(expected.iter().copied()) {
            let lacking = expected.iter().find(|entry| !page.entries.contains(entry));
            let promise = self.blame(operation, options.at, lacking.map(|entry| entry.mod_revision));
            let what =
                format!("the list of {prefix} at {} is {:?}, not {expected:?}", page.revision, page.entries);
            self.report(promise, what);
        } else if page.more != (rest > 0) || (!options.uncounted && page.remaining != rest as u64) {
            self.report(4, format!("{} remain of {prefix} at {}, not {rest}", page.remaining, page.revision));
        }
    }

    fn check_commit(&mut self, txn: &Txn<Text>, committed: &Committed<Text>) {
        let at = committed.revision;
        let Some(Write { changes, .. }) = self.timeline.writes.get(&at).filter(|write| write.txn == txn)
        else {
            let present = txn.ops.iter().find(|op| self.timeline.get(op.key(), at).is_some());
            if let Some(op) = present {
                self.report(3, format!("nothing changed at {at}, but {} was there to change", op.key()));
            }
            return;
        };
        let changes = changes.clone();
        for condition in &txn.checks {
            let written = self.timeline.get(condition.key(), at.previous()).map(|entry| entry.mod_revision);
            if !condition.holds(written) {
                self.report(2, format!("the commit {at} passed {condition:?}, but {written:?} was there"));
            }
        }
        if committed.changes != changes {
            self.report(11, format!("the commit {at} did {changes:?} and says {:?}", committed.changes));
        }
    }

    fn check_conflict(&mut self, operation: &Operation, txn: &Txn<Text>, conflict: &Conflict<Text>) {
        let current = self.timeline.get(&conflict.key, conflict.revision);
        let condition = txn.checks.get(conflict.check);
        let held = condition.is_none_or(|condition| {
            condition.key() != &conflict.key || condition.holds(current.map(|entry| entry.mod_revision))
        });
        if held || current != conflict.current.as_ref() {
            let what = format!(
                "the commit called at tick {} lost by {condition:?} at {} to {:?}, but {current:?} was there",
                operation.called, conflict.revision, conflict.current
            );
            self.report(2, what);
        }
    }

    fn check_watch(&mut self, watched: &Watched) {
        let mut due = self.timeline.matching(&watched.prefix, watched.after).into_iter().peekable();
        let yielded: BTreeSet<_> = watched.items.iter().filter_map(|(_, item)| batch(item)).collect();
        let mut reached = Revision::ZERO;
        let mut last: Option<&Batch<Text>> = None;
        for (_, item) in &watched.items {
            match item {
                WatchItem::Progress(at) => {
                    if *at < reached {
                        let what = format!("progress of {} fell from {reached} to {at}", watched.prefix);
                        self.report(13, what);
                    }
                    while let Some(missed) = due.next_if(|revision| revision <= at) {
                        self.report(10, format!("progress of {} to {at} without {missed}", watched.prefix));
                    }
                    reached = reached.max(*at);
                }
                WatchItem::Events(batch) => {
                    self.check_order(watched, batch, last, reached);
                    while let Some(missed) = due.next_if(|revision| *revision < batch.revision) {
                        if yielded.contains(&missed) {
                            // It is only out of order.
                            continue;
                        }
                        let promise = if last.is_none() { 9 } else { 8 };
                        self.report(promise, format!("the watch of {} lacks {missed}", watched.prefix));
                    }
                    due.next_if_eq(&batch.revision);
                    self.check_batch(watched, batch);
                    reached = reached.max(batch.revision);
                    last = Some(batch);
                }
            }
        }
        if watched.end == End::Silent {
            self.report(14, format!("the watch of {} ended at {reached} without an error", watched.prefix));
        }
    }

    fn check_order(
        &mut self,
        watched: &Watched,
        batch: &Batch<Text>,
        last: Option<&Batch<Text>>,
        reached: Revision,
    ) {
        let (at, prefix) = (batch.revision, &watched.prefix);
        if at <= watched.after {
            let later = |write: &Write<'_>| write.operation.called > watched.opened;
            let promise = if self.timeline.writes.get(&at).is_some_and(later) { 12 } else { 9 };
            self.report(promise, format!("the watch of {prefix} after {} yields {at}", watched.after));
        } else if let Some(last) = last.filter(|last| last.revision == at) {
            let again = batch.events.iter().any(|event| last.events.contains(event));
            self.report(if again { 6 } else { 7 }, format!("the watch of {prefix} yields {at} twice"));
        } else if last.is_some_and(|last| at < last.revision) {
            self.report(5, format!("the watch of {prefix} yields {at} after {reached}"));
        } else if at <= reached {
            self.report(10, format!("the watch of {prefix} yields {at} after progress to {reached}"));
        }
    }

    fn check_batch(&mut self, watched: &Watched, batch: &Batch<Text>) {
        let (at, prefix) = (batch.revision, &watched.prefix);
        if let Some(outside) = batch.events.iter().find(|event| !prefix.contains(&event.key)) {
            return self.report(17, format!("the watch of {prefix} yields {}", outside.key));
        }
        let Some(write) = self.timeline.writes.get(&at) else {
            return self.report(8, format!("the watch of {prefix} yields {at}, which nobody wrote"));
        };
        let expected: Vec<Change<Text>> = write
            .changes
            .iter()
            .filter(|change| change.key().is_some_and(|key| prefix.contains(key)))
            .cloned()
            .collect();
        if batch.events.len() != expected.len() {
            let what =
                format!("the watch of {prefix} yields {} of {} events", batch.events.len(), expected.len());
            return self.report(7, format!("{what} at {at}"));
        }
        let wrong = batch.events.iter().zip(&expected).find(|(event, expected)| event.change != **expected);
        if let Some((event, expected)) = wrong {
            let what = format!("{:?}, not {expected:?}", event.change);
            self.report(11, format!("the watch of {prefix} yields at {at} {what}"));
        }
    }
}

/// The revision of the store when it gave this answer; none for a read of the past.
fn revision(operation: &Operation) -> Option<Revision> {
    match (&operation.call, &operation.answer) {
        (Call::Get { at: None, .. }, Answer::Read(read)) => Some(read.revision),
        (Call::List { options: ListOptions { at: None, .. }, .. }, Answer::Page(page)) => Some(page.revision),
        (_, Answer::Committed(committed)) => Some(committed.revision),
        (_, Answer::Conflict(conflict)) => Some(conflict.revision),
        (_, Answer::Revision(at)) => Some(*at),
        _ => None,
    }
}

/// The revision of a batch.
fn batch(item: &WatchItem<Text>) -> Option<Revision> {
    matches!(item, WatchItem::Events(_)).then(|| item.revision())
}

fn is_write(operation: &Operation) -> bool {
    match &operation.answer {
        Answer::Committed(committed) => committed.changes.iter().any(|change| change.key().is_some()),
        _ => false,
    }
}
