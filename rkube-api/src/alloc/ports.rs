//! Ports on nodes: blocks of ports, a record each, which names those that are taken. A service with many
//! ports so needs few records, and a transaction few operations.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use rkube_store::{Check, Key, Op, Revision, Txn};
use serde_json::{Map, Value, json};

use crate::{
    error::ApiError,
    object::{Dynamic, Object},
    pipeline::Reader,
};

/// How many ports share a record. All servers on one store must agree.
const BLOCK: u16 = 128;

/// The taken ports, as one attempt of a write sees and changes them. Blocks are read when they are needed.
pub(super) struct Ports<'a> {
    reader: &'a Reader,
    blocks: BTreeMap<u16, Block>,
}

/// A block as it was read, and what is to become of it.
#[derive(Default)]
struct Block {
    revision: Option<Revision>,
    was: BTreeSet<u16>,
    taken: BTreeSet<u16>,
}

impl<'a> Ports<'a> {
    pub(super) fn new(reader: &'a Reader) -> Self {
        Self { reader, blocks: BTreeMap::new() }
    }

    async fn block(&mut self, port: u16) -> Result<&mut Block, ApiError> {
        let number = port / BLOCK;
        let known = self.blocks.contains_key(&number);
        if !known {
            let block = match self.reader.entry(&key(number)).await? {
                Some(entry) => {
                    let taken = read(&entry.value)?;
                    Block { revision: Some(entry.mod_revision), was: taken.clone(), taken }
                }
                None => Block::default(),
            };
            self.blocks.insert(number, block);
        }
        Ok(self.blocks.entry(number).or_default())
    }

    /// Whether a port is taken, by anybody or in this attempt.
    pub(super) async fn is_taken(&mut self, port: u16) -> Result<bool, ApiError> {
        Ok(self.block(port).await?.taken.contains(&port))
    }

    /// Takes a port, which is free.
    pub(super) async fn take(&mut self, port: u16) -> Result<(), ApiError> {
        self.block(port).await?.taken.insert(port);
        Ok(())
    }

    /// Gives a port back.
    pub(super) async fn give(&mut self, port: u16) -> Result<(), ApiError> {
        self.block(port).await?.taken.remove(&port);
        Ok(())
    }

    /// A free port of a range in the blocks that were read already.
    pub(super) fn near(&self, range: &RangeInclusive<u16>, used: impl Fn(u16) -> bool) -> Option<u16> {
        let mut ports = self.blocks.iter().flat_map(|(number, block)| {
            let first = number * BLOCK;
            (first..=first + (BLOCK - 1)).filter(|port| !block.taken.contains(port))
        });
        ports.find(|port| range.contains(port) && !used(*port))
    }

    /// Adds to a transaction what has changed; it fails if somebody else has changed the same blocks.
    pub(super) fn write(self, txn: &mut Txn<Object>) {
        for (number, block) in self.blocks {
            if block.taken == block.was {
                continue;
            }
            let key = key(number);
            txn.checks.push(match block.revision {
                Some(revision) => Check::Unchanged { key: key.clone(), revision },
                None => Check::Absent(key.clone()),
            });
            txn.ops.push(match block.taken.is_empty() {
                true => Op::Delete { key },
                false => Op::Put { key, value: record(number, &block.taken), lease: None },
            });
        }
    }
}

fn key(number: u16) -> Key {
    Key::new(format!("/registry/ranges/servicenodeports/{}", number * BLOCK))
}

fn record(number: u16, taken: &BTreeSet<u16>) -> Object {
    let mut record = Dynamic {
        api_version: "internal.rkube.io/v1".into(),
        kind: "PortBlock".into(),
        metadata: Default::default(),
        fields: Map::from_iter([("spec".to_owned(), json!({"taken": taken}))]),
    };
    record.metadata.name = Some((number * BLOCK).to_string());
    Object::new(record)
}

fn read(record: &Object) -> Result<BTreeSet<u16>, ApiError> {
    let value = record.to_value()?;
    let taken = value.pointer("/spec/taken").cloned().unwrap_or(Value::Null);
    serde_json::from_value(taken)
        .map_err(|error| ApiError::internal(format!("a record of node ports cannot be read: {error}")))
}
