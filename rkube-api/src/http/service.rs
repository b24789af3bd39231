//! One request in, one response out: a `tower::Service` that any wire can use.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context as Poller, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts,
};
use http_body::Body as HttpBody;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    access::{PathAccess, VerifiedOnly},
    body::{BoxError, ResponseBody, Upload},
    health::Health,
    media::{self, Answer, Format},
    metrics::{Metrics, RequestLabels},
    page::{self, Pages},
    query::{self, Query},
    render::{self, Renderer},
    router::{self, Page, ResourceRoute, Route},
    storage::Storage,
    version::VersionInfo,
    watch::{self, Framer},
};
use crate::{
    codec::protobuf,
    context::Context,
    error::ApiError,
    pipeline::Server,
    registry::{Include, Registry},
    request::{ApiRequest, ApiResponse, Body, Credentials, Transport, Verb, patch_type},
};

/// Bounds on single requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A larger body is 413; 3 MiB, as Kubernetes.
    pub body: usize,
    /// Of a body that nobody wants any more so much is read and dropped before the answer, since many clients
    /// send all before they read; a larger one is cut off. 16 MiB.
    pub drain: usize,
    /// Such a body is given so long; 10 s.
    pub drain_time: Duration,
    /// How long a request that is no watch may take; 60 s, as Kubernetes.
    pub timeout: Duration,
    /// A watch that names no end ends after this to twice this, at random; 30 min, as Kubernetes.
    pub watch: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 3 * 1024 * 1024,
            drain: 16 * 1024 * 1024,
            drain_time: Duration::from_secs(10),
            timeout: Duration::from_secs(60),
            watch: Duration::from_secs(30 * 60),
        }
    }
}

/// Builds an [`ApiService`].
pub struct ServiceBuilder(Inner);

impl std::fmt::Debug for ServiceBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServiceBuilder({:?})", self.0.limits)
    }
}

impl ServiceBuilder {
    /// Who may read the paths of no resource; if not said, those whom the connection vouches for.
    pub fn access(mut self, access: Arc<dyn PathAccess>) -> Self {
        self.0.access = access;
        self
    }

    /// The checks of the health paths.
    pub fn health(mut self, health: Health) -> Self {
        self.0.health = health;
        self
    }

    /// Where requests are counted.
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.0.metrics = metrics;
        self
    }

    /// The server whose store `/metrics` tells of, too.
    pub fn storage(mut self, server: Arc<Server>) -> Self {
        self.0.storage = Some(Storage::new(server));
        self
    }

    /// Bounds on single requests.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.0.limits = limits;
        self
    }

    /// What `/version` says.
    pub fn version(mut self, version: VersionInfo) -> Self {
        self.0.version = version;
        self
    }

    /// The service.
    pub fn build(self) -> ApiService {
        if let Some(storage) = &self.0.storage {
            storage.register(&self.0.metrics);
        }
        ApiService(Arc::new(self.0))
    }
}

/// The API over HTTP, without a wire. Who asks comes from the request's extensions
/// ([`Credentials`], which only the code that holds the connection can set), else from its bearer token.
#[derive(Clone)]
pub struct ApiService(Arc<Inner>);

impl std::fmt::Debug for ApiService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiService({:?})", self.0.limits)
    }
}

struct Inner {
    transport: Arc<dyn Transport>,
    context: Context,
    pages: Pages,
    access: Arc<dyn PathAccess>,
    health: Health,
    metrics: Metrics,
    storage: Option<Storage>,
    limits: Limits,
    version: VersionInfo,
    /// Cancelled when the server stops: watches end.
    stopping: CancellationToken,
}

/// In a request's extensions: its connection came with a certificate that stands for nobody here.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnverifiedCertificate;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

impl<B> tower::Service<Request<B>> for ApiService
where
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Poller<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        async move { Ok(service.respond(request).await) }.boxed()
    }
}

impl ApiService {
    /// A service that answers with what `transport` says, for the resources of `registry`.
    pub fn builder(
        transport: Arc<dyn Transport>,
        registry: Arc<Registry>,
        context: Context,
    ) -> ServiceBuilder {
        ServiceBuilder(Inner {
            transport,
            stopping: context.spawner.token().child_token(),
            context,
            pages: Pages::new(registry),
            access: Arc::new(VerifiedOnly),
            health: Health::default(),
            metrics: Metrics::default(),
            storage: None,
            limits: Limits::default(),
            version: VersionInfo::default(),
        })
    }

    /// Ends every watch, in order; the server is no longer ready.
    pub fn stop(&self) {
        self.0.health.set_stopping();
        self.0.stopping.cancel();
    }

