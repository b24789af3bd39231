//! Limits, which are the same on every backend.

use super::{Outcome, Place, cases, ensure, ensure_eq};
use crate::testing::Text;
use crate::{Check, CommitError, Key, Limits, Prefix, StoreError, Txn};

cases! {
    what_is_within_the_limits_is_stored: [],
    what_is_beyond_the_limits_is_refused_and_not_written: [16],
    limits_are_those_of_every_backend: [],
}

async fn limits_are_those_of_every_backend(place: &Place) -> Outcome {
    ensure_eq!(place.store.limits(), Limits::DEFAULT, "the limits");
    Ok(())
}

async fn what_is_within_the_limits_is_stored(place: &Place) -> Outcome {
    let limits = place.store.limits();
    let long_key = format!("a/{}", "k".repeat(limits.key_bytes - 2));
    place.put(&long_key, "x").await?;
    ensure!(place.store.get(&Key::new(long_key.as_str()), None).await?.entry.is_some(), "a long key");
    let large = "v".repeat(limits.value_bytes.min(limits.transaction_bytes - 3));
    place.put("a/1", &large).await?;
    let entry = place.store.get(&Key::new("a/1"), None).await?.entry;
    ensure!(entry.is_some_and(|entry| entry.value.as_str() == large), "a large value came back otherwise");
    let mut many = Txn::new();
    for at in 0..limits.operations {
        many = many.check(Check::Absent(Key::new(format!("m/{at}")))).put(format!("m/{at}"), Text::new("x"));
    }
    ensure_eq!(place.store.commit(many).await?.changes.len(), limits.operations, "changes");
    // As large as a transaction can be, with as many checks of as long keys.
    let room = limits.transaction_bytes - 2 * limits.operations * limits.key_bytes - "a/2".len();
    let checked = Txn::new().put("a/2", Text::new("v".repeat(room)));
    ensure_eq!(place.store.commit(with_long_checks(checked, limits)).await?.changes.len(), 1, "changes");
    Ok(())
}

fn with_long_checks(mut txn: Txn<Text>, limits: Limits) -> Txn<Text> {
    for at in 0..limits.operations {
        let key = format!("{at:03}{}", "k".repeat(limits.key_bytes - 3));
        txn = txn.check(Check::Absent(Key::new(key)));
    }
    txn
}

async fn what_is_beyond_the_limits_is_refused_and_not_written(place: &Place) -> Outcome {
    let limits = place.store.limits();
    let before = place.store.revision().await?;
    let put = |key: String, bytes: usize| Txn::new().put(key, Text::new("v".repeat(bytes)));
    let mut many = Txn::new();
    let mut checks = Txn::new().put("a/1", Text::new("x"));
    let mut heavy = Txn::new();
    for at in 0..=limits.operations {
        many = many.put(format!("m/{at}"), Text::new("x"));
        checks = checks.check(Check::Absent(Key::new(format!("m/{at}"))));
    }
    for at in 0..4 {
        heavy = heavy.put(format!("h/{at}"), Text::new("v".repeat(limits.transaction_bytes / 4)));
    }
    let half = "v".repeat(limits.transaction_bytes / 2);
    let checked = with_long_checks(Txn::new().put("a/1", Text::new(half)), limits);
    let twice = Txn::new().put("a/1", Text::new("x")).remove("a/1");
    type Expected = fn(&StoreError) -> bool;
    let too_large: Expected =
        |error| matches!(error, StoreError::TooLarge { bytes, limit, .. } if bytes > limit);
    let too_many: Expected =
        |error| matches!(error, StoreError::TooManyOperations { operations, limit } if operations > limit);
    let cases: [(&str, Txn<Text>, Expected); 8] = [
        ("a value", put("a/1".to_owned(), limits.value_bytes + 1), too_large),
        ("a key", put("k".repeat(limits.key_bytes + 1), 1), too_large),
        ("values together", heavy, too_large),
        ("a value and the keys of checks together", checked, too_large),
        ("operations", many, too_many),
        ("checks", checks, too_many),
        (
            "a key twice",
            twice,
            |error| matches!(error, StoreError::DuplicateKey(key) if key.as_str() == "a/1"),
        ),
        ("the empty key", put(String::new(), 1), |error| matches!(error, StoreError::EmptyKey)),
    ];
    for (what, txn, expected) in cases {
        match place.store.commit(txn).await {
            Err(CommitError::Store(error)) if expected(&error) => {}
            Err(error) => ensure!(false, "{what}: {error}"),
            Ok(_) => ensure!(false, "{what} beyond the limit was stored"),
        }
    }
    ensure_eq!(place.store.revision().await?, before, "the revision after refusals");
    let page = place.store.list(&Prefix::all(), crate::ListOptions::default()).await?;
    ensure!(page.entries.is_empty(), "something refused was written");
    Ok(())
}
