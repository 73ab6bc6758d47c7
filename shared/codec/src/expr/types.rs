//! Result types of expressions, as far as they decide values: which family a value belongs to, its sign,
//! its scale, and how its text compares.

use super::tree::CastName;
use crate::collation::Collation;
use crate::mysql::{UNSPECIFIED, tp};
use crate::schema::FieldType;

/// Families that arithmetic, comparison and control functions tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Int,
    Real,
    Decimal,
    Str,
    Time,
    Duration,
    Json,
}

/// How strongly an expression's collation holds against another's; lower wins.
pub(super) mod coercibility {
    pub const EXPLICIT: u8 = 0;
    pub const IMPLICIT: u8 = 2;
    pub const LITERAL: u8 = 4;
    pub const NUMERIC: u8 = 5;
    pub const NULL: u8 = 6;
}

/// Type of an expression's result.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ty {
    pub tp: u8,
    pub unsigned: bool,
    /// Scale of decimals, fractional digits of times; -1 = unknown.
    pub scale: i32,
    /// As declared; the new framework being off is looked at where values are compared.
    pub collation: Collation,
    pub coercibility: u8,
    /// A truth value: an integer that JSON shows as `true` or `false`.
    pub boolean: bool,
}

impl Ty {
    fn of(tp: u8, scale: i32) -> Ty {
        Ty {
            tp,
            unsigned: false,
            scale,
            collation: Collation::Binary,
            coercibility: coercibility::NUMERIC,
            boolean: false,
        }
    }

    pub fn null() -> Ty {
        Ty {
            coercibility: coercibility::NULL,
            ..Self::of(tp::NULL, 0)
        }
    }

    pub fn int() -> Ty {
        Self::of(tp::LONGLONG, 0)
    }

    pub fn boolean() -> Ty {
        Ty {
            boolean: true,
            ..Self::int()
        }
    }

    pub fn uint() -> Ty {
        Ty {
            unsigned: true,
            ..Self::int()
        }
    }

    pub fn real() -> Ty {
        Self::of(tp::DOUBLE, UNSPECIFIED)
    }

    pub fn decimal(scale: i32) -> Ty {
        Self::of(tp::NEW_DECIMAL, scale)
    }

    pub fn time(tp: u8, fsp: i32) -> Ty {
        Self::of(tp, fsp)
    }

    pub fn json() -> Ty {
        Ty {
            collation: Collation::Utf8mb4Bin,
            coercibility: coercibility::IMPLICIT,
            ..Self::of(tp::JSON, 0)
        }
    }

    pub fn text(collation: Collation, coercibility: u8) -> Ty {
        Ty {
            collation,
            coercibility,
            ..Self::of(tp::VAR_STRING, UNSPECIFIED)
        }
    }

    /// Text made by a function of no text: numbers shown, names of days.
    pub fn plain_text() -> Ty {
        Self::text(Collation::Utf8mb4Bin, coercibility::LITERAL)
    }

    pub fn bytes() -> Ty {
        Self::text(Collation::Binary, coercibility::IMPLICIT)
    }

    pub fn column(field_type: &FieldType) -> Ty {
        let textual = field_type.is_string() || matches!(field_type.tp, tp::ENUM | tp::SET);
        Ty {
            tp: field_type.tp,
            unsigned: field_type.is_unsigned(),
            scale: field_type.decimal,
            collation: if textual {
                Collation::of(field_type, true)
            } else {
                Collation::Binary
            },
            coercibility: if textual {
                coercibility::IMPLICIT
            } else {
                coercibility::NUMERIC
            },
            boolean: false,
        }
    }

    pub fn family(&self) -> Family {
        match self.tp {
            tp::TINY | tp::SHORT | tp::INT24 | tp::LONG | tp::LONGLONG | tp::YEAR | tp::BIT => {
                Family::Int
            }
            tp::FLOAT | tp::DOUBLE => Family::Real,
            tp::NEW_DECIMAL => Family::Decimal,
            tp::DATE | tp::DATETIME | tp::TIMESTAMP => Family::Time,
            tp::DURATION => Family::Duration,
            tp::JSON => Family::Json,
            _ => Family::Str,
        }
    }

    pub fn is_null(&self) -> bool {
        self.tp == tp::NULL
    }

    /// A type that is a number and a text at once.
    pub fn is_hybrid(&self) -> bool {
        matches!(self.tp, tp::ENUM | tp::SET | tp::BIT)
    }

    pub fn is_unsigned(&self) -> bool {
        self.unsigned || matches!(self.tp, tp::BIT | tp::YEAR)
    }

    pub fn is_binary_text(&self) -> bool {
        self.family() == Family::Str && self.collation == Collation::Binary
    }

    /// Scale as a number of digits.
    pub fn digits(&self) -> u8 {
        self.scale.clamp(0, 30) as u8
    }

