//! Update and patch: read, change, admit, prepare, validate and commit form one loop, which runs again
//! when another writer came in between.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use rkube_store::{Change, CommitError, Entry, Key, Txn};

use super::{
    call::{Call, commit_error, store_error},
    create::{self, ATTEMPTS},
    decode,
    managed::{self, Managed},
    strategy,
};
use crate::{
    admission::{self, AdmissionRequest, Operation},
    error::ApiError,
    meta::ErrorList,
    object::Object,
    registry::{Definition, Hook2, StatusStrategy},
    request::{ApiResponse, Body},
};

/// Replaces an object, its status, or creates it where the kind allows that.
pub(crate) async fn update(call: &Call<'_>, body: Body, rules: &Rules<'_>) -> Result<ApiResponse, ApiError> {
    let decode::Decoded { mut object, warnings: decoded } = decode::object(call, body)?;
    decode::place_replacement(call, &mut object)?;
    let sent = managed::sent(&mut object);
    let mut source = Replacement::new(call, object, sent);
    let creates = call.definition().strategy.create_on_update && call.subresource().is_none();
    for _ in 0..ATTEMPTS {
        let mut warnings = decoded.clone();
        let (object, code) = match change(call, rules, &mut source, &mut warnings).await {
            Err(ApiError::NotFound { .. }) if creates => {
                match create_from(call, &source, &mut warnings).await {
                    // Another create was faster: this is an update after all.
                    Err(ApiError::AlreadyExists { .. }) => continue,
                    result => (result?, 201),
                }
            }
            result => (result?, 200),
        };
        return Ok(ApiResponse::Object { object: call.outgoing(object)?, code, warnings });
    }
    Err(call.modified(call.name()))
}

/// Creates what an update did not find.
async fn create_from(
    call: &Call<'_>,
    source: &Replacement,
    warnings: &mut Vec<String>,
) -> Result<Object, ApiError> {
    call.server.authorize_create(call).await?;
    let mut object = source.object.clone().ok_or_else(|| call.not_found())?;
    let meta = object.meta_mut();
    (meta.uid, meta.resource_version) = (None, None);
    create::insert(call, object, Managed::Track(source.sent.clone()), warnings).await
}

/// The rules by which one kind of update goes: of the main resource, or of a subresource.
pub(crate) struct Rules<'a> {
    /// Takes over from the old object what may not change.
    pub(crate) prepare: Option<&'a Hook2>,
    /// All that is wrong with the change.
    pub(crate) validate: fn(&Definition, &Object, &Object) -> ErrorList,
    /// Whether it may move the generation: a status never does, though it may carry annotations.
    pub(crate) moves_generation: bool,
}

impl<'a> Rules<'a> {
    /// Of the main resource.
    pub(crate) fn main(definition: &'a Definition) -> Self {
        Self {
            prepare: definition.strategy.prepare_update.as_ref(),
            validate: Definition::validate_update,
            moves_generation: true,
        }
    }

    /// Of the status.
    pub(crate) fn status(status: &'a StatusStrategy) -> Self {
        Self {
            prepare: status.prepare_update.as_ref(),
            validate: Definition::validate_status_update,
            moves_generation: false,
        }
    }
}

