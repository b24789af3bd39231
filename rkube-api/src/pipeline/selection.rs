//! What a list or watch selects: labels and fields, compiled once a request.

use rkube_store::Key;

use super::{call::Call, keys};
use crate::{
    error::ApiError,
    meta::{FieldSelector, LabelSelector, field_selector::Operator},
    object::Object,
    registry::{FieldFn, Scope},
};

/// A compiled selector.
#[derive(Clone)]
pub(crate) struct Selection {
    labels: LabelSelector,
    fields: Vec<Field>,
}

#[derive(Clone)]
struct Field {
    read: Read,
    equal: bool,
    value: String,
}

#[derive(Clone)]
enum Read {
    Name,
    Namespace,
    Kind(FieldFn),
}

impl Selection {
    /// Compiles the selectors of a request; 400 if one cannot be read or names an unknown field.
    pub(crate) fn of(call: &Call<'_>) -> Result<Self, ApiError> {
        let text = |option: &Option<String>| option.clone().unwrap_or_default();
        let labels = LabelSelector::parse(&text(&call.options.label_selector))
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let selector = FieldSelector::parse(&text(&call.options.field_selector))
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let selectable = &call.definition().selectable;
        let fields = selector
            .requirements
            .into_iter()
            .map(|requirement| {
                let read = match requirement.path.as_str() {
                    "metadata.name" => Read::Name,
                    "metadata.namespace" => Read::Namespace,
                    path => match selectable.iter().find(|field| field.path == path) {
                        Some(field) => Read::Kind(field.value.clone()),
                        None => return Err(unknown_field(path, selectable.is_empty())),
                    },
                };
                Ok(Field { read, equal: requirement.op == Operator::Equal, value: requirement.value })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Whether everything is selected.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    /// Whether the object, in its hub version, is selected.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.labels.matches_opt(object.meta().labels.as_ref())
            && self.fields.iter().all(|field| field.matches(object))
    }

    /// The key of the one object that can match, if the selector names it.
    pub(crate) fn only(&self, call: &Call<'_>) -> Option<Key> {
        let exact = |wanted: fn(&Read) -> bool| {
            self.fields
                .iter()
                .find(|field| field.equal && wanted(&field.read))
                .map(|field| field.value.as_str())
        };
        let name = exact(|read| matches!(read, Read::Name))?;
        let namespace = match (call.definition().scope, call.target.namespace.as_deref()) {
            (Scope::Cluster, _) => "",
            (Scope::Namespaced, Some(namespace)) => namespace,
            (Scope::Namespaced, None) => exact(|read| matches!(read, Read::Namespace))?,
        };
        let namespaced = call.definition().scope == Scope::Namespaced;
        (keys::is_segment(name) && (!namespaced || keys::is_segment(namespace)))
            .then(|| keys::object(call.definition(), namespace, name))
    }
}

impl Field {
    fn matches(&self, object: &Object) -> bool {
        let equal = match &self.read {
            Read::Name => object.name() == self.value,
            Read::Namespace => object.namespace() == self.value,
            Read::Kind(read) => read(object).unwrap_or_default() == self.value,
        };
        equal == self.equal
    }
}

/// Kinds with fields of their own word it otherwise than those without.
fn unknown_field(path: &str, only_metadata: bool) -> ApiError {
    ApiError::bad_request(if only_metadata {
        format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    } else {
        format!("field label not supported: {path}")
    })
}
