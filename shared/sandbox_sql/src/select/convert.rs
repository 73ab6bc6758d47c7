//! Values of one representation as another, and two values brought to one so that they can be compared.

use super::exprs::Typed;
use super::types::{Kind, Ty};

/// A text literal in SQLite's quotes.
pub fn literal(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => format!("'{}'", text.replace('\'', "''")),
        _ => format!("CAST({} AS TEXT)", blob(bytes)),
    }
}

pub fn blob(bytes: &[u8]) -> String {
    format!(
        "x'{}'",
        bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()
    )
}

/// A number as written: exact ones as decimals.
pub fn number(text: &str) -> Typed {
    if text.contains(['e', 'E']) {
        return (text.to_owned(), Ty::new(Kind::Double, 0));
    }
    if text.parse::<i64>().is_ok() {
        return (
            text.to_owned(),
            Ty {
                length: text.len() as i64,
                ..Ty::int()
            },
        );
    }
    let scale = text.split('.').nth(1).map_or(0, str::len) as i32;
    let text = if text.starts_with('.') {
        format!("0{text}")
    } else {
        text.replacen("-.", "-0.", 1)
    };
    (format!("'{text}'"), Ty::new(Kind::Decimal, scale))
}

/// As REAL.
pub fn real(sql: &str, ty: &Ty) -> String {
    if ty.kind == Kind::Double {
        sql.to_owned()
    } else {
        format!("th_real({sql})")
    }
}

/// As the text MySQL prints.
pub fn text(sql: &str, ty: &Ty) -> String {
    match ty.kind {
        Kind::Int => format!("CAST({sql} AS TEXT)"),
        Kind::Double => format!("th_text({sql})"),
        Kind::Decimal => format!("th_scale({sql}, {})", ty.scale),
        Kind::Blob => format!("CAST({sql} AS TEXT)"),
        _ => sql.to_owned(),
    }
}

/// Both sides in one representation, and the type to compare them as.
pub fn common(left: Typed, right: Typed) -> (String, String, Ty) {
    let ((l, lt), (r, rt)) = (left, right);
    let decimal = |sql: String, ty: &Ty| {
        if ty.kind == Kind::Decimal && sql.starts_with(['"', '\'']) {
            sql
        } else {
            format!("th_dec({sql})")
        }
    };
    match (lt.kind, rt.kind) {
        (Kind::Null, _) => (l, r, rt),
        (_, Kind::Null) => (l, r, lt),
        (Kind::Int, Kind::Int)
        | (Kind::Double, Kind::Double | Kind::Int)
        | (Kind::Int, Kind::Double) => (l, r, lt),
        (Kind::Decimal, Kind::Decimal | Kind::Int) | (Kind::Int, Kind::Decimal) => {
            (decimal(l, &lt), decimal(r, &rt), Ty::new(Kind::Decimal, 0))
        }
        _ if lt.is_number() && rt.is_number() => {
            (real(&l, &lt), real(&r, &rt), Ty::new(Kind::Double, 0))
        }
        (Kind::DateTime, Kind::DateTime) if lt.scale == rt.scale => (l, r, lt),
        (Kind::Date, Kind::Date) | (Kind::Time, Kind::Time) => (l, r, lt),
        (Kind::DateTime, _)
        | (_, Kind::DateTime)
        | (Kind::Date, Kind::Text)
        | (Kind::Text, Kind::Date) => dates(l, &lt, r, &rt),
        (Kind::Time, Kind::Text) => (l, format!("th_time({r})"), lt),
        (Kind::Text, Kind::Time) => (format!("th_time({l})"), r, rt),
        (Kind::Blob, Kind::Blob) => (l, r, lt),
        (Kind::Blob, _) if !rt.is_number() => (l, format!("CAST({r} AS BLOB)"), lt),
        (_, Kind::Blob) if !lt.is_number() => (format!("CAST({l} AS BLOB)"), r, rt),
        _ if lt.is_number() || rt.is_number() => {
            (real(&l, &lt), real(&r, &rt), Ty::new(Kind::Double, 0))
        }
        // A column's collation is stronger than a literal's.
        _ => {
            let ty = if l.starts_with('\'') && rt.kind == Kind::Text {
                rt
            } else {
                lt
            };
            (l, r, ty)
        }
    }
}

/// Dates compare as dates when both are, otherwise as date and time.
fn dates(l: String, lt: &Ty, r: String, rt: &Ty) -> (String, String, Ty) {
    let column = |sql: &str| sql.starts_with('"');
    let short = |sql: &str| sql.starts_with('\'') && sql.len() <= 12;
    // A date column against a text that is only a date keeps the column bare, so an index can serve it.
    if lt.kind == Kind::Date && column(&l) && short(&r) {
        return (l, format!("th_date({r})"), lt.clone());
    }
    if rt.kind == Kind::Date && column(&r) && short(&l) {
        return (format!("th_date({l})"), r, rt.clone());
    }
    let wide = |sql: String, ty: &Ty| {
        if ty.kind == Kind::DateTime && ty.scale == 6 {
            sql
        } else {
            format!("th_datetime({sql}, 6)")
        }
    };
    (wide(l, lt), wide(r, rt), Ty::new(Kind::DateTime, 6))
}
