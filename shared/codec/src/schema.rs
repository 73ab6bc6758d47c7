//! TiDB's table model, in the JSON form of the status port and of the meta key `Table:<id>`. Reading and
//! writing keep TiDB's field order and its difference between `null` and `[]`, so that a model made here
//! can be served in TiDB's place. Holds no behaviour beyond small questions about a column or an index.

use crate::mysql::{UNSPECIFIED, flag, tp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A name as written and in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    #[serde(rename = "O")]
    pub original: String,
    #[serde(rename = "L")]
    pub lower: String,
}

impl Name {
    /// Both forms from the written one.
    pub fn new(original: impl Into<String>) -> Self {
        let original = original.into();
        Self {
            lower: original.to_lowercase(),
            original,
        }
    }
}

/// A value of Go's `struct{}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Bytes as Go writes `[]byte`: base64 text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        to.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = String::deserialize(from)?;
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .map(Base64)
            .map_err(serde::de::Error::custom)
    }
}

/// Type of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FieldType {
    #[serde(rename = "Tp")]
    pub tp: u8,
    #[serde(rename = "Flag")]
    pub flag: u32,
    /// Display width, digits or characters; -1 = unspecified.
    #[serde(rename = "Flen")]
    pub flen: i64,
    /// Scale of numbers, fractional digits of seconds; -1 = unspecified.
    #[serde(rename = "Decimal")]
    pub decimal: i32,
    #[serde(rename = "Charset")]
    pub charset: String,
    #[serde(rename = "Collate")]
    pub collate: String,
    #[serde(rename = "Elems")]
    pub elems: Option<Vec<String>>,
    #[serde(rename = "ElemsIsBinaryLit")]
    pub elems_is_binary_lit: Option<Vec<bool>>,
    #[serde(rename = "Array")]
    pub array: bool,
}

impl Default for FieldType {
    fn default() -> Self {
        Self {
            tp: 0,
            flag: 0,
            flen: i64::from(UNSPECIFIED),
            decimal: UNSPECIFIED,
            charset: String::new(),
            collate: String::new(),
            elems: None,
            elems_is_binary_lit: None,
            array: false,
        }
    }
}

impl FieldType {
    pub fn has_flag(&self, flag: u32) -> bool {
        self.flag & flag != 0
    }

    pub fn is_unsigned(&self) -> bool {
        self.has_flag(flag::UNSIGNED)
    }

    pub fn is_not_null(&self) -> bool {
        self.has_flag(flag::NOT_NULL)
    }

    /// TINYINT to BIGINT; YEAR is not one.
    pub fn is_integer(&self) -> bool {
        matches!(
            self.tp,
            tp::TINY | tp::SHORT | tp::INT24 | tp::LONG | tp::LONGLONG
        )
    }

    /// CHAR, VARCHAR, TEXT, BINARY, VARBINARY or BLOB.
    pub fn is_string(&self) -> bool {
        matches!(
            self.tp,
            tp::VARCHAR
                | tp::VAR_STRING
                | tp::STRING
                | tp::TINY_BLOB
                | tp::BLOB
                | tp::MEDIUM_BLOB
                | tp::LONG_BLOB
        )
    }

    /// VARCHAR or VARBINARY, and string results of expressions.
    pub fn is_varchar(&self) -> bool {
        matches!(self.tp, tp::VARCHAR | tp::VAR_STRING)
    }

    /// TEXT or BLOB of any size.
    pub fn is_blob(&self) -> bool {
        matches!(
            self.tp,
            tp::TINY_BLOB | tp::BLOB | tp::MEDIUM_BLOB | tp::LONG_BLOB
        )
    }

    /// Whether text is bytes here. Decided by the charset, not by the type code or the BINARY flag.
    pub fn is_binary(&self) -> bool {
        self.charset == "binary"
    }

    /// Fractional digits of a temporal type.
    pub fn fsp(&self) -> u8 {
        self.decimal.clamp(0, 6) as u8
    }

    /// Elements of ENUM and SET, as the model has them.
    pub fn elems(&self) -> &[String] {
        self.elems.as_deref().unwrap_or_default()
    }

