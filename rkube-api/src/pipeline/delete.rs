//! Delete and deletecollection: preconditions, grace, finalizers, propagation.
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Status, StatusDetails, Time};
use rkube_store::{Change, CommitError, Entry, Key, Txn};

use super::{
    call::{Call, commit_error, store_error},
    create::ATTEMPTS,
    decode, managed, read,
    strategy::held,
};
use crate::{
    admission::{self, AdmissionRequest, Operation},
    error::ApiError,
    meta::{
        ErrorList, FieldError, FieldPath,
        object_meta::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN},
    },
    object::Object,
    registry::Definition,
    request::{ApiResponse, Body},
};

/// Deletes the object that the request names, or begins to.
pub(super) async fn delete(call: &Call<'_>, body: Body) -> Result<ApiResponse, ApiError> {
    let options = decode::delete_options(body)?;
    check_options(&options)?;
    let wanted = Wanted { options: &options, dry_run: dry_run(call, &options), admit: true };
    let key = call.key()?;
    let mut warnings = Vec::new();
    match remove(call, &key, &wanted, &mut warnings).await? {
        Removed::Gone(object) if !call.definition().strategy.returns_deleted => {
            Ok(ApiResponse::Status { status: Box::new(done(call, &object)), warnings })
        }
        Removed::Gone(object) | Removed::Pending(object) => {
            Ok(ApiResponse::Object { object: call.outgoing(object)?, code: 200, warnings })
        }
    }
}

/// Deletes all that the request selects.
pub(super) async fn delete_collection(call: &Call<'_>, body: Body) -> Result<ApiResponse, ApiError> {
    let options = decode::delete_options(body)?;
    check_options(&options)?;
    let wanted = Wanted { options: &options, dry_run: dry_run(call, &options), admit: true };
    let selected = read::select(call).await?;
    let mut warnings = Vec::new();
    for entry in selected.entries {
        match remove(call, &entry.key, &wanted, &mut warnings).await {
            // Somebody else was faster, which is as good.
            Ok(_) | Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let status = Status { status: Some("Success".into()), ..Status::default() };
    Ok(ApiResponse::Status { status: Box::new(status), warnings })
}

fn dry_run(call: &Call<'_>, options: &DeleteOptions) -> bool {
    call.options.dry_run || options.dry_run.as_deref().is_some_and(|list| list.iter().any(|run| run == "All"))
}

fn done(call: &Call<'_>, object: &Object) -> Status {
    let names = &call.definition().names;
    Status {
        status: Some("Success".into()),
        details: Some(StatusDetails {
            name: Some(object.name().to_owned()),
            group: (!names.group.is_empty()).then(|| names.group.clone()),
            kind: Some(names.plural.clone()),
            uid: Some(object.uid().to_owned()),
            ..StatusDetails::default()
        }),
        ..Status::default()
    }
}

fn check_options(options: &DeleteOptions) -> Result<(), ApiError> {
    let mut errors = ErrorList::default();
    let field = FieldPath::new("propagationPolicy");
    if let Some(policy) = options.propagation_policy.as_deref() {
        if options.orphan_dependents.is_some() {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&field, policy, detail));
        }
        if !["Foreground", "Background", "Orphan"].contains(&policy) {
            errors.push(FieldError::not_supported(&field, policy, &["Background", "Foreground", "Orphan"]));
        }
    }
    if let Some(runs) = options.dry_run.as_deref()
        && runs.iter().any(|run| run != "All")
    {
        errors.push(FieldError::not_supported(&FieldPath::new("dryRun"), runs, &["All"]));
    }
    read::invalid_options_of("DeleteOptions", &errors)
}

/// A delete as it is asked for.
pub(crate) struct Wanted<'a> {
    /// From the body.
    pub(crate) options: &'a DeleteOptions,
    /// Whether nothing is to be kept: URL and body can both say so.
    pub(crate) dry_run: bool,
    /// Whether admission sees it as a delete. What an eviction deletes was admitted as an eviction.
    pub(crate) admit: bool,
}

