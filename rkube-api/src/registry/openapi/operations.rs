//! The operations on what is served, before they are written in either version of OpenAPI.

use super::schemas::{list_name, meta, subresource_type, type_name};
use crate::{
    registry::{Resolved, Scope, Subresource, SubresourceKind},
    request::{Verb, patch_type},
};

/// A parameter: name, JSON type, what it is.
pub(super) type Parameter = (&'static str, &'static str, &'static str);

pub(super) const PRETTY: Parameter = ("pretty", "string", "Whether the output is indented.");

const DRY_RUN: Parameter = ("dryRun", "string", "`All`: everything is run, nothing is kept.");
const MANAGER: Parameter = ("fieldManager", "string", "The name under which the change is recorded.");
const VALIDATION: Parameter =
    ("fieldValidation", "string", "What to do with unknown and duplicate fields: Ignore, Warn or Strict.");
const FORCE: Parameter = ("force", "boolean", "Apply takes over fields that others own.");
const WRITE: &[Parameter] = &[DRY_RUN, MANAGER, VALIDATION];
const PATCH: &[Parameter] = &[DRY_RUN, MANAGER, VALIDATION, FORCE];
const DELETE: &[Parameter] = &[
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "How long the object may take to end."),
    ("orphanDependents", "boolean", "Deprecated: propagationPolicy says the same."),
    ("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];
const LIST: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean", "Whether a watch may send bookmarks."),
    ("continue", "string", "Where the last page ended."),
    ("fieldSelector", "string", "Selects by fields."),
    ("labelSelector", "string", "Selects by labels."),
    ("limit", "integer", "At most so many objects."),
    ("resourceVersion", "string", "The state that is asked for."),
    ("resourceVersionMatch", "string", "How that state is met."),
    ("sendInitialEvents", "boolean", "Whether a watch begins with what exists."),
    ("timeoutSeconds", "integer", "When a watch ends."),
    ("watch", "boolean", "Follow changes instead of listing."),
];

/// One operation on one path.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) id: String,
    /// `x-kubernetes-action`.
    pub(super) action: &'static str,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) query: &'static [Parameter],
    /// The type of the body, and the media types that it may be of.
    pub(super) body: Option<(String, &'static [&'static str])>,
    /// The type of the answer.
    pub(super) answer: Option<String>,
    pub(super) tag: String,
}

/// A path with its operations.
pub(super) struct Path {
    pub(super) path: String,
    pub(super) namespaced: bool,
    pub(super) named: bool,
    pub(super) operations: Vec<Operation>,
}

const ANY: &[&str] = &["*/*"];
const PATCHES: &[&str] = &[patch_type::APPLY, patch_type::JSON, patch_type::MERGE, patch_type::STRATEGIC];
const CUSTOM_PATCHES: &[&str] = &[patch_type::APPLY, patch_type::JSON, patch_type::MERGE];

