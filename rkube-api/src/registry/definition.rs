//! A definition: everything that the server knows of one resource, as a value.

use std::{any::Any, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::{
    error::{ApiError, Cause},
    fields::Schema,
    meta::{
        names::{NameCheck, name_is_subdomain},
        object_meta::{validate_object_meta, validate_object_meta_update},
        validation::{ErrorList, FieldPath},
    },
    object::{Body, Kind, Object, ObjectError},
    request::Verb,
};

/// Whether objects live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// They do.
    Namespaced,
    /// They don't.
    Cluster,
}

/// The names of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// API group, empty for core.
    pub group: String,
    /// `pods`.
    pub plural: String,
    /// `pod`.
    pub singular: String,
    /// `Pod`.
    pub kind: String,
    /// `PodList`.
    pub list_kind: String,
    /// `po`.
    pub short: Vec<String>,
    /// `all`.
    pub categories: Vec<String>,
}

/// Reads an object of one version from a JSON value.
pub type Decode = Arc<dyn Fn(Value) -> Result<Object, ObjectError> + Send + Sync>;
/// Turns an object of one version into another's.
pub type Convert = Arc<dyn Fn(Object) -> Result<Object, ObjectError> + Send + Sync>;
/// Changes an object: defaults, preparation.
pub type Hook = Arc<dyn Fn(&mut Object) + Send + Sync>;
/// Changes an object with regard to what it was.
pub type Hook2 = Arc<dyn Fn(&mut Object, &Object) + Send + Sync>;
/// Finds what is wrong with an object.
pub type ValidateFn = Arc<dyn Fn(&Object) -> ErrorList + Send + Sync>;
/// Finds what is wrong with a change; the new object comes first.
pub type ValidateUpdateFn = Arc<dyn Fn(&Object, &Object) -> ErrorList + Send + Sync>;
/// The value of a field that can be selected by; `None` if it is absent (then it compares as empty).
pub type FieldFn = Arc<dyn Fn(&Object) -> Option<String> + Send + Sync>;
/// A cell of a table; the time is for ages.
pub type ColumnFn = Arc<dyn Fn(&Object, &Cell) -> Value + Send + Sync>;

/// What a table cell may need besides the object.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// The time now.
    pub now: Timestamp,
}

/// A served version of a resource.
#[derive(Clone)]
pub struct Version {
    /// `v1`.
    pub name: String,
    /// Reads the version's JSON.
    pub decode: Decode,
    /// Into the hub version; `None` on the hub itself.
    pub to_hub: Option<Convert>,
    /// Out of the hub version; `None` on the hub itself.
    pub from_hub: Option<Convert>,
    /// The OpenAPI name of the type, `io.k8s.api.core.v1.Pod`, which `fields/` knows; or none, if `schema` is given.
    pub type_name: Option<String>,
    /// The structural schema of a kind that was defined at run time.
    pub schema: Option<Arc<Value>>,
    /// The same, ready for use.
    pub compiled: Option<Arc<Schema>>,
    /// The API group under which this version is served, if it is not the resource's own
    /// (Event: `events.k8s.io` beside the core group).
    pub group: Option<String>,
}

/// A column of the kind's table, as `kubectl get` shows it.
#[derive(Clone)]
pub struct Column {
    /// `Ready`.
    pub name: String,
    /// `string`, `integer`, `date`.
    pub kind: String,
    /// `name` for the name, else empty.
    pub format: String,
    /// One sentence.
    pub description: String,
    /// 0 is always shown; more only with `-o wide`.
    pub priority: i32,
    /// The cell.
    pub cell: ColumnFn,
}

/// A field by which lists and watches can select, besides `metadata.name` and `metadata.namespace`.
#[derive(Clone)]
pub struct Selectable {
    /// `spec.nodeName`.
    pub path: String,
    /// Its value.
    pub value: FieldFn,
}

/// The rules of a status subresource.
#[derive(Clone, Default)]
pub struct StatusStrategy {
    /// Takes everything but status (and what else a status update may change) from the old object.
    pub prepare_update: Option<Hook2>,
    /// Finds what is wrong with the change.
    pub validate_update: Option<ValidateUpdateFn>,
}

/// How a `scale` subresource maps onto the object.
#[derive(Clone)]
pub struct Scale {
    /// `spec.replicas`.
    pub spec_replicas: Arc<dyn Fn(&Object) -> i32 + Send + Sync>,
    /// `status.replicas`.
    pub status_replicas: Arc<dyn Fn(&Object) -> i32 + Send + Sync>,
    /// The pods' label selector, as a string.
    pub selector: Arc<dyn Fn(&Object) -> String + Send + Sync>,
    /// Sets `spec.replicas`.
    pub set_replicas: Arc<dyn Fn(&mut Object, i32) + Send + Sync>,
}

