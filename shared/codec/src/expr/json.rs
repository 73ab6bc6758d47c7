//! Functions on JSON documents.

use super::EvalError;
use super::compare::bool_datum;
use super::compile::{Call, Eval, Expr, Function, MANY, Value as Outcome, wrong_arguments};
use super::convert::{Ctx, invalid_json, json_datum, text_datum, unsupported};
use super::json_path::{Leg, Path};
use super::types::{Ty, coercibility};
use crate::collation::Collation;
use crate::datum::Datum;
use crate::json::{self, Value};
use std::cmp::Ordering;
use std::collections::BTreeMap;

const fn function(
    name: &'static str,
    args: (usize, usize),
    ty: fn(&[Expr]) -> Ty,
    eval: Eval,
) -> Function {
    Function {
        name,
        args,
        ty,
        eval,
    }
}

fn document(_: &[Expr]) -> Ty {
    Ty::json()
}

fn int(_: &[Expr]) -> Ty {
    Ty::int()
}

fn boolean(_: &[Expr]) -> Ty {
    Ty::boolean()
}

fn text(_: &[Expr]) -> Ty {
    Ty::text(Collation::Utf8mb4Bin, coercibility::IMPLICIT)
}

pub(super) const FUNCTIONS: &[Function] = &[
    function("json_extract", (2, MANY), document, extract),
    function("json_unquote", (1, 1), text, unquote),
    function("json_quote", (1, 1), text, quote),
    function("json_length", (1, 2), int, length),
    function("json_depth", (1, 1), int, |ctx, call| {
        Ok(ctx
            .json(&call.args[0])?
            .map_or(Datum::Null, |value| Datum::Int(depth(&value))))
    }),
    function("json_type", (1, 1), text, |ctx, call| {
        let value = ctx.json(&call.args[0])?;
        Ok(text_datum(
            value.map(|value| type_name(&value).as_bytes().to_vec()),
        ))
    }),
    function("json_valid", (1, 1), boolean, valid),
    function("json_contains", (2, 3), boolean, contains),
    function("json_contains_path", (3, MANY), boolean, contains_path),
    function("json_memberof", (2, 2), boolean, member_of),
    function("json_overlaps", (2, 2), boolean, overlaps),
    function("json_array", (0, MANY), document, array),
    function("json_object", (0, MANY), document, object),
    function("json_keys", (1, 2), document, keys),
    function("json_set", (3, MANY), document, |ctx, call| {
        modify(ctx, call, true, true)
    }),
    function("json_insert", (3, MANY), document, |ctx, call| {
        modify(ctx, call, true, false)
    }),
    function("json_replace", (3, MANY), document, |ctx, call| {
        modify(ctx, call, false, true)
    }),
    function("json_remove", (2, MANY), document, remove),
    function("json_array_append", (3, MANY), document, append),
    function("json_array_insert", (3, MANY), document, array_insert),
    function("json_storage_free", (1, 1), int, |ctx, call| {
        Ok(ctx
            .json(&call.args[0])?
            .map_or(Datum::Null, |_| Datum::Int(0)))
    }),
    function("json_storage_size", (1, 1), int, |ctx, call| {
        Ok(ctx.json(&call.args[0])?.map_or(Datum::Null, |value| {
            Datum::Int(json::encode(&value).len() as i64)
        }))
    }),
    function("json_merge_patch", (2, MANY), document, merge_patch),
    function("json_merge_preserve", (2, MANY), document, merge_preserve),
    function("json_merge", (2, MANY), document, merge_preserve),
];

/// The argument of a cast to an array, as a document.
pub(super) fn to_json(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    Ok(ctx.json(&call.args[0])?.map_or(Datum::Null, json_datum))
}

fn path(ctx: &Ctx<'_>, arg: &Expr) -> Result<Option<Path>, EvalError> {
    ctx.string(arg)?.map(|text| Path::parse(&text)).transpose()
}

/// A path that leads to one place.
fn single_path(ctx: &Ctx<'_>, arg: &Expr) -> Result<Option<Path>, EvalError> {
    const WILDCARD: u16 = 3149;
    match path(ctx, arg)? {
        Some(path) if path.is_multiple() => {
            let message = "In this situation, path expressions may not contain the * and ** tokens or an array range.";
            Err(EvalError::new(WILDCARD, message))
        }
        other => Ok(other),
    }
}

