//! The functions that expressions may call.

use std::sync::{Arc, LazyLock};

use cel::{
    DeclarationError, Env, ExecutionError,
    common::{
        functions::Function,
        types::{BOOL_TYPE, CelBool, CelDouble, CelInt, CelString, DYN_TYPE, INT_TYPE, STRING_TYPE},
        value::CowVal,
    },
    extensions,
};
use semver::Version;

use super::values::{CelQuantity, CelVersion};
use crate::meta::{Quantity, quantity::Format};

/// How long a list `includes` looks through.
const VALUES: usize = 48;

/// The functions of CEL that are called as `f(x)`.
const GLOBAL: [&str; 18] = [
    "bool",
    "bytes",
    "double",
    "dyn",
    "int",
    "matches",
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "size",
    "string",
    "strings.quote",
    "type",
    "uint",
    "quantity",
    "isQuantity",
    "semver",
    "isSemver",
];
/// Those that are called as `x.f()`.
const MEMBER: [&str; 38] = [
    "contains",
    "endsWith",
    "hasValue",
    "matches",
    "or",
    "orValue",
    "size",
    "startsWith",
    "value",
    // of strings
    "charAt",
    "format",
    "indexOf",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "replace",
    "reverse",
    "split",
    "substring",
    "trim",
    "upperAscii",
    // of quantities and versions
    "add",
    "asApproximateFloat",
    "asInteger",
    "compareTo",
    "isGreaterThan",
    "isInteger",
    "isLessThan",
    "major",
    "minor",
    "patch",
    "sign",
    "sub",
    // of attributes
    "includes",
    // of optionals, as names of their own
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "strings.quote",
];

/// Whether there is a function of that name, called as `name(x)` or as `x.name()`.
pub(super) fn exists(name: &str, member: bool) -> bool {
    if member { MEMBER.contains(&name) } else { GLOBAL.contains(&name) }
}

/// The environment of all expressions.
pub(super) static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // No two functions are alike: a test sees to it.
    if let Err(error) = declare(&mut env) {
        tracing::error!(%error, "a function of device selectors was not declared");
    }
    Arc::new(env)
});

type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_extension(extensions::strings)?;
    quantities(env)?;
    versions(env)?;
    env.add_member_overload("includes", "dra_includes_dyn_dyn", DYN_TYPE, vec![DYN_TYPE], includes)
}

fn quantities(env: &mut Env) -> Result<(), DeclarationError> {
    let quantity = || CelQuantity::TYPE;
    env.add_overload("quantity", "string_to_quantity", vec![STRING_TYPE], |args| {
        let parsed = text(&args, 0)?.parse::<Quantity>();
        let parsed = parsed.map_err(|error| ExecutionError::function_error("quantity", error))?;
        Ok(CowVal::owned(CelQuantity(parsed)))
    })?;
    env.add_overload("isQuantity", "is_quantity_string", vec![STRING_TYPE], |args| {
        bool(text(&args, 0)?.parse::<Quantity>().is_ok())
    })?;
    let two: [(&str, &str, Function); 5] = [
        ("isGreaterThan", "quantity_is_greater_than", |args| bool(amount(&args, 0)? > amount(&args, 1)?)),
        ("isLessThan", "quantity_is_less_than", |args| bool(amount(&args, 0)? < amount(&args, 1)?)),
        ("compareTo", "quantity_compare_to", |args| int(amount(&args, 0)?.cmp(&amount(&args, 1)?) as i64)),
        ("add", "quantity_add", |args| Ok(CowVal::owned(CelQuantity(amount(&args, 0)? + amount(&args, 1)?)))),
        ("sub", "quantity_sub", |args| Ok(CowVal::owned(CelQuantity(amount(&args, 0)? - amount(&args, 1)?)))),
    ];
    for (name, id, function) in two {
        env.add_member_overload(name, id, quantity(), vec![quantity()], function)?;
    }
    env.add_member_overload("add", "quantity_add_int", quantity(), vec![INT_TYPE], |args| {
        let more = Quantity::new(number(&args, 1)?, Format::DecimalSI);
        Ok(CowVal::owned(CelQuantity(amount(&args, 0)? + more)))
    })?;
    env.add_member_overload("sub", "quantity_sub_int", quantity(), vec![INT_TYPE], |args| {
        let less = Quantity::new(number(&args, 1)?, Format::DecimalSI);
        Ok(CowVal::owned(CelQuantity(amount(&args, 0)? - less)))
    })?;
    let one: [(&str, &str, Function); 4] = [
        ("sign", "quantity_sign", |args| int(amount(&args, 0)?.cmp(&Quantity::ZERO) as i64)),
        ("isInteger", "quantity_is_integer", |args| bool(amount(&args, 0)?.as_i64().is_some())),
        ("asInteger", "quantity_get_int", |args| {
            let whole = amount(&args, 0)?.as_i64();
            let text = "cannot convert value to integer";
            int(whole.ok_or_else(|| ExecutionError::function_error("asInteger", text))?)
        }),
        ("asApproximateFloat", "quantity_get_float", |args| {
            Ok(CowVal::owned(CelDouble::from(amount(&args, 0)?.as_f64())))
        }),
    ];
    for (name, id, function) in one {
        env.add_member_overload(name, id, quantity(), Vec::new(), function)?;
    }
    Ok(())
}

