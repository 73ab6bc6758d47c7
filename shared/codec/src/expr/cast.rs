//! CAST and CONVERT.

use super::EvalError;
use super::compile::{Call, Expr, Value};
use super::convert::{Ctx, encode_charset, int_datum, json_datum, text_datum, text_of};
use super::tree::{CastName, CastType};
use super::types::Ty;
use crate::cast::{ColumnCast, UnsupportedType, trim_text};
use crate::collation::{self, Collation};
use crate::datum::Datum;
use crate::mysql::{code, flag, tp};
use crate::schema::FieldType;
use crate::session::{Session, SqlMode};
use crate::time::parse as time_text;
use crate::time::{MyDuration, Time, TimeKind, duration};
use std::sync::Arc;

/// A compiled target of CAST.
#[derive(Debug)]
pub(super) struct Target {
    name: CastName,
    length: Option<usize>,
    /// DECIMAL(p,s), as a column of that type would have it.
    decimal: Option<ColumnCast>,
}

impl Target {
    pub fn new(to: &CastType, ty: &Ty, session: &Arc<Session>) -> Result<Target, UnsupportedType> {
        const DECIMAL_PRECISION: i64 = 10;
        let field_type = FieldType {
            tp: tp::NEW_DECIMAL,
            flen: to.length.unwrap_or(DECIMAL_PRECISION),
            decimal: ty.scale,
            flag: flag::BINARY,
            ..FieldType::default()
        };
        let decimal = (to.name == CastName::Decimal)
            .then(|| ColumnCast::compile("", &field_type, session))
            .transpose()?;
        Ok(Target {
            name: to.name,
            length: to.length.and_then(|length| usize::try_from(length).ok()),
            decimal,
        })
    }
}

pub(super) fn cast(ctx: &Ctx<'_>, target: &Target, inner: &Expr, ty: &Ty) -> Value {
    let datum = ctx.eval(inner)?;
    if datum.is_null() {
        return Ok(Datum::Null);
    }
    match target.name {
        CastName::Signed => integer(ctx, &datum, false),
        CastName::Unsigned => integer(ctx, &datum, true),
        CastName::Char => {
            let text = text_of(&datum, &inner.ty).unwrap_or_default();
            let text = recode(text, &inner.ty, ty)?;
            chars(ctx, text, target.length)
        }
        CastName::Binary => {
            let text = text_of(&datum, &inner.ty).unwrap_or_default();
            bytes(ctx, encode_charset(text, &inner.ty), target.length)
        }
        CastName::Decimal => decimal(target, &datum),
        CastName::Double => Ok(ctx.datum_real(&datum)?.map_or(Datum::Null, Datum::Double)),
        CastName::Float => {
            let value = ctx.datum_real(&datum)?;
            Ok(value.map_or(Datum::Null, |v| {
                if ty.tp == tp::DOUBLE {
                    Datum::Double(v)
                } else {
                    Datum::Float(v as f32)
                }
            }))
        }
        CastName::Date | CastName::Datetime | CastName::Time => temporal(ctx, &datum, ty),
        CastName::Year => {
            let year = ctx.datum_int(&datum)?.unwrap_or(0);
            Ok(Datum::Year(i64::try_from(year).unwrap_or(0)))
        }
        CastName::Json => match ctx.datum_json(&datum, &inner.ty)? {
            Some(value) => Ok(json_datum(value)),
            None => Ok(Datum::Null),
        },
    }
}

/// Integers change their sign by their bits; other numbers saturate.
fn integer(ctx: &Ctx<'_>, datum: &Datum, unsigned: bool) -> Value {
    let Some(value) = ctx.datum_int(datum)? else {
        return Ok(Datum::Null);
    };
    let whole = matches!(
        datum,
        Datum::Int(_) | Datum::UInt(_) | Datum::Bytes(_) | Datum::Bit(..) | Datum::Json(_)
    );
    let range = i128::from(i64::MIN)..=i128::from(u64::MAX);
    if !range.contains(&value) {
        ctx.adjusted(code::TRUNCATED_WRONG_VALUE, || {
            "Truncated incorrect INTEGER value".to_owned()
        })?;
    }
    // A text too large for both counts as the largest unsigned number.
    let value = if matches!(datum, Datum::Bytes(_)) {
        value.min(i128::from(u64::MAX))
    } else {
        value
    };
    if unsigned {
        let wraps = whole && value < 0 && range.contains(&value);
        return Ok(Datum::UInt(if wraps {
            value as i64 as u64
        } else {
            value.clamp(0, i128::from(u64::MAX)) as u64
        }));
    }
    if whole && value > i128::from(i64::MAX) && range.contains(&value) {
        return Ok(Datum::Int(value as u64 as i64));
    }
    Ok(int_datum(Some(value), &Ty::int()))
}

fn decimal(target: &Target, datum: &Datum) -> Value {
    let Some(cast) = &target.decimal else {
        return Ok(Datum::Null);
    };
    let cell = cast.cast_datum(datum).map_err(|error| {
        // What a column calls an incorrect value a cast calls a truncated one.
        let truncated = error.code == code::WRONG_VALUE_FOR_FIELD;
        let code = if truncated {
            code::TRUNCATED_WRONG_VALUE
        } else {
            error.code
        };
        EvalError::new(code, error.message)
    })?;
    let field_type = FieldType {
        tp: tp::NEW_DECIMAL,
        ..FieldType::default()
    };
    Ok(crate::cast::cell_datum(&cell, &field_type))
}

fn too_long(ctx: &Ctx<'_>, limit: usize, len: usize) -> Result<(), EvalError> {
    ctx.adjusted(code::DATA_TOO_LONG, || {
        format!("Data Too Long, field len {limit}, data len {len}")
    })
}