    /// Bytes of element `at`: what a column of charset binary had written as a literal is in hexadecimal.
    /// `None` where there is no such element or its digits are wrong.
    pub fn elem_bytes(&self, at: usize) -> Option<Cow<'_, [u8]>> {
        let text = self.elems().get(at)?;
        let literal = self
            .elems_is_binary_lit
            .as_ref()
            .and_then(|is| is.get(at))
            .is_some_and(|is| *is);
        if !literal || !self.is_binary() {
            return Some(Cow::Borrowed(text.as_bytes()));
        }
        if text.len() % 2 == 1 || !text.is_ascii() {
            return None;
        }
        let bytes = (0..text.len()).step_by(2);
        bytes
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
            .collect::<Option<Vec<u8>>>()
            .map(Cow::Owned)
    }
}

/// A column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ColumnInfo {
    pub id: i64,
    pub name: Name,
    pub offset: usize,
    /// What rows older than the column have in it; set only for columns that were added later.
    pub origin_default: Option<Value>,
    pub origin_default_bit: Option<Base64>,
    pub default: Option<Value>,
    pub default_bit: Option<Base64>,
    pub default_is_expr: bool,
    pub generated_expr_string: String,
    pub generated_stored: bool,
    pub dependences: Option<BTreeMap<String, Empty>>,
    #[serde(rename = "type")]
    pub field_type: FieldType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changing_type: Option<Value>,
    pub state: u8,
    pub comment: String,
    pub hidden: bool,
    pub change_state_info: Option<Value>,
    pub version: u64,
}

impl ColumnInfo {
    pub fn is_generated(&self) -> bool {
        !self.generated_expr_string.is_empty()
    }

    pub fn is_virtual(&self) -> bool {
        self.is_generated() && !self.generated_stored
    }
}

/// A column of an index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IndexColumn {
    pub name: Name,
    /// Offset into the table's columns.
    pub offset: usize,
    /// Prefix length; -1 = whole value.
    pub length: i32,
    #[serde(skip_serializing_if = "is_false")]
    pub using_changing_type: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// An index. The primary key of a table with an integer handle has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IndexInfo {
    pub id: i64,
    pub idx_name: Name,
    pub tbl_name: Name,
    pub idx_cols: Option<Vec<IndexColumn>>,
    pub state: u8,
    pub backfill_state: u8,
    pub comment: String,
    pub index_type: u8,
    pub is_unique: bool,
    pub is_primary: bool,
    pub is_invisible: bool,
    pub is_global: bool,
    pub mv_index: bool,
    pub vector_index: Option<Value>,
    pub inverted_index: Option<Value>,
    pub full_text_index: Option<Value>,
    pub condition_expr_string: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affect_column: Option<Value>,
    #[serde(skip_serializing_if = "is_zero")]
    pub global_index_version: u64,
}

impl IndexInfo {
    pub fn columns(&self) -> &[IndexColumn] {
        self.idx_cols.as_deref().unwrap_or_default()
    }

    /// Kept by TiFlash, not by TiKV.
    pub fn is_columnar(&self) -> bool {
        self.vector_index.is_some()
            || self.inverted_index.is_some()
            || self.full_text_index.is_some()
    }
}

/// A CHECK constraint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConstraintInfo {
    pub id: i64,
    pub constraint_name: Name,
    pub tbl_name: Name,
    pub constraint_cols: Option<Vec<Name>>,
    pub enforced: bool,
    pub in_column: bool,
    pub expr_string: String,
    pub state: u8,
}

/// One partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionDefinition {
    pub id: i64,
    pub name: Name,
    pub less_than: Option<Vec<String>>,
    pub in_values: Option<Vec<Vec<String>>>,
    pub policy_ref_info: Option<Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// `PartitionInfo.partition_type`.
pub mod partition_type {
    pub const RANGE: u8 = 1;
    pub const HASH: u8 = 2;
    pub const LIST: u8 = 3;
    pub const KEY: u8 = 4;
}

/// How a table is partitioned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionInfo {
    #[serde(rename = "type")]
    pub partition_type: u8,
    pub expr: String,
    pub columns: Option<Vec<Name>>,
    pub enable: bool,
    pub is_empty_columns: bool,
    pub definitions: Option<Vec<PartitionDefinition>>,
    pub adding_definitions: Option<Vec<PartitionDefinition>>,
    pub dropping_definitions: Option<Vec<PartitionDefinition>>,
    pub states: Option<Value>,
    pub num: u64,
    pub ddl_state: u8,
}