/// The paths of a resource.
pub(super) fn paths(resolved: &Resolved) -> Vec<Path> {
    let definition = &resolved.definition;
    let (group, version) = (resolved.group(), &resolved.version().name);
    let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    let plural = &definition.names.plural;
    let namespaced = definition.scope == Scope::Namespaced;
    let collection = if namespaced {
        format!("{root}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("{root}/{plural}")
    };
    let item = format!("{collection}/{{name}}");
    let mut paths = vec![
        path(collection, namespaced, false, [Verb::List, Verb::Create, Verb::DeleteCollection], resolved),
        path(item.clone(), namespaced, true, [Verb::Get, Verb::Update, Verb::Patch, Verb::Delete], resolved),
    ];
    for subresource in &definition.subresources {
        paths.push(Path {
            path: format!("{item}/{}", subresource.name),
            namespaced,
            named: true,
            operations: subresource_operations(resolved, subresource),
        });
    }
    if namespaced {
        let mut everywhere = path(format!("{root}/{plural}"), false, false, [Verb::List], resolved);
        for operation in &mut everywhere.operations {
            operation.id = format!("list{}{}ForAllNamespaces", prefix(resolved), definition.names.kind);
        }
        paths.push(everywhere);
    }
    paths.retain(|path| !path.operations.is_empty());
    paths
}

fn path<const N: usize>(
    path: String,
    namespaced: bool,
    named: bool,
    verbs: [Verb; N],
    resolved: &Resolved,
) -> Path {
    let known = verbs.into_iter().filter(|verb| resolved.definition.verbs.contains(verb));
    Path { path, namespaced, named, operations: known.map(|verb| operation(resolved, verb)).collect() }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn short_group(resolved: &Resolved) -> String {
    let group = resolved.group();
    if group.is_empty() { "core".to_owned() } else { group.split('.').next().unwrap_or_default().to_owned() }
}

/// `CoreV1`.
fn prefix(resolved: &Resolved) -> String {
    format!("{}{}", capitalized(&short_group(resolved)), capitalized(&resolved.version().name))
}

/// Method, word of the operation's name, and `x-kubernetes-action`.
fn words(verb: Verb) -> (&'static str, &'static str, &'static str) {
    match verb {
        Verb::Get => ("get", "read", "get"),
        Verb::List | Verb::Watch => ("get", "list", "list"),
        Verb::Create => ("post", "create", "post"),
        Verb::Update => ("put", "replace", "put"),
        Verb::Patch => ("patch", "patch", "patch"),
        Verb::Delete => ("delete", "delete", "delete"),
        Verb::DeleteCollection => ("delete", "delete", "deletecollection"),
    }
}

fn id(resolved: &Resolved, verb: Verb, subresource: &str) -> String {
    let definition = &resolved.definition;
    format!(
        "{}{}{}{}{}{}",
        words(verb).1,
        prefix(resolved),
        if verb == Verb::DeleteCollection { "Collection" } else { "" },
        if definition.scope == Scope::Namespaced { "Namespaced" } else { "" },
        definition.names.kind,
        capitalized(subresource),
    )
}

fn query(verb: Verb) -> &'static [Parameter] {
    match verb {
        Verb::Get => &[],
        Verb::List | Verb::Watch => LIST,
        Verb::Create | Verb::Update => WRITE,
        Verb::Patch => PATCH,
        Verb::Delete | Verb::DeleteCollection => DELETE,
    }
}

fn operation(resolved: &Resolved, verb: Verb) -> Operation {
    let names = &resolved.definition.names;
    let own = type_name(resolved);
    let patches = if resolved.definition.custom { CUSTOM_PATCHES } else { PATCHES };
    let body = match verb {
        Verb::Create | Verb::Update => Some((own.clone(), ANY)),
        Verb::Patch => Some((meta("Patch"), patches)),
        Verb::Delete | Verb::DeleteCollection => Some((meta("DeleteOptions"), ANY)),
        Verb::Get | Verb::List | Verb::Watch => None,
    };
    let answer = match verb {
        Verb::List | Verb::Watch => list_name(resolved),
        Verb::Delete | Verb::DeleteCollection => meta("Status"),
        _ => own,
    };
    let (method, _, action) = words(verb);
    Operation {
        method,
        id: id(resolved, verb, ""),
        action,
        group: resolved.group().to_owned(),
        version: resolved.version().name.clone(),
        kind: names.kind.clone(),
        query: query(verb),
        body,
        answer: Some(answer),
        tag: format!("{}_{}", short_group(resolved), resolved.version().name),
    }
}

fn subresource_operations(resolved: &Resolved, subresource: &Subresource) -> Vec<Operation> {
    let verbs = match &subresource.kind {
        SubresourceKind::Status(_) | SubresourceKind::Scale(_) => vec![Verb::Get, Verb::Update, Verb::Patch],
        SubresourceKind::Handler { verbs, .. } => {
            verbs.iter().copied().filter(|verb| !matches!(verb, Verb::List | Verb::Watch)).collect()
        }
    };
    let ((group, version, kind), name) = subresource_type(resolved, &subresource.kind);
    verbs
        .into_iter()
        .map(|verb| {
            let plain = operation(resolved, verb);
            let body = match verb {
                Verb::Create | Verb::Update => name.clone().map(|name| (name, ANY)),
                _ => plain.body,
            };
            Operation {
                id: id(resolved, verb, &subresource.name),
                group: group.clone(),
                version: version.clone(),
                kind: kind.clone(),
                body,
                answer: name.clone(),
                ..plain
            }
        })
        .collect()
}
