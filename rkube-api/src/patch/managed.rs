//! managedFields: the book of who set which field, kept on every write (KEP-555).
//!
//! Entries are kept by manager, operation, version and subresource. A write takes the fields it changed from
//! all others; an entry that owns nothing goes; its time moves only when it gained or lost something by its
//! own write.
//!
//! ```
//! use rkube_api::fields::schema_of;
//! use rkube_api::patch::managed::{self, Writer};
//! use serde_json::json;
//! let schema = schema_of("io.k8s.api.core.v1.ConfigMap").expect("a config map").root();
//! let now = jiff::Timestamp::UNIX_EPOCH;
//! let writer = Writer { manager: "kubectl-create", api_version: "v1", subresource: "", now, ignored: None };
//! let created = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}});
//! let entries = managed::update(None, &created, Vec::new(), schema, &writer);
//! assert_eq!(entries[0].manager.as_deref(), Some("kubectl-create"));
//! assert_eq!(entries[0].fields_v1.as_ref().unwrap().0, json!({"f:data": {".": {}, "f:a": {}}}));
//! ```

use std::sync::LazyLock;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, Time};
use serde_json::{Map, Value};

use super::compare::{Comparison, compare};
use super::field_set::FieldSet;
use crate::fields::{Kind, SchemaRef};

/// As many managers that update are kept apart; the oldest are put together past that.
pub const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Fields that no manager owns: they are the server's, or name the object.
static SERVER_FIELDS: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of_paths(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

/// Who writes, how and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager; empty is `unknown`.
    pub manager: &'a str,
    /// The version it writes in, such as `apps/v1`.
    pub api_version: &'a str,
    /// The subresource it writes to, or empty.
    pub subresource: &'a str,
    /// The wall time.
    pub now: Timestamp,
    /// Fields that this write can't change, because the strategy resets them (`status` on the main resource).
    pub ignored: Option<&'a FieldSet>,
}

/// What an entry's manager did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// One entry, with its set read.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: Option<Time>,
    pub(super) set: FieldSet,
}

impl Owner {
    pub(super) fn new(writer: &Writer<'_>, operation: Operation, set: FieldSet) -> Self {
        let manager = if writer.manager.is_empty() { "unknown" } else { writer.manager };
        Owner {
            manager: manager.to_string(),
            operation,
            api_version: writer.api_version.to_string(),
            subresource: writer.subresource.to_string(),
            time: Some(Time(writer.now)),
            set,
        }
    }

    /// Is it the same entry? Appliers are the same whatever the version.
    pub(super) fn is(&self, other: &Owner) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    fn seconds(&self) -> i64 {
        self.time.as_ref().map_or(0, |t| t.0.as_second())
    }

