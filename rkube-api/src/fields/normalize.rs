//! Puts values into the one form in which the API server stores them: quantities canonical, times in UTC
//! and whole seconds (microseconds where the type says so). What is of another type than its field is told
//! in the words of Go's decoder, which users of Kubernetes know.
//!
//! ```
//! use rkube_api::fields::{normalize, schema_of};
//! let pod = schema_of("io.k8s.api.core.v1.Pod").expect("a pod").root();
//! let mut object = serde_json::json!({
//!     "metadata": {"deletionTimestamp": "2026-01-01T02:00:00.5+02:00"},
//!     "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]},
//! });
//! normalize(pod, &mut object)?;
//! assert_eq!(object["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
//! assert_eq!(
//!     object["spec"]["containers"][0]["resources"]["limits"],
//!     serde_json::json!({"cpu": "500m", "memory": "1Gi"})
//! );
//! assert_eq!(
//!     normalize(pod, &mut serde_json::json!({"spec": {"hostNetwork": "yes"}})).unwrap_err().to_string(),
//!     "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"
//! );
//! # Ok::<(), rkube_api::fields::Unreadable>(())
//! ```

use jiff::Timestamp;
use serde_json::Value;

use super::schema::{Kind, SchemaRef};
use crate::meta::Quantity;
use crate::meta::validation::{FieldError, FieldPath};

/// Why an object cannot be read as its type.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unreadable {
    /// A value is of another type than its field.
    #[error("json: cannot unmarshal {found} into Go struct field {place} of type {wanted}")]
    Type {
        /// Where, with indexes and keys.
        field: String,
        /// What is there: `string`, `number 1.5`.
        found: String,
        /// The innermost type, then the fields that lead there: `EnvVar.spec.containers.env.value`.
        place: String,
        /// The field's type.
        wanted: String,
    },
    /// A text is no quantity or time.
    #[error("{0}")]
    Value(FieldError),
    /// A text is not base64.
    #[error("{field}: illegal base64 data at input byte {at}")]
    Base64 {
        /// Where.
        field: String,
        /// Which byte is wrong.
        at: usize,
    },
}

/// Normalizes an object; the first value that cannot be read ends it.
pub fn normalize(schema: SchemaRef<'_>, object: &mut Value) -> Result<(), Unreadable> {
    let place = Place { path: &FieldPath::root(), fields: None, owner: "" };
    walk(schema, object, &place)
}

/// Normalizes the metadata of an object of whatever kind.
pub fn normalize_metadata(object: &mut Value) -> Result<(), Unreadable> {
    let schema = super::schema_of("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let (Some(schema), Some(metadata)) = (schema, object.get_mut("metadata")) else { return Ok(()) };
    let fields = Fields { before: None, name: "metadata" };
    let place = Place { path: &FieldPath::new("metadata"), fields: Some(&fields), owner: "" };
    walk(schema.root(), metadata, &place)
}

/// Where the walk is; beside the path the names by which Go's decoder tells it, without keys and indexes.
struct Place<'a> {
    path: &'a FieldPath<'a>,
    fields: Option<&'a Fields<'a>>,
    /// The type that has the field.
    owner: &'a str,
}

/// The names of the fields that lead to a place, the last first.
struct Fields<'a> {
    before: Option<&'a Fields<'a>>,
    name: &'a str,
}

impl Place<'_> {
    fn unreadable(&self, schema: SchemaRef<'_>, found: String) -> Unreadable {
        let names = std::iter::successors(self.fields, |fields| fields.before).map(|fields| fields.name);
        let mut names: Vec<&str> =
            names.chain([self.owner].into_iter().filter(|it| !it.is_empty())).collect();
        names.reverse();
        let (place, wanted) = (names.join("."), go_type(schema));
        Unreadable::Type { field: self.path.to_string(), found, place, wanted }
    }
}

fn walk(schema: SchemaRef<'_>, value: &mut Value, place: &Place<'_>) -> Result<(), Unreadable> {
    match (schema.kind(), value) {
        (Kind::Any, _) | (_, Value::Null) => {}
        (Kind::Object(_), Value::Object(map)) => {
            let owner = schema.type_name().map_or(place.owner, last);
            for (key, value) in map {
                let Some(child) = schema.child(key) else { continue };
                let fields = Fields { before: place.fields, name: key };
                walk(child, value, &Place { path: &place.path.child(key), fields: Some(&fields), owner })?;
            }
        }
        (Kind::Map { .. }, Value::Object(map)) => {
            for (key, value) in map {
                let Some(child) = schema.child(key) else { continue };
                walk(child, value, &Place { path: &place.path.child(key), ..*place })?;
            }
        }
        (Kind::List { .. }, Value::Array(items)) => {
            let Some(item) = schema.item() else { return Ok(()) };
            for (i, value) in items.iter_mut().enumerate() {
                walk(item, value, &Place { path: &place.path.index(i), ..*place })?;
            }
        }
        (_, value) => scalar(schema, value, place)?,
    }
    Ok(())
}

