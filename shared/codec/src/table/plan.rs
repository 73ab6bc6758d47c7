//! A table compiled for encoding: for every column where it comes from and how it is stored, what the
//! handle is, and for every index what its keys and values hold. Decisions are made here, once, so that the
//! row loop only follows them.

use super::auto_id::Layout;
use super::computed::{Computed, stored_type};
use super::defaults::{self, Default};
use super::index::IndexPlan;
use super::preflight;
use crate::cast::{ColumnCast, UnsupportedType};
use crate::mysql::{flag, tp};
use crate::row::whole_row_head;
use crate::schema::{ColumnInfo, FieldType, TableInfo};
use crate::session::Session;
use crate::sort::SortKey;
use std::sync::Arc;
use thunderhead_types::{Error, ErrorKind};

/// Name under which a source may carry `_tidb_rowid`.
pub(crate) const ROW_ID_COLUMN: &str = "_tidb_rowid";

/// Where a column's value comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// Field of the row, else the default.
    Field(usize),
    Default,
    Generated,
}

/// Precision and scale of a DECIMAL; zeros for other types.
pub(crate) type DecimalShape = (u8, u8);

#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub name: String,
    pub cast: ColumnCast,
    pub source: Source,
    pub default: Default,
    pub not_null: bool,
    pub auto: Auto,
    /// The field it comes from if nothing but the cast looks at that field's text; no field's number otherwise.
    pub plain_field: usize,
    /// Part of a key under utf8mb4_0900_ai_ci, which lacks a key for one character.
    pub keyed_by_uca: bool,
    pub field_type: FieldType,
    pub timestamp: bool,
}

/// Which ids a column takes when it has no value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Auto {
    No,
    Increment,
    Random(Layout),
}

/// A column of the stored row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredColumn {
    pub id: i64,
    pub offset: usize,
    pub decimal: DecimalShape,
    /// NULL is not written: the reader finds NULL without it.
    pub omit_null: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Handle {
    /// Offset of the integer primary key.
    Int(usize),
    /// Parts of the clustered primary key.
    Common(Vec<KeyPart>),
    /// `_tidb_rowid`, and the field that carries it, if any.
    RowId {
        layout: Layout,
        field: Option<usize>,
    },
}

/// How much of a string an index takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    Whole,
    Bytes(usize),
    Chars(usize),
}

/// One column of an index key.
#[derive(Clone, Debug)]
pub(crate) struct KeyPart {
    pub offset: usize,
    pub prefix: Prefix,
    pub sort: SortKey,
    pub decimal: DecimalShape,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub table_id: i64,
    pub session: Arc<Session>,
    pub columns: Vec<Column>,
    /// In ascending order of column id.
    pub stored: Vec<StoredColumn>,
    /// Head of a row in which all stored columns have a value; `None` where no row can have it.
    pub whole_row_head: Option<Vec<u8>>,
    pub handle: Handle,
    /// Whether a column takes automatic ids.
    pub gives_ids: bool,
    pub indexes: Vec<IndexPlan>,
    /// Whether one of the indexes is multi-valued.
    pub has_arrays: bool,
    pub computed: Option<Computed>,
    pub row_format: u8,
    /// Whether a TIMESTAMP must be moved to UTC before it is stored.
    pub shifts_timestamps: bool,
}

/// A precheck error of this table.
pub(crate) fn refuse(info: &TableInfo, cause: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Precheck,
        format!("table `{}`", info.name.original),
        cause,
    )
}

fn unsupported(info: &TableInfo, column: &ColumnInfo, cause: &UnsupportedType) -> Error {
    refuse(info, format!("column `{}`: {cause}", column.name.original))
        .advice("import the table in the logical mode")
}

