//! Numbers of MySQL's and TiDB's vocabulary: column type codes, column flags, schema states, error codes.
//! Nothing here decides anything.

/// Column type codes (`FieldType.Tp`).
pub mod tp {
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const NULL: u8 = 6;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    /// TIME.
    pub const DURATION: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const VECTOR: u8 = 225;
    pub const JSON: u8 = 245;
    pub const NEW_DECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const MEDIUM_BLOB: u8 = 250;
    pub const LONG_BLOB: u8 = 251;
    pub const BLOB: u8 = 252;
    /// Result type of string expressions; treated as VARCHAR.
    pub const VAR_STRING: u8 = 253;
    /// CHAR and BINARY.
    pub const STRING: u8 = 254;
}

/// Column flags (`FieldType.Flag`).
pub mod flag {
    pub const NOT_NULL: u32 = 1;
    pub const PRI_KEY: u32 = 1 << 1;
    pub const UNIQUE_KEY: u32 = 1 << 2;
    pub const MULTIPLE_KEY: u32 = 1 << 3;
    pub const BLOB: u32 = 1 << 4;
    pub const UNSIGNED: u32 = 1 << 5;
    pub const ZEROFILL: u32 = 1 << 6;
    pub const BINARY: u32 = 1 << 7;
    pub const ENUM: u32 = 1 << 8;
    pub const AUTO_INCREMENT: u32 = 1 << 9;
    pub const TIMESTAMP: u32 = 1 << 10;
    pub const SET: u32 = 1 << 11;
    pub const NO_DEFAULT: u32 = 1 << 12;
    pub const ON_UPDATE_NOW: u32 = 1 << 13;
}

/// Schema states (`state` of tables, columns and indexes).
pub mod state {
    pub const NONE: u8 = 0;
    pub const DELETE_ONLY: u8 = 1;
    pub const WRITE_ONLY: u8 = 2;
    pub const WRITE_REORG: u8 = 3;
    pub const DELETE_REORG: u8 = 4;
    pub const PUBLIC: u8 = 5;
}

/// Error codes that rows are rejected with.
pub mod code {
    pub const BAD_NULL: u16 = 1048;
    pub const DUP_ENTRY: u16 = 1062;
    pub const OUT_OF_RANGE: u16 = 1264;
    pub const DATA_TRUNCATED: u16 = 1265;
    pub const TRUNCATED_WRONG_VALUE: u16 = 1292;
    pub const NO_DEFAULT: u16 = 1364;
    pub const WRONG_VALUE_FOR_FIELD: u16 = 1366;
    pub const DATA_TOO_LONG: u16 = 1406;
    /// What the server says where it has no code of its own.
    pub const UNKNOWN_ERROR: u16 = 1105;
    pub const NO_PARTITION: u16 = 1526;
    pub const DATA_OUT_OF_RANGE: u16 = 1690;
    pub const INVALID_JSON_TEXT: u16 = 3140;
    pub const INVALID_JSON_CHARSET: u16 = 3144;
    pub const JSON_TOO_DEEP: u16 = 3157;
    pub const CHECK_VIOLATED: u16 = 3819;
    pub const JSON_KEY_TOO_LONG: u16 = 8129;
    pub const DST_GAP: u16 = 8179;
}

/// `Flen`/`Decimal` of a type without one.
pub const UNSPECIFIED: i32 = -1;
