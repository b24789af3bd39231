//! Kubernetes' protobuf to JSON values, for clients that send it: kubectl's `create` and client-go.
//!
//! The field numbers are a table (`protobuf.txt`); what a field is comes from the schema of its type.
//! Envelope and encoding: <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>
//!
//! ```
//! let body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x05\x0a\x03\x0a\x01a";
//! let parsed = rkube_api::codec::protobuf::parse(body).unwrap();
//! assert_eq!(parsed.object["metadata"]["name"], "a");
//! ```

use std::{collections::BTreeMap, sync::LazyLock};

use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use k8s_openapi::ByteString;
use serde_json::{Map, Value};

use super::{DecodeError, MAX_BYTES, Parsed};
use crate::fields::{self, Kind, SchemaRef};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// As deep as messages may nest.
const MAX_DEPTH: usize = 64;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// How a field stands in JSON.
struct Place {
    /// Its name; or, if `inline`, the type whose fields stand beside the others.
    name: &'static str,
    inline: bool,
    /// A zero value stands for an absent one.
    zero_is_absent: bool,
}

type Numbers = BTreeMap<u64, Place>;

static TYPES: LazyLock<BTreeMap<&'static str, Numbers>> = LazyLock::new(|| {
    let line = |line: &'static str| {
        let mut words = line.split(' ');
        let type_name = words.next()?;
        let mut numbers = Numbers::new();
        while let (Some(number), Some(name)) = (words.next(), words.next()) {
            let (inline, name) = name.strip_prefix('<').map_or((false, name), |name| (true, name));
            let (zero_is_absent, name) = name.strip_suffix('~').map_or((false, name), |name| (true, name));
            numbers.insert(number.parse().ok()?, Place { name, inline, zero_is_absent });
        }
        Some((type_name, numbers))
    };
    include_str!("protobuf.txt").lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
});

/// Reads an object of a built-in kind.
pub fn parse(bytes: &[u8]) -> Result<Parsed, DecodeError> {
    if bytes.len() > MAX_BYTES {
        return Err(DecodeError::TooLarge);
    }
    let body = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| syntax("the body does not begin as Kubernetes' protobuf does"))?;
    let (mut type_meta, mut raw) = (&[][..], &[][..]);
    for field in Fields(body) {
        match field? {
            (1, Wire::Bytes(bytes)) => type_meta = bytes,
            (2, Wire::Bytes(bytes)) => raw = bytes,
            (3, Wire::Bytes(encoding)) if !encoding.is_empty() => {
                return Err(syntax("the body is encoded once more"));
            }
            _ => {}
        }
    }
    let (mut api_version, mut kind) = (String::new(), String::new());
    for field in Fields(type_meta) {
        match field? {
            (1, Wire::Bytes(bytes)) => api_version = text(bytes)?,
            (2, Wire::Bytes(bytes)) => kind = text(bytes)?,
            _ => {}
        }
    }
    let type_name = type_name(&api_version, &kind)
        .ok_or_else(|| syntax(&format!("no kind {kind:?} is known in version {api_version:?}")))?;
    let schema = fields::schema_of(&type_name)
        .ok_or_else(|| syntax(&format!("the fields of {type_name} are not known")))?;
    let mut object = Map::new();
    object_fields(&mut object, &type_name, schema.root(), raw, MAX_DEPTH)?;
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(Parsed { object: object.into(), duplicates: Vec::new() })
}

/// The OpenAPI name of a built-in kind.
fn type_name(api_version: &str, kind: &str) -> Option<String> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let package = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or_default() };
    let own = format!("io.k8s.api.{package}.{version}.{kind}");
    // DeleteOptions and their like are in every group.
    let shared = format!("{META}.{kind}");
    [own, shared].into_iter().find(|name| fields::schema_of(name).is_some())
}

fn syntax(why: &str) -> DecodeError {
    DecodeError::Protobuf(why.to_owned())
}

fn text(bytes: &[u8]) -> Result<String, DecodeError> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|error| DecodeError::InvalidUtf8(error.valid_up_to()))
}

/// A field's content on the wire.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
}

/// The fields of a message, in the order of the wire.
struct Fields<'a>(&'a [u8]);

