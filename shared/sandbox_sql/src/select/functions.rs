//! The functions and collations SQLite is given, so that it computes as MySQL does where the two differ.

use super::decimal::{Decimal, compare_text};
use super::types::DECIMAL_COLLATION;
use super::{aggregates, date_functions};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, Result};
use sha1::{Digest, Sha1};
use thunderhead_codec::collation::Collation;

const TEXT_COLLATIONS: [&str; 9] = [
    "utf8mb4_general_ci",
    "utf8mb4_unicode_ci",
    "utf8mb4_0900_ai_ci",
    "utf8_general_ci",
    "utf8_unicode_ci",
    "gbk_chinese_ci",
    "gbk_bin",
    "gb18030_bin",
    "gb18030_chinese_ci",
];

type OfReal = fn(f64) -> f64;

/// Registers everything on a connection.
pub fn register(db: &Connection) -> Result<()> {
    db.create_collation(DECIMAL_COLLATION, compare_text)?;
    for name in TEXT_COLLATIONS {
        if let Some(collation) = Collation::from_name(name) {
            db.create_collation(name, move |a: &str, b: &str| {
                collation.compare(a.as_bytes(), b.as_bytes())
            })?;
        }
    }
    numbers(db)?;
    texts(db)?;
    date_functions::register(db)?;
    aggregates::register(db)
}

pub(super) fn define(
    db: &Connection,
    name: &str,
    body: impl Fn(&Context<'_>) -> Option<Value> + Send + 'static,
) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    db.create_scalar_function(name, -1, flags, move |context| {
        Ok(body(context).unwrap_or(Value::Null))
    })
}

/// As [`define`], for exact arithmetic: too many digits is an error, not NULL.
fn define_exact(
    db: &Connection,
    name: &str,
    body: impl Fn(Decimal, Decimal, &Context<'_>) -> Option<Option<Decimal>> + Send + 'static,
) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    db.create_scalar_function(name, -1, flags, move |context| {
        let (Some(a), Some(b)) = (argument(context, 0)?, argument(context, 1)?) else {
            return Ok(Value::Null);
        };
        let result = body(a, b, context).ok_or_else(out_of_range)?;
        Ok(result.map_or(Value::Null, |d| Value::Text(d.to_string())))
    })
}

pub(super) fn out_of_range() -> Error {
    Error::UserFunctionError("DECIMAL value is out of range".into())
}

/// An argument as a decimal; NULL is `None`.
fn argument(context: &Context<'_>, index: usize) -> Result<Option<Decimal>> {
    if index >= context.len() {
        return Ok(Some(Decimal::ZERO));
    }
    decimal_of(context.get_raw(index))
}

pub(super) fn decimal_of(value: ValueRef<'_>) -> Result<Option<Decimal>> {
    let decimal = match value {
        ValueRef::Null => return Ok(None),
        ValueRef::Integer(v) => Some(Decimal::int(v)),
        ValueRef::Real(v) => Decimal::from_f64(v),
        ValueRef::Text(t) | ValueRef::Blob(t) => {
            Decimal::parse(std::str::from_utf8(t).unwrap_or("0"))
        }
    };
    decimal.map(Some).ok_or_else(out_of_range)
}

fn real(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(v) => Some(v as f64),
        ValueRef::Real(v) => Some(v),
        ValueRef::Text(t) => {
            let text = std::str::from_utf8(t).unwrap_or_default().trim();
            let number = |b: char| b.is_ascii_digit() || matches!(b, '.' | '-' | '+' | 'e' | 'E');
            let end = text.find(|c| !number(c)).unwrap_or(text.len());
            (0..=end)
                .rev()
                .find_map(|e| text[..e].parse().ok())
                .or(Some(0.0))
        }
        ValueRef::Blob(b) if b.len() <= 8 => {
            Some(b.iter().fold(0u64, |v, byte| v << 8 | u64::from(*byte)) as f64)
        }
        ValueRef::Blob(_) => Some(0.0),
    }
}

pub(super) fn integer(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(v) => Some(v),
        ValueRef::Text(t) => {
            let decimal = Decimal::parse(std::str::from_utf8(t).ok()?)?;
            i64::try_from(decimal.rescale(0)?.mantissa).ok()
        }
        other => real(other).map(|v| v.round() as i64),
    }
}

pub(super) fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(v) => Some(v.to_string()),
        ValueRef::Real(v) => Some(double_text(v)),
        ValueRef::Text(t) | ValueRef::Blob(t) => Some(String::from_utf8_lossy(t).into_owned()),
    }
}

/// A double as MySQL prints it.
pub fn double_text(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-15..1e15).contains(&magnitude) {
        format!("{value:e}")
    } else {
        format!("{value}")
    }
}

