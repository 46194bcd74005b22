//! Makes every operation of a template pay for what it touches. The engine counts its steps, and one step may compare two
//! lists or search a long text. So operators that do, and the text of the template itself, become calls of our own filters,
//! each of which pays before it works (see `filters` and `output`); all else of the parsed template stays as it is.

use minijinja::Value;
use minijinja::machinery::Span;
use minijinja::machinery::ast::{
    BinOp, BinOpKind, Call, CallArg, Compare, CompareOpKind, Const, EmitExpr, Expr, Filter, ForLoop, GetAttr, GetItem,
    IfCond, IfExpr, List, Set, Spanned, Stmt, Template, Test, Tuple, UnaryOp, UnaryOpKind, Var,
};

use super::filters::{COMPARE, ITEM, Operator, WEIGH};
use super::output::Raw;

/// Something that the grammar has refused before.
#[derive(Debug)]
pub(super) struct Unknown {
    pub line: usize,
}

type Rewritten<T> = Result<T, Unknown>;

/// Keys that are written out and are at most this long are not worth a call.
const SHORT_KEY_BYTES: usize = 64;

pub(super) fn stmt<'a>(stmt: &Stmt<'a>) -> Rewritten<Stmt<'a>> {
    Ok(match stmt {
        Stmt::Template(template) => {
            Stmt::Template(Spanned::new(Template { children: stmts(&template.children)? }, template.span()))
        }
        Stmt::EmitExpr(emit) => Stmt::EmitExpr(Spanned::new(EmitExpr { expr: expr(&emit.expr)? }, emit.span())),
        Stmt::EmitRaw(raw) => {
            let text = constant(Value::from_object(Raw::new(raw.raw)), raw.span());
            Stmt::EmitExpr(Spanned::new(EmitExpr { expr: text }, raw.span()))
        }
        Stmt::ForLoop(body) => {
            let rewritten = ForLoop {
                target: expr(&body.target)?,
                iter: expr(&body.iter)?,
                filter_expr: body.filter_expr.as_ref().map(expr).transpose()?,
                recursive: body.recursive,
                body: stmts(&body.body)?,
                else_body: stmts(&body.else_body)?,
            };
            Stmt::ForLoop(Spanned::new(rewritten, body.span()))
        }
        Stmt::IfCond(condition) => {
            let rewritten = IfCond {
                expr: expr(&condition.expr)?,
                true_body: stmts(&condition.true_body)?,
                false_body: stmts(&condition.false_body)?,
            };
            Stmt::IfCond(Spanned::new(rewritten, condition.span()))
        }
        Stmt::Set(set) => {
            let rewritten = Set { target: expr(&set.target)?, expr: expr(&set.expr)? };
            Stmt::Set(Spanned::new(rewritten, set.span()))
        }
        Stmt::WithBlock(with) => return unknown(with.span()),
        Stmt::SetBlock(set) => return unknown(set.span()),
        Stmt::AutoEscape(escape) => return unknown(escape.span()),
        Stmt::FilterBlock(filter) => return unknown(filter.span()),
        Stmt::Do(call) => return unknown(call.span()),
    })
}

fn unknown<T>(span: Span) -> Rewritten<T> {
    Err(Unknown { line: usize::from(span.start_line) })
}

fn stmts<'a>(all: &[Stmt<'a>]) -> Rewritten<Vec<Stmt<'a>>> {
    all.iter().map(stmt).collect()
}

fn exprs<'a>(all: &[Expr<'a>]) -> Rewritten<Vec<Expr<'a>>> {
    all.iter().map(expr).collect()
}

fn constant<'a>(value: Value, span: Span) -> Expr<'a> {
    Expr::Const(Spanned::new(Const { value }, span))
}

fn filter<'a>(name: &'static str, of: Expr<'a>, args: Vec<CallArg<'a>>, span: Span) -> Expr<'a> {
    Expr::Filter(Spanned::new(Filter { name, expr: Some(of), args }, span))
}

