//! Which devices a class or a request selects: CEL expressions over one device.
//!
//! Semantics: KEP-4381 and the documentation of `CELDeviceSelector`. An expression sees `device` with its
//! `driver`, `allowMultipleAllocations`, `attributes` and `capacity`; an unknown domain is an empty map, an
//! unknown name in it an error. Beside CEL's own functions and macros there are `cel.bind`, the functions on
//! strings, optionals, `quantity`, `semver` and `includes`.
//!
//! What differs from Kubernetes: types are not checked when an expression is compiled, so that `1 == "a"` is
//! found out by the first device only; names are (a variable, field of the device or function that does not
//! exist is refused). Expressions may nest 32 deep and have 4,096 parts. What an expression may cost is
//! bounded before it runs, by an estimate of our own under Kubernetes' limit, in place of a budget while it
//! runs. Kubernetes' libraries of lists, sets, URLs, IP addresses, formats, regular expressions (but for
//! `matches`), durations and times are absent.
//!
//! ```
//! use k8s_openapi::api::resource::v1::Device;
//! use rkube_api::helpers::device_selector::{DeviceSelector, DeviceValue};
//!
//! let gpu: Device = serde_json::from_value(serde_json::json!({
//!     "name": "gpu-0",
//!     "attributes": {"model": {"string": "x100"}, "driverVersion": {"version": "1.4.0"}},
//!     "capacity": {"memory": {"value": "40Gi"}},
//! }))?;
//! let gpu = DeviceValue::new("gpu.example.com", &gpu)?;
//! let selector = DeviceSelector::compile(
//!     r#"device.attributes["gpu.example.com"].model == "x100"
//!         && device.capacity["gpu.example.com"].memory.compareTo(quantity("16Gi")) >= 0
//!         && device.attributes["gpu.example.com"].driverVersion.isGreaterThan(semver("1.3.9"))"#,
//! )?;
//! assert!(selector.matches(&gpu)?);
//!
//! let careless = DeviceSelector::compile(r#"device.attributes["gpu.example.com"].vendor == "x""#)?;
//! assert!(careless.matches(&gpu).unwrap_err().to_string().starts_with("no such key: vendor"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bounds;
mod functions;
mod names;
mod values;

use cel::{
    Context, ExecutionError, IdedExpr, Value,
    common::{
        ast::{ComprehensionExpr, Expr, ListExpr, LiteralValue},
        types::{CelBool, CelMap},
        value::CowVal,
    },
    context::VariableResolver,
    parser::PrattParser,
};
use k8s_openapi::api::resource::v1::Device;

/// The variable.
const DEVICE: &str = "device";
/// How deep an expression may nest: what evaluates it goes down as deep, on a stack of bounded size.
const DEPTH: usize = 32;
/// How many parts an expression may have.
const PARTS: usize = 4096;

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// It is no expression.
    #[error("compilation failed: {message}")]
    Syntax {
        /// What is wrong, and where.
        message: String,
    },
    /// It names a variable or function that does not exist.
    #[error("compilation failed: ERROR: undeclared reference to '{name}' (in container '')")]
    Undeclared {
        /// The name.
        name: String,
    },
    /// It names a field that a device does not have.
    #[error("compilation failed: ERROR: undefined field '{field}'")]
    NoField {
        /// The field.
        field: String,
    },
    /// It nests too deep.
    #[error("compilation failed: ERROR: expression recursion limit exceeded: {DEPTH}")]
    TooDeep,
    /// Evaluating it might take too long.
    #[error("too complex, exceeds cost limit")]
    TooCostly,
    /// It is neither true nor false, whatever the device.
    #[error("must evaluate to bool or the unknown type, not {found}")]
    NotBool {
        /// What it is.
        found: &'static str,
    },
}

/// Why it cannot be said whether an expression selects a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// An attribute has no value that can be compared.
    #[error("attribute {name}: {message}")]
    Attribute {
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A capacity is no quantity.
    #[error("capacity {name}: {message}")]
    Capacity {
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// The evaluation failed, in the words of CEL.
    #[error("{0}")]
    Runtime(String),
    /// It ended in something that is neither true nor false.
    #[error(
        "CEL result of type {found} could not be converted to bool: type conversion error from '{found}' to 'bool'"
    )]
    NotBool {
        /// In what.
        found: String,
    },
}

