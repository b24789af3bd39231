//! How deep an expression is, and how much evaluating it can cost at most.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators},
};

use super::DEVICE;

/// What an expression may cost: Kubernetes' limit.
pub(super) const MOST: u64 = 1_000_000;
/// An upper bound of the entries of a device's maps, of the items of its lists and of the bytes of its texts.
const FACT: u64 = 64;
/// What the compilation of a regular expression costs, a byte.
const REGEX: u64 = 100;

/// The parts of an expression.
pub(super) fn children(expression: &Expr) -> Vec<&IdedExpr> {
    match expression {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(it) => {
            vec![&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Struct(it) => it.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
    }
}

fn parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// The parts of an expression, to change.
pub(super) fn children_mut(expression: &mut Expr) -> Vec<&mut IdedExpr> {
    fn parts(entry: &mut EntryExpr) -> Vec<&mut IdedExpr> {
        match entry {
            EntryExpr::StructField(field) => vec![&mut field.value],
            EntryExpr::MapEntry(entry) => vec![&mut entry.key, &mut entry.value],
        }
    }
    match expression {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => call.target.as_deref_mut().into_iter().chain(&mut call.args).collect(),
        Expr::Comprehension(it) => {
            let ComprehensionExpr { iter_range, accu_init, loop_cond, loop_step, result, .. } = &mut **it;
            vec![iter_range, accu_init, loop_cond, loop_step, result]
        }
        Expr::List(list) => list.elements.iter_mut().collect(),
        Expr::Map(map) => map.entries.iter_mut().flat_map(|entry| parts(&mut entry.expr)).collect(),
        Expr::Select(select) => vec![&mut select.operand],
        Expr::Struct(it) => it.entries.iter_mut().flat_map(|entry| parts(&mut entry.expr)).collect(),
    }
}

/// How deep the parts nest; found without going down a stack.
pub(super) fn depth(expression: &IdedExpr) -> usize {
    let (mut deepest, mut open) = (0, vec![(expression, 1)]);
    while let Some((at, depth)) = open.pop() {
        deepest = deepest.max(depth);
        open.extend(children(&at.expr).into_iter().map(|child| (child, depth + 1)));
    }
    deepest
}

/// An upper bound of what evaluating an expression costs, whose depth is bounded.
pub(super) fn cost(expression: &IdedExpr) -> u64 {
    estimate(&expression.expr, &mut Vec::new()).cost
}

/// What a value may be at most: so many items of such a size each; a text has items of size 1.
#[derive(Clone, Copy)]
struct Size {
    items: u64,
    each: u64,
}

impl Size {
    const ONE: Self = Self { items: 1, each: 1 };
    const OF_DEVICE: Self = Self { items: FACT, each: FACT };

    fn total(self) -> u64 {
        self.items.saturating_mul(self.each)
    }

    /// What may be found inside.
    fn inner(self) -> Self {
        Self { items: self.each, each: self.each }
    }

    fn or(self, other: Self) -> Self {
        Self { items: self.items.max(other.items), each: self.each.max(other.each) }
    }
}

/// A value and what it costs to get there.
#[derive(Clone, Copy)]
struct Estimate {
    cost: u64,
    size: Size,
}

type Scope<'a> = Vec<(&'a str, Size)>;

fn estimate<'a>(expression: &'a Expr, scope: &mut Scope<'a>) -> Estimate {
    match expression {
        Expr::Literal(literal) => {
            let items = match literal {
                LiteralValue::String(text) => text.inner().len() as u64,
                LiteralValue::Bytes(bytes) => bytes.inner().len() as u64,
                _ => 1,
            };
            Estimate { cost: 1, size: Size { items, each: 1 } }
        }
        Expr::Ident(name) => {
            let bound = scope.iter().rev().find(|(bound, _)| bound == name).map(|(_, size)| *size);
            let free = if name == DEVICE { Size::OF_DEVICE } else { Size::ONE };
            Estimate { cost: 1, size: bound.unwrap_or(free) }
        }
        Expr::Select(select) => within(&select.operand.expr, 0, scope),
        Expr::Call(call) => called(call, scope),
        Expr::Comprehension(it) => looped(it, scope),
        other => {
            let parts: Vec<Estimate> =
                children(other).into_iter().map(|part| estimate(&part.expr, scope)).collect();
            let each = parts.iter().map(|part| part.size.total()).max().unwrap_or(1).max(1);
            Estimate { cost: sum(&parts).saturating_add(1), size: Size { items: parts.len() as u64, each } }
        }
    }
}