fn scalar(schema: SchemaRef<'_>, value: &mut Value, place: &Place<'_>) -> Result<(), Unreadable> {
    match (schema.kind(), value) {
        (Kind::Quantity, value @ (Value::String(_) | Value::Number(_))) => quantity(value, place),
        (Kind::Time, Value::String(text)) => time(text, schema, place),
        (Kind::Bytes, Value::String(text)) => match illegal_base64(text) {
            Some(at) => Err(Unreadable::Base64 { field: place.path.to_string(), at }),
            None => Ok(()),
        },
        (Kind::String, Value::String(_))
        | (Kind::Boolean, Value::Bool(_))
        | (Kind::Number, Value::Number(_))
        | (Kind::IntOrString, Value::String(_)) => Ok(()),
        (Kind::Integer(bits), Value::Number(number)) => {
            let fits = number.as_i64().is_some_and(|it| *bits > 32 || i32::try_from(it).is_ok());
            if fits { Ok(()) } else { Err(place.unreadable(schema, format!("number {number}"))) }
        }
        (Kind::IntOrString, Value::Number(number)) => {
            let fits = number.as_i64().is_some_and(|it| i32::try_from(it).is_ok());
            if fits { Ok(()) } else { Err(place.unreadable(schema, format!("number {number}"))) }
        }
        (_, value) => Err(place.unreadable(schema, go_value(value).to_owned())),
    }
}

/// What Go's decoder calls a JSON value.
pub(crate) fn go_value(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}

/// The name of a type as Go writes it: `[]v1.Container`.
fn go_type(schema: SchemaRef<'_>) -> String {
    match schema.kind() {
        Kind::Object(_) => match schema.type_name() {
            Some(name) => {
                let package = name.rsplit('.').nth(1).unwrap_or_default();
                format!("{package}.{}", last(name))
            }
            None => "struct".into(),
        },
        Kind::Map { .. } => {
            format!("map[string]{}", schema.child("").map(go_type).unwrap_or_default())
        }
        Kind::List { .. } => format!("[]{}", schema.item().map(go_type).unwrap_or_default()),
        Kind::String => "string".into(),
        Kind::Bytes => "[]uint8".into(),
        Kind::Time => {
            schema.type_name().map_or_else(|| "v1.Time".into(), |name| format!("v1.{}", last(name)))
        }
        Kind::Integer(bits) => format!("int{bits}"),
        Kind::Number => "float64".into(),
        Kind::Boolean => "bool".into(),
        Kind::IntOrString => "intstr.IntOrString".into(),
        Kind::Quantity => "resource.Quantity".into(),
        Kind::Any => "interface {}".into(),
    }
}

fn quantity(value: &mut Value, place: &Place<'_>) -> Result<(), Unreadable> {
    let text = match &*value {
        Value::String(text) => text.trim().to_string(),
        other => other.to_string(),
    };
    match text.parse::<Quantity>() {
        Ok(quantity) => {
            *value = Value::String(quantity.to_string());
            Ok(())
        }
        Err(error) => Err(Unreadable::Value(FieldError::invalid(place.path, &*value, error.to_string()))),
    }
}

fn time(text: &mut String, schema: SchemaRef<'_>, place: &Place<'_>) -> Result<(), Unreadable> {
    let Ok(time) = text.parse::<Timestamp>() else {
        let error = FieldError::invalid(place.path, &*text, "must be a time in the form of RFC 3339");
        return Err(Unreadable::Value(error));
    };
    let micro = schema.type_name().is_some_and(|name| name.ends_with(".MicroTime"));
    *text = if micro { format!("{time:.6}") } else { format!("{time:.0}") };
    Ok(())
}

