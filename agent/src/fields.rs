//! Which field of a record goes to which column: names of a header or a statement, columns that are left
//! out, columns made of names, variables and assignments of LOAD DATA. Owns the number of fields a record
//! must have; leaves casting to the encoder.

use thunderhead_codec::cast::Field;
use thunderhead_codec::datum::Datum;
use thunderhead_codec::expr::Expression;
use thunderhead_codec::schema::{ColumnInfo, FieldType, Name, TableInfo};
use thunderhead_codec::session::Session;
use thunderhead_codec::table::{PairSink, RowError, TableEncoder};
use thunderhead_codec::time::{Civil, MyDuration, Time, TimeKind, Zone};
use thunderhead_config::FieldOptions;
use thunderhead_source::Value;
use thunderhead_types::{Error, ErrorKind, Result};

const SECONDS_PER_DAY: i64 = 86_400;
const MICROS: i64 = 1_000_000;

/// MySQL's type code of a long text.
const LONG_BLOB: u8 = 0xfb;

/// Fields to columns, ready to encode rows.
pub(crate) struct RowMap {
    encoder: TableEncoder,
    /// Fields a record must have.
    width: usize,
    /// A record may have more or fewer of them.
    ragged: bool,
    /// What the encoder's fields are; `None`: the record's own, one by one.
    picks: Option<Vec<Pick>>,
    /// Evaluates assignments.
    variables: Variables,
    /// Of the session.
    zone: Zone,
}

/// Proves that the table can be encoded from fields with these names; none = in table order.
///
/// # Errors
/// What the encoder cannot do, and assignments that cannot be evaluated.
pub fn check_fields(
    info: &TableInfo,
    session: &Session,
    names: &[String],
    options: &FieldOptions,
) -> Result<()> {
    let names = (!names.is_empty()).then_some(names);
    RowMap::compile(info, session, names, options).map(|_| ())
}

enum Pick {
    /// A field of the record.
    Field(usize),
    /// Text made of names.
    Constant(Vec<u8>),
    /// A value of an assignment.
    Assigned(usize),
}

/// Why a record is refused.
pub(crate) enum Refused {
    /// It has another number of fields.
    Width(usize),
    /// The encoder refused a value.
    Row(RowError),
    /// It is malformed; what is written there is its only field.
    Syntax(Error),
}

impl RowMap {
    /// `names`: columns of the fields; `None` = all visible columns of the table in their order.
    pub(crate) fn compile(
        info: &TableInfo,
        session: &Session,
        names: Option<&[String]>,
        options: &FieldOptions,
    ) -> Result<Self> {
        let visible = || info.columns().iter().filter(|column| !column.hidden);
        let plain = options.ignored.is_empty()
            && options.constants.is_empty()
            && options.set.is_empty()
            && options.columns.is_none();
        let names = options.columns.as_deref().or(names);
        if plain {
            return Ok(Self {
                encoder: TableEncoder::compile(info, session, names)?,
                width: names.map_or_else(|| visible().count(), <[String]>::len),
                ragged: options.ragged,
                picks: None,
                variables: Variables::default(),
                zone: session.time_zone.clone(),
            });
        }
        let in_order: Vec<String>;
        let names = match names {
            Some(names) => names,
            None => {
                in_order = visible().map(|column| column.name.lower.clone()).collect();
                &in_order
            }
        };
        let (mut columns, mut picks) = (Vec::new(), Vec::new());
        for (column, text) in &options.constants {
            columns.push(column.to_lowercase());
            picks.push(Pick::Constant(text.clone().into_bytes()));
        }
        for (at, (column, _)) in options.set.iter().enumerate() {
            columns.push(column.to_lowercase());
            picks.push(Pick::Assigned(at));
        }
        for (at, name) in names.iter().enumerate() {
            let name = name.to_lowercase();
            // What is assigned or made of names wins over the field.
            if !name.starts_with('@')
                && !options.ignored.contains(&name)
                && !columns.contains(&name)
            {
                columns.push(name);
                picks.push(Pick::Field(at));
            }
        }
        Ok(Self {
            encoder: TableEncoder::compile(info, session, Some(&columns))?,
            width: names.len(),
            ragged: options.ragged,
            picks: Some(picks),
            variables: Variables::compile(info, session, names, &options.set)?,
            zone: session.time_zone.clone(),
        })
    }