    /// The checks of the health paths, to add to.
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// What is counted, to add to.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Answers one request. It never fails: every error is a response with a Status.
    pub async fn respond<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: HttpBody + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (mut parts, body) = request.into_parts();
        let body = std::pin::pin!(body);
        let mut body = Upload::new(body);
        let audit_id = parts
            .headers
            .get(&AUDIT_ID)
            .cloned()
            .or_else(|| HeaderValue::from_str(&self.0.context.rng.uid().to_string()).ok());
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        // HTTP/2 names the host in the URI.
        if let Some(host) = parts.uri.authority().and_then(|it| HeaderValue::from_str(it.as_str()).ok()) {
            parts.headers.entry(header::HOST).or_insert(host);
        }
        let mut response = match self.answer(&mut parts, &query, &mut body).await {
            Ok(response) => response,
            Err(error) => {
                // A client that sends all before it reads anything would not see the answer.
                let waits = parts.headers.contains_key(header::EXPECT);
                body.drain(waits, self.0.limits.drain, self.0.limits.drain_time).await;
                let format = page::format(page::accept(&parts.headers)).unwrap_or(Format::Json);
                render::error(&error, format, pretty(&query, &parts.headers))
            }
        };
        let headers = response.headers_mut();
        if let Some(audit_id) = audit_id {
            headers.insert(AUDIT_ID, audit_id);
        }
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        // HTTP/2 does not take a body off by itself.
        if parts.method == Method::HEAD {
            *response.body_mut() = Bytes::new().into();
        }
        response
    }

    async fn answer<B>(
        &self,
        parts: &mut Parts,
        query: &Query,
        body: &mut Upload<'_, B>,
    ) -> Result<Response<ResponseBody>, ApiError>
    where
        B: HttpBody,
        B::Error: Into<BoxError>,
    {
        if parts.headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
            // To answer as the real user would mislead the caller about what the other one may do.
            return Err(ApiError::bad_request("impersonation is not supported by this server"));
        }
        if parts.extensions.get::<UnverifiedCertificate>().is_some()
            && credentials(parts) == Credentials::Anonymous
        {
            // Who shows something wrong is told so, even where nobody needs to show anything.
            return Err(ApiError::Unauthorized);
        }
        let snapshot = self.0.pages.derived().snapshot.clone();
        let route = router::route(&parts.method, parts.uri.path(), query, &snapshot);
        let started = Instant::now();
        if !matches!(route, Ok(Route::Page(Page::Health { .. } | Page::Version))) {
            let identified = self.0.access.identify(credentials(parts)).await?;
            parts.extensions.insert(identified);
        }
        match route {
            Ok(Route::Page(page)) => self.page(parts, query, &page).await,
            Ok(Route::Resource(route)) if route.verb == Verb::Watch => {
                let labels = labels(&route);
                let answer = self.watch(parts, query, *route, &labels).await;
                self.0.metrics.count(&labels, code(&answer), None);
                answer
            }
            Ok(Route::Resource(route)) => {
                let labels = labels(&route);
                let _going_on = self.0.metrics.going_on(route.verb.writes());
                let asked = query::timeout(query)?.unwrap_or(self.0.limits.timeout);
                let within = asked.min(self.0.limits.timeout);
                let resource = self.resource(parts, query, *route, body);
                let answer =
                    tokio::time::timeout(within, resource).await.unwrap_or_else(|_| Err(timed_out()));
                self.0.metrics.count(&labels, code(&answer), Some(started.elapsed()));
                answer
            }
            Err(error) => Err(error),
        }
    }

    async fn page(
        &self,
        parts: &Parts,
        query: &Query,
        page: &Page,
    ) -> Result<Response<ResponseBody>, ApiError> {
        if !matches!(page, Page::Health { .. } | Page::Version) {
            self.0.access.check(&credentials(parts), parts.uri.path()).await?;
        }
        let headers = &parts.headers;
        match page {
            Page::Version => {
                let version = serde_json::to_value(&self.0.version)
                    .map_err(|error| ApiError::internal(error.to_string()))?;
                let text = render::text(&version, Format::Json, true)?;
                Ok(render::response(StatusCode::OK, "application/json", text))
            }
            Page::Health { endpoint, check } => self.0.health.answer(endpoint, check.as_deref(), query),
            Page::Metrics => {
                if let Some(storage) = &self.0.storage {
                    storage.refresh().await;
                }
                self.0.metrics.answer()
            }
            Page::Index => self.0.pages.index(),
            Page::CoreVersions | Page::Groups | Page::Group(_) | Page::Resources { .. } => {
                self.0.pages.discovery(page, headers)
            }
            Page::OpenApiV2 => self.0.pages.openapi_v2(headers),
            Page::OpenApiV3Index => self.0.pages.openapi_v3_index(headers),
            Page::OpenApiV3(path) => self.0.pages.openapi_v3(path, query, headers),
        }
    }

    fn renderer(
        &self,
        parts: &Parts,
        query: &Query,
        route: &ResourceRoute,
        answer: Answer,
    ) -> Result<Renderer, ApiError> {
        let wanted = media::negotiate(page::accept(&parts.headers), answer)?;
        let include = query.get("includeObject").unwrap_or_default();
        let include = Include::parse(include)
            .ok_or_else(|| ApiError::bad_request(format!("unrecognized includeObject value: {include:?}")))?;
        Ok(Renderer {
            wanted,
            include,
            resolved: route.resolved.clone(),
            pretty: pretty(query, &parts.headers),
            gzip: takes_gzip(&parts.headers),
            now: self.0.context.clock.timestamp(),
        })
    }

    async fn resource<B>(
        &self,
        parts: &Parts,
        query: &Query,
        route: ResourceRoute,
        body: &mut Upload<'_, B>,
    ) -> Result<Response<ResponseBody>, ApiError>
    where
        B: HttpBody,
        B::Error: Into<BoxError>,
    {
        let answer = if route.verb == Verb::List { Answer::Many } else { Answer::One };
        let renderer = self.renderer(parts, query, &route, answer)?;
        let body = if route.verb.writes() {
            let content_type = content_type(&parts.headers, route.verb)?;
            let bytes = body.read(self.0.limits.body).await?;
            match route.verb {
                Verb::Delete | Verb::DeleteCollection if bytes.is_empty() => {
                    Body::Delete(Box::new(query::delete_options(query)?))
                }
                _ => Body::Bytes { content_type, bytes },
            }
        } else {
            Body::Empty
        };
        let answer = self.0.transport.send(self.request(parts, route, body)).await?;
        renderer.render(answer)
    }

    async fn watch(
        &self,
        parts: &Parts,
        query: &Query,
        mut route: ResourceRoute,
        labels: &RequestLabels,
    ) -> Result<Response<ResponseBody>, ApiError> {
        let renderer = self.renderer(parts, query, &route, Answer::Stream)?;
        let Inner { context, limits, metrics, stopping, .. } = &*self.0;
        let longest =
            route.options.timeout.unwrap_or_else(|| limits.watch.mul_f64(1.0 + context.rng.fraction()));
        route.options.timeout = Some(longest);
        let ApiResponse::Watch(events) =
            self.0.transport.send(self.request(parts, route, Body::Empty)).await?
        else {
            return Err(ApiError::internal("no watch where one was asked for"));
        };
        let (counter, going_on) = (metrics.watch_events(labels), metrics.watching(labels));
        let frames = watch::frames(events, Framer::new(renderer, context.clock.clone()), move |_| {
            let _ = &going_on;
            counter.inc();
        });
        let frames = frames.take_until(stopping.clone().cancelled_owned());
        let mut response = render::response(StatusCode::OK, "application/json", Bytes::new());
        *response.body_mut() = ResponseBody::frames(frames);
        Ok(response)
    }

    fn request(&self, parts: &Parts, route: ResourceRoute, body: Body) -> ApiRequest {
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        ApiRequest {
            credentials: credentials(parts),
            verb: route.verb,
            target: route.target,
            options: route.options,
            body,
            user_agent: user_agent.unwrap_or("unknown").into(),
        }
    }
}