fn sum(parts: &[Estimate]) -> u64 {
    parts.iter().fold(0, |sum, part| sum.saturating_add(part.cost))
}

/// A field or item of something; whatever is inside of a device is as large as its facts.
fn within<'a>(operand: &'a Expr, more: u64, scope: &mut Scope<'a>) -> Estimate {
    let outer = estimate(operand, scope);
    let size = if of_device(operand) { Size::OF_DEVICE } else { outer.size.inner() };
    Estimate { cost: outer.cost.saturating_add(more).saturating_add(1), size }
}

fn of_device(expression: &Expr) -> bool {
    match expression {
        Expr::Ident(name) => name == DEVICE,
        Expr::Select(select) => of_device(&select.operand.expr),
        Expr::Call(call) if is_index(&call.func_name) => {
            call.args.first().is_some_and(|operand| of_device(&operand.expr))
        }
        _ => false,
    }
}

fn is_index(function: &str) -> bool {
    [operators::INDEX, operators::OPT_INDEX, operators::OPT_SELECT].contains(&function)
}

fn called<'a>(call: &'a CallExpr, scope: &mut Scope<'a>) -> Estimate {
    if let [operand, index] = call.args.as_slice()
        && is_index(&call.func_name)
    {
        let index = estimate(&index.expr, scope).cost;
        return within(&operand.expr, index, scope);
    }
    let operands = call.target.as_deref().into_iter().chain(&call.args);
    let parts: Vec<Estimate> = operands.map(|part| estimate(&part.expr, scope)).collect();
    let sizes = parts.iter().map(|part| part.size);
    let read = sizes.clone().fold(0, |sum: u64, size| sum.saturating_add(size.total()));
    let all =
        sizes.clone().fold(1, |product: u64, size| product.saturating_mul(size.total().saturating_add(1)));
    let either = sizes.clone().fold(Size::ONE, Size::or);
    let (work, size) = match call.func_name.as_str() {
        operators::CONDITIONAL => (1, either),
        operators::ADD => {
            let items = sizes.fold(0, |sum: u64, size| sum.saturating_add(size.items));
            (read / 10, Size { items, each: either.each })
        }
        "matches" => (read.saturating_mul(REGEX), Size::ONE),
        "split" => (read / 10, Size { items: read.saturating_add(1), each: read.saturating_add(1) }),
        "format" | "join" | "replace" => (all / 10, Size { items: all, each: 1 }),
        "or" | "orValue" | "value" | "dyn" | "of" | "ofNonZeroValue" | "lowerAscii" | "upperAscii"
        | "trim" | "reverse" | "substring" | "string" | "bytes" => (read / 10, either),
        // Texts between quotes at most double.
        "quote" => (read / 10, Size { items: read.saturating_mul(2).saturating_add(2), each: 1 }),
        // What remains answers with a bool or a number; comparing lists reads both, one for each item of the other.
        _ => (read / 10, Size::ONE),
    };
    Estimate { cost: sum(&parts).saturating_add(work).saturating_add(1), size }
}

fn looped<'a>(it: &'a ComprehensionExpr, scope: &mut Scope<'a>) -> Estimate {
    let (range, start) = (estimate(&it.iter_range.expr, scope), estimate(&it.accu_init.expr, scope));
    let outside = scope.len();
    let item =
        if of_device(&it.iter_range.expr) { Size { items: FACT, each: 1 } } else { range.size.inner() };
    scope.push((&it.iter_var, item));
    scope.extend(it.iter_var2.as_deref().map(|name| (name, range.size.inner())));
    scope.push((&it.accu_var, start.size));
    let times = range.size.items;
    let condition = estimate(&it.loop_cond.expr, scope).cost;
    let step = estimate(&it.loop_step.expr, scope);
    // A loop that never runs binds a name; else each step adds at most what the first one makes.
    let grown = Size {
        items: start.size.items.saturating_add(times.saturating_mul(step.size.items)),
        each: start.size.each.max(step.size.each),
    };
    let end = if times == 0 { start.size } else { grown };
    scope.truncate(outside);
    scope.push((&it.accu_var, end));
    let result = estimate(&it.result.expr, scope);
    scope.truncate(outside);
    let round = condition.saturating_add(step.cost).saturating_add(1);
    let cost = [range.cost, start.cost, times.saturating_mul(round), result.cost, 1];
    Estimate { cost: cost.iter().fold(0, |sum: u64, part| sum.saturating_add(*part)), size: result.size }
}
