use super::*;
use crate::fields::unknown_fields;
use serde_json::json;

fn schema(properties: Value) -> Schema {
    let spec = json!({"type": "object", "properties": properties});
    Schema::from_openapi(&json!({"type": "object", "properties": {"spec": spec}})).unwrap()
}

fn errors(properties: Value, spec: Value) -> Vec<String> {
    schema(properties).validate(&json!({"spec": spec})).iter().map(ToString::to_string).collect()
}

/// Messages read as on a real cluster.
fn refused(table: &[(Value, Value, &str)]) {
    for (rule, value, want) in table {
        assert_eq!(errors(json!({"a": rule}), json!({"a": value})), [*want], "{rule}");
    }
}

#[test]
fn scalars_that_do_not_fit() {
    refused(&[
        (
            json!({"type": "integer"}),
            json!("x"),
            "spec.a: Invalid value: \"string\": spec.a in body must be of type integer: \"string\"",
        ),
        (
            json!({"type": "string"}),
            json!(5),
            "spec.a: Invalid value: \"integer\": spec.a in body must be of type string: \"integer\"",
        ),
        (
            json!({"type": "string"}),
            json!(null),
            "spec.a: Invalid value: \"null\": spec.a in body must be of type string: \"null\"",
        ),
        (
            json!({"type": "integer", "minimum": 3}),
            json!(2),
            "spec.a: Invalid value: 2: spec.a in body should be greater than or equal to 3",
        ),
        (
            json!({"type": "number", "maximum": 3, "exclusiveMaximum": true}),
            json!(3),
            "spec.a: Invalid value: 3: spec.a in body should be less than 3",
        ),
        (
            json!({"type": "integer", "multipleOf": 2}),
            json!(3),
            "spec.a: Invalid value: 3: spec.a in body should be a multiple of 2",
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("é"),
            "spec.a: Invalid value: \"é\": spec.a in body should be at least 2 chars long",
        ),
        (
            json!({"type": "string", "maxLength": 1}),
            json!("ab"),
            "spec.a: Too long: may not be more than 1 byte",
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("b"),
            "spec.a: Invalid value: \"b\": spec.a in body should match '^a+$'",
        ),
        (
            json!({"type": "string", "enum": ["x", "y"]}),
            json!("z"),
            "spec.a: Unsupported value: \"z\": supported values: \"x\", \"y\"",
        ),
    ]);
}

#[test]
fn lists_and_objects_that_do_not_fit() {
    refused(&[
        (
            json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
            json!(["a", "b"]),
            "spec.a: Too many: 2: must have at most 1 item",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
            json!([]),
            "spec.a: Invalid value: []: spec.a in body should have at least 1 items",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
            json!(["a", "a"]),
            "spec.a: Invalid value: [\"a\",\"a\"]: spec.a in body shouldn't contain duplicates",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!(["a", 1]),
            "spec.a[1]: Invalid value: \"integer\": spec.a[1] in body must be of type string: \"integer\"",
        ),
        (
            json!({"type": "object", "required": ["b"], "properties": {"b": {"type": "string"}}}),
            json!({}),
            "spec.a.b: Required value",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"k": 1}),
            "spec.a.k: Invalid value: \"integer\": spec.a.k in body must be of type string: \"integer\"",
        ),
    ]);
}

#[test]
fn formats_and_junctors_that_do_not_fit() {
    refused(&[
        (
            json!({"type": "string", "format": "date-time"}),
            json!("x"),
            "spec.a: Invalid value: \"x\": spec.a in body must be of type date-time: \"x\"",
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            "spec.a: Invalid value: \"boolean\": spec.a in body must be of type integer,string: \"boolean\"",
        ),
        (
            json!({"type": "integer", "oneOf": [{"minimum": 1}, {"minimum": 5}]}),
            json!(7),
            "spec.a: Invalid value: 7: spec.a in body must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ),
        (
            json!({"type": "integer", "anyOf": [{"minimum": 10}, {"maximum": 5}]}),
            json!(7),
            "spec.a: Invalid value: 7: spec.a in body must validate at least one schema (anyOf)",
        ),
        (
            json!({"type": "integer", "not": {"enum": [7]}}),
            json!(7),
            "spec.a: Invalid value: 7: spec.a in body must not validate the schema (not)",
        ),
        (
            json!({"type": "integer", "allOf": [{"minimum": 10}]}),
            json!(7),
            "spec.a: Invalid value: 7: spec.a in body should be greater than or equal to 10",
        ),
    ]);
}

#[test]
fn what_fits_passes() {
    for (rule, value) in [
        (json!({"type": "string", "nullable": true}), json!(null)),
        (json!({"type": "integer"}), json!(5.0)),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            json!("5%"),
        ),
        (json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}), json!({"any": [1]})),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), json!([1, "a"])),
        (
            json!({"type": "object", "oneOf": [{"required": ["x"], "properties": {"x": {"minimum": 1}}}, {"required": ["y"]}],
            "properties": {"x": {"type": "integer"}, "y": {"type": "string"}}}),
            json!({"x": 2}),
        ),
    ] {
        assert_eq!(errors(json!({"a": rule}), json!({"a": value})), [""; 0], "{rule}");
    }
}

