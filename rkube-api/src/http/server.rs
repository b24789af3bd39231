//! Connections: TLS, HTTP/1.1 and 2, and an end in order.

use std::{sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{
    ApiService,
    io::Guarded,
    service::UnverifiedCertificate,
    tls::{Peer, ServerTls},
};
use crate::context::Spawner;

/// Bounds on connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// So many at once; more wait to be accepted.
    pub connections: usize,
    /// A handshake, and the head of a request, take no longer.
    pub head: Duration,
    /// The head of a request is no larger.
    pub head_bytes: usize,
    /// A peer that reads nothing for so long is given up.
    pub stall: Duration,
    /// HTTP/2: requests at once on one connection; 250, as Kubernetes.
    pub streams: u32,
    /// HTTP/2: how many streams a peer may reset before it is sent away.
    pub resets: usize,
    /// HTTP/2: a peer is asked this often whether it is there.
    pub ping: Duration,
    /// At the end, requests have so long to finish.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 16_384,
            head: Duration::from_secs(30),
            head_bytes: 128 * 1024,
            stall: Duration::from_secs(60),
            streams: 250,
            resets: 100,
            ping: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves an [`ApiService`] to connections.
///
/// ```no_run
/// # async fn example(service: rkube_api::http::ApiService, context: rkube_api::context::Context)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use rkube_api::http::{Authority, HttpServer};
///
/// let authority = Authority::new(&context.clock)?;
/// let config = authority.server_config(&authority.server(&[])?)?;
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:6443").await?;
/// let server = HttpServer::new(service, context.spawner.child()).tls(config);
/// server.serve(listener, context.spawner.token().clone()).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HttpServer {
    service: ApiService,
    spawner: Spawner,
    tls: Option<ServerTls>,
    bounds: Bounds,
    draining: CancellationToken,
}

impl std::fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HttpServer(tls: {}, {:?})", self.tls.is_some(), self.bounds)
    }
}

/// hyper's own tasks come from our spawner.
#[derive(Clone)]
struct Executor(Spawner);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("http stream", async move {
            future.await;
        });
    }
}

impl HttpServer {
    /// A server without TLS, with the default bounds. Its tasks end with `spawner`.
    pub fn new(service: ApiService, spawner: Spawner) -> Self {
        Self { service, spawner, tls: None, bounds: Bounds::default(), draining: CancellationToken::new() }
    }

    /// Behind TLS; see [`Authority::server_config`](super::Authority::server_config).
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Other bounds.
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Serves until `stop`, then ends in order: no new connections, watches end, requests finish within
    /// the bound, the rest is cut off. Returns when that is done.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.bounds.connections));
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = async {
                    let slot = slots.clone().acquire_owned().await;
                    (listener.accept().await, slot)
                } => accepted,
            };
            let (io, slot) = match accepted {
                (Ok((io, _)), slot) => (io, slot),
                (Err(error), _) => {
                    // Too many open files, or a peer that went away: neither ends the server.
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Watch events are small and wait for nobody.
            let _ = io.set_nodelay(true);
            let server = self.clone();
            self.spawner.spawn(
                "http connection",
                connections.track_future(async move {
                    server.serve_connection(io).await;
                    drop(slot);
                }),
            );
        }
        drop(listener);
        self.service.stop();
        self.draining.cancel();
        connections.close();
        if timeout(self.bounds.drain, connections.wait()).await.is_err() {
            tracing::info!(left = connections.len(), "connections cut off at the end");
        }
        self.spawner.stop().await;
    }

    /// Serves one connection until it ends.
    pub async fn serve_connection(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let io = Guarded::new(io, self.bounds.head, self.bounds.stall);
        let Some(tls) = &self.tls else {
            return self.speak(io, Peer::Nobody).await;
        };
        match timeout(self.bounds.head, TlsAcceptor::from(tls.config()).accept(io)).await {
            Ok(Ok(stream)) => {
                let peer = tls.peer(stream.get_ref().1.peer_certificates());
                self.speak(stream, peer).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    }

    fn builder(&self) -> auto::Builder<Executor> {
        let bounds = &self.bounds;
        let mut builder = auto::Builder::new(Executor(self.spawner.clone()));
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.head)
            .max_buf_size(bounds.head_bytes)
            .keep_alive(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(bounds.streams)
            .max_pending_accept_reset_streams(bounds.resets)
            .max_local_error_reset_streams(bounds.resets)
            .max_header_list_size(u32::try_from(bounds.head_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(1024 * 1024)
            .initial_connection_window_size(4 * 1024 * 1024)
            .max_send_buf_size(256 * 1024)
            .keep_alive_interval(bounds.ping)
            .keep_alive_timeout(bounds.ping);
        builder
    }

    async fn speak(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        let service = self.service.clone().map_request(move |mut request: http::Request<_>| {
            match &peer {
                Peer::Nobody => {}
                Peer::Unverified => {
                    request.extensions_mut().insert(UnverifiedCertificate);
                }
                Peer::Verified(credentials) => {
                    request.extensions_mut().insert(credentials.clone());
                }
            }
            request
        });
        let builder = self.builder();
        let connection =
            builder.serve_connection_with_upgrades(TokioIo::new(io), TowerToHyperService::new(service));
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = self.draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}
