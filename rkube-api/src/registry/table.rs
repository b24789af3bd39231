//! Tables: what `kubectl get` prints, made by the server from a kind's columns.
//!
//! Semantics: <https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>
//!
//! ```
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use rkube_api::{
//!     context::Clock,
//!     object::Object,
//!     registry::{Definition, Include, Table},
//! };
//!
//! let definition = Definition::of::<ConfigMap>().build();
//! let table = Table::of(&definition, Include::None, Clock::simulated().timestamp());
//! let row = table.row(&Object::new(ConfigMap::default())).unwrap();
//! assert_eq!(row["cells"][1], "<unknown>");
//! ```

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Cell, Column, Definition};
use crate::object::{Object, ObjectError};

/// What a row carries besides its cells: `includeObject`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// The object's metadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl Include {
    /// Reads the query's word; empty is the default.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "None" => Some(Self::None),
            "" | "Metadata" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// Makes rows of one kind's objects.
#[derive(Clone, Debug)]
pub struct Table {
    kind: String,
    columns: Vec<Column>,
    include: Include,
    cell: Cell,
}

impl std::fmt::Debug for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Table {
    /// The table of a kind; `now` is what ages count from.
    pub fn of(definition: &Definition, include: Include, now: Timestamp) -> Self {
        Self {
            kind: definition.names.kind.clone(),
            columns: definition.columns.clone(),
            include,
            cell: Cell { now },
        }
    }

    /// The same table at a later time.
    pub fn at(&self, now: Timestamp) -> Self {
        Self { cell: Cell { now }, ..self.clone() }
    }

    /// `columnDefinitions`.
    pub fn columns(&self) -> Value {
        self.columns
            .iter()
            .map(|column| {
                json!({
                    "name": column.name,
                    "type": column.kind,
                    "format": column.format,
                    "description": column.description,
                    "priority": column.priority,
                })
            })
            .collect()
    }

    /// The cells of an object, which is given in the kind's hub version. An object of another kind (the
    /// scale of a Deployment) has its name and age.
    pub fn cells(&self, object: &Object) -> Vec<Value> {
        if object.kind() != self.kind {
            return self.foreign_cells(object);
        }
        self.columns.iter().map(|column| (column.cell)(object, &self.cell)).collect()
    }

    /// The row of an object; see [`Table::cells`].
    pub fn row(&self, object: &Object) -> Result<Value, ObjectError> {
        let mut row = Map::new();
        row.insert("cells".into(), self.cells(object).into());
        match self.include {
            Include::None => {}
            Include::Metadata => {
                row.insert("object".into(), partial_metadata(object)?);
            }
            Include::Object => {
                row.insert("object".into(), object.to_value()?);
            }
        }
        Ok(row.into())
    }

    fn foreign_cells(&self, object: &Object) -> Vec<Value> {
        let (name, age) = (Column::name(), Column::age());
        self.columns
            .iter()
            .map(|column| match &column.name {
                same if *same == name.name => (name.cell)(object, &self.cell),
                same if *same == age.name => (age.cell)(object, &self.cell),
                _ => Value::Null,
            })
            .collect()
    }

    /// The row of a bookmark: no cells that say anything, and the version.
    pub fn bookmark_row(&self, metadata: Value) -> Value {
        let cells: Vec<Value> = self.columns.iter().map(|_| Value::Null).collect();
        match self.include {
            Include::None => json!({"cells": cells}),
            _ => json!({"cells": cells, "object": partial(metadata)}),
        }
    }

    /// The whole table. `metadata` is that of the list; no `columns` leaves them out, as in all but the
    /// first event of a watch.
    pub fn render(&self, metadata: Value, rows: Vec<Value>, columns: bool) -> Value {
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": if columns { self.columns() } else { Value::Null },
            "rows": rows,
        })
    }
}

fn partial(metadata: Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

/// An object's metadata as `PartialObjectMetadata`, managedFields included.
pub fn partial_metadata(object: &Object) -> Result<Value, ObjectError> {
    let mut meta = object.meta().clone();
    let managed = object.managed_fields();
    if meta.managed_fields.is_none() && !managed.is_empty() {
        meta.managed_fields = Some(managed.to_vec());
    }
    let metadata = serde_json::to_value(meta).map_err(|error| ObjectError::Encode {
        kind: object.kind().to_owned(),
        message: error.to_string(),
    })?;
    Ok(partial(metadata))
}
