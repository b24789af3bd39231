//! Answers that derive from the definitions alone, made when first asked for and kept until the
//! definitions change.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use parking_lot::Mutex;
use serde_json::Value;

use super::{
    body::ResponseBody,
    media::{self, Format},
    query::Query,
    render,
    router::Page,
};
use crate::{
    error::ApiError,
    registry::{Registry, Snapshot, discovery, fingerprint, openapi},
};

/// A text and the tag by which clients recognise it.
#[derive(Clone)]
pub(super) struct Document {
    pub(super) text: Bytes,
    pub(super) etag: String,
}

impl Document {
    pub(super) fn new(text: Bytes) -> Self {
        let etag = format!("{:016X}", fingerprint(&text));
        Self { text, etag }
    }

    fn json(value: &Value) -> Result<Self, ApiError> {
        render::json_text(value).map(Self::new)
    }
}

/// What derives from one state of the registry.
pub(super) struct Derived {
    pub(super) snapshot: Arc<Snapshot>,
    documents: Mutex<BTreeMap<String, Arc<OnceLock<Result<Document, ApiError>>>>>,
}

impl Derived {
    /// The document called `key`, made by `make` if it was not made yet.
    pub(super) fn document(
        &self,
        key: &str,
        make: impl FnOnce(&Snapshot) -> Result<Document, ApiError>,
    ) -> Result<Document, ApiError> {
        let cell = self.documents.lock().entry(key.to_owned()).or_default().clone();
        cell.get_or_init(|| make(&self.snapshot)).clone()
    }
}

/// The documents of the registry's newest state.
pub(super) struct Pages {
    registry: Arc<Registry>,
    derived: ArcSwapOption<Derived>,
}

const AGGREGATED: [(&str, &str); 2] = [
    ("v2", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
    ("v2beta1", "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"),
];

const OPENAPI_PROTO: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// As Kubernetes answers: `@` is not allowed in a media type.
const OPENAPI_PROTO_ANSWER: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

impl Pages {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, derived: ArcSwapOption::empty() }
    }

    /// The documents as of now.
    pub(super) fn derived(&self) -> Arc<Derived> {
        let snapshot = self.registry.snapshot();
        if let Some(derived) = self.derived.load_full()
            && derived.snapshot.generation == snapshot.generation
        {
            return derived;
        }
        let derived = Arc::new(Derived { snapshot, documents: Mutex::default() });
        self.derived.store(Some(derived.clone()));
        derived
    }

    /// `GET /`: every path that there is.
    pub(super) fn index(&self) -> Result<Response<ResponseBody>, ApiError> {
        let document = self.derived().document("index", |snapshot| {
            let mut paths: Vec<String> = ["/api", "/apis"].map(str::to_owned).to_vec();
            for (group, versions) in snapshot.groups() {
                let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
                if !group.is_empty() {
                    paths.push(root.clone());
                }
                paths.extend(versions.keys().map(|version| format!("{root}/{version}")));
            }
            let others =
                ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"];
            paths.extend(others.map(str::to_owned));
            Document::json(&serde_json::json!({"paths": paths}))
        })?;
        Ok(render::response(StatusCode::OK, "application/json", document.text))
    }

    /// Answers a discovery path.
    pub(super) fn discovery(
        &self,
        page: &Page,
        headers: &HeaderMap,
    ) -> Result<Response<ResponseBody>, ApiError> {
        let derived = self.derived();
        let accept = accept(headers);
        if let Page::CoreVersions | Page::Groups = page
            && let Some((version, content_type)) = aggregated_wish(accept)
        {
            let core = *page == Page::CoreVersions;
            let key = format!("discovery/{core}/{version}");
            let document = derived
                .document(&key, |snapshot| Document::json(&discovery::aggregated(snapshot, core, version)))?;
            let mut response = cached(headers, &document, content_type);
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
            return Ok(response);
        }
        let format = format(accept)?;
        let make = |snapshot: &Snapshot| {
            let value = match page {
                Page::CoreVersions => Some(discovery::core_versions(snapshot, &host(headers))),
                Page::Groups => Some(discovery::group_list(snapshot)),
                Page::Group(group) => discovery::group(snapshot, group),
                Page::Resources { group, version } => discovery::resource_list(snapshot, group, version),
                _ => None,
            };
            Document::json(&value.ok_or(ApiError::NoSuchPath)?)
        };
        let document = match page {
            // It names the host that the caller used, so it is the caller's alone.
            Page::CoreVersions => make(&derived.snapshot)?,
            _ => derived.document(&format!("discovery/{page:?}"), make)?,
        };
        let value: Value =
            serde_json::from_slice(&document.text).map_err(|error| ApiError::internal(error.to_string()))?;
        let mut response =
            render::response(StatusCode::OK, format.essence(), render::text(&value, format, false)?);
        if let Page::CoreVersions | Page::Groups = page {
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        }
        Ok(response)
    }
}

