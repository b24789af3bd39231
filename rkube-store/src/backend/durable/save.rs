//! A store's state in one file: to keep, to carry elsewhere, to begin another store with.
//!
//! The file is as a snapshot of the durable backend is, of a kind of its own: a header with the format's
//! version and the revision, then frames with checksums, then a last line that counts the entries. Values
//! are in it as [`Value::encode`] and the given [`Transform`] make them. Times of leases are in it, not how
//! much of them was left: they begin anew.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use rkube_store::backend::durable::save;
//! use rkube_store::testing::Text;
//! use rkube_store::{Memory, Store, Txn};
//! # let path = std::env::temp_dir().join(format!("rkube-save-{}", std::process::id()));
//! let store = Memory::builder().build();
//! let written = store.commit(Txn::create("pods/a", Text::new("hello"))).await?;
//! assert_eq!(save::save(&store, &path, None).await?, written.revision);
//!
//! let again: Memory<Text> = Memory::builder().restore(&path)?;
//! assert_eq!(again.revision().await?, written.revision);
//! # std::fs::remove_file(path)?;
//! # Ok(()) }
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::disk::{Written, sync_folder};
use super::error::OpenError;
use super::layout::{Header, Kind};
use super::open::name_store;
use super::snapshot::{self, Target};
use crate::backend::engine::{Engine, Options};
use crate::mvcc::{Codec, State};
use crate::{
    Check, CommitError, LeaseId, ListOptions, Memory, Op, Prefix, Revision, Store, StoreError, Transform,
    Txn, Value,
};

/// How the name of a file begins that is being written.
const UNFINISHED: &str = ".rkube-save-";

/// Writes a store's present state to a file, which is there whole or not at all, in the place of an older
/// one. Saves to one path do not disturb each other: the last one stays. A process that is killed meanwhile
/// leaves a file beside it whose name begins with `.rkube-save-`, of no worth. Values go through `transform`, where one is given, whatever the store itself does with them. Returns
/// the revision whose state it is; commits go on meanwhile.
///
/// # Errors
/// What the store, a value's codec or the system said.
pub async fn save<V: Value, S: Store<V> + ?Sized>(
    store: &S,
    path: impl Into<PathBuf>,
    transform: Option<Arc<dyn Transform>>,
) -> Result<Revision, OpenError> {
    let (copy, path) = (store.fork().await?, path.into());
    // The disk is waited for, so not on a thread that other tasks need.
    let written = tokio::task::spawn_blocking(move || write(copy.engine(), &path, &Codec::new(transform)));
    written.await.unwrap_or_else(|ended| Err(OpenError::io("save")(std::io::Error::other(ended))))
}

fn write<V: Value>(engine: &Engine<V>, path: &Path, codec: &Codec) -> Result<Revision, OpenError> {
    let name = path.display().to_string();
    let doing = || OpenError::io(format!("write {name}"));
    let mut copying = engine.copying_now()?;
    let revision = copying.revision();
    let header = Header { store: name_store()?, sequence: 0, revision, frame: 1 };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Of a name that nobody else has, and gone unless it is given the right one.
    let unfinished = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder).map_err(doing())?;
    let file = Box::new(Written(unfinished.as_file().try_clone().map_err(doing())?));
    let target = Target { file, name: &name, kind: Kind::Saved, header, reserve: None };
    snapshot::write_entries(engine, codec, target, &mut copying, &AtomicBool::new(false))?;
    unfinished.persist(path).map_err(|failed| doing()(failed.error))?;
    sync_folder(folder).map_err(doing())?;
    Ok(revision)
}

/// The state in a file.
pub(in crate::backend) fn read<V: Value>(path: &Path, options: &Options) -> Result<State<V>, OpenError> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(OpenError::io(format!("read {name}")))?;
    snapshot::read(Box::new(file), &name, Kind::Saved, options).map(|(state, ..)| state)
}

/// Writes all that one store has into another one of any kind, by commits, so at new revisions. Leases are
/// granted anew, for what was left of them. Returns the revision of the last commit.
///
/// # Errors
/// [`CommitError::Conflict`] for a key that is there already; what was written by then stays.
pub async fn load<V: Value, S: Store<V> + ?Sized>(
    from: &Memory<V>,
    to: &S,
) -> Result<Revision, CommitError<V>> {
    let (mut leases, mut last) = (BTreeMap::<LeaseId, LeaseId>::new(), Revision::ZERO);
    let (mut txn, mut bytes) = (Txn::new(), 0);
    let limits = to.limits();
    for entry in from.list(&Prefix::all(), ListOptions::default()).await?.entries {
        let encoded = entry.value.encode();
        let encoded = encoded.map_err(|source| StoreError::Codec { key: entry.key.clone(), source })?;
        let more = encoded.len() + entry.key.as_str().len();
        if txn.ops.len() * 2 + 2 > limits.operations || bytes + more > limits.transaction_bytes / 2 {
            if !txn.ops.is_empty() {
                last = to.commit(std::mem::take(&mut txn)).await?.revision;
            }
            bytes = 0;
        }
        let lease = match entry.lease {
            None => None,
            Some(old) => match leases.get(&old) {
                Some(new) => Some(*new),
                None => {
                    let new = to.grant(from.time_to_live(old).await?.remaining).await?.id;
                    leases.insert(old, new);
                    Some(new)
                }
            },
        };
        bytes += more;
        txn.checks.push(Check::Absent(entry.key.clone()));
        txn.ops.push(Op::Put { key: entry.key, value: entry.value, lease });
    }
    if !txn.ops.is_empty() {
        last = to.commit(txn).await?.revision;
    }
    Ok(last)
}
