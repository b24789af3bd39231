//! Builds the definition of a typed kind from functions over the type itself.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

use super::{
    Cell, Column, Definition, Hook, Hook2, Names, Oracle, Scale, Scope, Selectable, StatusStrategy, Strategy,
    Subresource, SubresourceKind, ValidateUpdateFn, Version,
};
use crate::{
    error::ApiError,
    meta::{names::NameCheck, validation::ErrorList},
    object::{Body, Kind, Object, ObjectError},
    request::Verb,
};

/// Builds the [`Definition`] of a typed kind; every method takes a function over the type itself.
pub struct Builder<K> {
    definition: Definition,
    kind: std::marker::PhantomData<fn(K)>,
}

fn cast<K: Body>(object: &Object) -> Option<&K> {
    let found = object.as_kind::<K>();
    if found.is_none() {
        tracing::error!(kind = object.kind(), "object of a wrong type met a typed definition");
    }
    found
}

fn hook<K: Body>(change: fn(&mut K)) -> Hook {
    Arc::new(move |object| {
        if let Some(object) = object.as_kind_mut::<K>() {
            change(object);
        }
    })
}

fn hook2<K: Body>(change: fn(&mut K, &K)) -> Hook2 {
    Arc::new(move |object, old| {
        if let (Some(object), Some(old)) = (object.as_kind_mut::<K>(), cast::<K>(old)) {
            change(object, old);
        }
    })
}

fn validate2<K: Body>(check: fn(&K, &K) -> ErrorList) -> ValidateUpdateFn {
    Arc::new(move |object, old| match (cast::<K>(object), cast::<K>(old)) {
        (Some(object), Some(old)) => check(object, old),
        _ => ErrorList::default(),
    })
}

/// `io.k8s.api.core.v1.Pod`: the last parts of the Rust path are those of the OpenAPI name.
fn openapi_name<K>() -> String {
    let path = std::any::type_name::<K>();
    let parts: Vec<&str> = path.split("::").collect();
    // k8s_openapi::v1_37::api::core::v1::pod::Pod
    let (kind, middle) = match parts.as_slice() {
        [_, _, middle @ .., _, kind] => (*kind, middle),
        _ => return path.to_owned(),
    };
    format!("io.k8s.{}.{kind}", middle.join("."))
}

impl<K: Kind> Default for Builder<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Kind> Builder<K> {
    /// A namespaced kind with all verbs, no rules and no columns but name and age.
    pub fn new() -> Self {
        let singular = K::KIND.to_lowercase();
        let names = Names {
            group: K::GROUP.into(),
            plural: K::URL_PATH_SEGMENT.into(),
            singular,
            kind: K::KIND.into(),
            list_kind: format!("{}List", K::KIND),
            ..Names::default()
        };
        let version = Version {
            name: K::VERSION.into(),
            served: true,
            decode: Arc::new(Object::typed_from_value::<K>),
            to_hub: None,
            from_hub: None,
            type_name: Some(openapi_name::<K>()),
            schema: None,
            compiled: None,
            group: None,
            face: None,
        };
        let definition = Definition {
            names,
            scope: Scope::Namespaced,
            versions: vec![version],
            hub: 0,
            strategy: Strategy { unconditional_update: true, ..Strategy::default() },
            columns: vec![Column::name()],
            selectable: Vec::new(),
            subresources: Vec::new(),
            verbs: Verb::ALL.to_vec(),
            time_to_live: None,
            answer: None,
            custom: false,
        };
        Self { definition, kind: std::marker::PhantomData }
    }

    /// The kind is cluster-scoped.
    pub fn cluster(mut self) -> Self {
        self.definition.scope = Scope::Cluster;
        self
    }

    /// Short names.
    pub fn short(mut self, names: &[&str]) -> Self {
        self.definition.names.short = names.iter().map(|&name| name.into()).collect();
        self
    }

    /// Categories, such as `all`.
    pub fn categories(mut self, names: &[&str]) -> Self {
        self.definition.names.categories = names.iter().map(|&name| name.into()).collect();
        self
    }

    /// Defaults.
    pub fn default(mut self, change: fn(&mut K)) -> Self {
        self.definition.strategy.default = Some(hook(change));
        self
    }

    /// What a create may not set, and what the server sets.
    pub fn prepare_create(mut self, change: fn(&mut K)) -> Self {
        self.definition.strategy.prepare_create = Some(hook(change));
        self
    }

    /// What an update may not change; the old object comes second.
    pub fn prepare_update(mut self, change: fn(&mut K, &K)) -> Self {
        self.definition.strategy.prepare_update = Some(hook2(change));
        self
    }