    /// What the value is to an arithmetic operator.
    pub fn numeric_family(&self) -> Family {
        match self.family() {
            Family::Time | Family::Duration if self.scale > 0 => Family::Decimal,
            Family::Time | Family::Duration => Family::Int,
            _ if self.is_hybrid() => Family::Real,
            family @ (Family::Int | Family::Decimal) => family,
            _ => Family::Real,
        }
    }

    /// Scale of the value as a decimal operand.
    pub fn numeric_scale(&self) -> i32 {
        match self.family() {
            Family::Int => 0,
            _ => self.scale,
        }
    }
}

/// Collation that two texts are compared or joined under, and how strongly it holds.
pub(super) fn merge_collations(left: &Ty, right: &Ty) -> (Collation, u8) {
    let (a, b) = (
        (left.collation, left.coercibility),
        (right.collation, right.coercibility),
    );
    let numeric = |side: (Collation, u8)| side.1 >= coercibility::NUMERIC;
    if numeric(a) && numeric(b) {
        return (Collation::Utf8mb4Bin, coercibility::LITERAL);
    }
    match a.1.cmp(&b.1) {
        _ if a.0 == b.0 => (a.0, a.1.min(b.1)),
        _ if numeric(a) => b,
        _ if numeric(b) => a,
        std::cmp::Ordering::Less => a,
        std::cmp::Ordering::Greater => b,
        // Of two columns binary text wins, then the `_bin` collation.
        _ if b.0 == Collation::Binary || (b.0.is_byte_order() && a.0 != Collation::Binary) => b,
        _ => a,
    }
}

/// Type of text joined from `parts`.
pub(super) fn joined_text<'a>(parts: impl IntoIterator<Item = &'a Ty>) -> Ty {
    let merged = parts.into_iter().map(text_of).reduce(|left, right| {
        let (collation, coercibility) = merge_collations(&left, &right);
        Ty::text(collation, coercibility)
    });
    let ty = merged.unwrap_or_else(Ty::plain_text);
    if ty.coercibility >= coercibility::NUMERIC {
        Ty::plain_text()
    } else {
        ty
    }
}

/// The type of a value once it is text.
fn text_of(ty: &Ty) -> Ty {
    Ty {
        tp: tp::VAR_STRING,
        ..ty.clone()
    }
}

/// Type of a value that is one of several, as CASE, IF, COALESCE and IFNULL give it.
pub(super) fn one_of<'a>(types: impl IntoIterator<Item = &'a Ty>) -> Ty {
    let types: Vec<&Ty> = types.into_iter().filter(|ty| !ty.is_null()).collect();
    let Some(first) = types.first() else {
        return Ty::null();
    };
    let families: Vec<Family> = types
        .iter()
        .map(|ty| {
            if ty.is_hybrid() && ty.tp != tp::BIT {
                Family::Str
            } else {
                ty.family()
            }
        })
        .collect();
    let all = |family| families.iter().all(|f| *f == family);
    let among = |set: &[Family]| families.iter().all(|f| set.contains(f));
    let scale = types.iter().map(|ty| ty.numeric_scale()).max().unwrap_or(0);
    if types.iter().all(|ty| ty.tp == first.tp)
        && first.family() != Family::Str
        && first.family() != Family::Int
    {
        return Ty {
            scale,
            ..(*first).clone()
        };
    }
    if all(Family::Int) {
        let unsigned = types.iter().filter(|ty| ty.is_unsigned()).count();
        return match unsigned {
            0 => Ty::int(),
            n if n == types.len() => Ty::uint(),
            _ => Ty::decimal(0),
        };
    }
    if among(&[Family::Int, Family::Decimal]) {
        return Ty::decimal(scale);
    }
    if among(&[Family::Int, Family::Decimal, Family::Real]) {
        return Ty::real();
    }
    if all(Family::Time) || among(&[Family::Time, Family::Duration]) {
        return Ty::time(tp::DATETIME, scale);
    }
    joined_text(types)
}

/// Type that a cast makes.
pub(super) fn of_cast(
    name: CastName,
    length: Option<i64>,
    scale: Option<i64>,
    charset: Collation,
) -> Ty {
    let fsp = length.unwrap_or(0).clamp(0, 6) as i32;
    match name {
        CastName::Signed => Ty::int(),
        CastName::Unsigned => Ty::uint(),
        CastName::Char => Ty::text(charset, coercibility::IMPLICIT),
        CastName::Binary => Ty::bytes(),
        CastName::Decimal => Ty::decimal(scale.unwrap_or(0).clamp(0, 30) as i32),
        CastName::Double => Ty::real(),
        CastName::Float => Ty::of(
            if length.unwrap_or(0) > 24 {
                tp::DOUBLE
            } else {
                tp::FLOAT
            },
            UNSPECIFIED,
        ),
        CastName::Date => Ty::time(tp::DATE, 0),
        CastName::Datetime => Ty::time(tp::DATETIME, fsp),
        CastName::Time => Ty::time(tp::DURATION, fsp),
        CastName::Year => Ty {
            unsigned: true,
            ..Ty::of(tp::YEAR, 0)
        },
        CastName::Json => Ty::json(),
    }
}
