//! An expression as it is written: columns, literals, calls. Operators, CASE, IN, LIKE and the like are
//! calls of functions with the names that TiDB gives them inside (`plus`, `case`, `in`), so that there is
//! one table of functions.

/// A parsed expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// In lower case.
    Column(String),
    Literal(Literal),
    /// Name in lower case.
    Call {
        name: String,
        args: Vec<Node>,
    },
    Cast {
        expr: Box<Node>,
        to: CastType,
    },
    /// `CONVERT(x USING charset)`.
    Using {
        expr: Box<Node>,
        charset: String,
    },
    Collate {
        expr: Box<Node>,
        collation: String,
    },
    /// `DATE_ADD(x, INTERVAL n unit)` and its other spellings.
    DateArith {
        minus: bool,
        date: Box<Node>,
        amount: Box<Node>,
        unit: Unit,
    },
}

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    /// As written: an integer, a decimal, or with an exponent a double.
    Number(String),
    Str {
        /// Of `_charset'…'`.
        charset: Option<String>,
        bytes: Vec<u8>,
    },
    /// `x'…'`, `0x…`, `b'…'`.
    Bits(Vec<u8>),
    /// `DATE'…'`, `TIME'…'`, `TIMESTAMP'…'`.
    Temporal {
        kind: &'static str,
        text: String,
    },
}

/// Target of a cast.
#[derive(Clone, Debug, PartialEq)]
pub struct CastType {
    pub name: CastName,
    pub length: Option<i64>,
    pub scale: Option<i64>,
    pub charset: Option<String>,
    pub array: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CastName {
    Signed,
    Unsigned,
    Char,
    Binary,
    Decimal,
    Double,
    Float,
    Date,
    Datetime,
    Time,
    Year,
    Json,
}

/// A unit of INTERVAL, EXTRACT and TIMESTAMPDIFF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Microsecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    SecondMicrosecond,
    MinuteMicrosecond,
    MinuteSecond,
    HourMicrosecond,
    HourSecond,
    HourMinute,
    DayMicrosecond,
    DaySecond,
    DayMinute,
    DayHour,
    YearMonth,
}

const UNITS: [(&str, Unit); 20] = [
    ("microsecond", Unit::Microsecond),
    ("second", Unit::Second),
    ("minute", Unit::Minute),
    ("hour", Unit::Hour),
    ("day", Unit::Day),
    ("week", Unit::Week),
    ("month", Unit::Month),
    ("quarter", Unit::Quarter),
    ("year", Unit::Year),
    ("second_microsecond", Unit::SecondMicrosecond),
    ("minute_microsecond", Unit::MinuteMicrosecond),
    ("minute_second", Unit::MinuteSecond),
    ("hour_microsecond", Unit::HourMicrosecond),
    ("hour_second", Unit::HourSecond),
    ("hour_minute", Unit::HourMinute),
    ("day_microsecond", Unit::DayMicrosecond),
    ("day_second", Unit::DaySecond),
    ("day_minute", Unit::DayMinute),
    ("day_hour", Unit::DayHour),
    ("year_month", Unit::YearMonth),
];

impl Unit {
    /// By name in any case, `SQL_TSI_` before it or not.
    pub fn from_name(name: &str) -> Option<Unit> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_prefix("sql_tsi_").unwrap_or(&name);
        UNITS
            .iter()
            .find(|entry| entry.0 == name)
            .map(|entry| entry.1)
    }

    /// Whether the unit reaches below the second.
    pub fn has_microseconds(self) -> bool {
        matches!(
            self,
            Unit::Microsecond
                | Unit::SecondMicrosecond
                | Unit::MinuteMicrosecond
                | Unit::HourMicrosecond
                | Unit::DayMicrosecond
        )
    }

    /// Whether the unit leaves the clock alone.
    pub fn is_date_part(self) -> bool {
        matches!(
            self,
            Unit::Day | Unit::Week | Unit::Month | Unit::Quarter | Unit::Year | Unit::YearMonth
        )
    }
}

impl Node {
    pub(crate) fn call(name: &str, args: Vec<Node>) -> Node {
        Node::Call {
            name: name.to_owned(),
            args,
        }
    }

    pub(crate) fn text(text: &str) -> Node {
        Node::Literal(Literal::Str {
            charset: None,
            bytes: text.as_bytes().to_vec(),
        })
    }
}