fn versions(env: &mut Env) -> Result<(), DeclarationError> {
    let version = || CelVersion::TYPE;
    env.add_overload("semver", "string_to_semver", vec![STRING_TYPE], |args| parse(text(&args, 0)?, false))?;
    env.add_overload("semver", "string_bool_to_semver", vec![STRING_TYPE, BOOL_TYPE], |args| {
        parse(text(&args, 0)?, flag(&args, 1)?)
    })?;
    env.add_overload("isSemver", "is_semver_string", vec![STRING_TYPE], |args| {
        bool(Version::parse(text(&args, 0)?).is_ok())
    })?;
    env.add_overload("isSemver", "is_semver_string_bool", vec![STRING_TYPE, BOOL_TYPE], |args| {
        bool(parse(text(&args, 0)?, flag(&args, 1)?).is_ok())
    })?;
    let two: [(&str, &str, Function); 3] = [
        ("isGreaterThan", "semver_is_greater_than", |args| bool(order(&args)? > 0)),
        ("isLessThan", "semver_is_less_than", |args| bool(order(&args)? < 0)),
        ("compareTo", "semver_compare_to", |args| int(order(&args)?)),
    ];
    for (name, id, function) in two {
        env.add_member_overload(name, id, version(), vec![version()], function)?;
    }
    let one: [(&str, &str, Function); 3] = [
        ("major", "semver_major", |args| int(release(&args, 0)?.major as i64)),
        ("minor", "semver_minor", |args| int(release(&args, 0)?.minor as i64)),
        ("patch", "semver_patch", |args| int(release(&args, 0)?.patch as i64)),
    ];
    for (name, id, function) in one {
        env.add_member_overload(name, id, version(), Vec::new(), function)?;
    }
    Ok(())
}

/// Whether an attribute is the value, or its list has it.
fn includes<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let (Some(target), Some(wanted)) = (args.first(), args.get(1)) else { return Err(mismatch("includes")) };
    if target.get_type().name() != "list" {
        return bool(target.equals(wanted.as_ref()));
    }
    let Some(list) = target.as_iterable() else { return Err(mismatch("includes")) };
    let mut values = list.iter();
    for _ in 0..VALUES {
        match values.next() {
            Some(value) if value.equals(wanted.as_ref()) => return bool(true),
            Some(_) => {}
            None => return bool(false),
        }
    }
    let text = format!("'includes' function cannot be applied to lists longer than {VALUES} values");
    if values.next().is_some() { Err(ExecutionError::function_error("includes", text)) } else { bool(false) }
}

/// Reads a version; a lenient one may begin with `v`, lack its end, or have zeros before its numbers.
fn parse<'b, 'v>(text: &str, lenient: bool) -> Answer<'b, 'v> {
    let whole = if lenient { normalized(text) } else { text.to_owned() };
    let parsed = Version::parse(&whole).map_err(|error| ExecutionError::function_error("semver", error))?;
    Ok(CowVal::owned(CelVersion(parsed)))
}

fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let number = |part: &str| {
        let trimmed = part.trim_start_matches('0');
        if trimmed.is_empty() && !part.is_empty() { "0".to_owned() } else { trimmed.to_owned() }
    };
    let mut parts: Vec<String> = core.split('.').map(number).collect();
    while parts.len() < 3 {
        parts.push("0".into());
    }
    format!("{}{rest}", parts.join("."))
}

fn mismatch(function: &str) -> ExecutionError {
    ExecutionError::no_such_overload(function, Vec::new())
}

fn text<'a>(args: &'a [CowVal<'_, '_>], at: usize) -> Result<&'a str, ExecutionError> {
    let found = args.get(at).and_then(|arg| arg.downcast_ref::<CelString<'_>>());
    found.map(CelString::inner).ok_or_else(|| mismatch("string"))
}

fn number(args: &[CowVal<'_, '_>], at: usize) -> Result<i64, ExecutionError> {
    let found = args.get(at).and_then(|arg| arg.downcast_ref::<CelInt>());
    found.map(|it| *it.inner()).ok_or_else(|| mismatch("int"))
}

fn flag(args: &[CowVal<'_, '_>], at: usize) -> Result<bool, ExecutionError> {
    let found = args.get(at).and_then(|arg| arg.downcast_ref::<CelBool>());
    found.map(|it| *it.inner()).ok_or_else(|| mismatch("bool"))
}

fn amount(args: &[CowVal<'_, '_>], at: usize) -> Result<Quantity, ExecutionError> {
    let found = args.get(at).and_then(|arg| arg.downcast_ref::<CelQuantity>());
    found.map(|it| it.0).ok_or_else(|| mismatch("quantity"))
}

fn release<'a>(args: &'a [CowVal<'_, '_>], at: usize) -> Result<&'a Version, ExecutionError> {
    let found = args.get(at).and_then(|arg| arg.downcast_ref::<CelVersion>());
    found.map(|it| &it.0).ok_or_else(|| mismatch("semver"))
}

fn order(args: &[CowVal<'_, '_>]) -> Result<i64, ExecutionError> {
    Ok(release(args, 0)?.cmp_precedence(release(args, 1)?) as i64)
}

fn bool<'b, 'v>(value: bool) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelBool::from(value)))
}

fn int<'b, 'v>(value: i64) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelInt::from(value)))
}