/// The byte at which a text stops being base64 (RFC 4648, padded; line breaks are passed over), as Go's
/// decoder counts it.
fn illegal_base64(text: &str) -> Option<usize> {
    let mut place = 0;
    let mut bytes = text.bytes().enumerate().filter(|(_, byte)| !matches!(byte, b'\r' | b'\n'));
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => place = (place + 1) % 4,
            b'=' if place >= 2 => {
                if place == 2 {
                    match bytes.next() {
                        Some((_, b'=')) => {}
                        Some((at, _)) => return Some(at),
                        None => return Some(text.len()),
                    }
                }
                return bytes.next().map(|(at, _)| at);
            }
            _ => return Some(at),
        }
    }
    (place != 0).then(|| text.len() - place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::schema_of;
    use serde_json::json;

    fn told(kind: &str, mut object: Value) -> String {
        let schema = schema_of(&format!("io.k8s.api.{kind}")).unwrap().root();
        normalize(schema, &mut object).unwrap_err().to_string()
    }

    #[test]
    fn times_have_the_precision_of_their_type() {
        let lease = schema_of("io.k8s.api.coordination.v1.Lease").unwrap().root();
        for (text, micro, second) in [
            ("2026-01-01T00:00:00.1234567Z", "2026-01-01T00:00:00.123456Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00.9999999Z", "2026-01-01T00:00:00.999999Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:00Z"),
        ] {
            let mut object = json!({"metadata": {"creationTimestamp": text}, "spec": {"renewTime": text}});
            normalize(lease, &mut object).unwrap();
            assert_eq!(object["spec"]["renewTime"], micro);
            assert_eq!(object["metadata"]["creationTimestamp"], second);
        }
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let pod = |spec: Value| told("core.v1.Pod", json!({"spec": spec}));
        assert_eq!(
            told("core.v1.Pod", json!({"metadata": {"creationTimestamp": null, "deletionTimestamp": "now"}})),
            "metadata.deletionTimestamp: Invalid value: \"now\": must be a time in the form of RFC 3339"
        );
        assert_eq!(
            pod(json!({"overhead": {"memory": 1, "cpu": "x"}})),
            "spec.overhead.cpu: Invalid value: \"x\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        );
        let go = |what: &str| format!("json: cannot unmarshal {what}");
        for (spec, what) in [
            (
                json!({"containers": [{"env": [{"name": "a", "value": true}]}]}),
                "bool into Go struct field EnvVar.spec.containers.env.value of type string",
            ),
            (
                json!({"imagePullSecrets": ["x"]}),
                "string into Go struct field PodSpec.spec.imagePullSecrets of type v1.LocalObjectReference",
            ),
            (
                json!({"containers": {}}),
                "object into Go struct field PodSpec.spec.containers of type []v1.Container",
            ),
            (json!({"priority": 1.5}), "number 1.5 into Go struct field PodSpec.spec.priority of type int32"),
            (
                json!({"priority": 1_u64 << 40}),
                "number 1099511627776 into Go struct field PodSpec.spec.priority of type int32",
            ),
            (
                json!({"nodeSelector": {"a": 1}}),
                "number into Go struct field PodSpec.spec.nodeSelector of type string",
            ),
            (json!([]), "array into Go struct field Pod.spec of type v1.PodSpec"),
        ] {
            assert_eq!(pod(spec), go(what));
        }
        let deployment = json!({"spec": {"replicas": "3"}});
        let what = "string into Go struct field DeploymentSpec.spec.replicas of type int32";
        assert_eq!(told("apps.v1.Deployment", deployment), go(what));
        assert_eq!(
            told("core.v1.Secret", json!({"data": {"key": "not base64"}})),
            "data.key: illegal base64 data at input byte 3"
        );
        let mut lamp = json!({"metadata": {"labels": {"a": 1}}});
        let what = "number into Go struct field ObjectMeta.metadata.labels of type string";
        assert_eq!(normalize_metadata(&mut lamp).unwrap_err().to_string(), go(what));
    }

    #[test]
    fn the_first_illegal_byte_is_named() {
        for (text, at) in [
            ("", None),
            ("YQ==", None),
            ("YWI=", None),
            ("YWJj", None),
            ("YW\nJj\r\n", None),
            ("YW Jj", Some(2)),
            ("Y", Some(0)),
            ("YWJjY", Some(4)),
            ("YQ=", Some(3)),
            ("YQ=a", Some(3)),
            ("=", Some(0)),
            ("YQ==YQ==", Some(4)),
        ] {
            assert_eq!(illegal_base64(text), at, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_said_to_be_base64_is_read_as_such(text in "[A-Za-z0-9+/]{0,9}={0,3}") {
            let read = serde_json::from_value::<k8s_openapi::ByteString>(Value::String(text.clone()));
            if read.is_ok() {
                proptest::prop_assert_eq!(illegal_base64(&text), None);
            }
        }
    }
}
