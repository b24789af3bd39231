//! Gets, lists, paging, compaction.

use super::{Outcome, Place, cases, ensure, ensure_eq};
use crate::testing::Text;
use crate::testing::model::Model;
use crate::{Entry, Key, ListOptions, Page, Prefix, Revision, StoreError, Txn};

cases! {
    a_read_sees_every_acknowledged_write: [3],
    every_revision_can_be_read_as_it_was: [4],
    pages_at_a_revision_join_to_its_state_while_writers_go_on: [4],
    a_page_counts_what_remains: [],
    a_list_is_ordered_by_key: [],
    what_cannot_be_read_is_an_error: [4],
    compaction_keeps_the_state_and_forgets_the_past: [4],
    a_deleted_key_is_gone_after_compaction: [4],
    a_prefix_never_lists_its_neighbours: [17],
}

async fn list(place: &Place, prefix: &str, options: ListOptions) -> Result<Page<Text>, StoreError> {
    place.store.list(&Prefix::new(prefix), options).await
}

fn keys(entries: &[Entry<Text>]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

async fn a_read_sees_every_acknowledged_write(place: &Place) -> Outcome {
    for round in 0..20 {
        let text = format!("{round}");
        let committed = place.put("a/1", &text).await?;
        let read = place.store.get(&Key::new("a/1"), None).await?;
        ensure!(
            read.revision >= committed.revision,
            "read at {}, written at {}",
            read.revision,
            committed.revision
        );
        ensure_eq!(read.entry.as_ref(), committed.changes[0].entry(), "what get sees");
        let page = list(place, "a", ListOptions::default()).await?;
        ensure_eq!(page.entries.first(), committed.changes[0].entry(), "what list sees");
        ensure!(page.revision >= committed.revision, "list is at {}", page.revision);
    }
    place.remove("a/1").await?;
    ensure!(place.store.get(&Key::new("a/1"), None).await?.entry.is_none(), "get sees what was deleted");
    ensure!(list(place, "a", ListOptions::default()).await?.entries.is_empty(), "list sees what was deleted");
    Ok(())
}

/// Writes a mixed history to the store and to the model. The store must be new.
async fn mixed_history(place: &Place, writes: u64) -> Result<Model<Text>, super::Broken> {
    let mut model = Model::new();
    // Revisions of a backend may begin elsewhere than the model's: texts and keys are compared, not numbers.
    for at in 0..writes {
        let (key, other) = (format!("a/{}", at * 7 % 11), format!("b/{}", at % 3));
        let txn = match at % 5 {
            0 => Txn::new().remove(key.as_str()),
            1 => Txn::new().put(key.as_str(), Text::new(format!("{at}"))).remove(other.as_str()),
            _ => Txn::new().put(key.as_str(), Text::new(format!("{at}"))).put(other.as_str(), Text::new("b")),
        };
        model.commit(txn.clone())?;
        place.store.commit(txn).await?;
    }
    Ok(model)
}

fn texts(entries: &[Entry<Text>]) -> Vec<(&str, &str, u64)> {
    entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str(), entry.version)).collect()
}

async fn every_revision_can_be_read_as_it_was(place: &Place) -> Outcome {
    let start = place.store.revision().await?;
    let model = mixed_history(place, 60).await?;
    let writes = model.head().0 - 1;
    for step in 0..=writes {
        let (at, model_at) = (Revision(start.0 + step), Revision(1 + step));
        let page = list(place, "a", ListOptions::default().at(at)).await?;
        let expected = model.list(&Prefix::new("a"), Some(model_at))?;
        ensure_eq!(texts(&page.entries), texts(&expected), "the list at {at}");
        ensure_eq!(page.revision, at, "the revision of the list");
        for entry in &page.entries {
            let read = place.store.get(&entry.key, Some(at)).await?;
            ensure_eq!(read.entry.as_ref(), Some(entry), "get and list at {at}");
            ensure_eq!(entry.value.revision(), entry.mod_revision, "the stamp at {at}");
        }
    }
    Ok(())
}

async fn pages_at_a_revision_join_to_its_state_while_writers_go_on(place: &Place) -> Outcome {
    for at in 0..25 {
        place.put(&format!("a/{at:02}"), "before").await?;
    }
    let first = list(place, "a", ListOptions::page(4)).await?;
    let whole = list(place, "a", ListOptions::default().at(first.revision)).await?;
    let mut joined = first.entries.clone();
    let mut page = first;
    let mut round = 0;
    while page.more {
        round += 1;
        place.put(&format!("a/{:02}", round * 3), "after").await?;
        place.put(&format!("a/{:02}x", round * 3), "new").await?;
        place.remove(&format!("a/{:02}", 24 - round)).await?;
        let after = page.entries.last().map(|entry| entry.key.clone());
        let options = ListOptions { at: Some(page.revision), limit: Some(4), after, uncounted: true };
        let next = list(place, "a", options).await?;
        ensure_eq!(next.revision, page.revision, "the revision of all pages");
        ensure!(next.entries.len() <= 4, "a page of four has {} entries", next.entries.len());
        ensure!(!next.entries.is_empty(), "more was promised, but an empty page came");
        joined.extend(next.entries.iter().cloned());
        page = next;
    }
    ensure_eq!(joined, whole.entries, "the joined pages");
    ensure!(joined.iter().all(|entry| entry.value.as_str() == "before"), "a page shows a later write");
    Ok(())
}