/// Where the new state of an object comes from. It is asked anew in each attempt.
pub(crate) trait Source: Send {
    /// The new state, in the hub version, of an object that is now `current`.
    fn next(&mut self, call: &Call<'_>, current: &Object) -> Result<Next, ApiError>;
}

/// A new state.
pub(crate) struct Next {
    /// The object.
    pub(crate) object: Object,
    /// What becomes of managedFields.
    pub(crate) managed: Managed,
}

/// The whole new object, from the user.
struct Replacement {
    object: Option<Object>,
    /// Whether it names the version that it replaces; then there is no second attempt.
    conditional: bool,
    /// managedFields that came with it.
    sent: Vec<ManagedFieldsEntry>,
}

impl Replacement {
    fn new(call: &Call<'_>, object: Object, sent: Vec<ManagedFieldsEntry>) -> Self {
        let conditional = !object.resource_version().is_empty()
            && !call.definition().strategy.create_on_update
            && !call.server.reserves(call.definition());
        Self { object: Some(object), conditional, sent }
    }
}

impl Source for Replacement {
    fn next(&mut self, call: &Call<'_>, current: &Object) -> Result<Next, ApiError> {
        let object = if self.conditional { self.object.take() } else { self.object.clone() };
        let object = object.ok_or_else(|| call.modified(current.name()))?;
        let version = object.resource_version();
        if version.is_empty() || version == "0" {
            if !call.definition().strategy.unconditional_update {
                let field = crate::meta::FieldPath::new("metadata");
                let field = field.child("resourceVersion");
                let error = crate::meta::FieldError::invalid(&field, 0, "must be specified for an update");
                return Err(call.invalid(current.name(), &ErrorList::from(vec![error])));
            }
        } else if version != current.resource_version() {
            return Err(call.modified(current.name()));
        }
        Ok(Next { object, managed: Managed::Track(self.sent.clone()) })
    }
}

/// Changes the object that the request names, and gives its new state in the hub version.
pub(crate) async fn change(
    call: &Call<'_>,
    rules: &Rules<'_>,
    source: &mut dyn Source,
    warnings: &mut Vec<String>,
) -> Result<Object, ApiError> {
    let key = call.key()?;
    for _ in 0..ATTEMPTS {
        let read = call.server.store().get(&key, None).await.map_err(store_error)?;
        let current = read.entry.ok_or_else(|| call.not_found())?;
        if let Some(object) = attempt(call, rules, source, &key, current, warnings).await? {
            return Ok(object);
        }
    }
    Err(call.modified(call.name()))
}

/// One attempt; `None` if another writer came in between.
async fn attempt(
    call: &Call<'_>,
    rules: &Rules<'_>,
    source: &mut dyn Source,
    key: &Key,
    current: Entry<Object>,
    warnings: &mut Vec<String>,
) -> Result<Option<Object>, ApiError> {
    let (server, definition, old) = (call.server, call.definition(), &current.value);
    let Next { object, managed } = source.next(call, old)?;
    check_uid(call, &object, old)?;
    let mut request = AdmissionRequest::new(call, Operation::Update, Some(old.clone()), Some(object));
    admission::mutate(server.admission(), &mut request).await?;
    let (mut object, undo) = request.admitted()?;
    strategy::prepare_update(definition, &mut object, old, rules.prepare);
    if !rules.moves_generation {
        object.meta_mut().generation = old.meta().generation;
    }
    let reowned = matches!(&managed, Managed::Set(entries) if *entries != *old.managed_fields())
        || matches!(&managed, Managed::Track(sent) if !sent.is_empty() && *sent != *old.managed_fields());
    managed::changed(call, &mut object, old, managed, undo);
    let txn = server.reserve(call, Some(old), Some(&mut object)).await?;
    let errors = (rules.validate)(definition, &object, old);
    if !errors.is_empty() {
        return Err(call.invalid(object.name(), &errors));
    }
    let mut request = AdmissionRequest::new(call, Operation::Update, Some(old.clone()), Some(object));
    admission::validate(server.admission(), &mut request).await?;
    *warnings = request.take_warnings(std::mem::take(warnings));
    let object = request.take_object()?;
    strategy::warn(definition, &object, warnings);
    if object == *old && !reowned && !strategy::released(definition, &object) {
        return Ok(Some(current.value));
    }
    if call.options.dry_run {
        return Ok(Some(object));
    }
    commit(call, key, &current, object, txn).await
}

fn check_uid(call: &Call<'_>, object: &Object, old: &Object) -> Result<(), ApiError> {
    if object.uid().is_empty() || object.uid() == old.uid() {
        return Ok(());
    }
    Err(call.conflict(
        old.name(),
        format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            object.uid(),
            old.uid()
        ),
    ))
}

async fn commit(
    call: &Call<'_>,
    key: &Key,
    current: &Entry<Object>,
    mut object: Object,
    reserved: Txn<Object>,
) -> Result<Option<Object>, ApiError> {
    let released = strategy::released(call.definition(), &object);
    let txn = if released {
        // The last finalizer is gone: the object goes with it.
        let reserved = call.server.reserve(call, Some(&current.value), None).await?;
        Txn::delete(key, current.mod_revision).and(reserved)
    } else {
        call.fit(&mut object)?;
        let mut txn = Txn::update(key, object, current.mod_revision);
        if let Some(time) = call.definition().time_to_live {
            txn = txn.lease(call.server.lease(time).await?);
        }
        txn.and(reserved)
    };
    match call.server.store().commit(txn).await {
        Ok(committed) => match committed.changes.into_iter().next() {
            Some(Change::Put { entry, .. }) => Ok(Some(entry.value)),
            Some(Change::Delete { last: Some(last), .. }) => Ok(Some(last)),
            _ => Err(ApiError::internal("the store changed nothing")),
        },
        Err(CommitError::Conflict(_)) => Ok(None),
        Err(error) => Err(commit_error(error)),
    }
}

/// Writes what the server itself makes of an object, past admission, strategy and managedFields.
pub(crate) async fn rewrite(
    call: &Call<'_>,
    mut edit: impl FnMut(&Object) -> Result<Object, ApiError> + Send,
) -> Result<Object, ApiError> {
    let key = call.key()?;
    for _ in 0..ATTEMPTS {
        let read = call.server.store().get(&key, None).await.map_err(store_error)?;
        let current = read.entry.ok_or_else(|| call.not_found())?;
        let mut object = edit(&current.value)?;
        managed::kept(&mut object, &current.value);
        if object == current.value {
            return Ok(object);
        }
        if call.options.dry_run {
            return Ok(object);
        }
        if let Some(object) = commit(call, &key, &current, object, Txn::new()).await? {
            return Ok(object);
        }
    }
    Err(call.modified(call.name()))
}
