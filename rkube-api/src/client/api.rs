//! Typed calls.

use std::{marker::PhantomData, sync::Arc};

use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::{Serialize, de::DeserializeOwned};

use super::{Client, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use crate::{
    error::ApiError,
    object::{Kind, Object},
    request::{ApiResponse, Body, Options, Target, Verb, WatchEvent},
};

/// The objects of one kind, in one namespace, in all, or in none.
///
/// ```no_run
/// # use rkube_api::client::{Api, Client, ListParams};
/// # use k8s_openapi::api::core::v1::Pod;
/// # async fn example(client: Client) -> Result<(), rkube_api::error::ApiError> {
/// let pods: Api<Pod> = Api::namespaced(client, "default");
/// for pod in pods.list(&ListParams::default().labels("app=web")).await?.items {
///     println!("{:?}", pod.metadata.name);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Api<K> {
    client: Client,
    namespace: Option<String>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), namespace: self.namespace.clone(), kind: PhantomData }
    }
}

impl<K> std::fmt::Debug for Api<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Api<{}>({:?})", std::any::type_name::<K>(), self.namespace)
    }
}

/// A page of typed objects.
#[derive(Clone, Debug)]
pub struct ObjectList<K> {
    /// The objects, shared with the server's cache in process.
    pub items: Vec<Arc<K>>,
    /// The state that the list shows.
    pub resource_version: String,
    /// Where the next page begins, if there is one.
    pub continue_token: Option<String>,
    /// How many follow, if the server tells.
    pub remaining: Option<u64>,
}

/// One change of a typed object.
#[derive(Clone, Debug)]
pub enum KindWatchEvent<K> {
    /// The object is new to the watcher.
    Added(Arc<K>),
    /// The object has changed.
    Modified(Arc<K>),
    /// The object is gone, or no longer matches.
    Deleted(Arc<K>),
    /// Everything up to this version has been sent.
    Bookmark {
        /// That version.
        resource_version: String,
        /// Whether this ends the initial events.
        initial_events_end: bool,
    },
}

/// A stream of changes; it ends after an error.
pub type KindWatchStream<K> = BoxStream<'static, Result<KindWatchEvent<K>, ApiError>>;

fn unexpected(wanted: &str, response: &ApiResponse) -> ApiError {
    ApiError::internal(format!("expected {wanted}, the server sent {response:?}"))
}

impl<K: Kind> Api<K> {
    /// Cluster-scoped objects, or those of all namespaces.
    pub fn all(client: Client) -> Self {
        Self { client, namespace: None, kind: PhantomData }
    }

