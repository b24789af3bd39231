//! What the server knows of each resource: [`Definition`] values. Routes, discovery, OpenAPI, tables,
//! watch and RBAC names all derive from them; nothing else in rkube matches on the name of a kind.
//!
//! A kind of the server is one file in `kinds/` that builds a `Definition`; a host program or a custom
//! resource adds one at run time with [`Registry::add`].

mod age;
mod answer;
mod builder;
mod definition;
pub mod discovery;
mod fingerprint;
pub mod openapi;
mod snapshot;
mod table;

pub use age::human_duration;
pub use answer::{AnswerFn, Oracle};

pub use builder::Builder;
pub use definition::{
    Cell, Column, ColumnFn, Convert, Decode, Definition, Face, FieldFn, Hook, Hook2, Names, Scale, Scope,
    Selectable, StatusStrategy, Strategy, Subresource, SubresourceKind, ValidateFn, ValidateUpdateFn,
    Version,
};
pub use fingerprint::fingerprint;
pub use snapshot::{Registry, RegistryError, Resolved, Snapshot};
pub use table::{Include, Table, partial_metadata};