    /// The encoder, for the automatic ids it has seen.
    pub(crate) fn encoder(&self) -> &TableEncoder {
        &self.encoder
    }

    /// Fields a record must have.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Encodes one record.
    pub(crate) fn encode(
        &mut self,
        values: &[Value<'_>],
        row_id: i64,
        pairs: &mut impl PairSink,
    ) -> std::result::Result<(), Refused> {
        if values.len() != self.width && !self.ragged {
            return Err(Refused::Width(values.len()));
        }
        let given = values.len().min(self.width);
        let assigned;
        // Records are narrow: a stack array serves almost all of them.
        let mut few = [Field::Null; 64];
        let mut many;
        let wanted = self.picks.as_ref().map_or(given, Vec::len);
        let fields = if wanted <= few.len() {
            &mut few[..wanted]
        } else {
            many = vec![Field::Null; wanted];
            &mut many[..]
        };
        let mut filled = wanted;
        match &self.picks {
            None => {
                for (slot, value) in fields.iter_mut().zip(values) {
                    *slot = field_of(value, &self.zone);
                }
            }
            Some(picks) => {
                assigned = self.variables.assign(values).map_err(Refused::Row)?;
                for (at, pick) in picks.iter().enumerate() {
                    fields[at] = match pick {
                        Pick::Constant(text) => Field::Text(text),
                        Pick::Assigned(at) => field_of_datum(&assigned[*at]),
                        Pick::Field(source) => match values.get(*source) {
                            Some(value) => field_of(value, &self.zone),
                            // Fields come last and in order: so do the missing ones.
                            None => {
                                filled = at;
                                break;
                            }
                        },
                    };
                }
            }
        }
        self.encoder
            .encode_row(&fields[..filled], row_id, pairs)
            .map_err(Refused::Row)?;
        Ok(())
    }
}

fn field_of<'a>(value: &Value<'a>, zone: &Zone) -> Field<'a> {
    match value {
        Value::Null => Field::Null,
        Value::Text(text) => Field::Text(text),
        Value::Binary(bytes) => Field::Binary(bytes),
        Value::Int(number) => Field::Int(*number),
        Value::UInt(number) => Field::UInt(*number),
        Value::Float(number) => Field::Float(*number),
        Value::Double(number) => Field::Double(*number),
        Value::Date(days) => {
            let seconds = days.saturating_mul(SECONDS_PER_DAY);
            timed(Civil::from_seconds(seconds, 0).map(|c| Time::new(c, TimeKind::Date, 0)))
        }
        Value::Time(micros) => Field::Duration(MyDuration {
            nanos: micros.saturating_mul(1000),
            fsp: 6,
        }),
        Value::Timestamp { micros, utc } => {
            let part = u32::try_from(micros.rem_euclid(MICROS)).unwrap_or(0);
            let civil = Civil::from_seconds(micros.div_euclid(MICROS), part);
            timed(civil.map(|civil| match utc {
                true => zone.at(*micros, TimeKind::Timestamp, 6),
                false => Time::new(civil, TimeKind::Datetime, 6),
            }))
        }
    }
}

/// A time that no column can hold is refused by every type of column but text.
fn timed(time: Option<Time>) -> Field<'static> {
    time.map_or(Field::Text(b"a time outside of the calendar"), Field::Time)
}

fn field_of_datum(datum: &Datum) -> Field<'_> {
    match datum {
        Datum::Null => Field::Null,
        Datum::Int(number) | Datum::Year(number) => Field::Int(*number),
        Datum::UInt(number) | Datum::Bit(number, _) => Field::UInt(*number),
        Datum::Float(number) => Field::Float(*number),
        Datum::Double(number) => Field::Double(*number),
        Datum::Decimal(number) => Field::Decimal(number),
        Datum::Bytes(text) => Field::Text(text),
        Datum::Time(time) => Field::Time(*time),
        Datum::Duration(duration) => Field::Duration(*duration),
        Datum::Enum(_, text) | Datum::Set(_, text) => Field::Text(text.as_bytes()),
        Datum::Json(_) | Datum::Vector(_) => Field::Null,
    }
}