impl PartitionInfo {
    pub fn definitions(&self) -> &[PartitionDefinition] {
        self.definitions.as_deref().unwrap_or_default()
    }

    pub fn columns(&self) -> &[Name] {
        self.columns.as_deref().unwrap_or_default()
    }
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableInfo {
    pub id: i64,
    pub name: Name,
    pub charset: String,
    pub collate: String,
    pub cols: Option<Vec<ColumnInfo>>,
    pub index_info: Option<Vec<IndexInfo>>,
    pub constraint_info: Option<Vec<ConstraintInfo>>,
    pub fk_info: Option<Value>,
    pub state: u8,
    pub pk_is_handle: bool,
    pub is_common_handle: bool,
    pub common_handle_version: u16,
    pub comment: String,
    pub auto_inc_id: i64,
    pub auto_id_cache: i64,
    pub auto_rand_id: i64,
    pub max_col_id: i64,
    pub max_idx_id: i64,
    pub max_fk_id: i64,
    pub max_cst_id: i64,
    pub update_timestamp: u64,
    #[serde(rename = "ShardRowIDBits")]
    pub shard_row_id_bits: u64,
    pub max_shard_row_id_bits: u64,
    pub auto_random_bits: u64,
    pub auto_random_range_bits: u64,
    pub pre_split_regions: u64,
    pub partition: Option<PartitionInfo>,
    pub compression: String,
    pub view: Option<Value>,
    pub sequence: Option<Value>,
    #[serde(rename = "Lock")]
    pub lock: Option<Value>,
    pub version: u16,
    pub tiflash_replica: Option<Value>,
    pub is_columnar: bool,
    pub temp_table_type: u8,
    pub cache_table_status: u8,
    pub policy_ref_info: Option<Value>,
    pub stats_options: Option<Value>,
    pub exchange_partition_info: Option<Value>,
    pub ttl_info: Option<Value>,
    #[serde(skip_serializing_if = "is_false")]
    pub is_active_active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub softdelete_info: Option<Value>,
    pub revision: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: u64,
    /// Database id under which the table's counters live, when it was moved by RENAME.
    #[serde(skip_serializing_if = "is_zero")]
    pub old_schema_id: u64,
}

impl TableInfo {
    pub fn columns(&self) -> &[ColumnInfo] {
        self.cols.as_deref().unwrap_or_default()
    }

    pub fn indexes(&self) -> &[IndexInfo] {
        self.index_info.as_deref().unwrap_or_default()
    }

    /// The partitioning in force.
    pub fn partitioning(&self) -> Option<&PartitionInfo> {
        self.partition.as_ref().filter(|p| p.enable)
    }

    /// Ids that own keys: those that own records, and the table's where entries of global indexes lie.
    pub fn key_space_ids(&self) -> Vec<i64> {
        let mut ids = self.physical_ids();
        if !ids.contains(&self.id) && self.indexes().iter().any(|index| index.is_global) {
            ids.push(self.id);
        }
        ids.sort_unstable();
        ids
    }

    /// Ids that own records: the partitions, or the table itself.
    pub fn physical_ids(&self) -> Vec<i64> {
        match self.partitioning() {
            Some(partition) => partition.definitions().iter().map(|d| d.id).collect(),
            None => vec![self.id],
        }
    }

    /// The index that is the clustered primary key of a table with a common handle.
    pub fn clustered_index(&self) -> Option<&IndexInfo> {
        self.is_common_handle
            .then(|| self.indexes().iter().find(|i| i.is_primary))
            .flatten()
    }

    /// The integer primary key that is the handle.
    pub fn handle_column(&self) -> Option<&ColumnInfo> {
        self.pk_is_handle
            .then(|| {
                self.columns()
                    .iter()
                    .find(|c| c.field_type.has_flag(flag::PRI_KEY))
            })
            .flatten()
    }

    /// Whether rows are known by `_tidb_rowid`.
    pub fn has_row_id(&self) -> bool {
        !self.pk_is_handle && !self.is_common_handle
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
