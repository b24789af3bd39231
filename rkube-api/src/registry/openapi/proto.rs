//! OpenAPI v2 as protobuf: the `Document` message of gnostic, which older clients ask for. Field numbers:
//! <https://github.com/google/gnostic-models/blob/main/openapiv2/OpenAPIv2.proto>

use serde_json::{Map, Value};

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            // The low seven bits, and that more follow.
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, value: &Value) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u64, value: &Value) {
        for text in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn flag(&mut self, field: u64, value: &Value) {
        if value.as_bool() == Some(true) {
            self.varint(field << 3);
            self.varint(1);
        }
    }

    fn whole(&mut self, field: u64, value: &Value) {
        if let Some(number) = value.as_i64().filter(|number| *number != 0) {
            self.varint(field << 3);
            // Protobuf writes a negative int64 as the unsigned number of the same bits.
            self.varint(number.cast_unsigned());
        }
    }

    fn double(&mut self, field: u64, value: &Value) {
        if let Some(number) = value.as_f64() {
            self.varint(field << 3 | 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    /// `Any`: the value as YAML, of which JSON is a part.
    fn any(&mut self, field: u64, value: &Value) {
        if !value.is_null() {
            let mut any = Self::default();
            any.bytes(2, value.to_string().as_bytes());
            self.message(field, &any);
        }
    }

    /// A `Named...` entry.
    fn named(&mut self, field: u64, name: &str, value: &Self) {
        let mut entry = Self::default();
        entry.bytes(1, name.as_bytes());
        entry.message(2, value);
        self.message(field, &entry);
    }

    /// The extensions of an object: all fields that begin with `x-`.
    fn extensions(&mut self, field: u64, value: &Value) {
        for (name, value) in entries(value).filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Self::default();
            any.bytes(2, value.to_string().as_bytes());
            self.named(field, name, &any);
        }
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// The protobuf form of an OpenAPI v2 document.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    let mut info = Message::default();
    info.text(1, &document["info"]["title"]);
    info.text(2, &document["info"]["version"]);
    out.message(2, &info);
    let mut paths = Message::default();
    for (path, item) in entries(&document["paths"]) {
        paths.named(2, path, &path_item(item));
    }
    out.message(8, &paths);
    let mut definitions = Message::default();
    for (name, definition) in entries(&document["definitions"]) {
        definitions.named(1, name, &schema(definition));
    }
    out.message(9, &definitions);
    out.0
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (field, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(found) = item.get(method) {
            out.message(field, &operation(found));
        }
    }
    for found in item["parameters"].as_array().into_iter().flatten() {
        out.message(9, &parameter(found));
    }
    out.extensions(10, item);
    out
}

fn operation(operation: &Value) -> Message {
    let mut out = Message::default();
    out.texts(1, &operation["tags"]);
    out.text(3, &operation["description"]);
    out.text(5, &operation["operationId"]);
    out.texts(6, &operation["produces"]);
    out.texts(7, &operation["consumes"]);
    for found in operation["parameters"].as_array().into_iter().flatten() {
        out.message(8, &parameter(found));
    }
    let mut responses = Message::default();
    for (code, found) in entries(&operation["responses"]) {
        let mut response = Message::default();
        response.text(1, &found["description"]);
        if let Some(found) = found.get("schema") {
            let mut item = Message::default();
            item.message(1, &schema(found));
            response.message(2, &item);
        }
        let mut value = Message::default();
        value.message(1, &response);
        responses.named(1, code, &value);
    }
    out.message(9, &responses);
    out.texts(10, &operation["schemes"]);
    out.extensions(13, operation);
    out
}

/// A `ParametersItem` around a `Parameter` around the parameter of its place.
fn parameter(parameter: &Value) -> Message {
    let mut inner = Message::default();
    if parameter["in"] == "body" {
        let mut body = Message::default();
        body.text(1, &parameter["description"]);
        body.text(2, &parameter["name"]);
        body.text(3, &parameter["in"]);
        body.flag(4, &parameter["required"]);
        body.message(5, &schema(&parameter["schema"]));
        inner.message(1, &body);
    } else {
        let in_path = parameter["in"] == "path";
        // In a query there is one field more, before the type.
        let shift = if in_path { 0 } else { 1 };
        let mut sub = Message::default();
        sub.flag(1, &parameter["required"]);
        sub.text(2, &parameter["in"]);
        sub.text(3, &parameter["description"]);
        sub.text(4, &parameter["name"]);
        sub.text(5 + shift, &parameter["type"]);
        sub.flag(19 + shift, &parameter["uniqueItems"]);
        let mut non_body = Message::default();
        non_body.message(if in_path { 4 } else { 3 }, &sub);
        inner.message(2, &non_body);
    }
    let mut item = Message::default();
    item.message(1, &inner);
    item
}

fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &value["$ref"]);
    out.text(2, &value["format"]);
    out.text(3, &value["title"]);
    out.text(4, &value["description"]);
    out.any(5, &value["default"]);
    out.double(6, &value["multipleOf"]);
    out.double(7, &value["maximum"]);
    out.flag(8, &value["exclusiveMaximum"]);
    out.double(9, &value["minimum"]);
    out.flag(10, &value["exclusiveMinimum"]);
    out.whole(11, &value["maxLength"]);
    out.whole(12, &value["minLength"]);
    out.text(13, &value["pattern"]);
    out.whole(14, &value["maxItems"]);
    out.whole(15, &value["minItems"]);
    out.flag(16, &value["uniqueItems"]);
    out.whole(17, &value["maxProperties"]);
    out.whole(18, &value["minProperties"]);
    out.texts(19, &value["required"]);
    for allowed in value["enum"].as_array().into_iter().flatten() {
        out.any(20, allowed);
    }
    match &value["additionalProperties"] {
        Value::Bool(any) => {
            let mut item = Message::default();
            item.flag(2, &Value::Bool(*any));
            out.message(21, &item);
        }
        Value::Object(_) => {
            let mut item = Message::default();
            item.message(1, &schema(&value["additionalProperties"]));
            out.message(21, &item);
        }
        _ => {}
    }
    if let Value::String(kind) = &value["type"] {
        let mut item = Message::default();
        item.bytes(1, kind.as_bytes());
        out.message(22, &item);
    }
    if value["items"].is_object() {
        let mut item = Message::default();
        item.message(1, &schema(&value["items"]));
        out.message(23, &item);
    }
    for part in value["allOf"].as_array().into_iter().flatten() {
        out.message(24, &schema(part));
    }
    if value["properties"].is_object() {
        let mut properties = Message::default();
        for (name, property) in entries(&value["properties"]) {
            properties.named(1, name, &schema(property));
        }
        out.message(25, &properties);
    }
    out.extensions(31, value);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_written_field_by_field() {
        let document = json!({
            "swagger": "2.0",
            "info": {"title": "T", "version": "1"},
            "definitions": {"a": {"type": "string"}},
        });
        // swagger; info {title, version}; paths {}; definitions {name "a", {type {"string"}}}.
        let wanted = [
            &b"\x0a\x032.0\x12\x06\x0a\x01T\x12\x011\x42\x00"[..],
            b"\x4a\x12\x0a\x10\x0a\x01a\x12\x0b\xb2\x01\x08\x0a\x06string",
        ];
        assert_eq!(encode(&document), wanted.concat());
    }
}