fn expr<'a>(of: &Expr<'a>) -> Rewritten<Expr<'a>> {
    let span = of.span();
    Ok(match of {
        Expr::Var(var) => Expr::Var(Spanned::new(Var { id: var.id }, span)),
        Expr::Const(value) => constant(value.value.clone(), span),
        Expr::UnaryOp(op) => {
            // it cannot be copied
            let kind = if matches!(op.op, UnaryOpKind::Not) { UnaryOpKind::Not } else { UnaryOpKind::Neg };
            Expr::UnaryOp(Spanned::new(UnaryOp { op: kind, expr: expr(&op.expr)? }, span))
        }
        Expr::BinOp(op) => binary(op, span)?,
        Expr::Compare(chain) => compare(chain, span)?,
        Expr::IfExpr(choice) => {
            let rewritten = IfExpr {
                test_expr: expr(&choice.test_expr)?,
                true_expr: expr(&choice.true_expr)?,
                false_expr: choice.false_expr.as_ref().map(expr).transpose()?,
            };
            Expr::IfExpr(Spanned::new(rewritten, span))
        }
        Expr::Filter(applied) => {
            let of = applied.expr.as_ref().map(expr).transpose()?;
            Expr::Filter(Spanned::new(Filter { name: applied.name, expr: of, args: args(&applied.args)? }, span))
        }
        Expr::Test(test) => {
            let rewritten = Test { name: test.name, expr: expr(&test.expr)?, args: args(&test.args)? };
            Expr::Test(Spanned::new(rewritten, span))
        }
        Expr::GetAttr(get) => Expr::GetAttr(Spanned::new(GetAttr { expr: expr(&get.expr)?, name: get.name }, span)),
        Expr::GetItem(get) => {
            let (of, key) = (expr(&get.expr)?, expr(&get.subscript_expr)?);
            match &key {
                Expr::Const(key) if key.value.as_str().is_none_or(|text| text.len() <= SHORT_KEY_BYTES) => {
                    let subscript_expr = constant(key.value.clone(), key.span());
                    Expr::GetItem(Spanned::new(GetItem { expr: of, subscript_expr }, span))
                }
                _ => filter(ITEM, of, vec![CallArg::Pos(key)], span),
            }
        }
        Expr::Call(call) => {
            // such as `loop.changed(x)`, which compares
            let weighed = |arg: CallArg<'a>| match arg {
                CallArg::Pos(arg) => CallArg::Pos(filter(WEIGH, arg, Vec::new(), span)),
                CallArg::Kwarg(name, arg) => CallArg::Kwarg(name, filter(WEIGH, arg, Vec::new(), span)),
                splat => splat,
            };
            let args = args(&call.args)?.into_iter().map(weighed).collect();
            Expr::Call(Spanned::new(Call { expr: expr(&call.expr)?, args }, span))
        }
        Expr::List(list) => Expr::List(Spanned::new(List { items: exprs(&list.items)? }, span)),
        Expr::Tuple(tuple) => Expr::Tuple(Spanned::new(Tuple { items: exprs(&tuple.items)? }, span)),
        Expr::Slice(_) | Expr::Map(_) => return unknown(span),
    })
}

fn args<'a>(args: &[CallArg<'a>]) -> Rewritten<Vec<CallArg<'a>>> {
    let arg = |arg: &CallArg<'a>| {
        Ok(match arg {
            CallArg::Pos(arg) => CallArg::Pos(expr(arg)?),
            CallArg::Kwarg(name, arg) => CallArg::Kwarg(name, expr(arg)?),
            CallArg::PosSplat(arg) => CallArg::PosSplat(expr(arg)?),
            CallArg::KwargSplat(arg) => CallArg::KwargSplat(expr(arg)?),
        })
    };
    args.iter().map(arg).collect()
}

fn binary<'a>(op: &BinOp<'a>, span: Span) -> Rewritten<Expr<'a>> {
    let operator = match op.op {
        BinOpKind::Eq => Operator::Equal,
        BinOpKind::Ne => Operator::NotEqual,
        BinOpKind::Lt => Operator::Less,
        BinOpKind::Lte => Operator::LessOrEqual,
        BinOpKind::Gt => Operator::Greater,
        BinOpKind::Gte => Operator::GreaterOrEqual,
        BinOpKind::In => Operator::In,
        // of numbers, or of two conditions
        BinOpKind::ScAnd | BinOpKind::ScOr | BinOpKind::Sub | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem => {
            let rewritten = BinOp { op: op.op, left: expr(&op.left)?, right: expr(&op.right)? };
            return Ok(Expr::BinOp(Spanned::new(rewritten, span)));
        }
        BinOpKind::Add | BinOpKind::Mul | BinOpKind::Pow | BinOpKind::Concat => return unknown(span),
    };
    let args = vec![CallArg::Pos(constant(operator.value(), span)), CallArg::Pos(expr(&op.right)?)];
    Ok(filter(COMPARE, expr(&op.left)?, args, span))
}

/// `a < b <= c`: one call with all operators and operands, so that no operand is there twice.
fn compare<'a>(chain: &Compare<'a>, span: Span) -> Rewritten<Expr<'a>> {
    let mut args = Vec::with_capacity(2 * chain.ops.len());
    for op in &chain.ops {
        let operator = match op.op {
            CompareOpKind::Eq => Operator::Equal,
            CompareOpKind::Ne => Operator::NotEqual,
            CompareOpKind::Lt => Operator::Less,
            CompareOpKind::Lte => Operator::LessOrEqual,
            CompareOpKind::Gt => Operator::Greater,
            CompareOpKind::Gte => Operator::GreaterOrEqual,
            CompareOpKind::In => Operator::In,
            CompareOpKind::NotIn => Operator::NotIn,
        };
        args.push(CallArg::Pos(constant(operator.value(), span)));
        args.push(CallArg::Pos(expr(&op.expr)?));
    }
    Ok(filter(COMPARE, expr(&chain.expr)?, args, span))
}