/// What a subresource does.
#[derive(Clone)]
pub enum SubresourceKind {
    /// Reads and writes the object's status.
    Status(StatusStrategy),
    /// Reads and writes its scale.
    Scale(Scale),
    /// Done by a handler of the server, found by (group, resource, name) in `subresources/`.
    Handler {
        /// Group, version and kind of the body: `("", "v1", "Binding")`.
        body: (String, String, String),
        /// What it can.
        verbs: Vec<Verb>,
    },
}

/// A subresource: `pods/binding`.
#[derive(Clone)]
pub struct Subresource {
    /// `binding`.
    pub name: String,
    /// What it does.
    pub kind: SubresourceKind,
}

/// The rules by which objects change. Every hook is optional; absent means that there is nothing to do.
/// All see the hub version.
#[derive(Clone, Default)]
pub struct Strategy {
    /// Fills what the user left out; runs on decode of a write.
    pub default: Option<Hook>,
    /// Clears what a create may not set (status, ...), sets what the server sets.
    pub prepare_create: Option<Hook>,
    /// Clears what an update may not set, keeps what it may not change.
    pub prepare_update: Option<Hook2>,
    /// Finds what is wrong with a new object.
    pub validate: Option<ValidateFn>,
    /// Finds what is wrong with a new object alone (`validate` runs besides).
    pub validate_create: Option<ValidateFn>,
    /// Finds what is wrong with a change (`validate` runs besides).
    pub validate_update: Option<ValidateUpdateFn>,
    /// What to tell the user of a valid object.
    pub warnings: Option<Arc<dyn Fn(&Object) -> Vec<String> + Send + Sync>>,
    /// Whether spec (or what counts as it) differs, so that `metadata.generation` moves.
    /// `None`: the kind has no generation.
    pub generation_moves: Option<Arc<dyn Fn(&Object, &Object) -> bool + Send + Sync>>,
    /// The grace period of a delete that names none, in seconds; `None` deletes at once.
    /// It sees the grace period asked for and may shorten it (an unscheduled pod: 0).
    pub grace_period: Option<Arc<dyn Fn(&Object, Option<i64>) -> i64 + Send + Sync>>,
    /// Whether something in the object itself holds its deletion, as finalizers in the metadata do
    /// (a namespace's spec.finalizers).
    pub holds_deletion: Option<Arc<dyn Fn(&Object) -> bool + Send + Sync>>,
    /// Changes an object whose deletion begins (a namespace's phase).
    pub begin_deletion: Option<Hook>,
    /// What names the kind allows (a DNS subdomain, if `None`).
    pub validate_name: Option<NameCheck>,
    /// Whether an update without resourceVersion goes through (line 19 of the semantics).
    pub unconditional_update: bool,
    /// Whether a PUT creates what does not exist.
    pub create_on_update: bool,
    /// Whether a delete that is done answers with the object instead of a Status.
    pub returns_deleted: bool,
}

/// Everything that the server knows of one resource.
#[derive(Clone)]
pub struct Definition {
    /// Its names.
    pub names: Names,
    /// Whether objects live in namespaces.
    pub scope: Scope,
    /// The served versions, the preferred one first; objects are stored in the hub.
    pub versions: Vec<Version>,
    /// Index of the hub in `versions`.
    pub hub: usize,
    /// The rules.
    pub strategy: Strategy,
    /// The table.
    pub columns: Vec<Column>,
    /// The selectable fields.
    pub selectable: Vec<Selectable>,
    /// The subresources.
    pub subresources: Vec<Subresource>,
    /// What the resource can, all verbs unless said otherwise.
    pub verbs: Vec<Verb>,
    /// Time to live of its objects in the store (Event: one hour).
    pub time_to_live: Option<std::time::Duration>,
    /// Whether the kind was defined at run time (custom resource rules hold: no strategic merge, ...).
    pub custom: bool,
}

impl std::fmt::Debug for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Definition({}.{})", self.names.plural, self.names.group)
    }
}

impl Definition {
    /// Begins the definition of a kind of `k8s-openapi`, served in the version of the type.
    ///
    /// ```
    /// use k8s_openapi::api::core::v1::ConfigMap;
    /// use rkube_api::registry::Definition;
    ///
    /// let definition = Definition::of::<ConfigMap>().short(&["cm"]).build();
    /// assert_eq!(definition.names.plural, "configmaps");
    /// ```
    pub fn of<K: Kind>() -> Builder<K> {
        Builder::new()
    }