fn chars(ctx: &Ctx<'_>, text: Vec<u8>, limit: Option<usize>) -> Value {
    let Some(limit) = limit else {
        return Ok(Datum::Bytes(text));
    };
    let shown = String::from_utf8_lossy(&text);
    let len = shown.chars().count();
    if len <= limit {
        return Ok(Datum::Bytes(text));
    }
    too_long(ctx, limit, len)?;
    let cut: String = shown.chars().take(limit).collect();
    Ok(Datum::Bytes(cut.into_bytes()))
}

/// BINARY(n) is cut or filled up with zero bytes.
fn bytes(ctx: &Ctx<'_>, mut value: Vec<u8>, limit: Option<usize>) -> Value {
    if let Some(limit) = limit {
        if value.len() > limit {
            too_long(ctx, limit, value.len())?;
        }
        value.resize(limit, 0);
    }
    Ok(Datum::Bytes(value))
}

/// A value as DATE, DATETIME(fsp) or TIME(fsp). Text is rounded while it is read, times after.
pub(super) fn temporal(ctx: &Ctx<'_>, datum: &Datum, ty: &Ty) -> Value {
    let fsp = ty.digits().min(6);
    if ty.tp == tp::DURATION {
        return cast_duration(ctx, datum, fsp);
    }
    let kind = if ty.tp == tp::DATE {
        TimeKind::Date
    } else {
        TimeKind::Datetime
    };
    let time = match datum {
        Datum::Bytes(text) => {
            let zone = &ctx.session.time_zone;
            let civil = time_text::datetime(trim_text(text), fsp, zone);
            let valid = civil.filter(|civil| {
                time_text::valid_date(civil, ctx.date_rules()) && time_text::valid_clock(civil)
            });
            match valid {
                Some(civil) => Time::new(civil, TimeKind::Datetime, fsp),
                None => return null_time(ctx.incorrect_time("datetime", text)),
            }
        }
        _ => match ctx.datum_time(datum, TimeKind::Datetime)? {
            Some(time) if kind == TimeKind::Date => time,
            Some(time) => match time.rounded(fsp) {
                Some(time) => time,
                None => return Ok(Datum::Null),
            },
            None => return Ok(Datum::Null),
        },
    };
    let zero = time.is_zero() && ctx.session.sql_mode.has(SqlMode::NO_ZERO_DATE);
    if zero && matches!(datum, Datum::Bytes(_)) {
        let text = datum.to_text().unwrap_or_default();
        return null_time(ctx.incorrect_time("datetime", &text));
    }
    Ok(Datum::Time(if kind == TimeKind::Date {
        time.to_date()
    } else {
        Time::from_packed(time.packed(), TimeKind::Datetime, fsp)
    }))
}

fn null_time(outcome: Result<Option<Time>, EvalError>) -> Value {
    outcome.map(|_| Datum::Null)
}

fn cast_duration(ctx: &Ctx<'_>, datum: &Datum, fsp: u8) -> Value {
    let parsed = match datum {
        Datum::Bytes(text) => duration::parse(text, fsp, &ctx.session.time_zone)
            .map_err(|nanos| (nanos, text.clone())),
        _ => match ctx.datum_duration(datum)? {
            Some(value) => duration::rounded(value.nanos, fsp).map_err(|nanos| (nanos, Vec::new())),
            None => return Ok(Datum::Null),
        },
    };
    match parsed {
        Ok(nanos) => Ok(Datum::Duration(MyDuration { nanos, fsp })),
        Err((nanos, text)) => {
            ctx.adjusted(code::TRUNCATED_WRONG_VALUE, || {
                let text = String::from_utf8_lossy(&text);
                format!("Truncated incorrect time value: '{text}'")
            })?;
            Ok(if nanos == 0 {
                Datum::Null
            } else {
                Datum::Duration(MyDuration { nanos, fsp })
            })
        }
    }
}

/// Text of another charset: binary text is read in the new charset, text made binary is written in its own.
fn recode(text: Vec<u8>, from: &Ty, to: &Ty) -> Result<Vec<u8>, EvalError> {
    let charset = to.collation.charset();
    if from.is_binary_text() && to.collation != Collation::Binary {
        let decoded = match charset {
            "gbk" => collation::gbk_decode(&text),
            "gb18030" => collation::gb18030_decode(&text),
            _ => return Ok(text),
        };
        return decoded.map(String::into_bytes).ok_or_else(|| {
            const CANNOT_CONVERT: u16 = 3854;
            EvalError::new(CANNOT_CONVERT, "Cannot convert string from binary")
        });
    }
    if to.collation == Collation::Binary {
        return Ok(encode_charset(text, from));
    }
    let holds = |c: char| match charset {
        "ascii" => c.is_ascii(),
        "gbk" => collation::gbk_encodable(c),
        "utf8" => u32::from(c) <= 0xffff,
        _ => true,
    };
    match std::str::from_utf8(&text) {
        Ok(valid) if !valid.chars().all(holds) => {
            let replaced: String = valid
                .chars()
                .map(|c| if holds(c) { c } else { '?' })
                .collect();
            Ok(replaced.into_bytes())
        }
        _ => Ok(text),
    }
}

/// `CONVERT(x USING charset)`: NULL for bytes that are not of the charset.
pub(super) fn convert_using(ctx: &Ctx<'_>, call: &Call) -> Value {
    let from = &call.args[0].ty;
    let text = ctx.text(&call.args[0])?;
    let converted = text.and_then(|text| recode(text, from, &call.ty).ok());
    let raw = matches!(call.ty.collation.charset(), "binary" | "latin1");
    Ok(text_datum(
        converted.filter(|text| raw || std::str::from_utf8(text).is_ok()),
    ))
}