async fn a_page_counts_what_remains(place: &Place) -> Outcome {
    for at in 0..10 {
        place.put(&format!("a/{at}"), "x").await?;
    }
    place.remove("a/5").await?;
    let numbers = |page: &Page<Text>| (page.entries.len(), page.more, page.remaining);
    for (limit, expected) in [
        (Some(0), (0, true, 9)),
        (Some(4), (4, true, 5)),
        (Some(8), (8, true, 1)),
        (Some(9), (9, false, 0)),
        (Some(50), (9, false, 0)),
        (None, (9, false, 0)),
    ] {
        let page = list(place, "a", ListOptions { limit, ..ListOptions::default() }).await?;
        ensure_eq!(numbers(&page), expected, "entries, more, remaining for limit {limit:?}");
    }
    for (limit, expected) in [(0, (0, true)), (8, (8, true)), (9, (9, false))] {
        let page = list(place, "a", ListOptions::page(limit).uncounted()).await?;
        let found = (page.entries.len(), page.more);
        ensure_eq!(found, expected, "entries and more, uncounted, for limit {limit}");
        ensure_eq!(page.more, page.remaining > 0, "zero only at the end, for limit {limit}");
    }
    let rest = list(place, "a", ListOptions::page(2).after(Key::new("a/4"))).await?;
    ensure_eq!(keys(&rest.entries), ["a/6", "a/7"], "the entries behind a/4");
    ensure_eq!(numbers(&rest), (2, true, 2), "entries, more, remaining behind a/4");
    let between = list(place, "a", ListOptions::page(1).after(Key::new("a/5"))).await?;
    ensure_eq!(keys(&between.entries), ["a/6"], "what comes behind a key that is gone");
    let outside = list(place, "a", ListOptions::default().after(Key::new("A"))).await?;
    ensure_eq!(outside.entries.len(), 9, "entries behind a key before the folder");
    let behind = list(place, "a", ListOptions::default().after(Key::new("b"))).await?;
    ensure_eq!(numbers(&behind), (0, false, 0), "entries behind a key behind the folder");
    Ok(())
}

async fn a_list_is_ordered_by_key(place: &Place) -> Outcome {
    for key in ["a/b", "a/B", "a/b/c", "a/b-c", "a/10", "a/9", "a/ü"] {
        place.put(key, "x").await?;
    }
    let page = list(place, "a", ListOptions::default()).await?;
    ensure_eq!(keys(&page.entries), ["a/10", "a/9", "a/B", "a/b", "a/b-c", "a/b/c", "a/ü"], "the order");
    Ok(())
}

async fn what_cannot_be_read_is_an_error(place: &Place) -> Outcome {
    let current = place.put("a/1", "1").await?.revision;
    let requested = Revision(current.0 + 1000);
    for result in [
        place.store.get(&Key::new("a/1"), Some(requested)).await.map(drop),
        list(place, "a", ListOptions::default().at(requested)).await.map(drop),
        place.store.compact(requested).await,
    ] {
        ensure!(
            matches!(result, Err(StoreError::Future { requested: asked, current: now }) if asked == requested && now == current),
            "revision {requested} is in the future of {current}, but: {result:?}"
        );
    }
    Ok(())
}

async fn compaction_keeps_the_state_and_forgets_the_past(place: &Place) -> Outcome {
    let first = place.put("a/1", "old").await?.revision;
    place.put("a/2", "kept").await?;
    let at = place.put("a/1", "new").await?.revision;
    let later = place.put("a/3", "later").await?.revision;
    place.store.compact(at).await?;
    place.store.compact(at).await?;
    place.store.compact(first).await?;
    for old in [first, Revision(at.0 - 1)] {
        let results = [
            place.store.get(&Key::new("a/1"), Some(old)).await.map(drop),
            list(place, "a", ListOptions::default().at(old)).await.map(drop),
        ];
        for result in results {
            let compacted =
                matches!(result, Err(StoreError::Compacted { requested, .. }) if requested == old);
            ensure!(compacted, "revision {old} is compacted, but: {result:?}");
        }
    }
    let then = list(place, "a", ListOptions::default().at(at)).await?;
    ensure_eq!(texts(&then.entries), [("a/1", "new", 2), ("a/2", "kept", 1)], "the state at {at}");
    let now = list(place, "a", ListOptions::default().at(later)).await?;
    ensure_eq!(now.entries.len(), 3, "entries now");
    Ok(())
}

async fn a_deleted_key_is_gone_after_compaction(place: &Place) -> Outcome {
    place.put("a/1", "1").await?;
    place.remove("a/1").await?;
    place.put("a/2", "1").await?;
    let deleted = place.remove("a/2").await?.revision;
    let last = place.put("a/2", "again").await?.revision;
    place.store.compact(deleted).await?;
    let then = list(place, "a", ListOptions::default().at(deleted)).await?;
    ensure!(then.entries.is_empty(), "a deleted key came back: {:?}", then.entries);
    place.store.compact(last).await?;
    let now = list(place, "a", ListOptions::default()).await?;
    ensure_eq!(texts(&now.entries), [("a/2", "again", 1)], "the state now");
    ensure!(place.put("a/1", "new").await?.changes[0].is_create(), "a/1 does not exist before");
    Ok(())
}

async fn a_prefix_never_lists_its_neighbours(place: &Place) -> Outcome {
    for key in ["a/foo/1", "a/foobar/1", "a/foo", "a/foo-/1", "a/foo0/1", "a/fo/1", "b/foo/1"] {
        place.put(key, "x").await?;
    }
    let page = list(place, "a/foo/", ListOptions::default()).await?;
    ensure_eq!(keys(&page.entries), ["a/foo/1"], "the folder a/foo/");
    let page = list(place, "a/foo", ListOptions::page(1)).await?;
    ensure_eq!((page.entries.len(), page.remaining), (1, 0), "entries and the remaining of a/foo");
    Ok(())
}
