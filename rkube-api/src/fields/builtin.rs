//! The built-in types: k8s-openapi's schemas joined with the facts they lack.
//!
//! Each root is built when it is first asked for, and kept.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

use super::facts::{Shape, fact};
use super::schema::{Field, Kind, ListShape, Node, NodeId, ObjectType, Schema};

const REF: &str = "#/$defs/";

/// A type that is the root of some schema.
struct Root {
    definitions: fn() -> Map<String, Value>,
    schema: OnceLock<Schema>,
}

fn definitions_of<T: JsonSchema>() -> Map<String, Value> {
    let mut generator = SchemaGenerator::default();
    generator.subschema_for::<T>();
    generator.take_definitions(false)
}

fn root<T: JsonSchema>() -> (String, Root) {
    (T::schema_name().into_owned(), Root { definitions: definitions_of::<T>, schema: OnceLock::new() })
}

macro_rules! roots {
    ($($module:path: $($kind:ident)*;)*) => {
        BTreeMap::from([$($({
            use $module as module;
            root::<module::$kind>()
        },)*)*])
    };
}

static ROOTS: LazyLock<BTreeMap<String, Root>> = LazyLock::new(|| {
    roots! {
        k8s_openapi::api::core::v1: Binding ConfigMap Endpoints Event LimitRange Namespace Node
            PersistentVolume PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota
            Secret Service ServiceAccount;
        k8s_openapi::api::apps::v1: ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet;
        k8s_openapi::api::batch::v1: CronJob Job;
        k8s_openapi::api::autoscaling::v1: Scale;
        k8s_openapi::api::autoscaling::v2: HorizontalPodAutoscaler;
        k8s_openapi::api::policy::v1: Eviction PodDisruptionBudget;
        k8s_openapi::api::networking::v1: Ingress IngressClass IPAddress NetworkPolicy ServiceCIDR;
        k8s_openapi::api::rbac::v1: ClusterRole ClusterRoleBinding Role RoleBinding;
        k8s_openapi::api::storage::v1: CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment;
        k8s_openapi::api::node::v1: RuntimeClass;
        k8s_openapi::api::admissionregistration::v1: MutatingWebhookConfiguration ValidatingAdmissionPolicy
            ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration;
        k8s_openapi::api::certificates::v1: CertificateSigningRequest;
        k8s_openapi::api::authentication::v1: SelfSubjectReview TokenRequest TokenReview;
        k8s_openapi::api::authorization::v1: LocalSubjectAccessReview SelfSubjectAccessReview
            SelfSubjectRulesReview SubjectAccessReview;
        k8s_openapi::api::discovery::v1: EndpointSlice;
        k8s_openapi::api::events::v1: Event;
        k8s_openapi::api::coordination::v1: Lease;
        k8s_openapi::api::scheduling::v1: PriorityClass;
        k8s_openapi::api::scheduling::v1beta1: PodGroup Workload;
        k8s_openapi::api::flowcontrol::v1: FlowSchema PriorityLevelConfiguration;
        k8s_openapi::api::resource::v1: DeviceClass DeviceTaintRule ResourceClaim ResourceClaimTemplate
            ResourceSlice;
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1: CustomResourceDefinition;
        k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1: APIService;
        k8s_openapi::apimachinery::pkg::apis::meta::v1: APIGroup APIGroupList APIResourceList APIVersions
            DeleteOptions ListMeta ObjectMeta Status;
    }
});

/// The schema of a built-in type by its OpenAPI name, such as `io.k8s.api.core.v1.Pod`.
///
/// ```
/// let pod = rkube_api::fields::schema_of("io.k8s.api.core.v1.Pod").expect("a pod").root();
/// assert!(pod.child("spec").and_then(|s| s.child("containers")).is_some());
/// assert!(pod.child("spec").and_then(|s| s.child("container")).is_none());
/// ```
#[must_use]
pub fn schema_of(type_name: &str) -> Option<&'static Schema> {
    let root = ROOTS.get(type_name)?;
    Some(root.schema.get_or_init(|| Builder::new((root.definitions)()).build(type_name)))
}

