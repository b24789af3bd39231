use std::marker::PhantomData;
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::Etcd;
use super::wire::AuthenticateRequest;
use crate::backend::engine::{Options, common_options};
use crate::{StoreError, Value};

/// How a store on etcd is reached, and what it keeps in this process.
///
/// ```
/// use std::time::Duration;
/// use rkube_store::Value;
/// use rkube_store::backend::etcd::{Builder, Etcd};
///
/// fn of_three<V: Value>(ca: &[u8], certificate: &[u8], key: &[u8]) -> Builder<V> {
///     Etcd::builder(["https://10.0.0.1:2379", "https://10.0.0.2:2379", "https://10.0.0.3:2379"])
///         .prefix("/clusters/one")
///         .tls(ca)
///         .certificate(certificate, key)
///         .user("rkube", "a password")
///         .compact_after(Duration::from_secs(300))
/// }
/// ```
#[must_use]
pub struct Builder<V> {
    pub(super) connect: ConnectOptions,
    pub(super) prefix: String,
    pub(super) options: Options,
    pub(super) compact_after: Option<Duration>,
    of: PhantomData<fn() -> V>,
}

/// How etcd is reached.
pub(super) struct ConnectOptions {
    endpoints: Vec<String>,
    authorities: Option<Vec<u8>>,
    certificate: Option<(Vec<u8>, Vec<u8>)>,
    server_name: Option<String>,
    user: Option<(String, String)>,
    pub(super) attempt: Duration,
    pub(super) patience: Duration,
}

/// Why a store on etcd could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EtcdError {
    /// No endpoint was given.
    #[error("no endpoint of etcd is given")]
    NoEndpoint,
    /// An endpoint, or the TLS of it, cannot be used.
    #[error("endpoint {endpoint}: {source}")]
    Endpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong.
        source: tonic::transport::Error,
    },
    /// etcd was not reached, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<V: Value> Builder<V> {
    /// As [`Etcd::builder`].
    pub(super) fn new(endpoints: Vec<String>) -> Self {
        let connect = ConnectOptions {
            endpoints,
            authorities: None,
            certificate: None,
            server_name: None,
            user: None,
            attempt: Duration::from_secs(5),
            patience: Duration::from_secs(15),
        };
        let compact_after = Some(Duration::from_secs(300));
        Self { connect, prefix: String::new(), options: Options::default(), compact_after, of: PhantomData }
    }

    /// What comes before each key in etcd; nothing by default, so that keys are the same there. Several
    /// stores can share an etcd under prefixes of which none begins with another.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The certificates (PEM) of which one must have signed etcd's. Endpoints are `https` then.
    pub fn tls(mut self, authorities: impl Into<Vec<u8>>) -> Self {
        self.connect.authorities = Some(authorities.into());
        self
    }

    /// The certificate and its key (PEM) that this end shows to etcd.
    pub fn certificate(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.connect.certificate = Some((certificate.into(), key.into()));
        self
    }

    /// The name that etcd's certificate must be for, where it is not the endpoint's own.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.connect.server_name = Some(name.into());
        self
    }

    /// The user of etcd that everything is done as. Its role must grant:
    ///
    /// - to read all keys (`etcdctl role grant-permission NAME read "" --prefix`): revisions count the writes
    ///   of everybody, so all of them are watched;
    /// - to read and write below the prefix (`readwrite PREFIX --prefix`);
    /// - to read and write the key `compact_rev_key`, where the servers on an etcd, kube-apiserver among
    ///   them, agree on who compacts it; not with [`Builder::without_compaction`].
    ///
    /// Leases need no more. Nor does a compaction, up to etcd 3.5 at least; one that lets only the role `root`
    /// compact refuses it, and should do it itself: [`Builder::without_compaction`].
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.connect.user = Some((name.into(), password.into()));
        self
    }

    /// How long a member has to answer, 5 s by default, and how long others are then tried, 15 s.
    pub fn timeouts(mut self, member: Duration, all: Duration) -> Self {
        self.connect.attempt = member;
        self.connect.patience = all;
        self
    }

    common_options!();

    /// As [`Builder::history_age`], where that is not called.
    pub fn default_history_age(mut self, age: Duration) -> Self {
        self.options.history.age.get_or_insert(age);
        self
    }

    /// How long etcd keeps history: what is older is compacted, for all that use this etcd. Five minutes by
    /// default, as Kubernetes does; several API servers may each do it.
    pub fn compact_after(mut self, age: Duration) -> Self {
        self.compact_after = Some(age);
        self
    }

    /// Leaves compaction to etcd (`--auto-compaction-retention`) or to others.
    pub fn without_compaction(mut self) -> Self {
        self.compact_after = None;
        self
    }

    /// Connects, and reads what is there.
    ///
    /// # Errors
    /// [`EtcdError`], after [`Builder::timeouts`] at the latest where etcd cannot be reached.
    pub async fn connect(self) -> Result<Etcd<V>, EtcdError> {
        Etcd::connect(self).await
    }
}

impl ConnectOptions {
    /// A channel to each member. Nothing is connected yet.
    pub(super) fn channels(&self) -> Result<Vec<Channel>, EtcdError> {
        let channels = self.endpoints.iter().map(|endpoint| {
            let source = |source| EtcdError::Endpoint { endpoint: endpoint.clone(), source };
            let built = Endpoint::from_shared(endpoint.clone()).map_err(source)?;
            let built = built
                .connect_timeout(self.attempt)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(Duration::from_secs(10))
                .keep_alive_timeout(Duration::from_secs(5))
                .initial_stream_window_size(4 << 20)
                .initial_connection_window_size(16 << 20);
            let built = match self.tls() {
                Some(tls) => built.tls_config(tls).map_err(source)?,
                None => built,
            };
            Ok(built.connect_lazy())
        });
        let channels = channels.collect::<Result<Vec<_>, EtcdError>>()?;
        if channels.is_empty() { Err(EtcdError::NoEndpoint) } else { Ok(channels) }
    }

    fn tls(&self) -> Option<ClientTlsConfig> {
        let authorities = self.authorities.as_ref()?;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities));
        if let Some((certificate, key)) = &self.certificate {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        Some(tls)
    }

    pub(super) fn credentials(&self) -> Option<AuthenticateRequest> {
        let (name, password) = self.user.clone()?;
        Some(AuthenticateRequest { name, password })
    }
}
