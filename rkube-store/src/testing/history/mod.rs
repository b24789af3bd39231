//! Histories: what concurrent clients asked and were told, and whether a store that keeps its promises
//! could have answered so.
//!
//! A [`Recorder`] stands in front of a new store and notes every call and every item of every watch, each
//! with a tick that tells what came before what. [`check`] then holds the whole against the promises of
//! [`Store`](crate::Store). Because answers carry revisions, the order in which commits happened is known, and the check
//! is exact: reads and commits are linearizable if each fits the state at its revision and no revision runs
//! against time. [`Load`] makes such histories: clients that do a bit of everything at once.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use std::sync::Arc;
//! use rkube_store::testing::{Text, history};
//! use rkube_store::{Key, Memory, Store, Txn};
//!
//! let store = history::Recorder::new(Arc::new(Memory::<Text>::builder().build()));
//! store.commit(Txn::create("a/1", Text::new("one"))).await.unwrap();
//! store.get(&Key::new("a/1"), None).await.unwrap();
//!
//! let mut history = store.history();
//! assert!(history::check(&history).is_empty());
//!
//! // A read that misses what was acknowledged before breaks the third promise.
//! let history::Answer::Read(read) = &mut history.operations[1].answer else { unreachable!() };
//! read.entry = None;
//! assert_eq!(history::check(&history)[0].promise, 3);
//! # }
//! ```

mod check;
mod load;
mod recorder;
mod timeline;

use std::fmt;

use crate::{Committed, Conflict, Key, ListOptions, Page, Prefix, Read, Revision, Txn, WatchItem};

use super::Text;
pub use check::check;
pub use load::Load;
pub use recorder::Recorder;

/// What happened. It begins with an empty store; each value that is written must be unique.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What clients asked, in the order in which they asked.
    pub operations: Vec<Operation>,
    /// What watches yielded.
    pub watches: Vec<Watched>,
    /// The ticks at which the store was killed and started again.
    pub crashes: Vec<u64>,
}

/// A question and its answer.
#[derive(Clone, Debug)]
pub struct Operation {
    /// When it was asked.
    pub called: u64,
    /// When it was answered; `u64::MAX` for never.
    pub returned: u64,
    /// The question.
    pub call: Call,
    /// The answer.
    pub answer: Answer,
}

/// A question.
#[derive(Clone, Debug)]
pub enum Call {
    /// [`Store::get`](crate::Store::get).
    Get {
        /// Of this key.
        key: Key,
        /// At this revision.
        at: Option<Revision>,
    },
    /// [`Store::list`](crate::Store::list).
    List {
        /// Of this folder.
        prefix: Prefix,
        /// With these options.
        options: ListOptions,
    },
    /// [`Store::commit`](crate::Store::commit).
    Commit(Txn<Text>),
    /// [`Store::revision`](crate::Store::revision).
    Revision,
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To a get.
    Read(Read<Text>),
    /// To a list.
    Page(Page<Text>),
    /// To a commit.
    Committed(Committed<Text>),
    /// A check did not hold.
    Conflict(Conflict<Text>),
    /// To the question for the revision.
    Revision(Revision),
    /// The revision asked for cannot be read.
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// The oldest that could be read.
        compacted: Revision,
    },
    /// An error that says that nothing was done.
    Refused(String),
    /// The outcome is not known, or the client did not wait for it.
    Unknown,
}

/// A watch and all it yielded.
#[derive(Clone, Debug)]
pub struct Watched {
    /// When it was asked for.
    pub opened: u64,
    /// Of this folder.
    pub prefix: Prefix,
    /// After this revision.
    pub after: Revision,
    /// What it yielded, with the ticks.
    pub items: Vec<(u64, WatchItem<Text>)>,
    /// How it ended.
    pub end: End,
}

/// How a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It did not, or the client dropped it.
    Open,
    /// With an error.
    Failed,
    /// Without one, which no store may do.
    Silent,
}

/// A promise that a history breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The number of the promise, as in the documentation of [`Store`](crate::Store).
    pub promise: u8,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "promise {}: {}", self.promise, self.what)
    }
}