fn extract(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    let Some(value) = ctx.json(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    let mut found = Vec::new();
    let mut many = call.args.len() > 2;
    for arg in &call.args[1..] {
        let Some(path) = path(ctx, arg)? else {
            return Ok(Datum::Null);
        };
        many |= path.is_multiple();
        found.extend(path.find(&value).into_iter().cloned());
    }
    Ok(match found.pop() {
        None => Datum::Null,
        Some(only) if !many => json_datum(only),
        Some(last) => {
            found.push(last);
            json_datum(Value::Array(found))
        }
    })
}

fn unquote(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    let datum = ctx.eval(&call.args[0])?;
    if let Datum::Json(document) = &datum {
        return Ok(Datum::Bytes(match json::decode(document) {
            Some(Value::String(text)) => text.into_bytes(),
            Some(Value::Other(..)) => json::to_text(document)
                .trim_matches('"')
                .as_bytes()
                .to_vec(),
            _ => json::to_text(document).into_bytes(),
        }));
    }
    let Some(text) = super::convert::text_of(&datum, &call.args[0].ty) else {
        return Ok(Datum::Null);
    };
    if text.len() < 2 || !text.starts_with(b"\"") || !text.ends_with(b"\"") {
        return Ok(Datum::Bytes(text));
    }
    match json::parse_value(&text) {
        Ok(Value::String(text)) => Ok(Datum::Bytes(text.into_bytes())),
        _ => Err(invalid_json()),
    }
}

fn quote(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    let text = ctx.string(&call.args[0])?;
    Ok(text_datum(text.map(|text| {
        let mut out = String::new();
        out.push_str(&json::to_text(&json::encode(&Value::String(text))));
        out.into_bytes()
    })))
}

fn count(value: &Value) -> i64 {
    match value {
        Value::Array(items) => items.len() as i64,
        Value::Object(members) => members.len() as i64,
        _ => 1,
    }
}

/// What a path leads to, or the whole document where there is no path.
fn target(ctx: &Ctx<'_>, call: &Call, at: usize) -> Result<Option<Value>, EvalError> {
    let Some(value) = ctx.json(&call.args[0])? else {
        return Ok(None);
    };
    let Some(arg) = call.args.get(at) else {
        return Ok(Some(value));
    };
    let path = single_path(ctx, arg)?;
    Ok(path.and_then(|path| path.find(&value).first().map(|found| (*found).clone())))
}

fn length(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    Ok(target(ctx, call, 1)?.map_or(Datum::Null, |value| Datum::Int(count(&value))))
}

fn depth(value: &Value) -> i64 {
    1 + match value {
        Value::Array(items) => items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NULL",
        Value::Bool(_) => "BOOLEAN",
        Value::Int(_) => "INTEGER",
        Value::UInt(_) => "UNSIGNED INTEGER",
        Value::Double(_) => "DOUBLE",
        Value::String(_) => "STRING",
        Value::Array(_) => "ARRAY",
        Value::Object(_) => "OBJECT",
        Value::Other(code, _) => match *code {
            json::DATE => "DATE",
            json::DATETIME | json::TIMESTAMP => "DATETIME",
            json::DURATION => "TIME",
            _ => "OPAQUE",
        },
    }
}

fn valid(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    let datum = ctx.eval(&call.args[0])?;
    Ok(match &datum {
        Datum::Null => Datum::Null,
        Datum::Json(_) => bool_datum(true),
        Datum::Bytes(text) if !call.args[0].ty.is_binary_text() => {
            bool_datum(json::parse_value(text).is_ok())
        }
        _ => bool_datum(false),
    })
}

/// Order of kinds, the lowest first.
fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Int(_) | Value::UInt(_) | Value::Double(_) => 1,
        Value::String(_) => 2,
        Value::Object(_) => 3,
        Value::Array(_) => 4,
        Value::Bool(_) => 5,
        Value::Other(code, _) => match *code {
            json::DATE => 6,
            json::DURATION => 7,
            json::DATETIME | json::TIMESTAMP => 8,
            _ => 9,
        },
    }
}