fn numbers(db: &Connection) -> Result<()> {
    define_exact(db, "th_add", |a, b, _| a.add(b).map(Some))?;
    define_exact(db, "th_sub", |a, b, _| a.sub(b).map(Some))?;
    define_exact(db, "th_mul", |a, b, _| a.mul(b).map(Some))?;
    define_exact(db, "th_mod", |a, b, _| a.rem(b))?;
    define_exact(db, "th_div", |a, b, c| {
        a.div(b, c.get::<i64>(2).ok()?.clamp(0, 30) as u32)
    })?;
    define_exact(db, "th_dec", |a, _, _| Some(Some(a)))?;
    define_exact(db, "th_round", |a, digits, _| {
        let digits = digits.rescale(0)?.mantissa;
        if digits >= 0 {
            return a.rescale((digits as u32).min(30)).map(Some);
        }
        let unit = Decimal {
            mantissa: 10i128.checked_pow(digits.unsigned_abs() as u32)?,
            scale: 0,
        };
        a.div(unit, 0)?.unwrap_or(Decimal::ZERO).mul(unit).map(Some)
    })?;
    define_exact(db, "th_scale", |a, digits, _| {
        a.rescale(digits.mantissa.clamp(0, 30) as u32).map(Some)
    })?;
    define_exact(db, "th_truncate", |a, digits, _| {
        a.truncate(digits.rescale(0)?.mantissa.clamp(0, 30) as u32)
            .map(Some)
    })?;
    define(db, "th_idiv", |c| {
        let (a, b) = (
            decimal_of(c.get_raw(0)).ok()??,
            decimal_of(c.get_raw(1)).ok()??,
        );
        let scale = a.scale.max(b.scale);
        let quotient = a
            .rescale(scale)?
            .mantissa
            .checked_div(b.rescale(scale)?.mantissa)?;
        i64::try_from(quotient).ok().map(Value::Integer)
    })?;
    define(db, "th_floor", |c| {
        let value = decimal_of(c.get_raw(0)).ok()??;
        i64::try_from(value.mantissa.div_euclid(10i128.checked_pow(value.scale)?))
            .ok()
            .map(Value::Integer)
    })?;
    define(db, "th_ceil", |c| {
        let value = decimal_of(c.get_raw(0)).ok()??;
        i64::try_from(-(-value.mantissa).div_euclid(10i128.checked_pow(value.scale)?))
            .ok()
            .map(Value::Integer)
    })?;
    define(db, "th_real", |c| real(c.get_raw(0)).map(Value::Real))?;
    define(db, "th_int", |c| integer(c.get_raw(0)).map(Value::Integer))?;
    define(db, "th_text", |c| text(c.get_raw(0)).map(Value::Text))?;
    define(db, "th_sign", |c| {
        real(c.get_raw(0)).map(|v| Value::Integer(if v > 0.0 { 1 } else { -i64::from(v < 0.0) }))
    })?;
    define(db, "th_xor", |c| {
        Some(Value::Integer(
            integer(c.get_raw(0))? ^ integer(c.get_raw(1))?,
        ))
    })?;
    define(db, "th_fmod", |c| {
        Some(real(c.get_raw(0))? % real(c.get_raw(1))?)
            .filter(|v| v.is_finite())
            .map(Value::Real)
    })?;
    let one: [(&str, OfReal); 10] = [
        ("floor", f64::floor),
        ("ceil", f64::ceil),
        ("sqrt", f64::sqrt),
        ("ln", f64::ln),
        ("log2", f64::log2),
        ("log10", f64::log10),
        ("exp", f64::exp),
        ("sin", f64::sin),
        ("cos", f64::cos),
        ("rand", |_| 0.5),
    ];
    for (name, function) in one {
        define(db, &format!("th_f_{name}"), move |c| {
            let argument = if c.is_empty() {
                0.0
            } else {
                real(c.get_raw(0))?
            };
            Some(function(argument))
                .filter(|v| v.is_finite())
                .map(Value::Real)
        })?;
    }
    define(db, "th_f_pow", |c| {
        Some(Value::Real(real(c.get_raw(0))?.powf(real(c.get_raw(1))?)))
    })
}