impl Plan {
    pub fn compile(
        info: &TableInfo,
        session: &Session,
        names: Option<&[String]>,
    ) -> Result<Plan, Error> {
        let refusals = preflight::refusals(info, session);
        if !refusals.is_empty() {
            return Err(refuse(info, refusals.join("; "))
                .advice("wait for it to end, or use the logical mode"));
        }
        let session = Arc::new(session.clone());
        let sources = sources(info, names)?;
        let mut columns = Vec::with_capacity(info.columns().len());
        for (column, source) in info.columns().iter().zip(sources) {
            let compiled = Column::compile(info, column, source, &session);
            let compiled = compiled.map_err(|cause| unsupported(info, column, &cause))?;
            if let (Source::Default, Default::Unsupported(cause)) =
                (&compiled.source, &compiled.default)
            {
                return Err(
                    refuse(info, format!("column `{}`: {cause}", compiled.name)).advice(
                        "put the column into the source, or import the table in the logical mode",
                    ),
                );
            }
            columns.push(compiled);
        }
        let handle = handle(info, &session, names).map_err(|cause| refuse(info, cause))?;
        let indexes = IndexPlan::compile_all(info, &session)?;
        let conditions: Vec<&str> = indexes
            .iter()
            .map(|index| index.condition.as_str())
            .collect();
        let computed = Computed::compile(info, &session, &conditions)?;
        let stored = stored(info, &session);
        Ok(Plan {
            table_id: info.id,
            whole_row_head: whole_row_head(stored.iter().map(|column| column.id)),
            stored,
            shifts_timestamps: session.time_zone.name() != "UTC"
                && columns.iter().any(|c| c.timestamp),
            gives_ids: columns.iter().any(|c| !matches!(c.auto, Auto::No)),
            row_format: session.row_format,
            session,
            columns,
            handle,
            has_arrays: indexes.iter().any(|index| index.multi_valued.is_some()),
            indexes,
            computed,
        })
    }
}

impl Column {
    fn compile(
        info: &TableInfo,
        column: &ColumnInfo,
        source: Source,
        session: &Arc<Session>,
    ) -> Result<Column, UnsupportedType> {
        let field_type = &column.field_type;
        let cast = ColumnCast::compile(&column.name.original, &stored_type(field_type), session)?;
        let default = defaults::of(info, column, &cast, session)?;
        let random = info
            .handle_column()
            .filter(|handle| handle.id == column.id)
            .and_then(|_| Layout::auto_random(info, field_type.is_unsigned(), session.seed));
        let auto = match random {
            Some(layout) => Auto::Random(layout),
            None if field_type.has_flag(flag::AUTO_INCREMENT) => Auto::Increment,
            None => Auto::No,
        };
        let keyed_by_uca = session.new_collation
            && field_type.collate == "utf8mb4_0900_ai_ci"
            && info
                .indexes()
                .iter()
                .flat_map(|index| index.columns())
                .any(|part| part.offset == column.offset);
        Ok(Column {
            plain_field: match (source, auto) {
                (Source::Field(at), Auto::No) if !keyed_by_uca => at,
                _ => usize::MAX,
            },
            keyed_by_uca,
            name: column.name.original.clone(),
            cast,
            source,
            default,
            not_null: field_type.is_not_null(),
            auto,
            timestamp: field_type.tp == tp::TIMESTAMP,
            field_type: field_type.clone(),
        })
    }
}

pub(crate) fn decimal_shape(field_type: &FieldType) -> DecimalShape {
    match field_type.tp {
        tp::NEW_DECIMAL => crate::cast::precision_and_scale(field_type),
        _ => (0, 0),
    }
}

/// Which field each column takes. Without names, field i is column i, generated and hidden ones included.
fn sources(info: &TableInfo, names: Option<&[String]>) -> Result<Vec<Source>, Error> {
    if let Some(names) = names {
        let known = |name: &String| {
            name.eq_ignore_ascii_case(ROW_ID_COLUMN)
                || info
                    .columns()
                    .iter()
                    .any(|column| !column.hidden && column.name.lower == name.to_lowercase())
        };
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            return Err(refuse(info, format!("it has no column `{unknown}`"))
                .advice("correct the header or the column list, or list it under ignore-columns"));
        }
    }
    let field_of = |offset: usize, column: &ColumnInfo| match names {
        None => Some(offset),
        Some(names) => names
            .iter()
            .position(|name| name.to_lowercase() == column.name.lower),
    };
    let source = |(offset, column): (usize, &ColumnInfo)| {
        if column.is_generated() {
            return Source::Generated;
        }
        field_of(offset, column)
            .filter(|_| !column.hidden)
            .map_or(Source::Default, Source::Field)
    };
    Ok(info.columns().iter().enumerate().map(source).collect())
}