    /// As messages name it.
    pub(super) fn shown(&self) -> String {
        let mut text = crate::meta::validation::go_quoted(&self.manager);
        if !self.subresource.is_empty() {
            let subresource = crate::meta::validation::go_quoted(&self.subresource);
            text.push_str(&format!(" with subresource {subresource}"));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// Why the entries of an object can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManagedError {
    /// The operation is neither.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// No version.
    #[error("apiVersion must not be empty")]
    ApiVersion,
    /// No type of fields.
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    /// An unknown type of fields.
    #[error("invalid fieldsType {0:?} in managed fields entry {1}")]
    FieldsType(String, usize),
    /// The set can't be read.
    #[error("error decoding set: {0}")]
    Set(#[from] super::field_set::FieldSetError),
}

pub(super) fn decode(entries: &[ManagedFieldsEntry]) -> Result<Vec<Owner>, ManagedError> {
    let read = |(i, entry): (usize, &ManagedFieldsEntry)| {
        let text = |v: &Option<String>| v.clone().unwrap_or_default();
        let operation = match entry.operation.as_deref() {
            Some("Apply") => Operation::Apply,
            Some("Update") => Operation::Update,
            _ => return Err(ManagedError::Operation),
        };
        let api_version = text(&entry.api_version);
        if api_version.is_empty() {
            return Err(ManagedError::ApiVersion);
        }
        match entry.fields_type.as_deref().unwrap_or_default() {
            "FieldsV1" => {}
            "" => return Err(ManagedError::NoFieldsType(i)),
            other => return Err(ManagedError::FieldsType(other.to_string(), i)),
        }
        let set = match &entry.fields_v1 {
            Some(fields) => FieldSet::from_json(&fields.0)?,
            None => FieldSet::default(),
        };
        Ok(Owner {
            manager: text(&entry.manager),
            operation,
            api_version,
            subresource: text(&entry.subresource),
            time: entry.time.clone(),
            set,
        })
    };
    entries.iter().enumerate().map(read).collect()
}

/// The entries in the order in which they are stored.
pub(super) fn encode(mut owners: Vec<Owner>) -> Vec<ManagedFieldsEntry> {
    owners.retain(|owner| !owner.set.is_empty());
    owners.sort_by(|a, b| {
        (a.operation, a.seconds(), &a.manager, &a.api_version, &a.subresource).cmp(&(
            b.operation,
            b.seconds(),
            &b.manager,
            &b.api_version,
            &b.subresource,
        ))
    });
    let entry = |owner: Owner| ManagedFieldsEntry {
        api_version: Some(owner.api_version),
        fields_type: Some("FieldsV1".to_string()),
        fields_v1: Some(FieldsV1(owner.set.to_json())),
        manager: Some(owner.manager).filter(|m| !m.is_empty()),
        operation: Some(match owner.operation {
            Operation::Apply => "Apply".to_string(),
            Operation::Update => "Update".to_string(),
        }),
        subresource: Some(owner.subresource).filter(|s| !s.is_empty()),
        time: owner.time,
    };
    owners.into_iter().map(entry).collect()
}

/// The entries a write starts from: those the client sent if they can be read, else the live object's.
/// Through a subresource the client can't change them. A single empty entry clears them all.
#[must_use]
pub fn starting_entries(
    live: &[ManagedFieldsEntry],
    sent: &[ManagedFieldsEntry],
    subresource: bool,
) -> Vec<ManagedFieldsEntry> {
    let readable = |entries: &[ManagedFieldsEntry]| decode(entries).is_ok_and(|e| !e.is_empty());
    match sent {
        _ if subresource => {}
        [only] if *only == ManagedFieldsEntry::default() => return Vec::new(),
        sent if readable(sent) => return sent.to_vec(),
        _ => {}
    }
    if readable(live) { live.to_vec() } else { Vec::new() }
}

/// The entries after a create (`live` is none) or an update.
#[must_use]
pub fn update(
    live: Option<&Value>,
    new: &Value,
    entries: Vec<ManagedFieldsEntry>,
    schema: SchemaRef<'_>,
    writer: &Writer<'_>,
) -> Vec<ManagedFieldsEntry> {
    if live.is_some() && entries.is_empty() {
        // Nobody keeps the book of this object: it was cleared. It starts anew with the first apply.
        return Vec::new();
    }
    let Ok(mut owners) = decode(&entries) else { return Vec::new() };
    let empty;
    let live = match live {
        Some(live) => live,
        None => {
            empty = blank(schema);
            &empty
        }
    };
    let mut changes = compare(live, new, schema);
    if let Some(ignored) = writer.ignored {
        changes = changes.without(ignored);
    }
    if changes.is_empty() {
        return entries;
    }
    record(&mut owners, &changes, writer);
    cap(&mut owners);
    encode(owners)
}

/// Takes what changed from all owners and gives it to the writer.
fn record(owners: &mut Vec<Owner>, changes: &Comparison, writer: &Writer<'_>) {
    disown(owners, changes);
    let mut taken = changes.added.clone();
    taken.add(&changes.modified);
    let taken = taken.difference(&SERVER_FIELDS);
    if taken.is_empty() {
        return;
    }
    let owner = Owner::new(writer, Operation::Update, taken);
    match owners.iter_mut().find(|o| o.is(&owner)) {
        Some(mine) => {
            mine.set.add(&owner.set);
            mine.time = owner.time;
        }
        None => owners.push(owner),
    }
}

/// All owners lose what changed.
pub(super) fn disown(owners: &mut [Owner], changes: &Comparison) {
    for owner in owners {
        for lost in [&changes.added, &changes.modified, &changes.removed] {
            owner.set = owner.set.difference(lost);
        }
    }
}

/// What is the server's leaves a set.
pub(super) fn without_server_fields(set: &FieldSet) -> FieldSet {
    set.difference(&SERVER_FIELDS)
}

/// Puts the oldest updaters together while there are too many: one bucket a version.
fn cap(owners: &mut Vec<Owner>) {
    owners.retain(|owner| !owner.set.is_empty());
    let mut updaters: Vec<usize> =
        (0..owners.len()).filter(|i| owners[*i].operation == Operation::Update).collect();
    let mut count = updaters.len();
    updaters.sort_by(|a, b| {
        let order = |i: usize| (owners[i].seconds(), &owners[i].manager, &owners[i].subresource);
        order(*a).cmp(&order(*b))
    });
    let mut first_of: Vec<usize> = Vec::new();
    for i in updaters {
        if count <= MAX_UPDATE_MANAGERS {
            break;
        }
        let version = owners[i].api_version.clone();
        match first_of.iter().copied().find(|first| owners[*first].api_version == version) {
            None => first_of.push(i),
            Some(first) => {
                let (set, time) = (std::mem::take(&mut owners[i].set), owners[i].time.clone());
                let bucket = &mut owners[first];
                bucket.set.add(&set);
                bucket.time = time;
                bucket.manager = ANCIENT.to_string();
                bucket.subresource = String::new();
                count -= 1;
            }
        }
    }
}

/// An object as Go writes an empty one: structs are there, lists that must be there are null. What is new
/// against it is what the creator set.
pub(super) fn blank(schema: SchemaRef<'_>) -> Value {
    fn build(schema: SchemaRef<'_>, depth: usize) -> Value {
        let mut map = Map::new();
        if let Kind::Object(object) = schema.kind() {
            for (name, field) in &object.fields {
                let Some(child) = schema.child(name) else { continue };
                let always = field.default.as_ref().is_some_and(Value::is_object);
                let list = matches!(child.kind(), Kind::List { .. } | Kind::Map { .. });
                if always && depth > 0 {
                    map.insert(name.clone(), build(child, depth - 1));
                } else if list && object.required.contains(name) {
                    map.insert(name.clone(), Value::Null);
                }
            }
        }
        Value::Object(map)
    }
    // No type holds itself by value, so the depth only guards against a wrong fact.
    build(schema, 16)
}

#[cfg(test)]
#[path = "managed_tests.rs"]
mod tests;