impl Pages {
    /// `GET /openapi/v2`: JSON, or protobuf for older clients.
    pub(super) fn openapi_v2(&self, headers: &HeaderMap) -> Result<Response<ResponseBody>, ApiError> {
        let derived = self.derived();
        let json = || derived.document("openapi/v2", |snapshot| Document::json(&openapi::v2(snapshot)));
        let accept = accept(headers).filter(|accept| !accept.trim().is_empty()).unwrap_or("*/*");
        for range in media::ranges(accept) {
            // In this order, so that who takes anything gets JSON.
            if range.covers("application/json") {
                return Ok(cached(headers, &json()?, "application/json"));
            }
            if range.essence == OPENAPI_PROTO || range.essence == OPENAPI_PROTO_ANSWER {
                let document = derived.document("openapi/v2/proto", |snapshot| {
                    Ok(Document::new(openapi::encode(&openapi::v2(snapshot)).into()))
                })?;
                return Ok(cached(headers, &document, OPENAPI_PROTO_ANSWER));
            }
        }
        Err(ApiError::NotAcceptable { supported: vec!["application/json".into(), OPENAPI_PROTO.into()] })
    }

    /// The OpenAPI v3 document of a path.
    fn v3(derived: &Derived, path: &str) -> Result<Document, ApiError> {
        // Only what is served is kept, or anyone could fill the memory with names.
        if !openapi::v3_paths(&derived.snapshot).iter().any(|served| served == path) {
            return Err(ApiError::NoSuchPath);
        }
        derived.document(&format!("openapi/v3/{path}"), |snapshot| {
            Document::json(&openapi::v3(snapshot, path).ok_or(ApiError::NoSuchPath)?)
        })
    }

    /// `GET /openapi/v3`: where the documents are, with a hash that changes when they do.
    pub(super) fn openapi_v3_index(&self, headers: &HeaderMap) -> Result<Response<ResponseBody>, ApiError> {
        let derived = self.derived();
        let document = derived.document("openapi/v3", |snapshot| {
            let mut paths = serde_json::Map::new();
            for path in openapi::v3_paths(snapshot) {
                let hash = Self::v3(&derived, &path)?.etag;
                let url = format!("/openapi/v3/{path}?hash={hash}");
                paths.insert(path, serde_json::json!({"serverRelativeURL": url}));
            }
            Document::json(&serde_json::json!({"paths": paths}))
        })?;
        Ok(cached(headers, &document, "application/json"))
    }

    /// `GET /openapi/v3/<path>`. Under its own hash it never changes; under another it has moved.
    pub(super) fn openapi_v3(
        &self,
        path: &str,
        query: &Query,
        headers: &HeaderMap,
    ) -> Result<Response<ResponseBody>, ApiError> {
        let document = Self::v3(&self.derived(), path)?;
        let json = accept(headers).filter(|accept| !accept.trim().is_empty()).unwrap_or("*/*");
        if !media::ranges(json).iter().any(|range| range.covers("application/json")) {
            return Err(ApiError::NotAcceptable { supported: vec!["application/json".into()] });
        }
        match query.text("hash") {
            Some(hash) if hash != document.etag => {
                let mut moved = Response::new(ResponseBody::from(Bytes::new()));
                *moved.status_mut() = StatusCode::MOVED_PERMANENTLY;
                let location = format!("/openapi/v3/{path}?hash={}", document.etag);
                if let Ok(location) = HeaderValue::from_str(&location) {
                    moved.headers_mut().insert(header::LOCATION, location);
                }
                Ok(moved)
            }
            hash => {
                let mut response = cached(headers, &document, "application/json");
                if hash.is_some() {
                    let forever = HeaderValue::from_static("public, immutable");
                    response.headers_mut().insert(header::CACHE_CONTROL, forever);
                }
                Ok(response)
            }
        }
    }
}

/// The `Accept` header's text.
pub(super) fn accept(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok())
}

/// Where the client reached this server, as it says itself.
fn host(headers: &HeaderMap) -> String {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned()
}

/// JSON or YAML, or 406.
pub(super) fn format(accept: Option<&str>) -> Result<Format, ApiError> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
        return Ok(Format::Json);
    };
    media::ranges(accept)
        .iter()
        .filter(|range| range.param("as").is_none())
        .find_map(|range| Format::ALL.into_iter().find(|format| range.covers(format.essence())))
        .ok_or_else(media::not_acceptable)
}

/// The form of aggregated discovery that the client prefers to the old discovery, if it does.
fn aggregated_wish(accept: Option<&str>) -> Option<(&'static str, &'static str)> {
    for range in media::ranges(accept?) {
        match range.param("as") {
            None if range.covers("application/json") => return None,
            Some("APIGroupDiscoveryList")
                if range.covers("application/json") && range.param("g") == Some("apidiscovery.k8s.io") =>
            {
                let wish = AGGREGATED.into_iter().find(|(version, _)| range.param("v") == Some(version));
                if wish.is_some() {
                    return wish;
                }
            }
            _ => {}
        }
    }
    None
}

/// A document, or 304 if the client has it.
pub(super) fn cached(
    headers: &HeaderMap,
    document: &Document,
    content_type: &'static str,
) -> Response<ResponseBody> {
    let etag = format!("\"{}\"", document.etag);
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        value.to_str().is_ok_and(|tags| {
            tags.split(',')
                .map(|tag| tag.trim().trim_start_matches("W/"))
                .any(|tag| tag == etag || tag == "*")
        })
    });
    let mut response = if known {
        let mut response = Response::new(ResponseBody::from(Bytes::new()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        render::response(StatusCode::OK, content_type, document.text.clone())
    };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
