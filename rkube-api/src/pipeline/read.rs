//! Get and list. Rules on versions: <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>

use rkube_store::{Entry, ListOptions, Prefix, Revision, StoreError};

use super::{
    call::{Call, outgoing, store_error},
    keys,
    page::Token,
    selection::Selection,
};
use crate::{
    error::{ApiError, Cause},
    meta::{ErrorList, FieldError, FieldPath},
    object::Object,
    registry::Scope,
    request::{ApiResponse, List, Options, VersionMatch},
};

/// How many entries are read from the store at once when a selector may drop most of them.
const CHUNK: usize = 1000;

/// Reads one object.
pub(crate) async fn get(call: &Call<'_>) -> Result<ApiResponse, ApiError> {
    let object = call.outgoing(read_object(call).await?)?;
    Ok(ApiResponse::Object { object, code: 200, warnings: Vec::new() })
}

/// The object that the request names, in the hub version.
pub(crate) async fn read_object(call: &Call<'_>) -> Result<Object, ApiError> {
    let read = call.server.store().get(&call.key()?, None).await.map_err(store_error)?;
    if let Some(wanted) = version(&call.options)? {
        not_older_than(wanted, read.revision)?;
    }
    Ok(read.entry.ok_or_else(|| call.not_found())?.value)
}

/// The version that was asked for; `0`, which any state meets, is none.
pub(super) fn version(options: &Options) -> Result<Option<Revision>, ApiError> {
    let text = options.resource_version.as_deref().unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let version: Revision = text
        .parse()
        .map_err(|_| ApiError::bad_request(format!("invalid resource version: Invalid value: {text:?}")))?;
    Ok((version != Revision::ZERO).then_some(version))
}

pub(super) fn not_older_than(wanted: Revision, current: Revision) -> Result<(), ApiError> {
    if wanted > current {
        return Err(ApiError::VersionTooLarge { requested: wanted.0, current: current.0 });
    }
    Ok(())
}

/// The state that a list shows.
enum State {
    /// The newest, which must not be older than a version.
    Newest(Option<Revision>),
    /// Exactly that of a version.
    At(Revision),
}

/// Reads many objects.
pub(super) async fn list(call: &Call<'_>) -> Result<ApiResponse, ApiError> {
    let list = select(call).await?;
    let items = list.entries.into_iter().map(|entry| outgoing(&call.resource, entry.value));
    Ok(ApiResponse::List(List {
        api_version: call.resource.api_version(),
        kind: call.definition().names.list_kind.clone(),
        items: items.collect::<Result<_, _>>()?,
        resource_version: list.revision.to_string(),
        continue_token: list.continue_token,
        remaining: list.remaining,
    }))
}

/// A page in the hub version, with its keys.
pub(super) struct Selected {
    pub(super) entries: Vec<Entry<Object>>,
    pub(super) revision: Revision,
    continue_token: Option<String>,
    remaining: Option<u64>,
}