fn timed_out() -> ApiError {
    ApiError::Timeout { message: "Timeout: request did not complete within the allotted timeout".into() }
}

fn code(answer: &Result<Response<ResponseBody>, ApiError>) -> StatusCode {
    match answer {
        Ok(response) => response.status(),
        Err(error) => StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn labels(route: &ResourceRoute) -> RequestLabels {
    let target = &route.target;
    let scope = match (&target.name, &target.namespace) {
        (Some(_), _) => "resource",
        (None, Some(_)) => "namespace",
        (None, None) => "cluster",
    };
    RequestLabels {
        verb: route.verb.as_str().to_uppercase(),
        group: target.group.clone(),
        version: target.version.clone(),
        resource: target.resource.clone(),
        subresource: target.subresource.clone().unwrap_or_default(),
        scope: scope.into(),
    }
}

/// Who asks: as the connection says, else as the bearer token says.
fn credentials(parts: &Parts) -> Credentials {
    if let Some(verified) = parts.extensions.get::<Credentials>() {
        return verified.clone();
    }
    let token = parts.headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    token.filter(|token| !token.is_empty()).map_or(Credentials::Anonymous, Credentials::Token)
}

/// `pretty` of the query; unless it is said, people get indented JSON, as from Kubernetes.
fn pretty(query: &Query, headers: &HeaderMap) -> bool {
    query.flag("pretty").unwrap_or_else(|| {
        let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        ["curl", "Wget", "Mozilla/5.0"].iter().any(|people| agent.starts_with(people))
    })
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(media::ranges)
        .any(|range| range.essence == "gzip")
}

/// The media type of a write's body, if it is one that the verb takes.
fn content_type(headers: &HeaderMap, verb: Verb) -> Result<String, ApiError> {
    let given = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let essence = media::essence(given.unwrap_or_default());
    let supported: &[&str] = match verb {
        Verb::Patch => &[patch_type::JSON, patch_type::MERGE, patch_type::STRATEGIC, patch_type::APPLY],
        _ if essence.is_empty() => return Ok(Format::Json.essence().into()),
        _ => &["application/json", "application/yaml", protobuf::MEDIA_TYPE],
    };
    let essence = if essence == "text/yaml" { "application/yaml".to_owned() } else { essence };
    if supported.contains(&essence.as_str()) {
        return Ok(essence);
    }
    Err(ApiError::UnsupportedMediaType { supported: supported.iter().map(|&name| name.into()).collect() })
}