#[test]
fn pruning_keeps_what_is_known() {
    let schema = schema(json!({
        "a": {"type": "object", "properties": {"b": {"type": "string"}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"c": {"type": "object"}}},
        "list": {"type": "array", "items": {"type": "object", "properties": {"d": {"type": "string"}}}},
        "embedded": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
    }));
    let mut object = json!({
        "apiVersion": "v1", "kind": "K", "metadata": {"name": "n", "labels": {"l": "1"}}, "extra": 1,
        "spec": {"a": {"b": "1", "x": 2}, "free": {"c": {"y": 1}, "z": 1}, "list": [{"d": "", "e": 1}],
            "embedded": {"kind": "Pod", "spec": {}}},
    });
    assert_eq!(
        unknown_fields(schema.root(), &object),
        ["extra", "spec.a.x", "spec.free.c.y", "spec.list[0].e"].map(|f| format!("unknown field \"{f}\""))
    );
    schema.prune(&mut object);
    assert_eq!(
        object,
        json!({
            "apiVersion": "v1", "kind": "K", "metadata": {"name": "n", "labels": {"l": "1"}},
            "spec": {"a": {"b": "1"}, "free": {"c": {}, "z": 1}, "list": [{"d": ""}],
                "embedded": {"kind": "Pod", "spec": {}}},
        })
    );
    let before = object.clone();
    schema.prune(&mut object);
    assert_eq!(object, before);
}

#[test]
fn defaults_come_where_something_is_missing() {
    let schema = schema(json!({
        "a": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 5}}},
        "n": {"type": "string", "nullable": true, "default": "x"},
        "m": {"type": "string", "default": "x"},
        "list": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"q": {"type": "boolean", "default": true}}}},
    }));
    let mut object = json!({"spec": {"n": null, "m": null, "list": [{}], "map": {"k": {}}}});
    schema.default(&mut object);
    assert_eq!(
        object,
        json!({"spec": {"a": {"b": 5}, "n": null, "m": "x", "list": [{"p": "TCP"}], "map": {"k": {"q": true}}}})
    );
}

#[test]
fn schemas_that_cannot_be_used() {
    let wrong = |schema: Value| {
        Schema::from_openapi(&json!({"type": "object", "properties": {"a": schema}})).unwrap_err().to_string()
    };
    assert_eq!(
        wrong(json!({"$ref": "#/x"})),
        "openAPIV3Schema.properties[a].$ref: Forbidden: must not be set"
    );
    assert!(
        wrong(json!({"type": "strin"}))
            .starts_with("openAPIV3Schema.properties[a].type: Unsupported value: \"strin\"")
    );
    assert_eq!(
        wrong(json!({"type": "array"})),
        "openAPIV3Schema.properties[a].items: Required value: must be specified"
    );
    assert!(wrong(json!({"type": "string", "pattern": "("})).contains("must be a valid regular expression"));
    assert!(
        wrong(json!({"type": "object", "properties": {"x": {}}, "additionalProperties": {}}))
            .contains("mutual exclusive")
    );
    assert!(Schema::from_openapi(&json!([])).is_err());
    let mut deep = json!({"type": "string"});
    for _ in 0..100 {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    assert!(matches!(Schema::from_openapi(&deep), Err(SchemaError::TooDeep(_))));
}

#[test]
fn lists_merge_as_they_say() {
    let schema = schema(json!({
        "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}}}},
        "s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "a": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"x": {"type": "string"}}},
    }));
    let spec = schema.root().child("spec").unwrap();
    assert_eq!(spec.child("m").unwrap().list_shape(), &ListShape::Map(vec!["k".into()]));
    assert_eq!(spec.child("s").unwrap().list_shape(), &ListShape::Set);
    assert!(spec.child("a").unwrap().is_atomic());
    let finalizers = schema.root().child("metadata").and_then(|m| m.child("finalizers")).unwrap();
    assert_eq!(finalizers.list_shape(), &ListShape::Set);
}