    /// `(group, version, plural)` as in the URL of the preferred version.
    pub fn resource(&self) -> (&str, &str) {
        (&self.names.group, &self.names.plural)
    }

    /// The hub version.
    pub fn hub(&self) -> &Version {
        &self.versions[self.hub]
    }

    /// The version served as `group`/`version`, if it is.
    pub fn version(&self, group: &str, version: &str) -> Option<&Version> {
        self.versions.iter().find(|served| {
            served.name == version && served.group.as_deref().unwrap_or(&self.names.group) == group
        })
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    /// Whether the object has a status that only `/status` writes.
    pub fn status(&self) -> Option<&StatusStrategy> {
        self.subresources.iter().find_map(|subresource| match &subresource.kind {
            SubresourceKind::Status(strategy) => Some(strategy),
            _ => None,
        })
    }

    /// All that is wrong with a new object: its metadata, then what the kind's own rules find.
    pub fn validate_create(&self, object: &Object) -> ErrorList {
        let check = self.strategy.validate_name.unwrap_or(name_is_subdomain);
        let namespaced = self.scope == Scope::Namespaced;
        let mut errors = validate_object_meta(object.meta(), namespaced, check, &FieldPath::new("metadata"));
        for validate in self.strategy.validate.iter().chain(&self.strategy.validate_create) {
            errors.extend(validate(object));
        }
        errors
    }

    /// All that is wrong with a change: its metadata, what the kind's rules find in the new object and
    /// in the difference. The new object must carry the resourceVersion that it is to replace.
    pub fn validate_update(&self, object: &Object, old: &Object) -> ErrorList {
        let mut errors = validate_object_meta_update(object.meta(), old.meta(), &FieldPath::new("metadata"));
        if let Some(validate) = &self.strategy.validate {
            errors.extend(validate(object));
        }
        if let Some(validate) = &self.strategy.validate_update {
            errors.extend(validate(object, old));
        }
        errors
    }

    /// All that is wrong with a change of the status; [`Definition::validate_update`] does not run besides.
    pub fn validate_status_update(&self, object: &Object, old: &Object) -> ErrorList {
        let mut errors = validate_object_meta_update(object.meta(), old.meta(), &FieldPath::new("metadata"));
        if let Some(validate) = self.status().and_then(|status| status.validate_update.as_ref()) {
            errors.extend(validate(object, old));
        }
        errors
    }

    /// 422 for an object of this kind.
    pub fn invalid(&self, name: &str, errors: &ErrorList) -> ApiError {
        ApiError::Invalid {
            group: self.names.group.clone(),
            kind: self.names.kind.clone(),
            name: name.to_owned(),
            causes: errors.iter().map(Cause::from).collect(),
        }
    }
}

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
            decode: Arc::new(Object::typed_from_value::<K>),
            to_hub: None,
            from_hub: None,
            type_name: Some(openapi_name::<K>()),
            schema: None,
            compiled: None,
            group: None,
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
                version.set_lazy_managed_fields_after(&object, |hub, _| hub.managed_fields().to_vec());
                Ok(version)
            })),
            type_name: Some(openapi_name::<V>()),
            schema: None,
            compiled: None,
            group: (V::GROUP != K::GROUP).then(|| V::GROUP.into()),
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

impl Column {
    /// The name, which begins every table.
    pub fn name() -> Self {
        Self {
            name: "Name".into(),
            kind: "string".into(),
            format: "name".into(),
            description: "The object's name, unique among its kind in its namespace.".into(),
            priority: 0,
            cell: Arc::new(|object, _| Value::String(object.name().to_owned())),
        }
    }

    /// How old the object is, `5m10s`.
    pub fn age() -> Self {
        Self {
            name: "Age".into(),
            kind: "string".into(),
            format: String::new(),
            description: "Time since the object was created.".into(),
            priority: 0,
            cell: Arc::new(|object, at| Value::String(age(object.meta(), at.now))),
        }
    }
}

fn age(meta: &ObjectMeta, now: Timestamp) -> String {
    meta.creation_timestamp
        .as_ref()
        .map_or_else(|| "<unknown>".into(), |created| super::human_duration(now.duration_since(created.0)))
}

// A definition's functions are shared between threads.
const _: fn() = || {
    fn shared<T: Send + Sync + Any>() {}
    shared::<Definition>();
};