/// Reads what a request selects.
pub(super) async fn select(call: &Call<'_>) -> Result<Selected, ApiError> {
    let options = &call.options;
    check_list_options(options)?;
    let selection = Selection::of(call)?;
    let folder = folder(call)?;
    let token = match options.continue_token.as_deref().filter(|token| !token.is_empty()) {
        None => None,
        Some(token) => {
            if options
                .resource_version
                .as_deref()
                .is_some_and(|version| !version.is_empty() && version != "0")
            {
                return Err(ApiError::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            Some(Token::decode(token, &folder)?)
        }
    };
    let state = match &token {
        Some(Token { revision: Some(revision), .. }) => State::At(*revision),
        Some(Token { revision: None, .. }) => State::Newest(None),
        None => state(options)?,
    };
    if token.is_none()
        && let (State::Newest(wanted), Some(key)) = (&state, selection.only(call))
    {
        return one(call, &selection, &key, *wanted).await;
    }
    let left = token.as_ref().and_then(|token| token.remaining);
    let after = token.as_ref().map(|token| token.after.clone());
    let mut pages = Pages { call, folder, selection, at: None, after, left };
    match pages.collect(&state).await {
        Err(StoreError::Compacted { .. }) if token.is_some() => Err(pages.expired()?),
        Err(error) => Err(store_error(error)),
        Ok(selected) => {
            if let State::Newest(Some(wanted)) = state {
                not_older_than(wanted, selected.revision)?;
            }
            pages.finish(selected)
        }
    }
}

/// The folder of the objects that a request is about.
pub(super) fn folder(call: &Call<'_>) -> Result<Prefix, ApiError> {
    match (call.definition().scope, call.target.namespace.as_deref().filter(|name| !name.is_empty())) {
        (Scope::Namespaced, Some(namespace)) if !keys::is_segment(namespace) => {
            // No such namespace can exist, so nothing is in it: a folder that is always empty.
            Ok(keys::folder(call.definition(), Some("..")))
        }
        (Scope::Namespaced, namespace) => Ok(keys::folder(call.definition(), namespace)),
        (Scope::Cluster, _) => Ok(keys::folder(call.definition(), None)),
    }
}

fn state(options: &Options) -> Result<State, ApiError> {
    let version = version(options)?;
    Ok(match (version, options.resource_version_match) {
        (Some(version), Some(VersionMatch::Exact)) => State::At(version),
        // Before there was a match, a limit meant an exact version.
        (Some(version), None) if options.limit > 0 => State::At(version),
        (version, _) => State::Newest(version),
    })
}

/// A list of the one object that a selector names.
async fn one(
    call: &Call<'_>,
    selection: &Selection,
    key: &rkube_store::Key,
    wanted: Option<Revision>,
) -> Result<Selected, ApiError> {
    let read = call.server.store().get(key, None).await.map_err(store_error)?;
    if let Some(wanted) = wanted {
        not_older_than(wanted, read.revision)?;
    }
    let entries = read.entry.into_iter().filter(|entry| selection.matches(&entry.value)).collect();
    Ok(Selected { entries, revision: read.revision, continue_token: None, remaining: None })
}

/// Reads a folder in pieces, at one revision, until enough is selected.
struct Pages<'c, 's> {
    call: &'c Call<'s>,
    folder: Prefix,
    selection: Selection,
    at: Option<Revision>,
    after: Option<rkube_store::Key>,
    /// How many entries are behind that key, if the page before has told.
    left: Option<u64>,
}

struct Collected {
    entries: Vec<Entry<Object>>,
    revision: Revision,
    /// Entries behind the last one looked at: whether there are any, and how many if that was counted.
    more: bool,
    remaining: Option<u64>,
}

impl Pages<'_, '_> {
    fn limit(&self) -> usize {
        usize::try_from(self.call.options.limit).unwrap_or(usize::MAX)
    }

    async fn collect(&mut self, state: &State) -> Result<Collected, StoreError> {
        if let State::At(revision) = state {
            self.at = Some(*revision);
        }
        let (limit, everything) = (self.limit(), self.selection.is_everything());
        let chunk = match limit {
            0 => None,
            limit if everything => Some(limit),
            limit => Some(limit.max(CHUNK)),
        };
        // Only the first page of what nothing is left out of is counted; the others go on from it.
        let uncounted = !everything || self.left.is_some();
        let mut entries = Vec::new();
        loop {
            let options = ListOptions { at: self.at, limit: chunk, after: self.after.clone(), uncounted };
            let page = self.call.server.store().list(&self.folder, options).await?;
            let (revision, mut unseen) = (page.revision, page.entries.len());
            self.at = Some(revision);
            for entry in page.entries {
                unseen -= 1;
                self.after = Some(entry.key.clone());
                if everything || self.selection.matches(&entry.value) {
                    entries.push(entry);
                }
                if limit > 0 && entries.len() == limit {
                    let more = page.more || unseen > 0;
                    let remaining = match self.left {
                        _ if !everything => None,
                        Some(left) => Some(left.saturating_sub(entries.len() as u64)),
                        None => Some(page.remaining),
                    };
                    return Ok(Collected { entries, revision, more, remaining });
                }
            }
            if !page.more {
                return Ok(Collected { entries, revision, more: false, remaining: None });
            }
        }
    }

    fn finish(self, collected: Collected) -> Result<Selected, ApiError> {
        let Collected { entries, revision, more, remaining } = collected;
        let token = match self.after {
            Some(after) if more => Some(Token { revision: Some(revision), after, remaining }),
            _ => None,
        };
        let continue_token = token.map(|token| token.encode(&self.folder)).transpose()?;
        Ok(Selected { remaining: remaining.filter(|_| more), continue_token, entries, revision })
    }

    /// 410 with a token that goes on at the same place in the newest state.
    fn expired(&self) -> Result<ApiError, ApiError> {
        let token = self.after.clone().map(|after| Token { revision: None, after, remaining: None });
        Ok(ApiError::Expired {
            message: "The provided continue parameter is too old to display a consistent list result. List \
                      anew without it, or go on with the continue token of this answer: the rest then shows \
                      the newest state, which may differ from that of the pages before."
                .into(),
            continue_token: token.map(|token| token.encode(&self.folder)).transpose()?,
        })
    }
}

fn check_list_options(options: &Options) -> Result<(), ApiError> {
    let mut errors = ErrorList::default();
    let field = FieldPath::new("resourceVersionMatch");
    let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if let Some(matching) = options.resource_version_match {
        if !set(&options.resource_version) {
            errors.push(FieldError::forbidden(
                &field,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if set(&options.continue_token) {
            errors.push(FieldError::forbidden(
                &field,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if matching == VersionMatch::Exact && options.resource_version.as_deref() == Some("0") {
            errors.push(FieldError::forbidden(
                &field,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
    }
    if options.send_initial_events.is_some() {
        let field = FieldPath::new("sendInitialEvents");
        errors.push(FieldError::forbidden(&field, "sendInitialEvents is forbidden for list"));
    }
    invalid_options(&errors)
}

/// 422 on the options of a list or watch, if anything is wrong with them.
pub(super) fn invalid_options(errors: &ErrorList) -> Result<(), ApiError> {
    invalid_options_of("ListOptions", errors)
}

/// 422 on the options of a request, if anything is wrong with them.
pub(super) fn invalid_options_of(kind: &str, errors: &ErrorList) -> Result<(), ApiError> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::Invalid {
        group: "meta.k8s.io".into(),
        kind: kind.into(),
        name: String::new(),
        causes: errors.iter().map(Cause::from).collect(),
    })
}
