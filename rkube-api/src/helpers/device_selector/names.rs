//! Names that an expression uses must exist: the one check of a compiler that needs no types.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr},
};

use super::{DEVICE, SelectorError, bounds, functions};

/// What a device has.
const FIELDS: [&str; 4] = ["driver", "allowMultipleAllocations", "attributes", "capacity"];
/// Types by their names, which are values too.
const TYPES: [&str; 11] =
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "optional_type", "string", "type", "uint"];

/// Checks an expression whose depth is bounded.
pub(super) fn check(expression: &IdedExpr) -> Result<(), SelectorError> {
    walk(&expression.expr, &mut Vec::new())
}

fn walk<'a>(expression: &'a Expr, scope: &mut Vec<&'a str>) -> Result<(), SelectorError> {
    match expression {
        Expr::Ident(name) => {
            let known = name == DEVICE || scope.contains(&name.as_str()) || TYPES.contains(&name.as_str());
            if known { Ok(()) } else { Err(SelectorError::Undeclared { name: name.clone() }) }
        }
        Expr::Select(select) => {
            let on_device = matches!(&select.operand.expr, Expr::Ident(name) if name == DEVICE);
            if on_device && !scope.contains(&DEVICE) && !FIELDS.contains(&select.field.as_str()) {
                return Err(SelectorError::NoField { field: select.field.clone() });
            }
            walk(&select.operand.expr, scope)
        }
        Expr::Call(call) => {
            let namespaced = called(call)?;
            if let Some(target) = call.target.as_ref().filter(|_| !namespaced) {
                walk(&target.expr, scope)?;
            }
            call.args.iter().try_for_each(|arg| walk(&arg.expr, scope))
        }
        Expr::Comprehension(it) => {
            walk(&it.iter_range.expr, scope)?;
            walk(&it.accu_init.expr, scope)?;
            let outside = scope.len();
            scope.extend([it.iter_var.as_str(), it.accu_var.as_str()]);
            scope.extend(it.iter_var2.as_deref());
            let inside = [&it.loop_cond, &it.loop_step, &it.result];
            let found = inside.iter().try_for_each(|part| walk(&part.expr, scope));
            scope.truncate(outside);
            found
        }
        Expr::Struct(it) => Err(SelectorError::Undeclared { name: it.type_name.clone() }),
        other => bounds::children(other).into_iter().try_for_each(|child| walk(&child.expr, scope)),
    }
}

/// Checks the function of a call; says whether its target is but the beginning of its name.
fn called(call: &CallExpr) -> Result<bool, SelectorError> {
    let name = &call.func_name;
    // Operators are named by what no function can be.
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok(false);
    }
    let undeclared = || Err(SelectorError::Undeclared { name: name.clone() });
    match call.target.as_ref().map(|target| &target.expr) {
        None if functions::exists(name, false) => Ok(false),
        None => undeclared(),
        Some(Expr::Ident(prefix)) if functions::exists(&format!("{prefix}.{name}"), true) => Ok(true),
        Some(_) if functions::exists(name, true) && !name.contains('.') => Ok(false),
        Some(_) => undeclared(),
    }
}
