//! From an [`ApiRequest`] to an HTTP request.

use http::{Method, Request, header};

use super::{Body, Bytes};
use crate::{
    error::ApiError,
    request::{ApiRequest, Body as ApiBody, FieldValidation, Options, Target, Verb, VersionMatch},
};

/// Percent-encodes what is not allowed in a segment of a path, or in a query.
fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

fn path(target: &Target) -> String {
    let mut path = if target.group.is_empty() { "/api".to_owned() } else { "/apis".to_owned() };
    let mut push = |segment: &str| {
        path.push('/');
        encode(segment, &mut path);
    };
    if !target.group.is_empty() {
        push(&target.group);
    }
    push(&target.version);
    if let Some(namespace) = target.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        push("namespaces");
        push(namespace);
    }
    push(&target.resource);
    if let Some(name) = &target.name {
        push(name);
        for part in target.subresource.iter().flat_map(|subresource| subresource.split('/')) {
            push(part);
        }
    }
    path
}

fn query(verb: Verb, options: &Options) -> Vec<(&'static str, String)> {
    let mut query = Vec::new();
    let text = |key: &'static str, value: &Option<String>, query: &mut Vec<(&'static str, String)>| {
        if let Some(value) = value {
            query.push((key, value.clone()));
        }
    };
    text("resourceVersion", &options.resource_version, &mut query);
    text("labelSelector", &options.label_selector, &mut query);
    text("fieldSelector", &options.field_selector, &mut query);
    text("continue", &options.continue_token, &mut query);
    text("fieldManager", &options.field_manager, &mut query);
    if let Some(version_match) = options.resource_version_match {
        let word = match version_match {
            VersionMatch::Exact => "Exact",
            VersionMatch::NotOlderThan => "NotOlderThan",
        };
        query.push(("resourceVersionMatch", word.into()));
    }
    if options.limit > 0 {
        query.push(("limit", options.limit.to_string()));
    }
    if let Some(timeout) = options.timeout {
        query.push(("timeoutSeconds", timeout.as_secs().max(1).to_string()));
    }
    if let Some(initial) = options.send_initial_events {
        query.push(("sendInitialEvents", initial.to_string()));
    }
    let mut flag = |key: &'static str, on: bool, value: &str| {
        if on {
            query.push((key, value.to_owned()));
        }
    };
    flag("watch", verb == Verb::Watch, "true");
    flag("allowWatchBookmarks", options.allow_watch_bookmarks, "true");
    flag("force", options.force, "true");
    flag("dryRun", options.dry_run, "All");
    if matches!(verb, Verb::Create | Verb::Update | Verb::Patch) {
        let word = match options.field_validation {
            FieldValidation::Ignore => "Ignore",
            FieldValidation::Warn => "Warn",
            FieldValidation::Strict => "Strict",
        };
        query.push(("fieldValidation", word.into()));
    }
    query
}

/// The media type and text of a body.
fn body(body: ApiBody) -> Result<(Option<String>, Bytes), ApiError> {
    Ok(match body {
        ApiBody::Empty => (None, Bytes::new()),
        ApiBody::Object(object) => (Some("application/json".into()), object.encode()?),
        ApiBody::Bytes { content_type, bytes } => (Some(content_type), bytes),
        ApiBody::Delete(options) => {
            let text = serde_json::to_vec(&options).map_err(|error| ApiError::internal(error.to_string()))?;
            (Some("application/json".into()), text.into())
        }
    })
}

/// The HTTP request that asks the same.
pub(super) fn http_request(request: ApiRequest) -> Result<http::Request<Body>, ApiError> {
    let ApiRequest { verb, target, options, body: request_body, user_agent, .. } = request;
    let of_one = matches!(verb, Verb::Get | Verb::Update | Verb::Patch | Verb::Delete);
    if of_one && target.name.as_deref().unwrap_or_default().is_empty() {
        // Without its name the path would be that of all of them.
        return Err(ApiError::NoSuchPath);
    }
    let mut uri = path(&target);
    for (index, (key, value)) in query(verb, &options).iter().enumerate() {
        uri.push(if index == 0 { '?' } else { '&' });
        uri.push_str(key);
        uri.push('=');
        encode(value, &mut uri);
    }
    let method = match verb {
        Verb::Get | Verb::List | Verb::Watch => Method::GET,
        Verb::Create => Method::POST,
        Verb::Update => Method::PUT,
        Verb::Patch => Method::PATCH,
        Verb::Delete | Verb::DeleteCollection => Method::DELETE,
    };
    let (content_type, bytes) = body(request_body)?;
    let mut builder = Request::builder()
        .method(method)
        .uri(uri)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, &*user_agent);
    if verb == Verb::Watch {
        // A compressed watch is of one member an event, which not every decoder reads.
        builder = builder.header(header::ACCEPT_ENCODING, "identity");
    }
    if let Some(content_type) = content_type {
        builder = builder.header(header::CONTENT_TYPE, content_type);
    }
    builder.body(Body::from(bytes)).map_err(|error| ApiError::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_spelled_as_kubernetes_reads_it() {
        let request = ApiRequest {
            credentials: crate::request::Credentials::Anonymous,
            verb: Verb::Watch,
            target: Target {
                group: "apps".into(),
                version: "v1".into(),
                resource: "deployments".into(),
                namespace: Some("a".into()),
                ..Target::default()
            },
            options: Options {
                label_selector: Some("app in (a,b)".into()),
                allow_watch_bookmarks: true,
                timeout: Some(std::time::Duration::from_secs(5)),
                ..Options::default()
            },
            body: ApiBody::Empty,
            user_agent: "me/1".into(),
        };
        let asked = http_request(request).unwrap();
        assert_eq!(
            asked.uri().to_string(),
            "/apis/apps/v1/namespaces/a/deployments?labelSelector=app%20in%20%28a%2Cb%29&timeoutSeconds=5\
             &watch=true&allowWatchBookmarks=true"
        );
        assert_eq!(asked.headers()["user-agent"], "me/1");
    }

    #[test]
    fn a_name_is_one_segment() {
        let target = Target {
            version: "v1".into(),
            resource: "pods".into(),
            namespace: Some("a".into()),
            name: Some("../x".into()),
            subresource: Some("status".into()),
            ..Target::default()
        };
        assert_eq!(path(&target), "/api/v1/namespaces/a/pods/..%2Fx/status");
    }
}