/// The JSON schemas of a built-in type and all it contains, by OpenAPI name.
pub(super) fn definitions(type_name: &str) -> Option<Map<String, Value>> {
    ROOTS.get(type_name).map(|root| (root.definitions)())
}

/// The names of the types that [`schema_of`] knows.
pub fn type_names() -> impl Iterator<Item = &'static str> {
    ROOTS.keys().map(String::as_str)
}

struct Builder {
    definitions: Map<String, Value>,
    nodes: Vec<Node>,
    ids: BTreeMap<String, NodeId>,
}

impl Builder {
    fn new(definitions: Map<String, Value>) -> Self {
        // Node 0 is «anything».
        Builder { definitions, nodes: vec![Node::default()], ids: BTreeMap::new() }
    }

    fn build(mut self, type_name: &str) -> Schema {
        let root = self.named(type_name);
        Schema { nodes: Arc::new(self.nodes), root }
    }

    fn add(&mut self, kind: Kind) -> NodeId {
        self.nodes.push(Node { kind, ..Node::default() });
        NodeId(self.nodes.len() as u32 - 1)
    }

    fn named(&mut self, name: &str) -> NodeId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.add(Kind::Any);
        self.ids.insert(name.to_string(), id);
        let definition = self.definitions.remove(name).unwrap_or_default();
        let kind = match name.rsplit('.').next() {
            Some("Quantity") => Kind::Quantity,
            Some("Time" | "MicroTime") => Kind::Time,
            _ => self.kind(&definition, name),
        };
        self.nodes[id.0 as usize] = Node { kind, name: Some(name.to_string()), rules: None };
        id
    }

    fn node(&mut self, schema: &Value) -> NodeId {
        if let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix(REF)) {
            return self.named(name);
        }
        let kind = self.kind(schema, "");
        self.add(kind)
    }

    fn kind(&mut self, schema: &Value, type_name: &str) -> Kind {
        if schema["x-kubernetes-int-or-string"] == true {
            return Kind::IntOrString;
        }
        match (schema["type"].as_str(), schema["format"].as_str()) {
            (Some("string"), Some("byte")) => Kind::Bytes,
            (Some("string"), Some("date-time")) => Kind::Time,
            (Some("string"), _) => Kind::String,
            (Some("integer"), Some("int32")) => Kind::Integer(32),
            (Some("integer"), _) => Kind::Integer(64),
            (Some("number"), _) => Kind::Number,
            (Some("boolean"), _) => Kind::Boolean,
            (Some("array"), _) => Kind::List { item: self.node(&schema["items"]), shape: ListShape::Atomic },
            (Some("object"), _) => self.object(schema, type_name),
            _ => Kind::Any,
        }
    }

    fn object(&mut self, schema: &Value, type_name: &str) -> Kind {
        if let Some(value) = schema.get("additionalProperties") {
            return Kind::Map { value: self.node(value), atomic: false };
        }
        let Some(properties) = schema["properties"].as_object() else { return Kind::Any };
        let mut object = ObjectType {
            atomic: fact(type_name, ".").is_some_and(|f| f.shape == Some(Shape::Atomic)),
            required: schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|v| v.as_str().map(str::to_string))
                .collect(),
            ..ObjectType::default()
        };
        for (name, property) in properties {
            let node = self.node(property);
            object.fields.insert(name.clone(), self.field(type_name, name, node));
        }
        Kind::Object(object)
    }

    /// Joins the facts to a field whose type is known.
    fn field(&mut self, type_name: &str, name: &str, node: NodeId) -> Field {
        let mut field = Field { node, ..Field::default() };
        let Some(fact) = fact(type_name, name) else { return field };
        field.patch = fact.patch.clone();
        field.default = fact.default.clone();
        field.granular = fact.shape == Some(Shape::Granular);
        match (&mut self.nodes[node.0 as usize].kind, &fact.shape) {
            (Kind::List { shape, .. }, Some(Shape::Set)) => *shape = ListShape::Set,
            (Kind::List { shape, .. }, Some(Shape::Map(keys))) => *shape = ListShape::Map(keys.clone()),
            (Kind::Map { atomic, .. }, Some(Shape::Atomic)) => *atomic = true,
            _ => {}
        }
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::SchemaRef;

    #[test]
    fn every_root_builds() {
        for name in type_names() {
            assert!(schema_of(name).is_some_and(|s| s.nodes.len() > 1), "{name}");
        }
        assert!(schema_of("io.k8s.api.core.v1.Nothing").is_none());
    }

    /// No list of the built-in types may be without a fact: a forgotten one would merge wrongly.
    #[test]
    fn every_list_has_a_fact() {
        let mut missing = Vec::new();
        for root in type_names().filter(|n| n.starts_with("io.k8s.api.")) {
            for (name, definition) in definitions(root).unwrap() {
                for (field, property) in definition["properties"].as_object().into_iter().flatten() {
                    let stated = fact(&name, field).is_some_and(|f| f.shape.is_some());
                    if property["type"] == "array" && !stated {
                        missing.push(format!("{name}.{field}"));
                    }
                }
            }
        }
        missing.sort();
        missing.dedup();
        assert_eq!(missing, [""; 0]);
    }

    /// And no fact may name a field that isn't there.
    #[test]
    fn every_fact_has_a_field() {
        let mut wrong = Vec::new();
        for root in type_names() {
            for (name, definition) in definitions(root).unwrap() {
                for (field, property) in definition["properties"].as_object().into_iter().flatten() {
                    let Some(shape) = fact(&name, field).and_then(|f| f.shape.clone()) else { continue };
                    let list = property["type"] == "array";
                    let fits = match shape {
                        Shape::Set | Shape::Map(_) => list,
                        Shape::Atomic => list || property.get("additionalProperties").is_some(),
                        Shape::Granular => !list,
                    };
                    if !fits {
                        wrong.push(format!("{name}.{field}"));
                    }
                }
            }
        }
        assert_eq!(wrong, [""; 0]);
    }

    fn walk<'a>(root: SchemaRef<'a>, path: &[&str]) -> SchemaRef<'a> {
        path.iter().fold(root, |at, step| if *step == "[]" { at.item() } else { at.child(step) }.unwrap())
    }

    #[test]
    fn shapes() {
        let pod = schema_of("io.k8s.api.core.v1.Pod").unwrap().root();
        let containers = walk(pod, &["spec", "containers"]);
        assert_eq!(containers.list_shape(), &ListShape::Map(vec!["name".into()]));
        assert_eq!(containers.item().unwrap().type_name(), Some("io.k8s.api.core.v1.Container"));
        assert!(walk(pod, &["spec", "nodeSelector"]).is_atomic());
        assert!(!walk(pod, &["metadata", "labels"]).is_atomic());
        assert!(walk(pod, &["metadata", "ownerReferences", "[]"]).is_atomic());
        let limits = walk(containers.item().unwrap(), &["resources", "limits", "cpu"]);
        assert!(matches!(limits.kind(), Kind::Quantity));
        let port = walk(containers.item().unwrap(), &["ports", "[]"]);
        assert_eq!(port.field("protocol").unwrap().default, Some("TCP".into()));
        let claim = schema_of("io.k8s.api.core.v1.PersistentVolume").unwrap().root();
        assert!(!walk(claim, &["spec", "claimRef"]).is_atomic());
        let deployment = schema_of("io.k8s.api.apps.v1.Deployment").unwrap().root();
        assert!(walk(deployment, &["spec"]).field("strategy").unwrap().patch.retain_keys);
        assert!(walk(deployment, &["spec", "selector"]).is_atomic());
    }
}
