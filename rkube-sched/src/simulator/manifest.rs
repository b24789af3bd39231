//! Reads what `kubectl get -o yaml` and `-o json` print, and what people write by hand.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::core::v1::{Node, Pod};
use rkube_api::{
    codec::{DecodeError, yaml},
    fields::{Unreadable, normalize},
    meta::validation::{ErrorList, FieldError, FieldPath},
    object::{Kind, Object},
};
use serde_json::Value;

use super::kinds::Known;

/// Where in a text an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which document of the text, from 1; empty ones do not count.
    pub document: usize,
    /// Which item of a list, from 0.
    pub item: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document {}", self.document)?;
        match self.item {
            Some(item) => write!(f, ", items[{item}]"),
            None => Ok(()),
        }
    }
}

/// Why a text cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// It is not UTF-8.
    #[error("the text is not UTF-8 from byte {at} on")]
    Encoding {
        /// Where it begins not to be.
        at: usize,
    },
    /// A document is neither YAML nor JSON.
    #[error("document {document}: {source}")]
    Syntax {
        /// Which one, from 1.
        document: usize,
        /// What is wrong.
        source: DecodeError,
    },
    /// Something is no Kubernetes object.
    #[error("{place}: {field} must be {wanted}")]
    Shape {
        /// Where.
        place: Place,
        /// What is wrong about it.
        field: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// A field has a value that is not of its type: a quantity that is none, a text where a number is due.
    #[error("{place}, {object}: {source}")]
    Field {
        /// Where.
        place: Place,
        /// What: kind and name.
        object: String,
        /// The field and what is wrong with it.
        source: Unreadable,
    },
    /// An object cannot be read for another reason.
    #[error("{place}, {object}: {message}")]
    Decode {
        /// Where.
        place: Place,
        /// What: kind and name.
        object: String,
        /// What is wrong.
        message: String,
    },
    /// An object lacks what it needs.
    #[error("{place}, {object}: {errors}")]
    Invalid {
        /// Where.
        place: Place,
        /// What: kind and name.
        object: String,
        /// The fields and what is wrong with them.
        errors: ErrorList,
    },
}

impl LoadError {
    /// The path of the field that is wrong within its object, if it is one field's fault.
    ///
    /// ```
    /// use rkube_sched::simulator::Manifest;
    /// let text = "kind: Node\napiVersion: v1\nmetadata: {name: a}\nstatus: {allocatable: {cpu: many}}";
    /// let error = Manifest::read(text).unwrap_err();
    /// assert_eq!(error.field().unwrap(), "status.allocatable.cpu");
    /// ```
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Shape { field, .. } => Some(field),
            Self::Field {
                source: Unreadable::Type { field, .. } | Unreadable::Base64 { field, .. }, ..
            } => Some(field),
            Self::Field { source: Unreadable::Value(error), .. } => Some(&error.field),
            Self::Invalid { errors, .. } => errors.iter().next().map(|error| &*error.field),
            Self::Encoding { .. } | Self::Syntax { .. } | Self::Decode { .. } => None,
        }
    }
}

/// Objects of a cluster, read from text: a `List`, several documents, single objects, in YAML or JSON.
///
/// Kinds that scheduling has nothing to do with are passed over and [counted](Manifest::skipped).
///
/// ```
/// use rkube_sched::simulator::Manifest;
///
/// let manifest = Manifest::read("
/// apiVersion: v1
/// kind: List
/// items:
/// - {apiVersion: v1, kind: Node, metadata: {name: a}}
/// - {apiVersion: v1, kind: ConfigMap, metadata: {name: settings}}
/// ---
/// {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: []}}
/// ")?;
/// assert_eq!((manifest.nodes().len(), manifest.pods().len()), (1, 1));
/// assert_eq!(manifest.pods()[0].metadata.namespace.as_deref(), Some("default"));
/// assert_eq!(manifest.skipped().collect::<Vec<_>>(), [("ConfigMap", 1)]);
/// # Ok::<(), rkube_sched::simulator::LoadError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    pub(super) objects: Vec<(Known, Object)>,
    skipped: BTreeMap<String, usize>,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)
    }
}

impl Manifest {
    /// Reads a text. The first thing that is wrong ends it.
    pub fn read(text: impl AsRef<[u8]>) -> Result<Self, LoadError> {
        let mut manifest = Self::default();
        manifest.add(text)?;
        Ok(manifest)
    }

    /// Reads a further text; an object that is there already is replaced when the simulation is made.
    pub fn add(&mut self, text: impl AsRef<[u8]>) -> Result<&mut Self, LoadError> {
        each_object(text.as_ref(), &mut |type_of, value, place| {
            match Known::find(&type_of.api_version, &type_of.kind) {
                Some(known) => self.objects.push((known, read(known, value, place)?)),
                None => *self.skipped.entry(type_of.kind).or_default() += 1,
            }
            Ok(())
        })?;
        Ok(self)
    }

    /// The nodes.
    pub fn nodes(&self) -> Vec<&Node> {
        self.of_kind()
    }

    /// The pods.
    pub fn pods(&self) -> Vec<&Pod> {
        self.of_kind()
    }