/// A device as expressions see it.
#[derive(Clone, Debug)]
pub struct DeviceValue(CelMap<'static>);

impl DeviceValue {
    /// Looks at a device of a driver, whose name is the domain of what names none.
    pub fn new(driver: &str, device: &Device) -> Result<Self, MatchError> {
        values::device(driver, device).map(Self)
    }
}

impl VariableResolver for DeviceValue {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        (variable == DEVICE).then_some(CowVal::Borrowed(&self.0))
    }
}

/// An expression, ready to be asked about devices.
#[derive(Debug)]
pub struct DeviceSelector {
    expression: IdedExpr,
}

impl DeviceSelector {
    /// Reads an expression. However long or deep, it is answered in bounded time and stack.
    pub fn compile(expression: &str) -> Result<Self, SelectorError> {
        let parser = PrattParser::new()
            .max_recursion_depth(DEPTH as u16)
            .max_expression_node_count(PARTS)
            .enable_optional_syntax(true);
        let parsed = parser.parse(expression);
        let mut expression =
            parsed.map_err(|errors| SelectorError::Syntax { message: errors.to_string() })?;
        if bounds::depth(&expression) > DEPTH {
            return Err(SelectorError::TooDeep);
        }
        bind(&mut expression);
        names::check(&expression)?;
        if bounds::cost(&expression) > bounds::MOST {
            return Err(SelectorError::TooCostly);
        }
        match never_bool(&expression.expr) {
            Some(found) => Err(SelectorError::NotBool { found }),
            None => Ok(Self { expression }),
        }
    }

    /// Whether it selects the device.
    pub fn matches(&self, device: &DeviceValue) -> Result<bool, MatchError> {
        let mut context = Context::with_env(functions::ENV.clone());
        context.set_variable_resolver(device);
        let result = Value::resolve_val(&self.expression, &context).map_err(runtime)?;
        match result.downcast_ref::<CelBool>() {
            Some(bool) => Ok(*bool.inner()),
            None => Err(MatchError::NotBool { found: result.get_type().name().to_owned() }),
        }
    }
}

/// What a literal is, if it is no bool.
fn never_bool(expression: &Expr) -> Option<&'static str> {
    match expression {
        Expr::List(_) => Some("list(dyn)"),
        Expr::Map(_) => Some("map(dyn, dyn)"),
        Expr::Literal(literal) => match literal {
            LiteralValue::Boolean(_) => None,
            LiteralValue::Bytes(_) => Some("bytes"),
            LiteralValue::Double(_) => Some("double"),
            LiteralValue::Int(_) => Some("int"),
            LiteralValue::Null => Some("null_type"),
            LiteralValue::String(_) => Some("string"),
            LiteralValue::UInt(_) => Some("uint"),
        },
        _ => None,
    }
}

/// Kubernetes' words for what goes wrong on the way.
fn runtime(error: ExecutionError) -> MatchError {
    MatchError::Runtime(match error {
        ExecutionError::NoSuchKey(key) => format!(
            "no such key: {key}. consider using CEL optional chaining (.? followed by orValue()) or guarding the check with has() for optional fields"
        ),
        ExecutionError::NoSuchOverload(_)
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::ValuesNotComparable(..)
        | ExecutionError::UnexpectedType { .. } => "no such overload".into(),
        ExecutionError::DivisionByZero(_) => "division by zero".into(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".into(),
        ExecutionError::Overflow(..) => "integer overflow".into(),
        ExecutionError::FunctionError { message, .. } => message,
        other => other.to_string(),
    })
}

/// Turns `cel.bind(name, value, expression)` into a loop that never runs, whose result sees the value by its
/// name. The caller has bounded the depth.
fn bind(expression: &mut IdedExpr) {
    bounds::children_mut(&mut expression.expr).into_iter().for_each(bind);
    let Expr::Call(call) = &mut expression.expr else { return };
    let on_cel =
        call.target.as_ref().is_some_and(|it| matches!(&it.expr, Expr::Ident(name) if name == "cel"));
    let [name, value, body] = call.args.as_mut_slice() else { return };
    if !on_cel || call.func_name != "bind" {
        return;
    }
    let Expr::Ident(name) = &name.expr else { return };
    let part = |expr: Expr| IdedExpr { id: 0, expr };
    let bound = ComprehensionExpr {
        iter_range: part(Expr::List(ListExpr::default())),
        iter_var: "#unused".into(),
        iter_var2: None,
        accu_var: name.clone(),
        accu_init: std::mem::take(value),
        loop_cond: part(Expr::Literal(LiteralValue::Boolean(false.into()))),
        loop_step: part(Expr::Ident(name.clone())),
        result: std::mem::take(body),
    };
    expression.expr = Expr::Comprehension(Box::new(bound));
}

#[cfg(test)]
mod tests;