/// How a delete went.
pub(crate) enum Removed {
    /// The object is gone; this is the last that was seen of it.
    Gone(Object),
    /// Finalizers or grace hold the object.
    Pending(Object),
}

/// Deletes one object, or begins to.
pub(crate) async fn remove(
    call: &Call<'_>,
    key: &Key,
    wanted: &Wanted<'_>,
    warnings: &mut Vec<String>,
) -> Result<Removed, ApiError> {
    let Wanted { options, dry_run, admit } = *wanted;
    for _ in 0..ATTEMPTS {
        let read = call.server.store().get(key, None).await.map_err(store_error)?;
        let current = read.entry.ok_or_else(|| call.not_found())?;
        check_preconditions(call, options, &current.value)?;
        if admit {
            let old = Some(current.value.clone());
            let mut request = AdmissionRequest::new(call, Operation::Delete, old, None).dry(dry_run);
            admission::mutate(call.server.admission(), &mut request).await?;
            admission::validate(call.server.admission(), &mut request).await?;
            *warnings = request.take_warnings(std::mem::take(warnings));
        }
        let step = step(call.definition(), &current.value, options, call.server.context().clock.now());
        let done = match step {
            Step::Nothing => Some(Removed::Pending(current.value)),
            Step::Remove if dry_run => Some(Removed::Gone(current.value)),
            Step::Mark(marked) if dry_run => Some(Removed::Pending(marked)),
            Step::Remove => erase(call, key, current).await?,
            Step::Mark(marked) => mark(call, key, &current, marked).await?,
        };
        if let Some(done) = done {
            return Ok(done);
        }
    }
    Err(call.modified(call.name()))
}

/// 409 unless the object is the one, and in the state, that a delete names.
pub(crate) fn check_preconditions(
    call: &Call<'_>,
    options: &DeleteOptions,
    object: &Object,
) -> Result<(), ApiError> {
    let Some(wanted) = &options.preconditions else { return Ok(()) };
    if let Some(uid) = wanted.uid.as_deref().filter(|uid| *uid != object.uid()) {
        let message =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", object.uid());
        return Err(call.conflict(object.name(), message));
    }
    if let Some(version) = wanted.resource_version.as_deref().filter(|it| *it != object.resource_version()) {
        let message = format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
            object.resource_version()
        );
        return Err(call.conflict(object.name(), message));
    }
    Ok(())
}

/// What one delete does to an object.
enum Step {
    /// Its deletion is under way already, and nothing changes.
    Nothing,
    /// It goes now.
    Remove,
    /// It stays, marked.
    Mark(Object),
}

/// Decides what a delete does. Pure.
fn step(definition: &Definition, object: &Object, options: &DeleteOptions, now: Time) -> Step {
    let meta = object.meta();
    let grace = match grace(definition, object, options) {
        Grace::Pending => return Step::Nothing,
        Grace::Seconds(seconds) => seconds,
    };
    let finalizers = finalizers(meta.finalizers.as_deref().unwrap_or_default(), options);
    let held = !finalizers.is_empty() || held(definition, object);
    if grace == 0 && !held {
        return Step::Remove;
    }
    let mut marked = object.clone();
    managed::kept(&mut marked, object);
    let meta = marked.meta_mut();
    meta.finalizers = (!finalizers.is_empty()).then_some(finalizers);
    let first = meta.deletion_timestamp.is_none();
    // The time by which the object is to be gone; it counts from the first delete.
    let began = match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
        (Some(end), Some(grace)) => minus(end, grace),
        (Some(end), None) => end.clone(),
        (None, _) => now,
    };
    meta.deletion_timestamp = Some(plus(&began, grace));
    meta.deletion_grace_period_seconds = Some(grace);
    if first && let Some(generation) = meta.generation {
        meta.generation = Some(generation + 1);
    }
    if first && let Some(begin) = &definition.strategy.begin_deletion {
        begin(&mut marked);
    }
    if marked == *object { Step::Nothing } else { Step::Mark(marked) }
}

