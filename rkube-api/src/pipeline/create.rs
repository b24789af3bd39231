//! Create.

use rkube_store::{CommitError, Txn};

use super::{
    answer,
    call::{Call, commit_error},
    decode, keys,
    managed::{self, Managed},
    strategy,
};
use crate::{
    admission::{self, AdmissionRequest, Guard, Operation},
    error::ApiError,
    object::Object,
    request::{ApiResponse, Body},
};

/// How often a write is tried anew because another writer came in between.
pub(crate) const ATTEMPTS: usize = 100;

/// Makes an object from the body of a request.
pub(super) async fn create(call: &Call<'_>, body: Body) -> Result<ApiResponse, ApiError> {
    if let Some(answer) = &call.definition().answer {
        return Box::pin(answer::answer(call, body, answer)).await;
    }
    let decode::Decoded { mut object, mut warnings } = decode::object(call, body)?;
    decode::place_new(call, &mut object)?;
    let managed = Managed::Track(managed::sent(&mut object));
    let object = insert(call, object, managed, &mut warnings).await?;
    Ok(ApiResponse::Object { object: call.outgoing(object)?, code: 201, warnings })
}

/// Why an attempt at a create is to be made again.
enum Again {
    /// The generated name is taken.
    Name,
    /// What the server keeps besides the object (an address) has changed.
    Record,
}

/// Puts a decoded object through admission, strategy and the store.
pub(crate) async fn insert(
    call: &Call<'_>,
    object: Object,
    managed: Managed,
    warnings: &mut Vec<String>,
) -> Result<Object, ApiError> {
    let generate = strategy::wants_name(object.meta());
    // An attempt consumes the object; a copy is kept only where there can be a second one.
    let retries = generate || call.server.reserves(call.definition());
    let mut names = strategy::NAME_ATTEMPTS;
    let mut spare = Some(object);
    for _ in 0..ATTEMPTS {
        let kept = if retries { spare.clone() } else { None };
        let Some(mut object) = spare.take() else { break };
        spare = kept;
        if generate {
            let prefix = object.meta().generate_name.clone().unwrap_or_default();
            let name = strategy::generated_name(&prefix, |length| call.server.context().rng.suffix(length));
            object.meta_mut().name = Some(name);
        }
        let name = object.name().to_owned();
        match attempt(call, object, managed.clone(), warnings).await? {
            Ok(object) => return Ok(object),
            Err(Again::Record) => {}
            Err(Again::Name) => {
                names -= 1;
                if !generate || names == 0 {
                    return Err(call.already_exists(&name));
                }
            }
        }
    }
    Err(ApiError::Timeout { message: "the create met other writers each time it was tried".into() })
}

async fn attempt(
    call: &Call<'_>,
    object: Object,
    managed: Managed,
    warnings: &mut Vec<String>,
) -> Result<Result<Object, Again>, ApiError> {
    let (server, definition) = (call.server, call.definition());
    let mut request = AdmissionRequest::new(call, Operation::Create, None, Some(object));
    admission::mutate(server.admission(), &mut request).await?;
    let guards = request.take_guards();
    let (mut object, undo) = request.admitted()?;
    let context = server.context();
    strategy::prepare_create(definition, &mut object, context.rng.uid().to_string(), context.clock.now());
    managed::created(call, &mut object, managed, undo);
    let txn = server.reserve(call, None, Some(&mut object)).await?;
    let errors = definition.validate_create(&object);
    if !errors.is_empty() {
        return Err(call.invalid(object.name(), &errors));
    }
    let mut request = AdmissionRequest::new(call, Operation::Create, None, Some(object));
    admission::validate(server.admission(), &mut request).await?;
    *warnings = request.take_warnings(std::mem::take(warnings));
    let object = request.take_object()?;
    strategy::warn(definition, &object, warnings);
    let key = keys::object(definition, object.namespace(), object.name());
    if call.options.dry_run {
        let taken = server.store().get(&key, None).await.map_err(super::call::store_error)?.entry.is_some();
        return if taken { Ok(Err(Again::Name)) } else { Ok(Ok(object)) };
    }
    commit(call, key, object, txn, guards).await
}

async fn commit(
    call: &Call<'_>,
    key: rkube_store::Key,
    mut object: Object,
    reserved: Txn<Object>,
    guards: Vec<Guard>,
) -> Result<Result<Object, Again>, ApiError> {
    call.fit(&mut object)?;
    let name = object.name().to_owned();
    let mut txn = Txn::create(key.clone(), object);
    if let Some(time) = call.definition().time_to_live {
        txn = txn.lease(call.server.lease(time).await?);
    }
    txn = txn.and(reserved);
    let first_guard = txn.checks.len();
    let (checks, refusals): (Vec<_>, Vec<_>) = guards.into_iter().map(|it| (it.check, it.refusal)).unzip();
    txn.checks.extend(checks);
    match call.server.store().commit(txn).await {
        Ok(committed) => match committed.changes.into_iter().next() {
            Some(rkube_store::Change::Put { entry, .. }) => Ok(Ok(entry.value)),
            _ => Err(ApiError::internal("the store created nothing")),
        },
        Err(CommitError::Conflict(conflict)) if conflict.key == key => Ok(Err(Again::Name)),
        Err(CommitError::Conflict(conflict)) => {
            let refusal = conflict.check.checked_sub(first_guard).and_then(|at| refusals.get(at));
            match refusal {
                Some(refusal) => Err(refusal(call, &name)),
                None => Ok(Err(Again::Record)),
            }
        }
        Err(error) => Err(commit_error(error)),
    }
}
