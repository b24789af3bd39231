//! From a method, a path and a query to what is asked: a pure mapping over the registry.
//!
//! A path is split before its percent-encoding is undone, and a segment that holds a slash or is a dot
//! name after that leads nowhere: no encoding of a name reaches another object.

use http::Method;

use super::query::{self, Query};
use crate::{
    error::ApiError,
    registry::{Resolved, Scope, Snapshot, SubresourceKind},
    request::{Options, Target, Verb},
};

/// Where a request leads.
#[derive(Clone, Debug)]
pub(super) enum Route {
    /// A resource, one object of it, or a subresource.
    Resource(Box<ResourceRoute>),
    /// A path that belongs to no resource.
    Page(Page),
}

/// A request for a resource.
#[derive(Clone, Debug)]
pub(super) struct ResourceRoute {
    pub(super) verb: Verb,
    pub(super) target: Target,
    pub(super) options: Options,
    pub(super) resolved: Resolved,
}

/// Paths that belong to no resource; all are read with GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// `/`: the paths.
    Index,
    /// `/version`.
    Version,
    /// `/healthz`, `/livez`, `/readyz`, or one check of it.
    Health { endpoint: String, check: Option<String> },
    /// `/metrics`.
    Metrics,
    /// `/api`: the versions of the core group.
    CoreVersions,
    /// `/apis`: the other groups.
    Groups,
    /// `/apis/<group>`.
    Group(String),
    /// `/api/v1`, `/apis/<group>/<version>`.
    Resources { group: String, version: String },
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/openapi/v3`.
    OpenApiV3Index,
    /// `/openapi/v3/<path>`.
    OpenApiV3(String),
}

/// The segments of a path, decoded; `None` if one of them can name nothing.
fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Some(Vec::new());
    }
    path.split('/')
        .map(|segment| {
            let segment = query::percent_decode(segment, false)?;
            let names_nothing = segment.is_empty()
                || segment == "."
                || segment == ".."
                || segment.contains(['/', '\\', '%'])
                || segment.chars().any(char::is_control);
            (!names_nothing).then_some(segment)
        })
        .collect()
}

/// Finds out what a request asks for.
pub(super) fn route(
    method: &Method,
    path: &str,
    query: &Query,
    snapshot: &Snapshot,
) -> Result<Route, ApiError> {
    let segments = segments(path).ok_or(ApiError::NoSuchPath)?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => {
            resource(method, "", version, rest, query, snapshot)
        }
        ["apis", group, version, rest @ ..] if !rest.is_empty() => {
            resource(method, group, version, rest, query, snapshot)
        }
        other => {
            let page = page(other, snapshot).ok_or(ApiError::NoSuchPath)?;
            // HEAD is how load balancers ask for health.
            let read = *method == Method::GET || *method == Method::HEAD;
            if read { Ok(Route::Page(page)) } else { Err(ApiError::MethodNotAllowed) }
        }
    }
}

fn page(parts: &[&str], snapshot: &Snapshot) -> Option<Page> {
    let served = |group: &str, version: &str| {
        snapshot.groups().get(group).is_some_and(|versions| versions.contains_key(version))
    };
    Some(match parts {
        [] => Page::Index,
        ["version"] => Page::Version,
        ["metrics"] => Page::Metrics,
        [endpoint @ ("healthz" | "livez" | "readyz")] => {
            Page::Health { endpoint: (*endpoint).into(), check: None }
        }
        [endpoint @ ("healthz" | "livez" | "readyz"), check @ ..] => {
            Page::Health { endpoint: (*endpoint).into(), check: Some(check.join("/")) }
        }
        ["api"] => Page::CoreVersions,
        ["apis"] => Page::Groups,
        ["api", version] if served("", version) => {
            Page::Resources { group: String::new(), version: (*version).into() }
        }
        ["apis", group] if !group.is_empty() && snapshot.groups().contains_key(*group) => {
            Page::Group((*group).into())
        }
        ["apis", group, version] if served(group, version) => {
            Page::Resources { group: (*group).into(), version: (*version).into() }
        }
        ["openapi", "v2"] => Page::OpenApiV2,
        ["openapi", "v3"] => Page::OpenApiV3Index,
        ["openapi", "v3", rest @ ..] => Page::OpenApiV3(rest.join("/")),
        _ => return None,
    })
}

/// Namespace, resource, name and subresource of what follows the version in a path.
type Parts<'a> = (Option<&'a str>, &'a str, Option<&'a str>, Option<String>);

fn split<'a>(rest: &[&'a str]) -> Option<Parts<'a>> {
    Some(match rest {
        // `namespaces` is itself a resource: what follows its name is a resource in it, unless it is
        // one of its own subresources.
        ["namespaces", name, sub @ ("status" | "finalize")] => {
            (None, "namespaces", Some(*name), Some((*sub).to_owned()))
        }
        ["namespaces", namespace, resource] => (Some(*namespace), *resource, None, None),
        ["namespaces", namespace, resource, name] => (Some(*namespace), *resource, Some(*name), None),
        ["namespaces", namespace, resource, name, sub @ ..] => {
            (Some(*namespace), *resource, Some(*name), Some(sub.join("/")))
        }
        [resource] => (None, *resource, None, None),
        [resource, name] => (None, *resource, Some(*name), None),
        [resource, name, sub @ ..] => (None, *resource, Some(*name), Some(sub.join("/"))),
        [] => return None,
    })
}

fn resource(
    method: &Method,
    group: &str,
    version: &str,
    rest: &[&str],
    query: &Query,
    snapshot: &Snapshot,
) -> Result<Route, ApiError> {
    let (legacy_watch, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    let (namespace, resource, name, subresource) = split(rest).ok_or(ApiError::NoSuchPath)?;
    let resolved = snapshot.resolve(group, version, resource).ok_or(ApiError::NoSuchPath)?;
    let namespaced = resolved.definition.scope == Scope::Namespaced;
    if !namespaced && namespace.is_some() || namespaced && namespace.is_none() && name.is_some() {
        return Err(ApiError::NoSuchPath);
    }
    let watching = legacy_watch || query.flag("watch").unwrap_or(false);
    let verb = if legacy_watch {
        if *method != Method::GET {
            return Err(ApiError::MethodNotAllowed);
        }
        Verb::Watch
    } else {
        verb(method, name.is_some(), subresource.is_some(), watching).ok_or(ApiError::MethodNotAllowed)?
    };
    allowed(&resolved, verb, subresource.as_deref())?;
    let across = namespaced && namespace.is_none();
    if across && !matches!(verb, Verb::List | Verb::Watch) {
        return Err(ApiError::MethodNotAllowed);
    }
    let mut options = query::options(query, verb)?;
    let mut target = Target {
        group: group.to_owned(),
        version: version.to_owned(),
        resource: resource.to_owned(),
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        subresource,
    };
    if verb == Verb::Watch
        && let Some(name) = target.name.take()
    {
        // `/api/v1/watch/pods/x` is a watch of one name.
        let only = format!("metadata.name={name}");
        options.field_selector = Some(match options.field_selector.take() {
            Some(more) => format!("{only},{more}"),
            None => only,
        });
    }
    Ok(Route::Resource(Box::new(ResourceRoute { verb, target, options, resolved })))
}

fn verb(method: &Method, named: bool, sub: bool, watching: bool) -> Option<Verb> {
    Some(match (method.as_str(), named) {
        ("GET", true) => Verb::Get,
        ("GET", false) if watching => Verb::Watch,
        ("GET", false) => Verb::List,
        ("POST", named) if named == sub => Verb::Create,
        ("PUT", true) => Verb::Update,
        ("PATCH", true) => Verb::Patch,
        ("DELETE", true) => Verb::Delete,
        ("DELETE", false) => Verb::DeleteCollection,
        _ => return None,
    })
}

/// Whether the resource, or the subresource, knows the verb.
fn allowed(resolved: &Resolved, verb: Verb, subresource: Option<&str>) -> Result<(), ApiError> {
    let known = match subresource {
        None => resolved.definition.verbs.contains(&verb),
        Some(name) => match &resolved.definition.subresource(name).ok_or(ApiError::NoSuchPath)?.kind {
            SubresourceKind::Status(_) | SubresourceKind::Scale(_) => {
                matches!(verb, Verb::Get | Verb::Update | Verb::Patch)
            }
            SubresourceKind::Handler { verbs, .. } => verbs.contains(&verb),
        },
    };
    if known { Ok(()) } else { Err(ApiError::MethodNotAllowed) }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{
        apps::v1::Deployment,
        core::v1::{Namespace, Node, Pod},
    };

    use super::*;
    use crate::registry::{Definition, Registry};

    fn snapshot() -> std::sync::Arc<Snapshot> {
        let status = |object: &mut Deployment, old: &Deployment| object.spec = old.spec.clone();
        Registry::new([
            Definition::of::<Pod>().handler("binding", ("", "v1", "Binding"), &[Verb::Create]).build(),
            Definition::of::<Namespace>()
                .cluster()
                .handler("finalize", ("", "v1", "Namespace"), &[Verb::Update])
                .build(),
            Definition::of::<Node>().cluster().build(),
            Definition::of::<Deployment>().status(status, |_, _| Default::default()).build(),
        ])
        .unwrap()
        .snapshot()
    }

    fn to(method: &str, uri: &str) -> Result<Route, ApiError> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        route(&method.parse().unwrap(), path, &Query::parse(query), &snapshot())
    }

    fn what(method: &str, uri: &str) -> String {
        match to(method, uri) {
            Ok(Route::Resource(found)) => {
                let Target { group, version, resource, namespace, name, subresource } = found.target;
                format!(
                    "{} {group}/{version} {resource} {} {} {}",
                    found.verb,
                    namespace.as_deref().unwrap_or("-"),
                    name.as_deref().unwrap_or("-"),
                    subresource.as_deref().unwrap_or("-")
                )
            }
            Ok(Route::Page(page)) => format!("{page:?}"),
            Err(error) => error.code().to_string(),
        }
    }

    #[test]
    fn every_form_of_path_leads_where_kubernetes_leads_it() {
        for (method, uri, wanted) in [
            ("GET", "/api/v1/pods", "list /v1 pods - - -"),
            ("GET", "/api/v1/pods?watch=1", "watch /v1 pods - - -"),
            ("GET", "/api/v1/pods?watch=false", "list /v1 pods - - -"),
            ("GET", "/api/v1/watch/pods", "watch /v1 pods - - -"),
            ("GET", "/api/v1/watch/namespaces/a/pods/x", "watch /v1 pods a - -"),
            ("POST", "/api/v1/watch/pods", "405"),
            ("GET", "/api/v1/namespaces/a/pods/", "list /v1 pods a - -"),
            ("GET", "/api/v1/namespaces/a/pods/x?watch=true", "get /v1 pods a x -"),
            ("POST", "/api/v1/namespaces/a/pods", "create /v1 pods a - -"),
            ("POST", "/api/v1/namespaces/a/pods/x", "405"),
            ("POST", "/api/v1/namespaces/a/pods/x/binding", "create /v1 pods a x binding"),
            ("GET", "/api/v1/namespaces/a/pods/x/binding", "405"),
            ("GET", "/api/v1/namespaces/a/pods/x/nothing", "404"),
            ("POST", "/api/v1/pods", "405"),
            ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection /v1 pods a - -"),
            ("HEAD", "/api/v1/namespaces/a/pods", "405"),
            ("PUT", "/api/v1/namespaces/a/pods", "405"),
            ("GET", "/api/v1/pods/x", "404"),
            ("GET", "/api/v1/namespaces/a", "get /v1 namespaces - a -"),
            ("PUT", "/api/v1/namespaces/a/finalize", "update /v1 namespaces - a finalize"),
            ("GET", "/api/v1/namespaces/a/nodes", "404"),
            ("GET", "/api/v1/namespaces/a/nodes/n", "404"),
            ("GET", "/api/v1/nodes/n", "get /v1 nodes - n -"),
            ("GET", "/api/v1/lamps", "404"),
            ("GET", "/apis/apps/v1/deployments", "list apps/v1 deployments - - -"),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/deployments/x/status",
                "patch apps/v1 deployments a x status",
            ),
            ("GET", "/apis/apps/v2/deployments", "404"),
            ("GET", "/api/v1/deployments", "404"),
            ("GET", "/apis//v1/pods", "404"),
            ("GET", "/", "Index"),
            ("GET", "/apis/", "Groups"),
            ("GET", "/apis/apps", r#"Group("apps")"#),
            ("GET", "/apis/apps/v1", r#"Resources { group: "apps", version: "v1" }"#),
            ("GET", "/apis/nowhere", "404"),
            ("GET", "/healthz/ping", r#"Health { endpoint: "healthz", check: Some("ping") }"#),
            ("POST", "/version", "405"),
            ("GET", "/openapi/v3/apis/apps/v1", r#"OpenApiV3("apis/apps/v1")"#),
        ] {
            assert_eq!(what(method, uri), wanted, "{method} {uri}");
        }
    }

    #[test]
    fn no_encoding_of_a_name_reaches_another_object() {
        for uri in [
            "/api/v1/namespaces/a/pods/..%2fpods%2fx",
            "/api/v1/namespaces/a/pods/%2e%2e",
            "/api/v1/namespaces/a/pods/../x",
            "/api/v1/namespaces/a%2fpods/x",
            "/api/v1/namespaces/..%2f..%2fnodes/n",
            "/api/v1/namespaces/a/pods/%252e%252e",
            "/api/v1/namespaces/a/pods/x%00",
            "/api/v1/namespaces/a/pods/%ff",
            "/api/v1/namespaces//pods",
            "/api/v1/namespaces/a/pods/x//binding",
        ] {
            assert_eq!(what("GET", uri), "404", "{uri}");
        }
    }

    #[test]
    fn a_legacy_watch_of_one_name_selects_it() {
        let Ok(Route::Resource(found)) = to("GET", "/api/v1/watch/nodes/n?fieldSelector=a%3Db") else {
            panic!("no route");
        };
        assert_eq!(found.options.field_selector.as_deref(), Some("metadata.name=n,a=b"));
    }
}