enum Grace {
    /// The period that runs already is as short as the one asked for.
    Pending,
    /// The object has so many seconds.
    Seconds(i64),
}

fn grace(definition: &Definition, object: &Object, options: &DeleteOptions) -> Grace {
    let Some(period) = &definition.strategy.grace_period else { return Grace::Seconds(0) };
    let meta = object.meta();
    if meta.deletion_timestamp.is_some() {
        let running = meta.deletion_grace_period_seconds.unwrap_or_default();
        return match (running, options.grace_period_seconds) {
            (0, _) => Grace::Seconds(0),
            // Never longer, only shorter.
            (running, Some(asked)) if asked < running => Grace::Seconds(non_negative(asked)),
            _ => Grace::Pending,
        };
    }
    Grace::Seconds(non_negative(period(object, options.grace_period_seconds)))
}

/// A negative period means at once, but in order: one second.
fn non_negative(seconds: i64) -> i64 {
    if seconds < 0 { 1 } else { seconds }
}

fn plus(time: &Time, seconds: i64) -> Time {
    Time(time.0.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(time.0))
}

fn minus(time: &Time, seconds: i64) -> Time {
    plus(time, seconds.saturating_neg())
}

/// The finalizers of an object once the propagation policy has added and removed its own.
fn finalizers(now: &[String], options: &DeleteOptions) -> Vec<String> {
    let has = |name: &str| now.iter().any(|finalizer| finalizer == name);
    let (orphan, foreground) = match (options.orphan_dependents, options.propagation_policy.as_deref()) {
        (Some(orphan), _) => (orphan, false),
        (None, Some(policy)) => (policy == "Orphan", policy == "Foreground"),
        (None, None) => (has(FINALIZER_ORPHAN), has(FINALIZER_FOREGROUND) && !has(FINALIZER_ORPHAN)),
    };
    let wanted = [(FINALIZER_ORPHAN, orphan), (FINALIZER_FOREGROUND, foreground)];
    let stays = |name: &String| wanted.iter().all(|(own, keep)| name != own || *keep);
    let mut finalizers: Vec<String> = now.iter().filter(|name| stays(name)).cloned().collect();
    for (own, add) in wanted {
        if add && !has(own) {
            finalizers.push(own.to_owned());
        }
    }
    finalizers
}

async fn erase(call: &Call<'_>, key: &Key, current: Entry<Object>) -> Result<Option<Removed>, ApiError> {
    let reserved = call.server.reserve(call, Some(&current.value), None).await?;
    let txn = Txn::delete(key, current.mod_revision).and(reserved);
    match call.server.store().commit(txn).await {
        Ok(committed) => {
            let last = committed.changes.into_iter().next().and_then(|change| match change {
                Change::Delete { last, .. } => last,
                Change::Put { .. } => None,
            });
            Ok(Some(Removed::Gone(last.unwrap_or(current.value))))
        }
        Err(CommitError::Conflict(_)) => Ok(None),
        Err(error) => Err(commit_error(error)),
    }
}

async fn mark(
    call: &Call<'_>,
    key: &Key,
    current: &Entry<Object>,
    mut marked: Object,
) -> Result<Option<Removed>, ApiError> {
    let reserved = call.server.reserve(call, Some(&current.value), Some(&mut marked)).await?;
    call.fit(&mut marked)?;
    let mut txn = Txn::update(key, marked, current.mod_revision);
    if let Some(lease) = current.lease {
        txn = txn.lease(lease);
    }
    match call.server.store().commit(txn.and(reserved)).await {
        Ok(committed) => match committed.changes.into_iter().next() {
            Some(Change::Put { entry, .. }) => Ok(Some(Removed::Pending(entry.value))),
            _ => Err(ApiError::internal("the store changed nothing")),
        },
        Err(CommitError::Conflict(_)) => Ok(None),
        Err(error) => Err(commit_error(error)),
    }
}

/// How long a lease of the store may be shared by objects that are written one after the other.
pub(super) const LEASE_SHARED: Duration = Duration::from_secs(60);
