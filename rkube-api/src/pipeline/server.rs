//! The server: its parts, and the way of a request through them.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use rkube_store::{LeaseId, ListOptions, Store, Txn};

use super::{
    Action, Authenticator, Authorizer, FixedTable, Kept, Pool, Reader, Reservation, authn, authz,
    call::{Call, store_error},
    create, delete,
    ending::NamespaceEnds,
    keys, leases, patch, read,
    tokens::Tokens,
    update, watch,
};
use crate::{
    admission::{self, Admission},
    alloc,
    client::Client,
    context::Context,
    error::ApiError,
    meta::{ErrorList, FieldPath, object_meta::validate_field_manager},
    object::Object,
    registry::{Definition, Registry, Scope, SubresourceKind},
    request::{ApiRequest, ApiResponse, Body, Credentials, Target, Transport, UserInfo, Verb},
    subresources::{self, Handler},
};

/// Why a server cannot be built.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BuildError {
    /// Two handlers are for one subresource.
    #[error("two handlers for {resource}/{subresource}")]
    TwoHandlers {
        /// The plural name.
        resource: String,
        /// The subresource.
        subresource: String,
    },
}

/// Puts a [`Server`] together; see there.
#[must_use]
pub struct Builder {
    store: Arc<dyn Store<Object>>,
    registry: Arc<Registry>,
    context: Context,
    authenticators: Vec<Arc<dyn Authenticator>>,
    authorizer: Arc<dyn Authorizer>,
    admission: Vec<Arc<dyn Admission>>,
    reservations: Vec<Arc<dyn Reservation>>,
    handlers: Vec<Arc<dyn Handler>>,
}

impl Builder {
    /// Adds what knows the users of bearer tokens. Without any, no token is known.
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticators.push(authenticator);
        self
    }

    /// Who may do what; [`FixedTable`] unless said otherwise.
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = authorizer;
        self
    }

    /// The admission plugins, in order; [`admission::all`] unless said otherwise.
    pub fn admission(mut self, plugins: Vec<Arc<dyn Admission>>) -> Self {
        self.admission = plugins;
        self
    }

    /// Adds an admission plugin behind those that there are.
    pub fn admit(mut self, plugin: Arc<dyn Admission>) -> Self {
        self.admission.push(plugin);
        self
    }

    /// What writes take besides their objects; [`alloc::all`] unless said otherwise.
    pub fn reservations(mut self, reservations: Vec<Arc<dyn Reservation>>) -> Self {
        self.reservations = reservations;
        self
    }

    /// The server.
    pub fn build(mut self) -> Result<Arc<Server>, BuildError> {
        for (at, handler) in self.handlers.iter().enumerate() {
            let (group, resource, subresource) = handler.serves();
            if self.handlers[..at].iter().any(|other| other.serves() == (group, resource, subresource)) {
                return Err(BuildError::TwoHandlers {
                    resource: resource.to_owned(),
                    subresource: subresource.to_owned(),
                });
            }
        }
        // Whatever else is taken: the ends of namespaces are no choice.
        self.reservations.push(Arc::new(NamespaceEnds));
        let reader = Reader::new(self.store.clone(), self.registry.clone());
        let tokens = Tokens::new(Kept::new(self.store.clone()));
        Ok(Arc::new(Server {
            parts: self,
            reader,
            leases: leases::Leases::default(),
            bookmarks: OnceLock::new(),
            tokens,
        }))
    }
}

