//! A definition: everything that the server knows of one resource, as a value.

use std::{any::Any, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{AnswerFn, Builder};
use crate::{
    error::{ApiError, Cause},
    fields::Schema,
    meta::{
        names::{NameCheck, name_is_subdomain},
        object_meta::{validate_finalizers_qualified, validate_object_meta, validate_object_meta_update},
        validation::{ErrorList, FieldPath},
    },
    object::{Kind, Object, ObjectError},
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

/// A version of a resource.
#[derive(Clone)]
pub struct Version {
    /// `v1`.
    pub name: String,
    /// Whether clients can ask for it. Objects may be stored in a version that is not served.
    pub served: bool,
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
    /// What this version has instead of the definition's, if it has a face of its own.
    pub face: Option<Box<Face>>,
}

/// What each version of a custom resource says for itself. For built-in kinds all versions share the
/// definition's.
#[derive(Clone)]
pub struct Face {
    /// The rules: they depend on whether there is a status subresource.
    pub strategy: Strategy,
    /// The table.
    pub columns: Vec<Column>,
    /// The selectable fields.
    pub selectable: Vec<Selectable>,
    /// The subresources.
    pub subresources: Vec<Subresource>,
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
    /// Where the object has the number of replicas that it wants: `["spec", "replicas"]`.
    pub path: Vec<String>,
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
    /// The versions, the preferred one first; objects are stored in the hub.
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
    /// What a create is answered with, if the kind is a question that is never stored (a review).
    pub answer: Option<AnswerFn>,
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

    /// The version to use where any will do: the hub if it is served, else the first that is.
    pub fn preferred(&self) -> Option<&Version> {
        Some(self.hub()).filter(|hub| hub.served).or_else(|| self.versions.iter().find(|it| it.served))
    }

    /// Where its objects are stored: the group, empty for Kubernetes' own, and the plural name. Custom kinds of
    /// such a group are not Kubernetes' own.
    pub(crate) fn place(&self) -> (&str, &str) {
        let (group, plural) = self.resource();
        let own = !self.custom && (!group.contains('.') || group.ends_with(".k8s.io"));
        (if own { "" } else { group }, plural)
    }

    /// The index of the version served as `group`/`version`, if it is.
    pub fn served(&self, group: &str, version: &str) -> Option<usize> {
        self.versions.iter().position(|it| {
            it.served && it.name == version && it.group.as_deref().unwrap_or(&self.names.group) == group
        })
    }

    /// The definition as it shows in a version that has a face of its own.
    pub(super) fn seen_as(&self, version: &Version) -> Option<Self> {
        let Face { strategy, columns, selectable, subresources } = version.face.as_deref()?.clone();
        Some(Self { strategy, columns, selectable, subresources, ..self.clone() })
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
        let path = FieldPath::new("metadata");
        let mut errors = validate_object_meta(object.meta(), namespaced, check, &path);
        errors.extend(self.validate_finalizers(object));
        for validate in self.strategy.validate.iter().chain(&self.strategy.validate_create) {
            errors.extend(validate(object));
        }
        errors
    }

    /// All that is wrong with a change of the metadata.
    pub fn validate_metadata_update(&self, object: &Object, old: &Object) -> ErrorList {
        let path = FieldPath::new("metadata");
        let mut errors = validate_object_meta_update(object.meta(), old.meta(), &path);
        errors.extend(self.validate_finalizers(object));
        errors
    }

    /// Custom resources may have finalizers without a domain.
    fn validate_finalizers(&self, object: &Object) -> ErrorList {
        match self.custom {
            true => ErrorList::new(),
            false => validate_finalizers_qualified(object.meta(), &FieldPath::new("metadata")),
        }
    }

    /// All that is wrong with a change: its metadata, what the kind's rules find in the new object and
    /// in the difference. The new object must carry the resourceVersion that it is to replace.
    pub fn validate_update(&self, object: &Object, old: &Object) -> ErrorList {
        let mut errors = self.validate_metadata_update(object, old);
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
        let mut errors = self.validate_metadata_update(object, old);
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