    /// The objects of one namespace.
    pub fn namespaced(client: Client, namespace: impl Into<String>) -> Self {
        Self { client, namespace: Some(namespace.into()), kind: PhantomData }
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn target(&self, name: Option<&str>, subresource: Option<&str>) -> Target {
        Target {
            group: K::GROUP.into(),
            version: K::VERSION.into(),
            resource: K::URL_PATH_SEGMENT.into(),
            namespace: self.namespace.clone(),
            name: name.map(Into::into),
            subresource: subresource.map(Into::into),
        }
    }

    async fn object(
        &self,
        verb: Verb,
        target: Target,
        options: Options,
        body: Body,
    ) -> Result<Arc<K>, ApiError> {
        match self.client.request(verb, target, options, body).await? {
            ApiResponse::Object { object, .. } => Ok(object.into_kind()?),
            other => Err(unexpected("an object", &other)),
        }
    }

    /// Reads one object, the newest state.
    pub async fn get(&self, name: &str) -> Result<Arc<K>, ApiError> {
        self.object(Verb::Get, self.target(Some(name), None), Options::default(), Body::Empty).await
    }

    /// Reads one object; `None` if it does not exist.
    pub async fn get_opt(&self, name: &str) -> Result<Option<Arc<K>>, ApiError> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(ApiError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads many.
    pub async fn list(&self, params: &ListParams) -> Result<ObjectList<K>, ApiError> {
        let target = self.target(None, None);
        match self.client.request(Verb::List, target, params.options(), Body::Empty).await? {
            ApiResponse::List(list) => Ok(ObjectList {
                items: list.items.into_iter().map(Object::into_kind).collect::<Result<_, _>>()?,
                resource_version: list.resource_version,
                continue_token: list.continue_token,
                remaining: list.remaining,
            }),
            other => Err(unexpected("a list", &other)),
        }
    }

    /// Follows changes. The stream ends when the server ends it; an error is its last item.
    pub async fn watch(&self, params: &WatchParams) -> Result<KindWatchStream<K>, ApiError> {
        let target = self.target(None, None);
        match self.client.request(Verb::Watch, target, params.options(), Body::Empty).await? {
            ApiResponse::Watch(stream) => Ok(stream.map(typed_event).boxed()),
            other => Err(unexpected("a watch", &other)),
        }
    }

    /// Makes an object; an absent name is generated from generateName.
    pub async fn create(&self, params: &PostParams, object: K) -> Result<Arc<K>, ApiError> {
        let mut target = self.target(None, None);
        if target.namespace.is_none() {
            target.namespace = object.metadata().namespace.clone();
        }
        self.object(Verb::Create, target, params.options(), Body::Object(Object::new(object))).await
    }

    /// Replaces an object, if it has not changed since the version that `object` carries.
    pub async fn update(&self, params: &PostParams, object: K) -> Result<Arc<K>, ApiError> {
        self.put(None, params, object).await
    }

    /// Replaces an object's status.
    pub async fn update_status(&self, params: &PostParams, object: K) -> Result<Arc<K>, ApiError> {
        self.put(Some("status"), params, object).await
    }

    async fn put(
        &self,
        subresource: Option<&str>,
        params: &PostParams,
        object: K,
    ) -> Result<Arc<K>, ApiError> {
        let name = object.metadata().name.clone().unwrap_or_default();
        let mut target = self.target(Some(&name), subresource);
        if target.namespace.is_none() {
            target.namespace = object.metadata().namespace.clone();
        }
        self.object(Verb::Update, target, params.options(), Body::Object(Object::new(object))).await
    }

    /// Changes part of an object.
    pub async fn patch(&self, name: &str, params: &PatchParams, patch: &Patch) -> Result<Arc<K>, ApiError> {
        self.patch_subresource(name, None, params, patch).await
    }

    /// Changes part of an object's status.
    pub async fn patch_status(
        &self,
        name: &str,
        params: &PatchParams,
        patch: &Patch,
    ) -> Result<Arc<K>, ApiError> {
        self.patch_subresource(name, Some("status"), params, patch).await
    }

    async fn patch_subresource(
        &self,
        name: &str,
        subresource: Option<&str>,
        params: &PatchParams,
        patch: &Patch,
    ) -> Result<Arc<K>, ApiError> {
        let (content_type, bytes) = patch.encode()?;
        let body = Body::Bytes { content_type: content_type.into(), bytes };
        self.object(Verb::Patch, self.target(Some(name), subresource), params.options(), body).await
    }

    /// Deletes an object. `Some`: the object as the server answered it: because it is still there
    /// (finalizers, grace), or, for pods, services and service accounts, as it last was.
    pub async fn delete(&self, name: &str, params: &DeleteParams) -> Result<Option<Arc<K>>, ApiError> {
        let options = Options { dry_run: params.dry_run, ..Options::default() };
        let body = Body::Delete(Box::new(params.delete_options()));
        match self.client.request(Verb::Delete, self.target(Some(name), None), options, body).await? {
            ApiResponse::Object { object, .. } => Ok(Some(object.into_kind()?)),
            ApiResponse::Status { .. } => Ok(None),
            other => Err(unexpected("an object or a status", &other)),
        }
    }

    /// Deletes all that `which` selects.
    pub async fn delete_collection(&self, params: &DeleteParams, which: &ListParams) -> Result<(), ApiError> {
        let options = Options { dry_run: params.dry_run, ..which.options() };
        let body = Body::Delete(Box::new(params.delete_options()));
        self.client.request(Verb::DeleteCollection, self.target(None, None), options, body).await?;
        Ok(())
    }

    /// Creates a subresource that answers with a Status (`binding`) or with an object of its own kind.
    pub async fn create_subresource<B: Kind>(
        &self,
        name: &str,
        subresource: &str,
        params: &PostParams,
        body: B,
    ) -> Result<Option<Status>, ApiError> {
        let target = self.target(Some(name), Some(subresource));
        let body = Body::Object(Object::new(body));
        match self.client.request(Verb::Create, target, params.options(), body).await? {
            ApiResponse::Status { status, .. } => Ok(Some(*status)),
            _ => Ok(None),
        }
    }

    /// Reads a subresource of another kind (`scale`).
    pub async fn get_subresource<S: DeserializeOwned>(
        &self,
        name: &str,
        subresource: &str,
    ) -> Result<S, ApiError> {
        let target = self.target(Some(name), Some(subresource));
        self.foreign(Verb::Get, target, Options::default(), Body::Empty).await
    }

    /// Replaces a subresource of another kind (`scale`).
    pub async fn update_subresource<S: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        subresource: &str,
        params: &PostParams,
        body: &S,
    ) -> Result<S, ApiError> {
        let bytes = serde_json::to_vec(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
        let body = Body::Bytes { content_type: "application/json".into(), bytes: bytes.into() };
        self.foreign(Verb::Update, self.target(Some(name), Some(subresource)), params.options(), body).await
    }

    async fn foreign<S: DeserializeOwned>(
        &self,
        verb: Verb,
        target: Target,
        options: Options,
        body: Body,
    ) -> Result<S, ApiError> {
        match self.client.request(verb, target, options, body).await? {
            ApiResponse::Object { object, .. } => serde_json::from_value(object.to_value()?)
                .map_err(|error| ApiError::internal(error.to_string())),
            other => Err(unexpected("an object", &other)),
        }
    }
}

fn typed_event<K: Kind>(event: WatchEvent) -> Result<KindWatchEvent<K>, ApiError> {
    Ok(match event {
        WatchEvent::Added(object) => KindWatchEvent::Added(object.into_kind()?),
        WatchEvent::Modified(object) => KindWatchEvent::Modified(object.into_kind()?),
        WatchEvent::Deleted(object) => KindWatchEvent::Deleted(object.into_kind()?),
        WatchEvent::Bookmark { resource_version, initial_events_end } => {
            KindWatchEvent::Bookmark { resource_version, initial_events_end }
        }
        WatchEvent::Error(error) => return Err(error),
    })
}