/// The API server in this process: a [`Transport`] that takes each request through authentication,
/// authorization, decoding, admission, strategy and storage.
///
/// ```
/// use std::sync::Arc;
/// use k8s_openapi::api::core::v1::ConfigMap;
/// use rkube_api::{client::{Api, PostParams}, context::Context, kinds, pipeline::Server, registry::Registry};
/// use rkube_api::request::UserInfo;
/// use rkube_store::Memory;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let store = Arc::new(Memory::<rkube_api::object::Object>::builder().build());
/// let registry = Arc::new(Registry::new(kinds::all()).unwrap());
/// let server = Server::builder(store, registry, Context::system(1)).admission(Vec::new()).build().unwrap();
/// let maps: Api<ConfigMap> = Api::namespaced(server.client(UserInfo::admin("me"), "docs"), "default");
///
/// let mut map = ConfigMap::default();
/// map.metadata.name = Some("a".into());
/// maps.create(&PostParams::default(), map).await.unwrap();
/// assert_eq!(maps.get("a").await.unwrap().metadata.name.as_deref(), Some("a"));
/// # });
/// ```
pub struct Server {
    parts: Builder,
    reader: Reader,
    leases: leases::Leases,
    bookmarks: OnceLock<()>,
    tokens: Tokens,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// Begins a server over a store, serving what the registry defines.
    pub fn builder(store: Arc<dyn Store<Object>>, registry: Arc<Registry>, context: Context) -> Builder {
        Builder {
            store,
            registry,
            context,
            authenticators: Vec::new(),
            authorizer: Arc::new(FixedTable),
            admission: admission::all(),
            reservations: alloc::all(),
            handlers: subresources::all(),
        }
    }

    /// What is served.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.parts.registry
    }

    /// Time, randomness and tasks.
    pub fn context(&self) -> &Context {
        &self.parts.context
    }

    /// Reads for what runs inside the server.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// A client in this process that sends as `user`.
    pub fn client(self: &Arc<Self>, user: UserInfo, user_agent: impl Into<Arc<str>>) -> Client {
        let credentials = Credentials::InProcess(Arc::new(user));
        Client::new(self.clone(), credentials, user_agent, self.context().clone())
    }

    /// The user of these credentials, or 401.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Arc<UserInfo>, ApiError> {
        if let Credentials::Token(token) = credentials {
            let now = self.context().clock.timestamp();
            if let Some(user) = self.tokens.user(token, now, &self.reader).await? {
                return Ok(user);
            }
        }
        authn::user(&self.parts.authenticators, credentials).await
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Asks again for a create, where a request of another verb turns out to be one.
    pub(super) async fn authorize_create(&self, call: &Call<'_>) -> Result<(), ApiError> {
        let action = Action::Resource { verb: Verb::Create, target: &call.target };
        authz::check(&self.parts.authorizer, &call.user, action).await
    }

    /// Whether a user may read a path that is no resource (`/apis`, `/version`), or 403.
    pub async fn authorize_path(&self, user: &UserInfo, path: &str) -> Result<(), ApiError> {
        authz::check(&self.parts.authorizer, user, Action::Path(path)).await
    }

    /// How many objects of each resource are stored, by group and plural name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stored(&self) -> Result<Vec<(Arc<Definition>, u64)>, ApiError> {
        let snapshot = self.registry().snapshot();
        let mut found = Vec::new();
        for definition in snapshot.definitions() {
            let folder = keys::folder(definition, None);
            let counted = self.store().list(&folder, ListOptions::page(0)).await.map_err(store_error)?;
            found.push((definition.clone(), counted.remaining));
        }
        Ok(found)
    }

    /// How the store is doing.
    pub fn storage(&self) -> rkube_store::Stats {
        self.store().stats()
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store<Object>> {
        &self.parts.store
    }

    pub(super) fn authorizer(&self) -> &dyn Authorizer {
        &*self.parts.authorizer
    }

    pub(crate) fn admission(&self) -> &[Arc<dyn Admission>] {
        &self.parts.admission
    }

    /// Whether writes of the resource take something besides.
    pub(super) fn reserves(&self, definition: &Definition) -> bool {
        self.parts.reservations.iter().any(|reservation| reservation.resource() == definition.resource())
    }

    /// What a write takes besides, for its transaction. What it adds to the new object is nobody's.
    pub(super) async fn reserve(
        &self,
        call: &Call<'_>,
        old: Option<&Object>,
        mut new: Option<&mut Object>,
    ) -> Result<Txn<Object>, ApiError> {
        let definition = call.definition();
        let mut txn = Txn::new();
        if !self.reserves(definition) {
            return Ok(txn);
        }
        let entries = new.as_deref().map(|new| new.managed_fields().to_vec());
        for reservation in &self.parts.reservations {
            if reservation.resource() == definition.resource() {
                let pool = Pool { reader: &self.reader, context: self.context(), definition };
                reservation.reserve(&pool, old, new.as_deref_mut(), &mut txn).await?;
            }
        }
        if let (Some(new), Some(entries)) = (new, entries) {
            new.keep_managed_fields(entries);
        }
        Ok(txn)
    }

    pub(super) async fn lease(&self, time: Duration) -> Result<LeaseId, ApiError> {
        self.leases.get(&**self.store(), time).await.map_err(store_error)
    }

    /// Bookmarks come from one task a server, which starts with the first watcher who wants them.
    pub(super) fn start_bookmarks(&self) {
        self.bookmarks.get_or_init(|| {
            self.context().spawner.spawn("bookmarks", watch::tick(self.store().clone()));
        });
    }

    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let ApiRequest { credentials, verb, target, options, body, user_agent } = request;
        let user = self.authenticate(&credentials).await?;
        authz::check(&self.parts.authorizer, &user, Action::Resource { verb, target: &target }).await?;
        let resource = self
            .registry()
            .look()
            .resolve(&target.group, &target.version, &target.resource)
            .ok_or(ApiError::NoSuchPath)?;
        let call = Call { server: self, user, verb, target, resource, options, user_agent };
        check_field_manager(&call)?;
        if let Some(subresource) = call.subresource() {
            return self.subresource(&call, subresource, body).await;
        }
        check_target(call.definition(), verb, &call.target)?;
        match verb {
            Verb::Get => read::get(&call).await,
            Verb::List => read::list(&call).await,
            Verb::Watch => watch::watch(&call).await,
            Verb::Create => create::create(&call, body).await,
            Verb::Update => update::update(&call, body, &update::Rules::main(call.definition())).await,
            Verb::Patch => patch::patch(&call, body, &update::Rules::main(call.definition())).await,
            Verb::Delete => delete::delete(&call, body).await,
            Verb::DeleteCollection => delete::delete_collection(&call, body).await,
        }
    }

    async fn subresource(&self, call: &Call<'_>, name: &str, body: Body) -> Result<ApiResponse, ApiError> {
        let definition = call.definition();
        let subresource = definition.subresource(name).ok_or(ApiError::NoSuchPath)?;
        match &subresource.kind {
            SubresourceKind::Status(strategy) => subresources::status::serve(call, strategy, body).await,
            SubresourceKind::Scale(scale) => subresources::scale::serve(call, scale, body).await,
            SubresourceKind::Handler { verbs, .. } => {
                if !verbs.contains(&call.verb) {
                    return Err(ApiError::MethodNotAllowed);
                }
                let (group, plural) = definition.resource();
                let handler = self.parts.handlers.iter().find(|it| it.serves() == (group, plural, name));
                handler.ok_or(ApiError::MethodNotAllowed)?.serve(call, body).await
            }
        }
    }
}

