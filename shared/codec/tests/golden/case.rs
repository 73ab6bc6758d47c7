//! A golden case as it is written.

use serde::Deserialize;
use thunderhead_codec::schema::TableInfo;

#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    pub sql_mode: String,
    pub time_zone: String,
    pub ddl: Vec<String>,
    pub columns: Option<Vec<String>>,
    pub table_info: TableInfo,
    pub rows: Vec<Row>,
    pub kvs: Vec<Kv>,
    pub checksum: Checksum,
}

#[derive(Deserialize)]
pub struct Row {
    pub fields: Vec<Value>,
    pub error_code: Option<u16>,
    pub error: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub enum Value {
    Null,
    Text(String),
    Hex { hex: String },
    Sql { sql: String },
}

#[derive(Deserialize)]
pub struct Kv {
    pub k: String,
    pub v: String,
}

#[derive(Deserialize)]
pub struct Checksum {
    pub crc64_xor: u64,
    pub total_kvs: u64,
    pub total_bytes: u64,
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .map(|byte| char::from(byte).to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A field that owns its bytes.
pub enum Owned {
    Null,
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Int(i64),
    UInt(u64),
}

impl Value {
    pub fn owned(&self) -> Owned {
        match self {
            Value::Null => Owned::Null,
            Value::Text(text) => Owned::Text(text.clone().into_bytes()),
            Value::Hex { hex } => Owned::Binary(unhex(hex)),
            Value::Sql { sql } => literal(sql.trim()),
        }
    }
}

/// A SQL literal: NULL, TRUE, FALSE, a number, `b'…'`, `x'…'`, `'…'`.
fn literal(sql: &str) -> Owned {
    let quoted = |prefixes: [&str; 2]| {
        prefixes
            .iter()
            .find_map(|prefix| sql.strip_prefix(prefix)?.strip_suffix('\''))
    };
    if let Some(bits) = quoted(["b'", "B'"]) {
        let padded = format!("{}{bits}", "0".repeat((8 - bits.len() % 8) % 8));
        let byte = |chunk: &[u8]| chunk.iter().fold(0, |v, bit| v << 1 | (bit - b'0'));
        return Owned::Binary(padded.as_bytes().chunks(8).map(byte).collect());
    }
    if let Some(digits) = quoted(["x'", "X'"]).or_else(|| sql.strip_prefix("0x")) {
        let even = if digits.len() % 2 == 1 {
            format!("0{digits}")
        } else {
            digits.to_owned()
        };
        return Owned::Binary(unhex(&even));
    }
    match sql.to_ascii_lowercase().as_str() {
        "null" => return Owned::Null,
        "true" => return Owned::UInt(1),
        "false" => return Owned::UInt(0),
        _ => {}
    }
    // The server's integers are signed as long as they fit.
    if let Ok(v) = sql.parse() {
        return Owned::Int(v);
    }
    if let Ok(v) = sql.parse() {
        return Owned::UInt(v);
    }
    // A typed literal reads like its text.
    let typed = ["date", "timestamp", "time"];
    let prefix = typed.iter().find_map(|kind| sql.strip_prefix(kind));
    let sql = prefix.map_or(sql, str::trim);
    let inner = sql
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''));
    Owned::Text(inner.unwrap_or(sql).replace("''", "'").into_bytes())
}

/// Rows that the DDL inserted before the case's own: the literals of `insert into t … values (…),(…)`.
pub fn prior_rows(ddl: &[String]) -> Vec<Vec<Owned>> {
    let values = |statement: &String| {
        let lower = statement.to_ascii_lowercase();
        let at = lower
            .starts_with("insert")
            .then(|| lower.find("values"))??;
        let body = statement[at..].split_once('(')?.1.rsplit_once(')')?.0;
        let row = |text: &str| {
            text.split(',')
                .map(|value| literal(value.trim()))
                .collect::<Vec<_>>()
        };
        Some(
            body.split("),")
                .map(|text| row(text.trim().trim_start_matches('(')))
                .collect::<Vec<_>>(),
        )
    };
    ddl.iter().filter_map(values).flatten().collect()
}