    /// Rules on the object alone; they hold on create and on update.
    pub fn validate(mut self, check: fn(&K) -> ErrorList) -> Self {
        self.definition.strategy.validate =
            Some(Arc::new(move |object| cast::<K>(object).map(check).unwrap_or_default()));
        self
    }

    /// Rules on a new object alone, besides those of [`Builder::validate`].
    pub fn validate_create(mut self, check: fn(&K) -> ErrorList) -> Self {
        self.definition.strategy.validate_create =
            Some(Arc::new(move |object| cast::<K>(object).map(check).unwrap_or_default()));
        self
    }

    /// Rules on a change; the old object comes second.
    pub fn validate_update(mut self, check: fn(&K, &K) -> ErrorList) -> Self {
        self.definition.strategy.validate_update = Some(validate2(check));
        self
    }

    /// What to tell the user of a valid object.
    pub fn warnings(mut self, find: fn(&K) -> Vec<String>) -> Self {
        self.definition.strategy.warnings =
            Some(Arc::new(move |object| cast::<K>(object).map(find).unwrap_or_default()));
        self
    }

    /// The kind has a generation, which moves when this says that (new, old) differ.
    pub fn generation(mut self, moves: fn(&K, &K) -> bool) -> Self {
        self.definition.strategy.generation_moves = Some(Arc::new(
            move |new, old| matches!((cast::<K>(new), cast::<K>(old)), (Some(new), Some(old)) if moves(new, old)),
        ));
        self
    }

    /// Graceful deletion: seconds, from the object and the period asked for.
    pub fn grace_period(mut self, seconds: fn(&K, Option<i64>) -> i64) -> Self {
        self.definition.strategy.grace_period =
            Some(Arc::new(move |object, asked| cast::<K>(object).map_or(0, |object| seconds(object, asked))));
        self
    }

    /// What names the kind allows, if not every DNS subdomain; one of [`crate::meta::names`].
    pub fn validate_name(mut self, check: NameCheck) -> Self {
        self.definition.strategy.validate_name = Some(check);
        self
    }

    /// Deletion waits while `holds` (a list of finalizers outside of the metadata); `begin` changes the
    /// object when its deletion begins.
    pub fn deletion(mut self, holds: fn(&K) -> bool, begin: fn(&mut K)) -> Self {
        self.definition.strategy.holds_deletion =
            Some(Arc::new(move |object| cast::<K>(object).is_some_and(holds)));
        self.definition.strategy.begin_deletion = Some(hook(begin));
        self
    }

    /// Whether an update without resourceVersion goes through; it does unless said otherwise.
    pub fn unconditional_update(mut self, allowed: bool) -> Self {
        self.definition.strategy.unconditional_update = allowed;
        self
    }

    /// A PUT creates what does not exist.
    pub fn create_on_update(mut self) -> Self {
        self.definition.strategy.create_on_update = true;
        self
    }

    /// A column; the first is always the name.
    pub fn column(self, name: &str, kind: &str, description: &str, cell: fn(&K, &Cell) -> Value) -> Self {
        self.push_column(name, kind, description, 0, cell)
    }

    /// A column that only `-o wide` shows.
    pub fn wide(self, name: &str, kind: &str, description: &str, cell: fn(&K, &Cell) -> Value) -> Self {
        self.push_column(name, kind, description, 1, cell)
    }

    fn push_column(
        mut self,
        name: &str,
        kind: &str,
        description: &str,
        priority: i32,
        cell: fn(&K, &Cell) -> Value,
    ) -> Self {
        self.definition.columns.push(Column {
            name: name.into(),
            kind: kind.into(),
            format: String::new(),
            description: description.into(),
            priority,
            cell: Arc::new(move |object, at| {
                cast::<K>(object).map_or(Value::Null, |object| cell(object, at))
            }),
        });
        self
    }

    /// The column of ages.
    pub fn age(mut self) -> Self {
        self.definition.columns.push(Column::age());
        self
    }

    /// A field by which lists can select.
    pub fn selectable(mut self, path: &str, value: fn(&K) -> Option<String>) -> Self {
        self.definition.selectable.push(Selectable {
            path: path.into(),
            value: Arc::new(move |object| cast::<K>(object).and_then(value)),
        });
        self
    }

    /// `/status`: `prepare` takes over from the old object (second) whatever a status write may not change.
    pub fn status(mut self, prepare: fn(&mut K, &K), validate: fn(&K, &K) -> ErrorList) -> Self {
        self.definition.subresources.push(Subresource {
            name: "status".into(),
            kind: SubresourceKind::Status(StatusStrategy {
                prepare_update: Some(hook2(prepare)),
                validate_update: Some(validate2(validate)),
            }),
        });
        self
    }