fn handle(info: &TableInfo, session: &Session, names: Option<&[String]>) -> Result<Handle, String> {
    if info.pk_is_handle {
        let column = info
            .handle_column()
            .ok_or("its integer primary key column is missing")?;
        return Ok(Handle::Int(column.offset));
    }
    if info.is_common_handle {
        let index = info
            .clustered_index()
            .ok_or("its clustered primary key is missing")?;
        let parts = index
            .columns()
            .iter()
            .map(|part| KeyPart::new(info, part.offset, part.length, session));
        return Ok(Handle::Common(parts.collect::<Result<_, _>>()?));
    }
    let is_row_id = |name: &String| name.eq_ignore_ascii_case(ROW_ID_COLUMN);
    let field = names.and_then(|names| names.iter().position(is_row_id));
    Ok(Handle::RowId {
        layout: Layout::row_id(info, session.seed),
        field,
    })
}

/// Columns that rows hold: not the handle unless it cannot be restored from its key, and nothing virtual.
fn stored(info: &TableInfo, session: &Session) -> Vec<StoredColumn> {
    let in_handle = |column: &ColumnInfo| {
        if info.pk_is_handle {
            return info
                .handle_column()
                .is_some_and(|handle| handle.id == column.id);
        }
        let parts = info
            .clustered_index()
            .map(|index| index.columns())
            .unwrap_or_default();
        let whole = |length: i32| length == crate::mysql::UNSPECIFIED;
        parts
            .iter()
            .any(|part| part.offset == column.offset && whole(part.length))
            && !crate::collation::needs_restored_data(&column.field_type, session.new_collation)
    };
    let is_null =
        |value: &Option<serde_json::Value>| value.as_ref().is_none_or(|value| value.is_null());
    let mut stored: Vec<StoredColumn> = info
        .columns()
        .iter()
        .filter(|column| !column.is_virtual() && !in_handle(column))
        .map(|column| StoredColumn {
            id: column.id,
            offset: column.offset,
            decimal: decimal_shape(&column.field_type),
            omit_null: is_null(&column.default) && is_null(&column.origin_default),
        })
        .collect();
    stored.sort_by_key(|column| column.id);
    stored
}

impl KeyPart {
    pub fn new(
        info: &TableInfo,
        offset: usize,
        length: i32,
        session: &Session,
    ) -> Result<KeyPart, String> {
        let column = info
            .columns()
            .get(offset)
            .ok_or("an index names a column that does not exist")?;
        let field_type = &column.field_type;
        if matches!(field_type.tp, tp::VECTOR | tp::JSON) && !field_type.array {
            return Err("a document or a vector has no place in a key".to_owned());
        }
        let sort = if field_type.array {
            SortKey::Raw
        } else {
            SortKey::new(&field_type.collate, session.new_collation)
                .map_err(|error| error.to_string())?
        };
        Ok(KeyPart {
            offset,
            prefix: Prefix::new(field_type, length),
            sort,
            decimal: decimal_shape(field_type),
        })
    }
}

impl Prefix {
    pub fn new(field_type: &FieldType, length: i32) -> Prefix {
        match usize::try_from(length) {
            Err(_) => Prefix::Whole,
            Ok(_) if !field_type.is_string() => Prefix::Whole,
            Ok(n) if matches!(field_type.charset.as_str(), "binary" | "ascii") => Prefix::Bytes(n),
            Ok(n) => Prefix::Chars(n),
        }
    }

    /// The part that the index takes.
    #[inline]
    pub fn cut<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        match *self {
            Prefix::Whole => text,
            Prefix::Bytes(n) | Prefix::Chars(n) if text.len() <= n => text,
            Prefix::Bytes(n) => &text[..n],
            Prefix::Chars(n) => crate::cast::nth_char(text, n).map_or(text, |at| &text[..at]),
        }
    }

    /// The longer of two prefixes of one column.
    pub fn longer(self, other: Prefix) -> Prefix {
        match (self, other) {
            (Prefix::Bytes(a), Prefix::Bytes(b)) => Prefix::Bytes(a.max(b)),
            (Prefix::Chars(a), Prefix::Chars(b)) => Prefix::Chars(a.max(b)),
            _ => Prefix::Whole,
        }
    }
}