fn varint(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let Some((byte, rest)) = bytes.split_first() else {
            return Err(syntax("unexpected end"));
        };
        *bytes = rest;
        // The tenth byte holds the 64th bit alone.
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(syntax("a number is too long"))
}

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.0.split_first_chunk().ok_or_else(|| syntax("unexpected end"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn field(&mut self) -> Result<(u64, Wire<'a>), DecodeError> {
        let tag = varint(&mut self.0)?;
        let wire = match tag & 7 {
            0 => Wire::Varint(varint(&mut self.0)?),
            1 => Wire::Fixed64(self.take()?),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).unwrap_or(usize::MAX);
                let (head, rest) = self.0.split_at_checked(length).ok_or_else(|| syntax("unexpected end"))?;
                self.0 = rest;
                Wire::Bytes(head)
            }
            5 => Wire::Fixed32(self.take()?),
            other => return Err(syntax(&format!("unknown wire type {other}"))),
        };
        Ok((tag >> 3, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn message(wire: Wire<'_>) -> Result<&[u8], DecodeError> {
    match wire {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(syntax("a number where a message belongs")),
    }
}

/// The field `number` of a message of scalars, if it is there; the last one counts.
fn last(bytes: &[u8], number: u64) -> Result<Option<Wire<'_>>, DecodeError> {
    let mut found = None;
    for field in Fields(bytes) {
        let (at, wire) = field?;
        if at == number {
            found = Some(wire);
        }
    }
    Ok(found)
}

/// Reads the fields of a message of a type into a JSON object. Fields that the type does not have are
/// of a newer version, and are passed over as every reader of protobuf does.
fn object_fields(
    out: &mut Map<String, Value>,
    type_name: &str,
    schema: SchemaRef<'_>,
    bytes: &[u8],
    depth: usize,
) -> Result<(), DecodeError> {
    let depth = depth.checked_sub(1).ok_or(DecodeError::TooDeep(MAX_DEPTH))?;
    let Some(numbers) = TYPES.get(type_name) else {
        return Err(syntax(&format!("the fields of {type_name} have no numbers here")));
    };
    for field in Fields(bytes) {
        let (number, wire) = field?;
        let Some(place) = numbers.get(&number) else { continue };
        if place.inline {
            object_fields(out, place.name, schema, message(wire)?, depth)?;
            continue;
        }
        let Some(child) = schema.child(place.name) else { continue };
        match child.kind() {
            Kind::List { .. } => {
                let item = child.item().unwrap_or(child);
                let list = out.entry(place.name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    items(list, item, wire, depth)?;
                }
            }
            Kind::Map { .. } => {
                let map = out.entry(place.name).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(map) = map {
                    entry(map, child, message(wire)?, depth)?;
                }
            }
            _ => {
                let value = value(child, wire, depth)?;
                let absent = value.is_null() || place.zero_is_absent && is_zero(&value);
                if absent {
                    out.remove(place.name);
                } else {
                    out.insert(place.name.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// An item of a list, or several numbers packed into one field.
fn items(
    list: &mut Vec<Value>,
    item: SchemaRef<'_>,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), DecodeError> {
    if let (Kind::Integer(_) | Kind::Boolean, Wire::Bytes(mut packed)) = (item.kind(), wire) {
        while !packed.is_empty() {
            let number = Wire::Varint(varint(&mut packed)?);
            list.push(value(item, number, depth)?);
        }
        return Ok(());
    }
    list.push(value(item, wire, depth)?);
    Ok(())
}

/// One entry of a map: key and value are a message of their own.
fn entry(
    map: &mut Map<String, Value>,
    schema: SchemaRef<'_>,
    bytes: &[u8],
    depth: usize,
) -> Result<(), DecodeError> {
    let key = match last(bytes, 1)? {
        Some(wire) => text(message(wire)?)?,
        None => String::new(),
    };
    let child = schema.child(&key).unwrap_or_else(|| schema.unknown());
    let value = value(child, last(bytes, 2)?.unwrap_or(Wire::Bytes(&[])), depth)?;
    map.insert(key, value);
    Ok(())
}

/// One value; null if the message stands for an absent one.
fn value(schema: SchemaRef<'_>, wire: Wire<'_>, depth: usize) -> Result<Value, DecodeError> {
    let depth = depth.checked_sub(1).ok_or(DecodeError::TooDeep(MAX_DEPTH))?;
    Ok(match (schema.kind(), wire) {
        (Kind::Boolean, Wire::Varint(number)) => (number != 0).into(),
        (Kind::Integer(_), Wire::Varint(number)) => number.cast_signed().into(),
        (Kind::Number, Wire::Fixed64(bytes)) => f64::from_le_bytes(bytes).into(),
        (Kind::Number, Wire::Fixed32(bytes)) => f64::from(f32::from_le_bytes(bytes)).into(),
        (Kind::String, Wire::Bytes(bytes)) => text(bytes)?.into(),
        (Kind::Bytes, Wire::Bytes(bytes)) => base64(bytes)?,
        (Kind::Time, Wire::Bytes(bytes)) => time(bytes, schema.type_name())?,
        (Kind::Quantity, Wire::Bytes(bytes)) => match last(bytes, 1)? {
            Some(wire) => Value::String(text(message(wire)?)?).take_or("0"),
            None => "0".into(),
        },
        (Kind::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Kind::Object(_), Wire::Bytes(bytes)) => {
            let type_name = schema.type_name().ok_or_else(|| syntax("a message without a type"))?;
            let mut object = Map::new();
            object_fields(&mut object, type_name, schema, bytes, depth)?;
            object.into()
        }
        // A list in a list or a map has a message around it.
        (Kind::List { .. }, Wire::Bytes(bytes)) => {
            let item = schema.item().unwrap_or(schema);
            let mut list = Vec::new();
            for field in Fields(bytes) {
                if let (1, wire) = field? {
                    items(&mut list, item, wire, depth)?;
                }
            }
            list.into()
        }
        // Any JSON is carried as its text, in a message.
        (Kind::Any, Wire::Bytes(bytes)) => match last(bytes, 1)? {
            Some(wire) => super::json::parse_value(message(wire)?)?.0,
            None => Value::Null,
        },
        _ => return Err(syntax("a value of another type than its field")),
    })
}

trait TakeOr {
    fn take_or(self, other: &str) -> Value;
}

impl TakeOr for Value {
    /// The value, or `other` in place of an empty text.
    fn take_or(self, other: &str) -> Value {
        if self == "" { other.into() } else { self }
    }
}

fn base64(bytes: &[u8]) -> Result<Value, DecodeError> {
    serde_json::to_value(ByteString(bytes.to_vec())).map_err(|error| syntax(&error.to_string()))
}

/// Seconds and nanoseconds; both zero is no time at all.
fn time(bytes: &[u8], type_name: Option<&str>) -> Result<Value, DecodeError> {
    let number = |wire| match wire {
        Some(Wire::Varint(number)) => number.cast_signed(),
        _ => 0,
    };
    let (seconds, nanoseconds) = (number(last(bytes, 1)?), number(last(bytes, 2)?));
    if (seconds, nanoseconds) == (0, 0) {
        return Ok(Value::Null);
    }
    let wrong = |_| syntax("a time out of range");
    let nanoseconds = i32::try_from(nanoseconds).map_err(|_| syntax("a time out of range"))?;
    let time = Timestamp::new(seconds, nanoseconds).map_err(wrong)?;
    let micro = type_name.is_some_and(|name| name.ends_with(".MicroTime"));
    let printer = DateTimePrinter::new().precision(Some(if micro { 6 } else { 0 }));
    Ok(printer.timestamp_to_string(&time).into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, DecodeError> {
    if let Some(Wire::Varint(1)) = last(bytes, 1)? {
        return Ok(match last(bytes, 3)? {
            Some(wire) => text(message(wire)?)?.into(),
            None => "".into(),
        });
    }
    Ok(match last(bytes, 2)? {
        Some(Wire::Varint(number)) => number.cast_signed().into(),
        _ => 0.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    /// As kubectl 1.32 sends `create configmap a --from-literal=x=1`.
    const CONFIG_MAP: &[u8] =
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x1b\x0a\x11\x0a\x01a\x12\x00\x1a\x00\
        \x22\x00\x2a\x00\x32\x00\x38\x00\x42\x00\x12\x06\x0a\x01x\x12\x011\x1a\x00\x22\x00";

    #[test]
    fn what_kubectl_sends_is_read() {
        assert_eq!(
            parse(CONFIG_MAP).unwrap().object,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}})
        );
    }

    fn visit(schema: SchemaRef<'_>, seen: &mut BTreeSet<String>, missing: &mut Vec<String>) {
        match schema.kind() {
            Kind::Object(object) => {
                let Some(name) = schema.type_name() else { return };
                if !seen.insert(name.to_owned()) {
                    return;
                }
                let mut known = BTreeSet::new();
                flat(name, &mut known);
                for field in object.fields.keys() {
                    if !known.contains(field.as_str()) {
                        missing.push(format!("{name}.{field}"));
                    }
                    if let Some(child) = schema.child(field) {
                        visit(child, seen, missing);
                    }
                }
            }
            Kind::List { .. } => schema.item().into_iter().for_each(|item| visit(item, seen, missing)),
            Kind::Map { .. } => schema.child("x").into_iter().for_each(|item| visit(item, seen, missing)),
            _ => {}
        }
    }

    fn flat(type_name: &str, known: &mut BTreeSet<&'static str>) {
        for place in TYPES.get(type_name).into_iter().flat_map(BTreeMap::values) {
            if place.inline {
                flat(place.name, known);
            } else {
                known.insert(place.name);
            }
        }
    }

    #[test]
    fn every_field_of_every_type_has_a_number() {
        let (mut seen, mut missing) = (BTreeSet::new(), Vec::new());
        // Definitions of resources and aggregated servers are sent as JSON by every client.
        let roots = fields::type_names().filter(|name| name.starts_with("io.k8s.api."));
        for name in roots.chain(["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"]) {
            visit(fields::schema_of(name).unwrap().root(), &mut seen, &mut missing);
        }
        // apiVersion and kind are carried by the envelope alone; of a field that is newer than the table
        // the number is not known, and it is passed over.
        let newer = [
            "core.v1.NodeSystemInfo.runningInUserNamespace",
            "resource.v1.DeviceCounterConsumption.compatibilityGroups",
            "resource.v1.DeviceDerivedAttribute.expression",
            "resource.v1.DeviceDerivedAttribute.name",
            "resource.v1.DeviceSubRequest.derivedAttributes",
            "resource.v1.ExactDeviceRequest.derivedAttributes",
        ];
        missing.retain(|field| {
            let short = field.trim_start_matches("io.k8s.api.");
            !field.ends_with(".apiVersion") && !field.ends_with(".kind") && !newer.contains(&short)
        });
        assert_eq!(missing, [""; 0]);
        assert!(seen.len() > 300, "{}", seen.len());
    }

    fn wrap(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let field = |number: u8, bytes: &[u8]| {
            let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
            out.extend_from_slice(bytes);
            out
        };
        let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &meta), field(2, raw)].concat()
    }

    #[test]
    fn values_of_every_form_are_read() {
        // DeleteOptions {gracePeriodSeconds: 0, preconditions {uid: "u"}, dryRun: ["All"]}.
        let body = wrap("apps/v1", "DeleteOptions", b"\x08\x00\x12\x03\x0a\x01u\x2a\x03All");
        assert_eq!(
            parse(&body).unwrap().object,
            json!({
                "apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
                "preconditions": {"uid": "u"}, "dryRun": ["All"],
            })
        );
        // Secret {metadata {creationTimestamp {seconds: 1}}, data {"k": bytes 1 2}}.
        let body = wrap("v1", "Secret", b"\x0a\x04\x42\x02\x08\x01\x12\x07\x0a\x01k\x12\x02\x01\x02");
        assert_eq!(
            parse(&body).unwrap().object,
            json!({
                "apiVersion": "v1", "kind": "Secret", "data": {"k": "AQI="},
                "metadata": {"creationTimestamp": "1970-01-01T00:00:01Z"},
            })
        );
        // Service {spec {ports [{port: 80, targetPort: "http"}]}}.
        let body = wrap("v1", "Service", b"\x12\x0e\x0a\x0c\x18\x50\x22\x08\x08\x01\x10\x00\x1a\x02ht");
        assert_eq!(parse(&body).unwrap().object["spec"]["ports"], json!([{"port": 80, "targetPort": "ht"}]));
    }

    #[test]
    fn inline_messages_stand_beside_the_others() {
        // Pod {spec {volumes [{name: "v", <volumeSource {configMap {<localObjectReference {name: "m"}}}}]}}.
        let body = wrap("v1", "Pod", b"\x12\x10\x0a\x0e\x0a\x01v\x12\x09\x9a\x01\x06\x0a\x03\x0a\x01m\x18");
        assert!(parse(&body).is_err(), "cut short");
        let body = wrap("v1", "Pod", b"\x12\x0f\x0a\x0d\x0a\x01v\x12\x08\x9a\x01\x05\x0a\x03\x0a\x01m");
        assert_eq!(
            parse(&body).unwrap().object["spec"]["volumes"],
            json!([{"name": "v", "configMap": {"name": "m"}}])
        );
    }

    #[test]
    fn hostile_bytes_are_refused() {
        for bytes in [
            &b""[..],
            b"k8s\0\xff",
            b"{\"kind\":\"Pod\"}",
            b"k8s\0\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Nothing!!",
        ] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
        // ObjectMeta where a name belongs: wire types that do not fit.
        assert!(parse(&wrap("v1", "Pod", b"\x08\x01")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut body = MAGIC.to_vec();
            body.extend_from_slice(&bytes);
            let _ = parse(&body);
            let _ = parse(&wrap("v1", "Pod", &bytes[..bytes.len().min(100)]));
        }
    }
}