    /// The objects of a kind, in the order of the text.
    pub fn of_kind<K: Kind>(&self) -> Vec<&K> {
        self.objects.iter().filter_map(|(_, object)| object.as_kind()).collect()
    }

    /// The kinds that were passed over, and how many objects of each.
    pub fn skipped(&self) -> impl Iterator<Item = (&str, usize)> {
        self.skipped.iter().map(|(kind, count)| (kind.as_str(), *count))
    }
}

/// What an object says that it is.
pub(super) struct TypeOf {
    pub(super) api_version: String,
    pub(super) kind: String,
}

type Visit<'a> = &'a mut dyn FnMut(TypeOf, Value, Place) -> Result<(), LoadError>;

/// Goes through all objects of a text, those in lists too.
pub(super) fn each_object(text: &[u8], visit: Visit<'_>) -> Result<(), LoadError> {
    let text = std::str::from_utf8(text);
    let text = text.map_err(|error| LoadError::Encoding { at: error.valid_up_to() })?;
    // JSON is YAML too, but there is much of it, and its reader is quicker.
    let looks_like_json = text.trim_start().starts_with('{');
    let documents = match looks_like_json.then(|| json_documents(text)) {
        Some(Ok(documents)) => documents,
        Some(Err(error)) => yaml_documents(text).map_err(|_| error)?,
        None => yaml_documents(text)?,
    };
    for (index, document) in documents.into_iter().enumerate() {
        walk(document, Place { document: index + 1, item: None }, None, visit)?;
    }
    Ok(())
}

/// Visits an object, or the items of a list. `items_are` is what the items of a list are that do not say it.
fn walk(
    mut value: Value,
    place: Place,
    items_are: Option<(&str, &str)>,
    visit: Visit<'_>,
) -> Result<(), LoadError> {
    let wrong = |field, wanted| LoadError::Shape { place, field, wanted };
    let Some(fields) = value.as_object_mut() else { return Err(wrong("the item", "an object")) };
    if let Some((api_version, kind)) = items_are {
        fields.entry("apiVersion").or_insert_with(|| api_version.into());
        fields.entry("kind").or_insert_with(|| kind.into());
    }
    let text = |field: &str| fields.get(field).and_then(Value::as_str).map(str::to_owned);
    let api_version = text("apiVersion").ok_or_else(|| wrong("apiVersion", "a text such as v1"))?;
    let kind = text("kind").ok_or_else(|| wrong("kind", "a text such as Pod"))?;
    let Some((of, items)) = kind.strip_suffix("List").zip(fields.remove("items")) else {
        return visit(TypeOf { api_version, kind }, value, place);
    };
    let items = match items {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        _ => return Err(wrong("items", "a list")),
    };
    let items_are = (!of.is_empty()).then_some((&*api_version, of));
    for (index, item) in items.into_iter().enumerate() {
        walk(item, Place { item: Some(index), ..place }, items_are, visit)?;
    }
    Ok(())
}

/// Reads one object of a kind that is known.
pub(super) fn read(known: Known, mut value: Value, place: Place) -> Result<Object, LoadError> {
    let name = |value: &Value| {
        let name = &value["metadata"]["name"];
        format!("{} {}", known.kind, name.as_str().unwrap_or("without a name"))
    };
    if let Some(schema) = known.schema() {
        normalize(schema.root(), &mut value).map_err(|source| LoadError::Field {
            place,
            object: name(&value),
            source,
        })?;
    }
    let object = name(&value);
    let mut read = known.decode(value).map_err(|error| LoadError::Decode {
        place,
        object: object.clone(),
        message: error.to_string(),
    })?;
    let is_generated = read.meta().generate_name.as_deref().is_some_and(|name| !name.is_empty());
    if read.name().is_empty() && !is_generated {
        let path = FieldPath::new("metadata");
        let mut errors = ErrorList::new();
        errors.push(FieldError::required(&path.child("name"), "name or generateName is required"));
        return Err(LoadError::Invalid { place, object, errors });
    }
    if known.is_namespaced && read.namespace().is_empty() {
        read.meta_mut().namespace = Some("default".into());
    }
    super::admission::default(known.kind, &mut read);
    Ok(read)
}

fn json_documents(text: &str) -> Result<Vec<Value>, LoadError> {
    let mut documents = Vec::new();
    for document in serde_json::Deserializer::from_str(text).into_iter() {
        let message = |error: serde_json::Error| DecodeError::Syntax(error.to_string());
        let document = document.map_err(message);
        documents
            .push(document.map_err(|source| LoadError::Syntax { document: documents.len() + 1, source })?);
    }
    Ok(documents)
}

fn yaml_documents(text: &str) -> Result<Vec<Value>, LoadError> {
    let read = |(index, document)| match yaml::parse_large(document) {
        Ok((Value::Null, _)) => Ok(None),
        Ok((value @ Value::Object(_), _)) => Ok(Some(value)),
        Ok(_) => {
            let place = Place { document: index + 1, item: None };
            Err(LoadError::Shape { place, field: "the document", wanted: "an object" })
        }
        Err(source) => Err(LoadError::Syntax { document: index + 1, source }),
    };
    yaml::split_documents(text).enumerate().map(read).filter_map(Result::transpose).collect()
}