    /// `/scale`: (spec.replicas, status.replicas, selector) and how to set the first.
    pub fn scale(mut self, read: fn(&K) -> (i32, i32, String), set: fn(&mut K, i32)) -> Self {
        self.definition.subresources.push(Subresource {
            name: "scale".into(),
            kind: SubresourceKind::Scale(Scale {
                path: vec!["spec".into(), "replicas".into()],
                spec_replicas: Arc::new(move |object| cast::<K>(object).map_or(0, |object| read(object).0)),
                status_replicas: Arc::new(move |object| cast::<K>(object).map_or(0, |object| read(object).1)),
                selector: Arc::new(move |object| {
                    cast::<K>(object).map_or_else(String::new, |object| read(object).2)
                }),
                set_replicas: Arc::new(move |object, replicas| {
                    if let Some(object) = object.as_kind_mut::<K>() {
                        set(object, replicas);
                    }
                }),
            }),
        });
        self
    }

    /// A subresource done by a handler of the server; `body` is its group, version and kind.
    pub fn handler(mut self, name: &str, body: (&str, &str, &str), verbs: &[Verb]) -> Self {
        self.definition.subresources.push(Subresource {
            name: name.into(),
            kind: SubresourceKind::Handler {
                body: (body.0.into(), body.1.into(), body.2.into()),
                verbs: verbs.to_vec(),
            },
        });
        self
    }

    /// Serves the resource as `V` too, under `V`'s group and version.
    pub fn also<V: Kind>(
        mut self,
        to_hub: fn(V) -> Result<K, ObjectError>,
        from_hub: fn(&K) -> Result<V, ObjectError>,
    ) -> Self {
        let wrong = |object: &Object| ObjectError::WrongKind {
            expected: V::KIND.into(),
            found: format!("{} {}", object.api_version(), object.kind()),
        };
        self.definition.versions.push(Version {
            name: V::VERSION.into(),
            served: true,
            decode: Arc::new(Object::typed_from_value::<V>),
            to_hub: Some(Arc::new(move |object| {
                let managed = object.managed_fields().to_vec();
                let typed = object.as_kind::<V>().cloned().ok_or_else(|| wrong(&object))?;
                let mut hub = Object::new(to_hub(typed)?);
                hub.set_managed_fields(managed);
                Ok(hub)
            })),
            from_hub: Some(Arc::new(move |object| {
                let mut version =
                    Object::new(from_hub(object.as_kind::<K>().ok_or_else(|| wrong(&object))?)?);
                let kept = |hub: &Object, _: &_, _: &_| hub.managed_fields().to_vec();
                version.set_lazy_managed_fields_after(&object, Vec::new(), kept);
                Ok(version)
            })),
            type_name: Some(openapi_name::<V>()),
            schema: None,
            compiled: None,
            group: (V::GROUP != K::GROUP).then(|| V::GROUP.into()),
            face: None,
        });
        self
    }

    /// A delete that is done answers with the object instead of a Status.
    pub fn returns_deleted(mut self) -> Self {
        self.definition.strategy.returns_deleted = true;
        self
    }

    /// What the resource can, if not all verbs.
    pub fn verbs(mut self, verbs: &[Verb]) -> Self {
        self.definition.verbs = verbs.to_vec();
        self
    }

    /// The kind is a question: a create is answered, and nothing is stored. Of its rules those of
    /// [`Builder::validate`] hold; it needs no name.
    ///
    /// ```
    /// use k8s_openapi::api::authentication::v1::SelfSubjectReview;
    /// use rkube_api::{registry::Definition, request::Verb};
    ///
    /// let echo = Definition::of::<SelfSubjectReview>()
    ///     .cluster()
    ///     .answered(|oracle, mut review| Box::pin(async move {
    ///         let name = oracle.user().name.clone();
    ///         review.status.get_or_insert_default().user_info.get_or_insert_default().username = Some(name);
    ///         Ok(review)
    ///     }))
    ///     .build();
    /// assert_eq!(echo.verbs, [Verb::Create]);
    /// ```
    pub fn answered(
        mut self,
        answer: for<'a> fn(&'a dyn Oracle, K) -> BoxFuture<'a, Result<K, ApiError>>,
    ) -> Self {
        self.definition.verbs = vec![Verb::Create];
        self.definition.answer = Some(Arc::new(move |oracle, object| {
            Box::pin(async move {
                let question = Arc::unwrap_or_clone(object.into_kind::<K>()?);
                Ok(Object::new(answer(oracle, question).await?))
            })
        }));
        self
    }

    /// Objects go away by themselves after this.
    pub fn time_to_live(mut self, time: std::time::Duration) -> Self {
        self.definition.time_to_live = Some(time);
        self
    }

    /// The definition.
    pub fn build(mut self) -> Definition {
        if self.definition.columns.len() == 1 {
            self.definition.columns.push(Column::age());
        }
        self.definition
    }
}