/// 422 on a create or an update whose `fieldManager` is no name. A patch looks at it together with the
/// options that only it has.
fn check_field_manager(call: &Call<'_>) -> Result<(), ApiError> {
    let options = match call.verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        _ => return Ok(()),
    };
    let mut errors = ErrorList::new();
    let manager = call.options.field_manager.as_deref().unwrap_or_default();
    validate_field_manager(manager, &FieldPath::new("fieldManager"), &mut errors);
    read::invalid_options_of(options, &errors)
}

/// What fits the resource's scope and verbs, or 404 and 405.
fn check_target(definition: &Definition, verb: Verb, target: &Target) -> Result<(), ApiError> {
    if !definition.verbs.contains(&verb) {
        return Err(ApiError::MethodNotAllowed);
    }
    let namespaced = target.namespace.as_deref().is_some_and(|namespace| !namespace.is_empty());
    match (definition.scope, verb) {
        (Scope::Cluster, _) if namespaced => Err(ApiError::NoSuchPath),
        (Scope::Namespaced, Verb::List | Verb::Watch | Verb::Create | Verb::DeleteCollection) => Ok(()),
        (Scope::Namespaced, _) if !namespaced => Err(ApiError::NoSuchPath),
        _ => Ok(()),
    }
}

#[async_trait]
impl Transport for Server {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        self.call(request).await
    }
}
