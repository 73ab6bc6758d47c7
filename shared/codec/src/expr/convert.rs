//! Evaluation and the conversions that happen without being asked for: a text where a number is wanted and
//! the like. A value that does not convert is an error under strict modes and adjusted under others.

use super::compile::{Expr, Op, Value};
use super::types::{Family, Ty};
use super::{EvalError, cast, temporal_add};
use crate::cast::{Field, trim_text};
use crate::datum::Datum;
use crate::decimal::{MyDecimal, Parsed};
use crate::json;
use crate::mysql::{code, tp};
use crate::session::{Session, SqlMode};
use crate::time::parse::{self as time_text, DateRules};
use crate::time::{Civil, MyDuration, Time, TimeKind, duration};
use std::borrow::Cow;

/// What evaluation looks at: the session and the row.
pub(super) struct Ctx<'a> {
    pub session: &'a Session,
    pub row: &'a [Datum],
    /// State of the row's random numbers.
    pub random: std::cell::Cell<u64>,
}

pub(super) type Opt<T> = Result<Option<T>, EvalError>;

impl Ctx<'_> {
    pub fn eval(&self, expr: &Expr) -> Value {
        match &expr.op {
            Op::Column(offset) => Ok(self.row.get(*offset).cloned().unwrap_or(Datum::Null)),
            Op::Const(datum) => Ok(datum.clone()),
            Op::Call(eval, call) => eval(self, call),
            Op::Cast(target, inner) => cast::cast(self, target, inner, &expr.ty),
            Op::DateArith(arith) => temporal_add::date_arith(self, arith),
        }
    }

    /// The next of the row's random numbers (SplitMix64).
    pub fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Errors about values that other than strict modes only warn of.
    pub fn forgive(&self, value: Value) -> Value {
        const FORGIVEN: [u16; 10] = [1292, 1406, 1366, 1264, 1690, 8029, 1411, 1441, 1265, 8034];
        match value {
            Err(error) if !self.session.is_strict() && FORGIVEN.contains(&error.code) => {
                Ok(Datum::Null)
            }
            other => other,
        }
    }

    /// Reports a value that had to be adjusted: an error under a strict mode.
    pub fn adjusted(&self, code: u16, message: impl FnOnce() -> String) -> Result<(), EvalError> {
        if self.session.is_strict() {
            return Err(EvalError::new(code, message()));
        }
        Ok(())
    }

    fn truncated(&self, what: &str, text: &[u8]) -> Result<(), EvalError> {
        self.adjusted(code::TRUNCATED_WRONG_VALUE, || {
            let text = String::from_utf8_lossy(text);
            format!("Truncated incorrect {what} value: '{text}'")
        })
    }

    /// A date or time that is none: an error under a strict mode, else NULL.
    pub fn incorrect_time<T>(&self, what: &str, text: &[u8]) -> Opt<T> {
        self.adjusted(code::TRUNCATED_WRONG_VALUE, || {
            let text = String::from_utf8_lossy(text);
            format!("Incorrect {what} value: '{text}'")
        })?;
        Ok(None)
    }

    pub fn truth(&self, expr: &Expr) -> Opt<bool> {
        let datum = self.eval(expr)?;
        Ok(match &datum {
            Datum::Null => None,
            Datum::Decimal(v) => Some(!v.is_zero()),
            Datum::Time(v) => Some(!v.is_zero()),
            Datum::Duration(v) => Some(v.nanos != 0),
            Datum::Json(document) => Some(json::decode(document) != Some(json::Value::Int(0))),
            Datum::Double(_) | Datum::Float(_) | Datum::Bytes(_) => {
                Some(self.datum_real(&datum)?.unwrap_or(0.0) != 0.0)
            }
            _ => Some(self.datum_int(&datum)?.unwrap_or(0) != 0),
        })
    }

    pub fn int(&self, expr: &Expr) -> Opt<i128> {
        self.datum_int(&self.eval(expr)?)
    }

    /// An integer that fits i64; beyond it saturates, as positions and counts may.
    pub fn small(&self, expr: &Expr) -> Opt<i64> {
        let value = self.int(expr)?;
        Ok(value.map(|v| v.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64))
    }

    pub fn real(&self, expr: &Expr) -> Opt<f64> {
        self.datum_real(&self.eval(expr)?)
    }

    pub fn decimal(&self, expr: &Expr) -> Opt<MyDecimal> {
        self.datum_decimal(&self.eval(expr)?)
    }

    pub fn text(&self, expr: &Expr) -> Opt<Vec<u8>> {
        let datum = self.eval(expr)?;
        Ok(text_of(&datum, &expr.ty))
    }

    /// Text in the bytes of its own charset, as hashes and lengths see it.
    pub fn encoded(&self, expr: &Expr) -> Opt<Vec<u8>> {
        let text = self.text(expr)?;
        Ok(text.map(|text| encode_charset(text, &expr.ty)))
    }

    pub fn string(&self, expr: &Expr) -> Opt<String> {
        let text = self.text(expr)?;
        Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    pub fn time(&self, expr: &Expr) -> Opt<Time> {
        self.datum_time(&self.eval(expr)?, TimeKind::Datetime)
    }

    pub fn duration(&self, expr: &Expr) -> Opt<MyDuration> {
        self.datum_duration(&self.eval(expr)?)
    }

    pub fn json(&self, expr: &Expr) -> Opt<json::Value> {
        self.datum_json(&self.eval(expr)?, &expr.ty)
    }

    pub fn datum_int(&self, datum: &Datum) -> Opt<i128> {
        Ok(Some(match datum {
            Datum::Null => return Ok(None),
            Datum::Int(v) | Datum::Year(v) => i128::from(*v),
            Datum::UInt(v) | Datum::Enum(v, _) | Datum::Set(v, _) | Datum::Bit(v, _) => {
                i128::from(*v)
            }
            Datum::Float(_) | Datum::Double(_) => {
                let rounded = number_of(datum).round_ties_even();
                rounded as i128
            }
            Datum::Decimal(v) => decimal_int(v),
            Datum::Bytes(text) => return self.text_int(text).map(Some),
            Datum::Time(v) => {
                let rounded = v.rounded(0).unwrap_or(*v);
                i128::from(rounded.to_number())
            }
            Datum::Duration(v) => {
                let (Ok(nanos) | Err(nanos)) = duration::rounded(v.nanos, 0);
                i128::from(MyDuration { nanos, fsp: 0 }.to_number())
            }
            Datum::Json(document) => return self.json_int(document),
            Datum::Vector(_) => return Err(unsupported("a vector as a number")),
        }))
    }

    /// The digits a text begins with; anything else is cut off with a warning.
    fn text_int(&self, text: &[u8]) -> Result<i128, EvalError> {
        let trimmed = trim_text(text);
        let signed = usize::from(matches!(trimmed.first(), Some(b'-' | b'+')));
        let digits = trimmed[signed..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        let prefix = &trimmed[..signed + digits];
        if digits == 0 || prefix.len() < trimmed.len() {
            self.truncated("INTEGER", text)?;
        }
        let magnitude = prefix[signed..].iter().fold(0i128, |v, b| {
            (v * 10 + i128::from(b - b'0')).min(i128::from(u64::MAX) + 1)
        });
        Ok(if trimmed.first() == Some(&b'-') {
            -magnitude
        } else {
            magnitude
        })
    }

    fn json_int(&self, document: &[u8]) -> Opt<i128> {
        Ok(Some(match json::decode(document) {
            Some(json::Value::Bool(v)) => i128::from(v),
            Some(json::Value::Int(v)) => i128::from(v),
            Some(json::Value::UInt(v)) => i128::from(v),
            Some(json::Value::Double(v)) => v.round_ties_even() as i128,
            Some(json::Value::String(v)) => self.text_int(v.as_bytes())?,
            _ => {
                self.truncated("INTEGER", json::to_text(document).as_bytes())?;
                0
            }
        }))
    }

    pub fn datum_real(&self, datum: &Datum) -> Opt<f64> {
        Ok(Some(match datum {
            Datum::Null => return Ok(None),
            Datum::Float(_) | Datum::Double(_) => number_of(datum),
            Datum::Decimal(v) => v.to_f64(),
            Datum::Bytes(text) => self.text_real(text)?,
            Datum::Time(_) | Datum::Duration(_) => {
                self.datum_decimal(datum)?.map_or(0.0, |v| v.to_f64())
            }
            Datum::Json(document) => match json::decode(document) {
                Some(json::Value::Double(v)) => v,
                Some(json::Value::String(v)) => self.text_real(v.as_bytes())?,
                _ => return Ok(self.json_int(document)?.map(|v| v as f64)),
            },
            _ => return Ok(self.datum_int(datum)?.map(|v| v as f64)),
        }))
    }

    fn text_real(&self, text: &[u8]) -> Result<f64, EvalError> {
        let (prefix, junk) = float_prefix(trim_text(text));
        if junk {
            self.truncated("DOUBLE", text)?;
        }
        let number = std::str::from_utf8(prefix).unwrap_or_default();
        let value: f64 = number.parse().unwrap_or(0.0);
        if value.is_infinite() {
            self.truncated("DOUBLE", text)?;
            return Ok(f64::MAX.copysign(value));
        }
        Ok(value)
    }

    pub fn datum_decimal(&self, datum: &Datum) -> Opt<MyDecimal> {
        Ok(Some(match datum {
            Datum::Null => return Ok(None),
            Datum::Decimal(v) => *v,
            Datum::Float(_) | Datum::Double(_) => {
                MyDecimal::from_f64(number_of(datum)).unwrap_or(MyDecimal::ZERO)
            }
            Datum::Bytes(text) => self.text_decimal(text)?,
            Datum::Time(v) => with_micro(v.to_number(), v.civil().micro, v.fsp),
            Datum::Duration(v) => {
                let micro = (v.nanos.unsigned_abs() / 1000 % 1_000_000) as u32;
                with_micro(v.to_number(), micro, v.fsp)
            }
            Datum::Json(document) => match json::decode(document) {
                Some(json::Value::Double(v)) => MyDecimal::from_f64(v).unwrap_or(MyDecimal::ZERO),
                Some(json::Value::String(v)) => self.text_decimal(v.as_bytes())?,
                _ => return Ok(self.json_int(document)?.map(|v| MyDecimal::from_i128(v, 0))),
            },
            _ => return Ok(self.datum_int(datum)?.map(|v| MyDecimal::from_i128(v, 0))),
        }))
    }

    fn text_decimal(&self, text: &[u8]) -> Result<MyDecimal, EvalError> {
        let (value, parsed) = MyDecimal::parse(trim_text(text));
        if matches!(parsed, Parsed::Junk | Parsed::NoNumber) {
            self.truncated("DECIMAL", text)?;
        }
        Ok(value)
    }

    pub fn date_rules(&self) -> DateRules {
        DateRules {
            zero_in_date: self.session.sql_mode.parses_zero_in_date(),
            invalid_dates: self.session.sql_mode.has(SqlMode::ALLOW_INVALID_DATES),
        }
    }

    /// A date with a clock; `None` for NULL and, under other than strict modes, for what is no date.
    pub fn datum_time(&self, datum: &Datum, kind: TimeKind) -> Opt<Time> {
        let (civil, fsp) = match datum {
            Datum::Null => return Ok(None),
            Datum::Time(v) => return Ok(Some(*v)),
            Datum::Duration(v) => return Ok(Some(self.on_today(v.nanos, v.fsp))),
            Datum::Int(_) | Datum::UInt(_) | Datum::Year(_) | Datum::Bit(..) => {
                let number = self.datum_int(datum)?.and_then(|v| i64::try_from(v).ok());
                (number.and_then(time_text::from_number), 0)
            }
            Datum::Json(document) => match json::decode(document) {
                Some(json::Value::String(text)) => {
                    return self.datum_time(&Datum::Bytes(text.into_bytes()), kind);
                }
                Some(json::Value::Other(code, bytes)) => match (code, bytes.first_chunk::<8>()) {
                    (json::DATE | json::DATETIME | json::TIMESTAMP, Some(bits)) => {
                        (Some(json::civil(u64::from_le_bytes(*bits))), 6)
                    }
                    _ => (None, 0),
                },
                _ => (None, 0),
            },
            Datum::Float(_) | Datum::Double(_) | Datum::Decimal(_) => {
                let text = text_of(datum, &Ty::plain_text()).unwrap_or_default();
                let text = number_as_time_text(&text);
                let fsp = fraction_digits(text);
                (time_text::datetime(text, fsp, &self.session.time_zone), fsp)
            }
            _ => {
                let text = text_of(datum, &Ty::plain_text()).unwrap_or_default();
                let fsp = fraction_digits(&text);
                let civil = time_text::datetime(trim_text(&text), fsp, &self.session.time_zone);
                (civil, fsp)
            }
        };
        let valid = civil.filter(|civil| {
            time_text::valid_date(civil, self.date_rules()) && time_text::valid_clock(civil)
        });
        let zero_refused = self.session.sql_mode.has(SqlMode::NO_ZERO_DATE);
        match valid {
            Some(civil) if !(zero_refused && civil == Civil::default()) => {
                Ok(Some(Time::new(civil, kind, fsp)))
            }
            _ => {
                let text = text_of(datum, &Ty::plain_text()).unwrap_or_default();
                self.incorrect_time("datetime", &text)
            }
        }
    }

    /// A TIME on the session's day.
    pub fn on_today(&self, nanos: i64, fsp: u8) -> Time {
        let now = self
            .session
            .time_zone
            .at(self.session.now_us, TimeKind::Datetime, 6);
        let seconds = now.to_date().civil().seconds() + nanos.div_euclid(1_000_000_000);
        let micro = (nanos.rem_euclid(1_000_000_000) / 1000) as u32;
        let civil = Civil::from_seconds(seconds, micro).unwrap_or_default();
        Time::new(civil, TimeKind::Datetime, fsp)
    }

    pub fn datum_duration(&self, datum: &Datum) -> Opt<MyDuration> {
        let zone = &self.session.time_zone;
        let (parsed, fsp) = match datum {
            Datum::Null => return Ok(None),
            Datum::Duration(v) => return Ok(Some(*v)),
            Datum::Time(v) => {
                let nanos = clock_nanos(&v.civil());
                return Ok(Some(MyDuration { nanos, fsp: v.fsp }));
            }
            Datum::Int(_) | Datum::UInt(_) | Datum::Year(_) => {
                let number = self.datum_int(datum)?.unwrap_or(0);
                let number = i64::try_from(number).unwrap_or(i64::MAX);
                (duration::from_number(number), 0)
            }
            _ => {
                let text = text_of(datum, &Ty::plain_text()).unwrap_or_default();
                let fsp = fraction_digits(&text);
                (duration::parse(&text, fsp, zone), fsp)
            }
        };
        match parsed {
            Ok(nanos) => Ok(Some(MyDuration { nanos, fsp })),
            Err(nanos) => {
                let text = text_of(datum, &Ty::plain_text()).unwrap_or_default();
                self.truncated("time", &text)?;
                Ok((nanos != 0).then_some(MyDuration { nanos, fsp }))
            }
        }
    }

    /// A value as JSON: text is a document to be read, unlike in JSON_ARRAY and JSON_OBJECT.
    pub fn datum_json(&self, datum: &Datum, ty: &Ty) -> Opt<json::Value> {
        match datum {
            Datum::Bytes(text) if !ty.is_binary_text() => json::parse_value(text)
                .map(Some)
                .map_err(|_| invalid_json()),
            Datum::Bytes(_) => Err(EvalError::new(
                code::INVALID_JSON_CHARSET,
                "Cannot create a JSON value from a string with CHARACTER SET 'binary'.",
            )),
            _ => self.json_element(datum, ty),
        }
    }

    /// A value as an element of a JSON array or object: text becomes a JSON string.
    pub fn json_element(&self, datum: &Datum, ty: &Ty) -> Opt<json::Value> {
        use json::Value;
        Ok(Some(match datum {
            Datum::Null => return Ok(None),
            Datum::Int(v) if ty.boolean => Value::Bool(*v != 0),
            Datum::Int(v) | Datum::Year(v) => Value::Int(*v),
            Datum::UInt(v) => Value::UInt(*v),
            Datum::Float(_) | Datum::Double(_) => Value::Double(number_of(datum)),
            Datum::Decimal(v) => Value::Double(v.to_f64()),
            Datum::Json(document) => json::decode(document).ok_or_else(invalid_json)?,
            Datum::Time(v) => {
                let code = match v.kind {
                    TimeKind::Date => json::DATE,
                    TimeKind::Datetime => json::DATETIME,
                    TimeKind::Timestamp => json::TIMESTAMP,
                };
                other_json(json::time(code, &v.civil()))
            }
            Datum::Duration(v) => other_json(json::duration(v.nanos, u32::from(v.fsp))),
            Datum::Bytes(_) if ty.is_binary_text() => {
                return Err(EvalError::new(
                    code::INVALID_JSON_CHARSET,
                    "Cannot create a JSON value from a string with CHARACTER SET 'binary'.",
                ));
            }
            _ => {
                let text = text_of(datum, ty).unwrap_or_default();
                Value::String(String::from_utf8_lossy(&text).into_owned())
            }
        }))
    }

    /// A value as it is when CASE, IF or COALESCE give it: cast to the common type.
    pub fn unified(&self, datum: Datum, from: &Ty, to: &Ty) -> Value {
        if datum.is_null()
            || from.family() == to.family() && !from.is_hybrid() && from.tp != tp::DATE
        {
            return Ok(datum);
        }
        Ok(match to.family() {
            Family::Int => int_datum(self.datum_int(&datum)?, to),
            Family::Real => self.datum_real(&datum)?.map_or(Datum::Null, Datum::Double),
            Family::Decimal => self
                .datum_decimal(&datum)?
                .map_or(Datum::Null, Datum::Decimal),
            Family::Str => text_of(&datum, from).map_or(Datum::Null, Datum::Bytes),
            Family::Time if from.tp == to.tp => datum,
            Family::Time => {
                let time = self.datum_time(&datum, TimeKind::Datetime)?;
                time.map_or(Datum::Null, |time| {
                    Datum::Time(Time::from_packed(
                        time.packed(),
                        TimeKind::Datetime,
                        to.digits(),
                    ))
                })
            }
            Family::Duration => self
                .datum_duration(&datum)?
                .map_or(Datum::Null, Datum::Duration),
            Family::Json => self
                .json_element(&datum, from)?
                .map_or(Datum::Null, json_datum),
        })
    }
}

pub(super) fn invalid_json() -> EvalError {
    EvalError::new(code::INVALID_JSON_TEXT, "Invalid JSON text in an argument")
}

pub(super) fn unsupported(what: &str) -> EvalError {
    const NOT_SUPPORTED: u16 = 1235;
    EvalError::new(
        NOT_SUPPORTED,
        format!("{what} is not supported in an expression"),
    )
}

fn other_json(document: Vec<u8>) -> json::Value {
    json::decode(&document).unwrap_or(json::Value::Null)
}

pub(super) fn json_datum(value: json::Value) -> Datum {
    Datum::Json(json::encode(&value))
}

pub(super) fn text_datum(text: Option<Vec<u8>>) -> Datum {
    text.map_or(Datum::Null, Datum::Bytes)
}

/// An integer as the datum of its sign; beyond both ranges it saturates.
pub(super) fn int_datum(value: Option<i128>, ty: &Ty) -> Datum {
    match value {
        None => Datum::Null,
        Some(v) if ty.is_unsigned() => Datum::UInt(v.clamp(0, i128::from(u64::MAX)) as u64),
        Some(v) => Datum::Int(v.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64),
    }
}

fn number_of(datum: &Datum) -> f64 {
    match datum {
        Datum::Float(v) => f64::from(*v),
        Datum::Double(v) => *v,
        _ => 0.0,
    }
}

/// Rounded; just beyond both integer ranges when it does not fit.
pub(super) fn decimal_int(v: &MyDecimal) -> i128 {
    if v.is_negative() {
        return v.to_i64().map_or(i128::from(i64::MIN) - 1, i128::from);
    }
    v.to_u64().map_or(i128::from(u64::MAX) + 1, i128::from)
}

fn with_micro(number: i64, micro: u32, fsp: u8) -> MyDecimal {
    let magnitude = i128::from(number.unsigned_abs()) * 1_000_000 + i128::from(micro);
    let signed = if number < 0 { -magnitude } else { magnitude };
    MyDecimal::from_i128(signed, 6).truncate(fsp)
}

pub(super) fn clock_nanos(civil: &Civil) -> i64 {
    let seconds =
        i64::from(civil.hour) * 3600 + i64::from(civil.minute) * 60 + i64::from(civil.second);
    seconds * 1_000_000_000 + i64::from(civil.micro) * 1000
}

/// The text of a number that is a date: behind a date without a clock a fraction means nothing.
fn number_as_time_text(text: &[u8]) -> &[u8] {
    match text.iter().position(|byte| *byte == b'.') {
        Some(point) if !matches!(point, 12 | 14) => &text[..point],
        _ => text,
    }
}

/// Digits behind the last point, at most six.
pub(super) fn fraction_digits(text: &[u8]) -> u8 {
    let point = text.iter().rposition(|byte| *byte == b'.');
    let digits = point.map_or(0, |at| {
        text[at + 1..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    });
    digits.min(6) as u8
}

/// Longest number a text begins with, and whether something else follows or there is none.
fn float_prefix(text: &[u8]) -> (&[u8], bool) {
    let digits = |from: usize| {
        text[from..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let sign = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let integer = digits(sign);
    let mut end = sign + integer;
    let mut fraction = 0;
    if text.get(end) == Some(&b'.') {
        fraction = digits(end + 1);
        end += 1 + fraction;
    }
    if integer + fraction == 0 {
        return (&[], true);
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'-' | b'+')));
        let from = (end + 1 + sign).min(text.len());
        let exponent = digits(from);
        if exponent > 0 {
            end = from + exponent;
        }
    }
    (&text[..end], end < text.len())
}

/// Text as functions on strings see it; `None` for NULL.
pub(super) fn text_of(datum: &Datum, ty: &Ty) -> Option<Vec<u8>> {
    let field = match datum {
        Datum::Float(v) => Field::Float(*v),
        Datum::Double(v) => Field::Double(*v),
        // A quotient keeps more digits inside than it shows.
        Datum::Decimal(v)
            if ty.tp == tp::NEW_DECIMAL && ty.scale >= 0 && v.scale() > ty.digits() =>
        {
            return Some(v.round(ty.digits()).to_string().into_bytes());
        }
        other => return other.to_text(),
    };
    Some(match crate::cast::field_text(&field) {
        Cow::Borrowed(text) => text.to_vec(),
        Cow::Owned(text) => text,
    })
}

/// Text in the bytes of its charset: GBK and GB18030 columns hold UTF-8 inside.
pub(super) fn encode_charset(text: Vec<u8>, ty: &Ty) -> Vec<u8> {
    use crate::collation::{encode_gb18030, encode_gbk};
    let encode = match ty.collation.charset() {
        "gbk" => encode_gbk,
        "gb18030" => encode_gb18030,
        _ => return text,
    };
    let mut out = Vec::with_capacity(text.len());
    for c in String::from_utf8_lossy(&text).chars() {
        match encode(c) {
            Some(code) => code.append(&mut out),
            None => out.push(b'?'),
        }
    }
    out
}