/// Order of two values: by kind, then by value; numbers compare across their types.
pub(super) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Array(a), Value::Array(b)) => {
            let first = a
                .iter()
                .zip(b)
                .map(|(a, b)| compare(a, b))
                .find(|order| order.is_ne());
            first.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => a.len().cmp(&b.len()).then_with(|| {
            let member = |(x, y): ((&String, &Value), (&String, &Value))| {
                x.0.cmp(y.0).then_with(|| compare(x.1, y.1))
            };
            a.iter()
                .zip(b)
                .map(member)
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        }),
        (Value::Other(x, a), Value::Other(y, b)) if x == y => a.iter().rev().cmp(b.iter().rev()),
        _ if rank(a) == 1 && rank(b) == 1 => compare_numbers(a, b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn compare_numbers(a: &Value, b: &Value) -> Ordering {
    let whole = |value: &Value| match value {
        Value::Int(v) => Some(i128::from(*v)),
        Value::UInt(v) => Some(i128::from(*v)),
        _ => None,
    };
    let real = |value: &Value| match value {
        Value::Double(v) => *v,
        other => whole(other).unwrap_or(0) as f64,
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => real(a).partial_cmp(&real(b)).unwrap_or(Ordering::Equal),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    compare(a, b) == Ordering::Equal
}

fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(key, value)| whole.get(key).is_some_and(|member| holds(member, value))),
        (Value::Array(_), Value::Array(parts)) => parts.iter().all(|part| holds(whole, part)),
        (Value::Array(items), part) => items.iter().any(|item| holds(item, part)),
        _ => same(whole, part),
    }
}

fn contains(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    let part = ctx.json(&call.args[1])?;
    let whole = target(ctx, call, 2)?;
    Ok(whole.zip(part).map_or(Datum::Null, |(whole, part)| {
        bool_datum(holds(&whole, &part))
    }))
}

