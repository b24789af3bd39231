//! Reservations: what a write takes or gives back besides its object (a Service's address), committed in
//! one transaction with it.

use async_trait::async_trait;
use rkube_store::Txn;
use serde_json::{Map, json};

use super::Reader;
use crate::{
    context::Context,
    error::ApiError,
    object::{Dynamic, Object},
};

/// What a resource takes from a pool that is kept in stored objects.
///
/// It is asked in each attempt of a write: it reads the pool's record, may change the new object, and adds
/// its checks and puts to the transaction. If another writer changes the record first, the whole write is
/// tried again. A dry run throws the transaction away, so it takes nothing.
#[async_trait]
pub trait Reservation: Send + Sync + 'static {
    /// The group and plural name of the resource that it is for.
    fn resource(&self) -> (&str, &str);

    /// Adds to the transaction of a create (`old` is absent), an update, or a delete (`new` is absent).
    async fn reserve(
        &self,
        pool: &Pool<'_>,
        old: Option<&Object>,
        new: Option<&mut Object>,
        txn: &mut Txn<Object>,
    ) -> Result<(), ApiError>;
}

/// What a reservation works with.
pub struct Pool<'a> {
    /// Reads of the present state.
    pub reader: &'a Reader,
    /// Randomness.
    pub context: &'a Context,
    /// Makes an invalid-object error: the name of the object, and what is wrong.
    pub(crate) definition: &'a crate::registry::Definition,
}

impl Pool<'_> {
    /// 422 for the object that is written.
    pub fn invalid(&self, name: &str, errors: &crate::meta::ErrorList) -> ApiError {
        self.definition.invalid(name, errors)
    }
}

/// What is stored of something taken: its name, and whose it is.
pub(crate) fn record(item: &str, resource: &str, owner: &Object) -> Object {
    let mut fields = Map::new();
    let parent = json!({"resource": resource, "namespace": owner.namespace(), "name": owner.name()});
    fields.insert("spec".into(), json!({"parentRef": parent}));
    let mut record = Dynamic {
        api_version: "internal.rkube.io/v1".into(),
        kind: "Reservation".into(),
        metadata: Default::default(),
        fields,
    };
    record.metadata.name = Some(item.to_owned());
    Object::new(record)
}
