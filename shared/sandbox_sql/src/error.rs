//! Errors as a MySQL client sees them: code, SQLSTATE, text.

use crate::engine::CommitError;
use std::fmt;

/// Error codes this crate answers with, beside those the codec rejects rows with.
pub mod code {
    pub const CANNOT_CREATE_DB_EXISTS: u16 = 1007;
    pub const DROP_DB_MISSING: u16 = 1008;
    pub const ACCESS_DENIED: u16 = 1045;
    pub const NO_DB: u16 = 1046;
    pub const UNKNOWN_COMMAND: u16 = 1047;
    pub const UNKNOWN_DB: u16 = 1049;
    pub const TABLE_EXISTS: u16 = 1050;
    pub const BAD_TABLE: u16 = 1051;
    pub const BAD_FIELD: u16 = 1054;
    pub const DUP_FIELD: u16 = 1060;
    pub const DUP_KEY_NAME: u16 = 1061;
    pub const DUP_ENTRY: u16 = 1062;
    pub const PARSE: u16 = 1064;
    pub const INVALID_DEFAULT: u16 = 1067;
    pub const MULTIPLE_PRI_KEY: u16 = 1068;
    pub const KEY_COLUMN_MISSING: u16 = 1072;
    pub const WRONG_AUTO_KEY: u16 = 1075;
    pub const CANT_DROP: u16 = 1091;
    pub const UNKNOWN: u16 = 1105;
    pub const FIELD_SPECIFIED_TWICE: u16 = 1110;
    pub const UNKNOWN_CHARSET: u16 = 1115;
    pub const WRONG_VALUE_COUNT: u16 = 1136;
    pub const NO_SUCH_TABLE: u16 = 1146;
    pub const BLOB_KEY_WITHOUT_LENGTH: u16 = 1170;
    pub const UNKNOWN_SYSTEM_VARIABLE: u16 = 1193;
    pub const NOT_SUPPORTED: u16 = 1235;
    pub const UNKNOWN_COLLATION: u16 = 1273;
    pub const UNKNOWN_STMT: u16 = 1243;
    pub const QUERY_INTERRUPTED: u16 = 1317;
    pub const PACKET_TOO_LARGE: u16 = 1153;
    pub const DATA_INCONSISTENT: u16 = 8223;
    pub const ADMIN_CHECK_TABLE: u16 = 8003;
    pub const WRITE_CONFLICT: u16 = 9007;
}

/// What a statement fails with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    pub code: u16,
    pub message: String,
}

/// `Result` with [`SqlError`].
pub type SqlResult<T> = Result<T, SqlError>;

impl SqlError {
    pub fn new(code: u16, message: impl fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }

    /// A statement this sandbox does not understand.
    pub fn syntax(near: impl fmt::Display) -> Self {
        Self::new(
            code::PARSE,
            format!(
                "You have an error in your SQL syntax; check the manual that corresponds to your TiDB version for the right syntax to use near '{near}'"
            ),
        )
    }

    /// Understood, but outside what this sandbox does.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(
            code::NOT_SUPPORTED,
            format!("This sandbox does not support {what}"),
        )
    }

    pub fn no_such_table(db: &str, table: &str) -> Self {
        Self::new(
            code::NO_SUCH_TABLE,
            format!("Table '{db}.{table}' doesn't exist"),
        )
    }

    pub fn unknown_db(db: &str) -> Self {
        Self::new(code::UNKNOWN_DB, format!("Unknown database '{db}'"))
    }

    pub fn unknown_column(column: &str, place: &str) -> Self {
        Self::new(
            code::BAD_FIELD,
            format!("Unknown column '{column}' in '{place}'"),
        )
    }

    /// The five characters MySQL sends beside the code.
    pub fn sqlstate(&self) -> &'static str {
        match self.code {
            1045 => "28000",
            1046 => "3D000",
            1044 | 1049 => "42000",
            1050 => "42S01",
            1051 | 1146 => "42S02",
            1054 => "42S22",
            1060 => "42S21",
            1048 | 1062 => "23000",
            1136 => "21S01",
            1064 | 1061 | 1067 | 1068 | 1072 | 1075 | 1091 | 1110 | 1115 | 1170 | 1193 | 1235 => {
                "42000"
            }
            1264 | 1690 => "22003",
            1292 => "22007",
            1406 => "22001",
            3140 => "22032",
            1047 | 1153 => "08S01",
            _ => "HY000",
        }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code, self.sqlstate(), self.message)
    }
}

impl std::error::Error for SqlError {}

impl From<thunderhead_types::Error> for SqlError {
    fn from(error: thunderhead_types::Error) -> Self {
        Self::new(code::UNKNOWN, error)
    }
}

impl From<CommitError> for SqlError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::new(
                code::WRITE_CONFLICT,
                "Write conflict, please retry the transaction [try again later]",
            ),
            CommitError::Failed(error) => error.into(),
        }
    }
}
