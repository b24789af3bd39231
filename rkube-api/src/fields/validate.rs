//! Validates a value against a schema, with the messages of Kubernetes' API for custom resources.

use std::collections::BTreeSet;

use serde_json::Value;

use super::schema::{Kind, NodeId, Schema, SchemaRef};
use super::structural::{Bounds, Rules};
use crate::meta::validation::{ErrorList, FieldError, FieldPath};

/// As many errors as are worth reporting.
const MAX_ERRORS: usize = 100;

impl Schema {
    /// What is wrong with a value.
    #[must_use]
    pub fn validate(&self, value: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        walk(self.root(), value, &FieldPath::root(), &mut errors);
        errors
    }
}

fn walk(schema: SchemaRef<'_>, value: &Value, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if errors.len() >= MAX_ERRORS {
        return;
    }
    let rules = schema.node().rules.as_deref();
    if value.is_null() && rules.is_some_and(|r| r.nullable) {
        return;
    }
    if !fits(schema.kind(), value, rules) {
        let wanted = wanted(schema.kind(), rules);
        let found = type_of(value);
        let detail = format!("{path} in body must be of type {wanted}: \"{found}\"");
        errors.push(FieldError::type_invalid(path, found, detail));
        return;
    }
    if let Some(rules) = rules {
        scalar_rules(rules, value, path, errors);
        count_rules(rules, value, path, errors);
        junctors(schema, rules, value, path, errors);
    }
    match value {
        Value::Object(map) => {
            if let Kind::Object(object) = schema.kind() {
                for name in object.required.iter().filter(|name| !map.contains_key(*name)) {
                    errors.push(FieldError::required(&path.child(name), ""));
                }
            }
            for (key, value) in map {
                if let Some(child) = schema.child(key).filter(|_| !matches!(schema.kind(), Kind::Any)) {
                    walk(child, value, &path.child(key), errors);
                }
            }
        }
        Value::Array(items) if matches!(schema.kind(), Kind::List { .. }) => {
            let Some(item) = schema.item() else { return };
            for (i, value) in items.iter().enumerate() {
                walk(item, value, &path.index(i), errors);
            }
        }
        _ => {}
    }
}

fn fits(kind: &Kind, value: &Value, rules: Option<&Rules>) -> bool {
    let untyped = rules.is_some_and(|r| r.type_name.is_none());
    match kind {
        Kind::Any => true,
        Kind::Object(_) | Kind::Map { .. } => value.is_object() || untyped,
        Kind::List { .. } => value.is_array() || untyped,
        Kind::String | Kind::Bytes | Kind::Time => value.is_string(),
        Kind::Integer(_) => is_whole(value),
        Kind::Number => value.is_number(),
        Kind::Boolean => value.is_boolean(),
        Kind::IntOrString | Kind::Quantity => value.is_string() || is_whole(value),
    }
}

fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0)
}

fn wanted(kind: &Kind, rules: Option<&Rules>) -> String {
    if let Some(name) = rules.and_then(|r| r.type_name.clone()) {
        return name;
    }
    match kind {
        Kind::Any => "any",
        Kind::Object(_) | Kind::Map { .. } => "object",
        Kind::List { .. } => "array",
        Kind::String | Kind::Bytes | Kind::Time => "string",
        Kind::Integer(_) => "integer",
        Kind::Number => "number",
        Kind::Boolean => "boolean",
        Kind::IntOrString | Kind::Quantity => "integer,string",
    }
    .to_string()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_whole(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn scalar_rules(rules: &Rules, value: &Value, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut refuse = |what: String| {
        errors.push(FieldError::invalid(path, value, format!("{path} in body {what}")));
    };
    if let Some(number) = value.as_f64() {
        match rules.minimum {
            Some((min, true)) if number <= min => refuse(format!("should be greater than {min}")),
            Some((min, false)) if number < min => {
                refuse(format!("should be greater than or equal to {min}"));
            }
            _ => {}
        }
        match rules.maximum {
            Some((max, true)) if number >= max => refuse(format!("should be less than {max}")),
            Some((max, false)) if number > max => refuse(format!("should be less than or equal to {max}")),
            _ => {}
        }
        if let Some(by) = rules.multiple_of.filter(|by| *by > 0.0 && (number / by).fract() != 0.0) {
            refuse(format!("should be a multiple of {by}"));
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count();
        if let Some(min) = rules.length.min.filter(|min| length < *min) {
            refuse(format!("should be at least {min} chars long"));
        }
        if let Some(pattern) = rules.pattern.as_ref().filter(|p| !p.is_match(text)) {
            refuse(format!("should match '{pattern}'"));
        }
        if rules.format.as_deref() == Some("date-time") && text.parse::<jiff::Timestamp>().is_err() {
            refuse(format!("must be of type date-time: {}", crate::meta::validation::go_quoted(text)));
        }
        if let Some(max) = rules.length.max.filter(|max| length > *max) {
            errors.push(FieldError::too_long(path, max));
        }
    }
    if let Some(allowed) = rules.one_of_values.as_ref().filter(|allowed| !allowed.contains(value)) {
        let texts: Vec<String> =
            allowed.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_string)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        errors.push(FieldError::not_supported(path, value, &texts));
    }
}

fn count_rules(rules: &Rules, value: &Value, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut check = |bounds: Bounds, count: usize, what: &str| {
        if let Some(min) = bounds.min.filter(|min| count < *min) {
            let detail = format!("{path} in body should have at least {min} {what}");
            errors.push(FieldError::invalid(path, value, detail));
        }
        if let Some(max) = bounds.max.filter(|max| count > *max) {
            errors.push(FieldError::too_many(path, count, max));
        }
    };
    match value {
        Value::Array(items) => check(rules.items, items.len(), "items"),
        Value::Object(map) => check(rules.properties, map.len(), "properties"),
        _ => {}
    }
    if let Value::Array(items) = value
        && rules.unique
        && items.iter().map(ToString::to_string).collect::<BTreeSet<_>>().len() != items.len()
    {
        let detail = format!("{path} in body shouldn't contain duplicates");
        errors.push(FieldError::invalid(path, value, detail));
    }
}

fn junctors(
    schema: SchemaRef<'_>,
    rules: &Rules,
    value: &Value,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let holds = |id: &NodeId| {
        let mut errors = ErrorList::new();
        walk(schema.part(*id), value, path, &mut errors);
        errors.is_empty()
    };
    for part in &rules.all_of {
        walk(schema.part(*part), value, path, errors);
    }
    let mut refuse = |what: String| {
        errors.push(FieldError::invalid(path, value, format!("{path} in body {what}")));
    };
    if !rules.any_of.is_empty() && !rules.any_of.iter().any(holds) {
        refuse("must validate at least one schema (anyOf)".to_string());
    }
    if !rules.one_of.is_empty() {
        match rules.one_of.iter().filter(|part| holds(part)).count() {
            1 => {}
            0 => refuse("must validate one and only one schema (oneOf). Found none valid".to_string()),
            n => {
                refuse(format!("must validate one and only one schema (oneOf). Found {n} valid alternatives"))
            }
        }
    }
    if rules.not.as_ref().is_some_and(holds) {
        refuse("must not validate the schema (not)".to_string());
    }
}