/// The variables of a record and what is assigned from them.
struct Variables {
    /// Field of each variable, in the order of the made-up columns.
    fields: Vec<usize>,
    assignments: Vec<(String, Expression)>,
    /// A row of the made-up table.
    row: Vec<Datum>,
    /// Of the session.
    zone: Zone,
}

impl Default for Variables {
    fn default() -> Self {
        Self {
            fields: Vec::new(),
            assignments: Vec::new(),
            row: Vec::new(),
            zone: Zone::utc(),
        }
    }
}

impl Variables {
    /// Variables are columns of a table of their own, so that the evaluator of generated columns can read
    /// them.
    fn compile(
        info: &TableInfo,
        session: &Session,
        names: &[String],
        set: &[(String, String)],
    ) -> Result<Self> {
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        for (at, name) in names.iter().enumerate().filter(|(_, n)| n.starts_with('@')) {
            fields.push(at);
            columns.push(ColumnInfo {
                name: Name {
                    original: name.clone(),
                    lower: name.to_lowercase(),
                },
                offset: columns.len(),
                field_type: FieldType {
                    tp: LONG_BLOB,
                    flen: -1,
                    decimal: -1,
                    charset: "utf8mb4".into(),
                    collate: "utf8mb4_bin".into(),
                    ..FieldType::default()
                },
                ..ColumnInfo::default()
            });
        }
        let row = vec![Datum::Null; columns.len()];
        let variables = TableInfo {
            cols: Some(columns),
            ..TableInfo::default()
        };
        let mut assignments = Vec::new();
        for (column, text) in set {
            let expression = Expression::compile(text, &variables, session).map_err(|e| {
                Error::new(ErrorKind::Precheck, format!("SET {column} = {text}"), e)
                    .advice("read the field into a variable, and use literals, variables and functions only")
            })?;
            let known = info
                .columns()
                .iter()
                .any(|c| c.name.lower == column.to_lowercase());
            if !known {
                return Err(Error::new(
                    ErrorKind::Precheck,
                    format!("SET {column} = {text}"),
                    format!("table {} has no such column", info.name.original),
                ));
            }
            assignments.push((column.clone(), expression));
        }
        Ok(Self {
            fields,
            assignments,
            row,
            zone: session.time_zone.clone(),
        })
    }

    fn assign(&mut self, values: &[Value<'_>]) -> std::result::Result<Vec<Datum>, RowError> {
        if self.assignments.is_empty() {
            return Ok(Vec::new());
        }
        for (datum, at) in self.row.iter_mut().zip(&self.fields) {
            *datum = match values.get(*at) {
                None | Some(Value::Null) => Datum::Null,
                Some(Value::Text(text) | Value::Binary(text)) => Datum::Bytes(text.to_vec()),
                Some(Value::Int(number)) => Datum::Bytes(number.to_string().into_bytes()),
                Some(Value::UInt(number)) => Datum::Bytes(number.to_string().into_bytes()),
                Some(typed) => match field_of(typed, &self.zone) {
                    Field::Float(number) => Datum::Bytes(number.to_string().into_bytes()),
                    Field::Double(number) => Datum::Bytes(number.to_string().into_bytes()),
                    Field::Time(time) => Datum::Bytes(time.to_string().into_bytes()),
                    Field::Duration(time) => Datum::Bytes(time.to_string().into_bytes()),
                    _ => Datum::Null,
                },
            };
        }
        self.assignments
            .iter()
            .map(|(column, expression)| {
                expression.eval(&self.row).map_err(|e| RowError {
                    column: column.clone(),
                    code: e.code,
                    message: e.message,
                })
            })
            .collect()
    }
}