fn contains_path(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    let Some(value) = ctx.json(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    let Some(mode) = ctx.string(&call.args[1])? else {
        return Ok(Datum::Null);
    };
    let all = match mode.to_ascii_lowercase().as_str() {
        "all" => true,
        "one" => false,
        _ => return Err(wrong_arguments("json_contains_path")),
    };
    for arg in &call.args[2..] {
        let Some(path) = path(ctx, arg)? else {
            return Ok(Datum::Null);
        };
        let found = !path.find(&value).is_empty();
        if found != all {
            return Ok(bool_datum(!all));
        }
    }
    Ok(bool_datum(all))
}

fn member_of(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    let datum = ctx.eval(&call.args[0])?;
    let wanted = ctx.json_element(&datum, &call.args[0].ty)?;
    let list = ctx.json(&call.args[1])?;
    Ok(wanted.zip(list).map_or(Datum::Null, |(wanted, list)| {
        bool_datum(match &list {
            Value::Array(items) => items.iter().any(|item| same(item, &wanted)),
            other => same(other, &wanted),
        })
    }))
}

fn overlaps(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    let (a, b) = (ctx.json(&call.args[0])?, ctx.json(&call.args[1])?);
    Ok(a.zip(b).map_or(Datum::Null, |(a, b)| {
        bool_datum(match (&a, &b) {
            (Value::Array(a), Value::Array(b)) => a.iter().any(|x| b.iter().any(|y| same(x, y))),
            (Value::Array(items), other) | (other, Value::Array(items)) => {
                items.iter().any(|item| same(item, other))
            }
            (Value::Object(a), Value::Object(b)) => a
                .iter()
                .any(|(key, x)| b.get(key).is_some_and(|y| same(x, y))),
            _ => same(&a, &b),
        })
    }))
}

fn element(ctx: &Ctx<'_>, arg: &Expr) -> Result<Value, EvalError> {
    let datum = ctx.eval(arg)?;
    Ok(ctx.json_element(&datum, &arg.ty)?.unwrap_or(Value::Null))
}

fn array(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    let items: Result<Vec<Value>, EvalError> =
        call.args.iter().map(|arg| element(ctx, arg)).collect();
    Ok(json_datum(Value::Array(items?)))
}

fn object(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    const NULL_KEY: u16 = 3158;
    const ODD_ARGUMENTS: u16 = 1582;
    let mut members = BTreeMap::new();
    for pair in call.args.chunks(2) {
        let [key, value] = pair else {
            let message = "Incorrect parameter count in the call to native function 'json_object'";
            return Err(EvalError::new(ODD_ARGUMENTS, message));
        };
        let Some(key) = ctx.string(key)? else {
            return Err(EvalError::new(
                NULL_KEY,
                "JSON documents may not contain NULL member names.",
            ));
        };
        members.insert(key, element(ctx, value)?);
    }
    Ok(json_datum(Value::Object(members)))
}

fn keys(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    Ok(match target(ctx, call, 1)? {
        Some(Value::Object(members)) => json_datum(Value::Array(
            members.into_keys().map(Value::String).collect(),
        )),
        _ => Datum::Null,
    })
}

/// What a change does at a place that exists, and at one that does not.
#[derive(Clone, Copy)]
struct Change {
    insert: bool,
    replace: bool,
}

fn apply(legs: &[Leg], value: &mut Value, new: &Value, change: Change) {
    let Some((leg, rest)) = legs.split_first() else {
        if change.replace {
            *value = new.clone();
        }
        return;
    };
    match (leg, value) {
        (Leg::Key(key), Value::Object(members)) => match members.get_mut(key) {
            Some(member) => apply(rest, member, new, change),
            None if rest.is_empty() && change.insert => {
                members.insert(key.clone(), new.clone());
            }
            None => {}
        },
        (Leg::Index(index), Value::Array(items)) => {
            let len = items.len();
            match index.place(len) {
                Some(at) if at < len => apply(rest, &mut items[at], new, change),
                Some(_) if rest.is_empty() && change.insert => items.push(new.clone()),
                None if rest.is_empty() && change.insert => items.insert(0, new.clone()),
                _ => {}
            }
        }
        (Leg::Index(index), other) => match index.place(1) {
            Some(0) => apply(rest, other, new, change),
            Some(_) if rest.is_empty() && change.insert => {
                *other = Value::Array(vec![other.clone(), new.clone()]);
            }
            _ => {}
        },
        _ => {}
    }
}

fn modify(ctx: &Ctx<'_>, call: &Call, insert: bool, replace: bool) -> Outcome {
    let Some(mut value) = ctx.json(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    for pair in call.args[1..].chunks(2) {
        let [at, new] = pair else {
            return Err(wrong_arguments("json_set"));
        };
        let Some(path) = single_path(ctx, at)? else {
            return Ok(Datum::Null);
        };
        apply(
            &path.legs,
            &mut value,
            &element(ctx, new)?,
            Change { insert, replace },
        );
    }
    Ok(json_datum(value))
}

fn take_out(legs: &[Leg], value: &mut Value) {
    let Some((leg, rest)) = legs.split_first() else {
        return;
    };
    match (leg, value) {
        (Leg::Key(key), Value::Object(members)) if rest.is_empty() => {
            members.remove(key);
        }
        (Leg::Key(key), Value::Object(members)) => {
            if let Some(member) = members.get_mut(key) {
                take_out(rest, member);
            }
        }
        (Leg::Index(index), Value::Array(items)) => {
            if let Some(at) = index.place(items.len()).filter(|at| *at < items.len()) {
                if rest.is_empty() {
                    items.remove(at);
                } else {
                    take_out(rest, &mut items[at]);
                }
            }
        }
        _ => {}
    }
}

fn remove(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    const WHOLE_DOCUMENT: u16 = 3153;
    let Some(mut value) = ctx.json(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    for arg in &call.args[1..] {
        let Some(path) = single_path(ctx, arg)? else {
            return Ok(Datum::Null);
        };
        if path.legs.is_empty() {
            let message = "The path expression '$' is not allowed in this context.";
            return Err(EvalError::new(WHOLE_DOCUMENT, message));
        }
        take_out(&path.legs, &mut value);
    }
    Ok(json_datum(value))
}

/// Puts a value before a cell of an array, or behind its last one. Where there is no array nothing happens.
fn put_before(legs: &[Leg], value: &mut Value, new: Value) -> Result<(), EvalError> {
    match (legs, value) {
        ([Leg::Index(index)], Value::Array(items)) => {
            // The server reads beyond its array here.
            let at = index
                .place(items.len())
                .ok_or_else(|| unsupported("json_array_insert before the first cell"))?;
            items.insert(at.min(items.len()), new);
        }
        ([Leg::Key(key), rest @ ..], Value::Object(members)) => {
            if let Some(member) = members.get_mut(key) {
                return put_before(rest, member, new);
            }
        }
        ([Leg::Index(index), rest @ ..], Value::Array(items)) => {
            if let Some(item) = index.place(items.len()).and_then(|at| items.get_mut(at)) {
                return put_before(rest, item, new);
            }
        }
        // A value that is no array is an array of one.
        ([Leg::Index(index), rest @ ..], other)
            if !rest.is_empty() && index.place(1) == Some(0) =>
        {
            return put_before(rest, other, new);
        }
        _ => {}
    }
    Ok(())
}

fn array_insert(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    const NO_CELL: u16 = 3165;
    let Some(mut value) = ctx.json(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    for pair in call.args[1..].chunks(2) {
        let [at, new] = pair else {
            return Err(wrong_arguments("json_array_insert"));
        };
        let Some(path) = single_path(ctx, at)? else {
            return Ok(Datum::Null);
        };
        if !matches!(path.legs.last(), Some(Leg::Index(_))) {
            let message = "A path expression is not a path to a cell in an array.";
            return Err(EvalError::new(NO_CELL, message));
        }
        put_before(&path.legs, &mut value, element(ctx, new)?)?;
    }
    Ok(json_datum(value))
}

fn append(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    let Some(mut value) = ctx.json(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    for pair in call.args[1..].chunks(2) {
        let [at, new] = pair else {
            return Err(wrong_arguments("json_array_append"));
        };
        let Some(path) = single_path(ctx, at)? else {
            return Ok(Datum::Null);
        };
        let Some(found) = path.find(&value).first().map(|found| (*found).clone()) else {
            continue;
        };
        let new = element(ctx, new)?;
        let grown = match found {
            Value::Array(mut items) => {
                items.push(new);
                Value::Array(items)
            }
            other => Value::Array(vec![other, new]),
        };
        apply(
            &path.legs,
            &mut value,
            &grown,
            Change {
                insert: false,
                replace: true,
            },
        );
    }
    Ok(json_datum(value))
}

fn patch(into: Value, with: Value) -> Value {
    let Value::Object(changes) = with else {
        return with;
    };
    let mut members = match into {
        Value::Object(members) => members,
        _ => BTreeMap::new(),
    };
    for (key, change) in changes {
        let old = members.remove(&key).unwrap_or(Value::Null);
        if change != Value::Null {
            members.insert(key, patch(old, change));
        }
    }
    Value::Object(members)
}

fn merge_patch(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    let mut merged = ctx.json(&call.args[0])?;
    for arg in &call.args[1..] {
        let next = ctx.json(arg)?;
        merged = match (merged, next) {
            (Some(old), Some(new)) => Some(patch(old, new)),
            // A NULL is forgotten when a value that is no object follows.
            (None, Some(new)) if !matches!(new, Value::Object(_)) => Some(new),
            _ => None,
        };
    }
    Ok(merged.map_or(Datum::Null, json_datum))
}

fn preserve(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Object(mut a), Value::Object(b)) => {
            for (key, value) in b {
                let merged = match a.remove(&key) {
                    Some(old) => preserve(old, value),
                    None => value,
                };
                a.insert(key, merged);
            }
            Value::Object(a)
        }
        (a, b) => {
            let items = |value| match value {
                Value::Array(items) => items,
                other => vec![other],
            };
            let mut all = items(a);
            all.extend(items(b));
            Value::Array(all)
        }
    }
}

fn merge_preserve(ctx: &Ctx<'_>, call: &Call) -> Outcome {
    let mut merged: Option<Value> = None;
    for arg in &call.args {
        let Some(next) = ctx.json(arg)? else {
            return Ok(Datum::Null);
        };
        merged = Some(match merged {
            None => next,
            Some(old) => preserve(old, next),
        });
    }
    Ok(merged.map_or(Datum::Null, json_datum))
}
