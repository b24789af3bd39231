//! The shape of objects, as data: what fields a type has, and how its lists and maps merge.
//!
//! A [`Schema`] owns a table of nodes; a [`SchemaRef`] points at one of them and is as cheap as a pointer.
//! Types may contain themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::structural::Rules;

/// Where a node stands in its table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeId(pub(super) u32);

/// How a strategic merge patch treats a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Lists merge item by item.
    pub merge: bool,
    /// The field by which a merged list's items are told apart.
    pub merge_key: Option<String>,
    /// Replaced as one value.
    pub replace: bool,
    /// `$retainKeys` says which of its fields stay.
    pub retain_keys: bool,
}

/// How a list merges in apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListShape {
    /// As one value.
    #[default]
    Atomic,
    /// Its items are their own keys.
    Set,
    /// Its items have these keys.
    Map(Vec<String>),
}

/// A field of an object.
#[derive(Clone, Debug, Default)]
pub struct Field {
    pub(super) node: NodeId,
    /// How a strategic merge patch treats it.
    pub patch: Patch,
    /// Its value where it is left out.
    pub default: Option<Value>,
    /// Merges field by field though its type is atomic.
    pub granular: bool,
}

/// An object with known fields.
#[derive(Clone, Debug, Default)]
pub struct ObjectType {
    /// The fields by name.
    pub fields: BTreeMap<String, Field>,
    /// Those that must be there.
    pub required: Vec<String>,
    /// Merges as one value.
    pub atomic: bool,
    /// Unknown fields stay.
    pub preserve_unknown: bool,
    /// `apiVersion`, `kind` and `metadata` are those of an object.
    pub embedded: bool,
}

/// What a value is.
#[derive(Clone, Debug, Default)]
pub enum Kind {
    /// An object with known fields.
    Object(ObjectType),
    /// An object with any keys.
    Map {
        /// What its values are.
        value: NodeId,
        /// Merges as one value.
        atomic: bool,
    },
    /// A list.
    List {
        /// What its items are.
        item: NodeId,
        /// How it merges.
        shape: ListShape,
    },
    /// A text.
    String,
    /// Bytes, in base64.
    Bytes,
    /// A moment (RFC 3339).
    Time,
    /// A whole number of at most so many bits.
    Integer(u8),
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A whole number or a text.
    IntOrString,
    /// A quantity.
    Quantity,
    /// Anything.
    #[default]
    Any,
}

/// One node of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// The OpenAPI name, if the type has one.
    pub(super) name: Option<String>,
    pub(super) rules: Option<Box<Rules>>,
}

/// A schema that owns its table.
#[derive(Clone, Debug)]
pub struct Schema {
    pub(super) nodes: Arc<Vec<Node>>,
    pub(super) root: NodeId,
}

static ANY: Node = Node { kind: Kind::Any, name: None, rules: None };

impl Schema {
    /// A schema that knows nothing: every field is allowed, maps merge by key, lists as one value.
    #[must_use]
    pub fn any() -> Schema {
        Schema { nodes: Arc::new(vec![Node::default()]), root: NodeId(0) }
    }

    /// The schema's root.
    #[must_use]
    pub fn root(&self) -> SchemaRef<'_> {
        SchemaRef { nodes: &self.nodes, id: self.root, granular: false }
    }
}

/// A place in a schema.
#[derive(Clone, Copy, Debug)]
pub struct SchemaRef<'a> {
    nodes: &'a [Node],
    id: NodeId,
    granular: bool,
}

impl<'a> SchemaRef<'a> {
    pub(super) fn node(self) -> &'a Node {
        // Every id comes from the table itself; a foreign one would read as «anything».
        self.nodes.get(self.id.0 as usize).unwrap_or(&ANY)
    }

    /// Another node of the same table.
    pub(super) fn part(self, id: NodeId) -> SchemaRef<'a> {
        self.at(id)
    }

    fn at(self, id: NodeId) -> SchemaRef<'a> {
        SchemaRef { nodes: self.nodes, id, granular: false }
    }

    /// What stands here.
    #[must_use]
    pub fn kind(self) -> &'a Kind {
        &self.node().kind
    }

    /// The OpenAPI name of the type here, if it has one.
    #[must_use]
    pub fn type_name(self) -> Option<&'a str> {
        self.node().name.as_deref()
    }

    /// What a field is known to be, beside its type.
    #[must_use]
    pub fn field(self, name: &str) -> Option<&'a Field> {
        match self.kind() {
            Kind::Object(object) => object.fields.get(name),
            _ => None,
        }
    }

    /// The schema of a field of an object or an entry of a map.
    #[must_use]
    pub fn child(self, name: &str) -> Option<SchemaRef<'a>> {
        match self.kind() {
            Kind::Object(object) => match object.fields.get(name) {
                Some(field) => Some(SchemaRef { granular: field.granular, ..self.at(field.node) }),
                None => object.preserve_unknown.then(|| self.unknown()),
            },
            Kind::Map { value, .. } => Some(self.at(*value)),
            Kind::Any => Some(self),
            _ => None,
        }
    }

    /// The schema of a list's items.
    #[must_use]
    pub fn item(self) -> Option<SchemaRef<'a>> {
        match self.kind() {
            Kind::List { item, .. } => Some(self.at(*item)),
            Kind::Any => Some(self),
            _ => None,
        }
    }

    /// How the list here merges; what isn't known to be a list is one value.
    #[must_use]
    pub fn list_shape(self) -> &'a ListShape {
        match self.kind() {
            Kind::List { shape, .. } => shape,
            _ => &ListShape::Atomic,
        }
    }

    /// Does what stands here merge as one value?
    #[must_use]
    pub fn is_atomic(self) -> bool {
        match self.kind() {
            Kind::Object(object) => object.atomic && !self.granular,
            Kind::Map { atomic, .. } => *atomic,
            Kind::List { shape, .. } => *shape == ListShape::Atomic,
            _ => false,
        }
    }

    /// A place of which nothing is known.
    #[must_use]
    pub fn unknown(self) -> SchemaRef<'a> {
        SchemaRef { nodes: std::slice::from_ref(&ANY), id: NodeId(0), granular: false }
    }
}