fn texts(db: &Connection) -> Result<()> {
    define(db, "th_lower", |c| {
        text(c.get_raw(0)).map(|t| Value::Text(t.to_lowercase()))
    })?;
    define(db, "th_upper", |c| {
        text(c.get_raw(0)).map(|t| Value::Text(t.to_uppercase()))
    })?;
    define(db, "th_reverse", |c| {
        text(c.get_raw(0)).map(|t| Value::Text(t.chars().rev().collect()))
    })?;
    define(db, "th_ascii", |c| {
        text(c.get_raw(0)).map(|t| Value::Integer(t.bytes().next().map_or(0, i64::from)))
    })?;
    define(db, "th_space", |c| {
        integer(c.get_raw(0)).map(|n| Value::Text(" ".repeat(n.clamp(0, 65_535) as usize)))
    })?;
    define(db, "th_repeat", |c| {
        let (unit, count) = (text(c.get_raw(0))?, integer(c.get_raw(1))?.max(0) as usize);
        (unit.len().saturating_mul(count) <= 1 << 24).then(|| Value::Text(unit.repeat(count)))
    })?;
    for (name, left) in [("th_lpad", true), ("th_rpad", false)] {
        define(db, name, move |c| {
            let (value, width, pad) = (
                text(c.get_raw(0))?,
                integer(c.get_raw(1))?.clamp(0, 1 << 20) as usize,
                text(c.get_raw(2))?,
            );
            let length = value.chars().count();
            if length >= width || pad.is_empty() {
                return Some(Value::Text(value.chars().take(width).collect()));
            }
            let fill: String = pad.chars().cycle().take(width - length).collect();
            Some(Value::Text(if left {
                fill + &value
            } else {
                value + &fill
            }))
        })?;
    }
    define(db, "th_right", |c| {
        let (value, count) = (text(c.get_raw(0))?, integer(c.get_raw(1))?.max(0) as usize);
        let skip = value.chars().count().saturating_sub(count);
        Some(Value::Text(value.chars().skip(skip).collect()))
    })?;
    define(db, "th_substr", |c| {
        let (value, start) = (text(c.get_raw(0))?, integer(c.get_raw(1))?);
        let count = value.chars().count() as i64;
        let from = if start < 0 { count + start } else { start - 1 };
        let take = if c.len() > 2 {
            integer(c.get_raw(2))?
        } else {
            count
        };
        let inside = from >= 0 && start != 0 && take > 0;
        Some(Value::Text(if inside {
            value
                .chars()
                .skip(from as usize)
                .take(take as usize)
                .collect()
        } else {
            String::new()
        }))
    })?;
    define(db, "th_concat_ws", |c| {
        let separator = text(c.get_raw(0))?;
        let parts: Vec<String> = (1..c.len()).filter_map(|i| text(c.get_raw(i))).collect();
        Some(Value::Text(parts.join(&separator)))
    })?;
    define(db, "th_trim", |c| {
        let (side, what, value) = (
            text(c.get_raw(0))?,
            text(c.get_raw(1))?,
            text(c.get_raw(2))?,
        );
        let mut rest = value.as_str();
        if what.is_empty() {
            return Some(Value::Text(value));
        }
        while side != "trailing"
            && let Some(next) = rest.strip_prefix(what.as_str())
        {
            rest = next;
        }
        while side != "leading"
            && let Some(next) = rest.strip_suffix(what.as_str())
        {
            rest = next;
        }
        Some(Value::Text(rest.to_owned()))
    })?;
    define(db, "th_hex", |c| {
        Some(Value::Text(match c.get_raw(0) {
            ValueRef::Null => return None,
            ValueRef::Integer(v) => format!("{v:X}"),
            ValueRef::Real(v) => format!("{:X}", v.round() as i64),
            ValueRef::Text(b) | ValueRef::Blob(b) => b.iter().map(|b| format!("{b:02X}")).collect(),
        }))
    })?;
    define(db, "th_sha1", |c| {
        text(c.get_raw(0)).map(|t| {
            Value::Text(
                Sha1::digest(t.as_bytes())
                    .iter()
                    .map(|b| format!("{b:02x}"))
                    .collect(),
            )
        })
    })?;
    define(db, "th_json_unquote", |c| {
        let value = text(c.get_raw(0))?;
        let unquoted = if value.starts_with('"') {
            serde_json::from_str::<String>(&value).ok()
        } else {
            None
        };
        Some(Value::Text(unquoted.unwrap_or(value)))
    })?;
    define(db, "th_like", |c| {
        let (value, pattern, escape) = (
            text(c.get_raw(0))?,
            text(c.get_raw(1))?,
            text(c.get_raw(2))?,
        );
        let fold = integer(c.get_raw(3)) == Some(1);
        let chars = |t: String| -> Vec<char> {
            if fold {
                t.to_lowercase().chars().collect()
            } else {
                t.chars().collect()
            }
        };
        Some(Value::Integer(i64::from(like(
            &chars(value),
            &chars(pattern),
            escape.chars().next(),
        ))))
    })
}

/// `%`, `_` and the escape; linear in the text for each `%`.
pub fn like(text: &[char], pattern: &[char], escape: Option<char>) -> bool {
    let (mut t, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some('%') => {
                retry = Some((t, p + 1));
                p += 1;
                continue;
            }
            None if t == text.len() => return true,
            None => None,
            Some('_') if t < text.len() => Some(1),
            Some(c) if Some(*c) == escape && p + 1 < pattern.len() => {
                (text.get(t) == pattern.get(p + 1)).then_some(2)
            }
            Some(c) => (text.get(t) == Some(c)).then_some(1),
        };
        match (step, retry) {
            (Some(width), _) => (t, p) = (t + 1, p + width),
            (None, Some((from, after))) if from < text.len() => {
                retry = Some((from + 1, after));
                (t, p) = (from + 1, after);
            }
            _ => return false,
        }
    }
}
