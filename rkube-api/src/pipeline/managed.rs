//! managedFields on every write, computed when somebody asks (KEP-555).

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

use super::call::{Call, outgoing};
use crate::{
    error::ApiError,
    fields::Schema,
    object::{Body, Object},
    patch::{
        FieldSet,
        managed::{self, Writer},
    },
    registry::{Resolved, SubresourceKind},
};

/// Takes back in a JSON value what admission added, which nobody owns.
pub(crate) type Undo = Box<dyn Fn(&mut Value) + Send + Sync>;

/// What a write does to managedFields.
#[derive(Clone)]
pub(crate) enum Managed {
    /// What differs becomes the writer's; the user may have sent entries of his own to start from.
    Track(Vec<ManagedFieldsEntry>),
    /// They are known (apply).
    Set(Vec<ManagedFieldsEntry>),
}

/// Takes out of an object the entries that the user sent with it.
pub(super) fn sent(object: &mut Object) -> Vec<ManagedFieldsEntry> {
    if object.meta().managed_fields.is_none() {
        return Vec::new();
    }
    object.meta_mut().managed_fields.take().unwrap_or_default()
}

/// The schema of a version of a resource.
pub(super) fn schema(resource: &Resolved) -> SchemaOf {
    let version = resource.version();
    if let Some(schema) = version.type_name.as_deref().and_then(crate::fields::schema_of) {
        return SchemaOf::Known(schema);
    }
    SchemaOf::Own(version.compiled.clone().unwrap_or_else(|| Arc::new(Schema::any())))
}

/// A schema, of the table of types or made for a custom kind.
pub(super) enum SchemaOf {
    Known(&'static Schema),
    Own(Arc<Schema>),
}

impl std::ops::Deref for SchemaOf {
    type Target = Schema;
    fn deref(&self) -> &Schema {
        match self {
            Self::Known(schema) => schema,
            Self::Own(schema) => schema,
        }
    }
}

/// Who writes, kept for later.
struct Author {
    resource: Resolved,
    manager: String,
    subresource: Option<String>,
    now: Timestamp,
    undo: Vec<Undo>,
}

impl Author {
    fn of(call: &Call<'_>, undo: Vec<Undo>) -> Self {
        Self {
            resource: call.resource.clone(),
            manager: call.manager().to_owned(),
            subresource: call.subresource().map(Into::into),
            now: call.server.context().clock.now().0,
            undo,
        }
    }

    /// The entries after this write.
    fn entries(
        &self,
        before: Option<&Object>,
        body: &dyn Body,
        sent: &[ManagedFieldsEntry],
    ) -> Vec<ManagedFieldsEntry> {
        let schema = schema(&self.resource);
        let api_version = self.resource.api_version();
        let subresource = self.subresource.as_deref().unwrap_or_default();
        let writer = Writer {
            manager: &self.manager,
            api_version: &api_version,
            subresource,
            now: self.now,
            ignored: ignored(&self.resource, self.subresource.as_deref()),
        };
        let computed = (|| -> Result<Vec<ManagedFieldsEntry>, ApiError> {
            let mut new = outgoing(&self.resource, Object::from_arc(body.duplicate()))?.body().to_value()?;
            self.undo.iter().for_each(|undo| undo(&mut new));
            let old = match before {
                Some(before) => Some(plain(&self.resource, before)?),
                None => None,
            };
            let live = before.map(Object::managed_fields).unwrap_or_default();
            let start = managed::starting_entries(live, sent, self.subresource.is_some());
            Ok(managed::update(old.as_ref(), &new, start, schema.root(), &writer))
        })();
        computed.unwrap_or_else(|error| {
            tracing::error!(%error, "managedFields could not be computed");
            before.map(Object::managed_fields).unwrap_or_default().to_vec()
        })
    }
}

/// The object in the version asked for as JSON, without managedFields.
pub(super) fn plain(resource: &Resolved, object: &Object) -> Result<Value, ApiError> {
    match &resource.version().from_hub {
        None => Ok(object.body().to_value()?),
        Some(convert) => Ok(convert(Object::from_arc(object.body().duplicate()))?.body().to_value()?),
    }
}

/// What a write through this door cannot change.
fn ignored(resource: &Resolved, subresource: Option<&str>) -> Option<&'static FieldSet> {
    static STATUS: LazyLock<FieldSet> = LazyLock::new(|| FieldSet::of_paths(&[&["status"]]));
    static SPEC: LazyLock<FieldSet> = LazyLock::new(|| FieldSet::of_paths(&[&["spec"]]));
    let definition = &resource.definition;
    match subresource.map(|name| definition.subresource(name).map(|found| &found.kind)) {
        None => definition.status().map(|_| &*STATUS),
        Some(Some(SubresourceKind::Status(_))) => Some(&SPEC),
        Some(_) => Some(&STATUS),
    }
}

/// Who may write what an apply through this door wants.
pub(super) fn writer<'a>(call: &'a Call<'_>, api_version: &'a str) -> Writer<'a> {
    Writer {
        manager: call.manager(),
        api_version,
        subresource: call.subresource().unwrap_or_default(),
        now: call.server.context().clock.now().0,
        ignored: ignored(&call.resource, call.subresource()),
    }
}

/// Has managedFields of a new object computed when somebody asks, or now.
pub(super) fn created(call: &Call<'_>, object: &mut Object, managed: Managed, undo: Vec<Undo>) {
    match managed {
        Managed::Set(entries) => object.keep_managed_fields(entries),
        Managed::Track(sent) => {
            let author = Author::of(call, undo);
            object.set_lazy_managed_fields(sent, move |body, sent| author.entries(None, body, sent));
        }
    }
}

/// Has managedFields of a changed object computed when somebody asks.
pub(super) fn changed(call: &Call<'_>, object: &mut Object, old: &Object, managed: Managed, undo: Vec<Undo>) {
    match managed {
        Managed::Set(entries) => object.keep_managed_fields(entries),
        Managed::Track(sent) => {
            let author = Author::of(call, undo);
            let entries = move |old: &_, body: &_, sent: &_| author.entries(Some(old), body, sent);
            object.set_lazy_managed_fields_after(old, sent, entries);
        }
    }
}

/// Leaves managedFields as they were.
pub(super) fn kept(object: &mut Object, old: &Object) {
    let entries = |old: &Object, _: &_, _: &_| old.managed_fields().to_vec();
    object.set_lazy_managed_fields_after(old, Vec::new(), entries);
}
