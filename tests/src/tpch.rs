//! TPC-H as the data set of the demo, the benches and the large tests: the eight tables as CSV files in
//! the layout of a Dumpling export, with the primary and secondary indexes a real schema would have.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tpchgen::csv::{
    CustomerCsv, LineItemCsv, NationCsv, OrderCsv, PartCsv, PartSuppCsv, RegionCsv, SupplierCsv,
};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};

/// Database name of the data set.
pub const DATABASE: &str = "tpch";

/// Table names with their DDL. Secondary indexes: unique and non-unique, single and composite, on the
/// three large tables.
pub const TABLES: [(&str, &str); 8] = [
    (
        "region",
        "CREATE TABLE region (r_regionkey BIGINT NOT NULL PRIMARY KEY CLUSTERED, r_name CHAR(25) NOT NULL, r_comment VARCHAR(152))",
    ),
    (
        "nation",
        "CREATE TABLE nation (n_nationkey BIGINT NOT NULL PRIMARY KEY CLUSTERED, n_name CHAR(25) NOT NULL, n_regionkey BIGINT NOT NULL, n_comment VARCHAR(152), KEY n_region (n_regionkey))",
    ),
    (
        "supplier",
        "CREATE TABLE supplier (s_suppkey BIGINT NOT NULL PRIMARY KEY CLUSTERED, s_name CHAR(25) NOT NULL, s_address VARCHAR(40) NOT NULL, s_nationkey BIGINT NOT NULL, s_phone CHAR(15) NOT NULL, s_acctbal DECIMAL(15,2) NOT NULL, s_comment VARCHAR(101) NOT NULL)",
    ),
    (
        "customer",
        "CREATE TABLE customer (c_custkey BIGINT NOT NULL PRIMARY KEY CLUSTERED, c_name VARCHAR(25) NOT NULL, c_address VARCHAR(40) NOT NULL, c_nationkey BIGINT NOT NULL, c_phone CHAR(15) NOT NULL, c_acctbal DECIMAL(15,2) NOT NULL, c_mktsegment CHAR(10) NOT NULL, c_comment VARCHAR(117) NOT NULL)",
    ),
    (
        "part",
        "CREATE TABLE part (p_partkey BIGINT NOT NULL PRIMARY KEY CLUSTERED, p_name VARCHAR(55) NOT NULL, p_mfgr CHAR(25) NOT NULL, p_brand CHAR(10) NOT NULL, p_type VARCHAR(25) NOT NULL, p_size INT NOT NULL, p_container CHAR(10) NOT NULL, p_retailprice DECIMAL(15,2) NOT NULL, p_comment VARCHAR(23) NOT NULL)",
    ),
    (
        "partsupp",
        "CREATE TABLE partsupp (ps_partkey BIGINT NOT NULL, ps_suppkey BIGINT NOT NULL, ps_availqty INT NOT NULL, ps_supplycost DECIMAL(15,2) NOT NULL, ps_comment VARCHAR(199) NOT NULL, PRIMARY KEY (ps_partkey, ps_suppkey) CLUSTERED, UNIQUE KEY ps_reverse (ps_suppkey, ps_partkey), KEY ps_cost (ps_supplycost))",
    ),
    (
        "orders",
        "CREATE TABLE orders (o_orderkey BIGINT NOT NULL PRIMARY KEY CLUSTERED, o_custkey BIGINT NOT NULL, o_orderstatus CHAR(1) NOT NULL, o_totalprice DECIMAL(15,2) NOT NULL, o_orderdate DATE NOT NULL, o_orderpriority CHAR(15) NOT NULL, o_clerk CHAR(15) NOT NULL, o_shippriority INT NOT NULL, o_comment VARCHAR(79) NOT NULL, UNIQUE KEY o_customer (o_custkey, o_orderkey), KEY o_date (o_orderdate))",
    ),
    (
        "lineitem",
        "CREATE TABLE lineitem (l_orderkey BIGINT NOT NULL, l_partkey BIGINT NOT NULL, l_suppkey BIGINT NOT NULL, l_linenumber INT NOT NULL, l_quantity DECIMAL(15,2) NOT NULL, l_extendedprice DECIMAL(15,2) NOT NULL, l_discount DECIMAL(15,2) NOT NULL, l_tax DECIMAL(15,2) NOT NULL, l_returnflag CHAR(1) NOT NULL, l_linestatus CHAR(1) NOT NULL, l_shipdate DATE NOT NULL, l_commitdate DATE NOT NULL, l_receiptdate DATE NOT NULL, l_shipinstruct CHAR(25) NOT NULL, l_shipmode CHAR(10) NOT NULL, l_comment VARCHAR(44) NOT NULL, PRIMARY KEY (l_orderkey, l_linenumber) CLUSTERED, UNIQUE KEY l_part_order (l_partkey, l_suppkey, l_orderkey, l_linenumber), KEY l_shipdate (l_shipdate))",
    ),
];

/// What was written of a table.
#[derive(Debug, Clone)]
pub struct Generated {
    /// Table name.
    pub table: &'static str,
    /// The CSV file, with a header line.
    pub path: PathBuf,
    /// Data rows.
    pub rows: u64,
    /// File size, bytes.
    pub bytes: u64,
}

/// Writes `tables` (all eight when empty) at `scale` into `dir` as `tpch.TABLE.csv`.
pub fn generate(dir: &Path, scale: f64, tables: &[&str]) -> io::Result<Vec<Generated>> {
    std::fs::create_dir_all(dir)?;
    let mut generated = Vec::new();
    for (table, _) in TABLES {
        if !tables.is_empty() && !tables.contains(&table) {
            continue;
        }
        let path = dir.join(format!("{DATABASE}.{table}.csv"));
        let rows = match table {
            "region" => write_rows(
                &path,
                RegionCsv::header(),
                RegionGenerator::new(scale, 1, 1).iter().map(RegionCsv::new),
            ),
            "nation" => write_rows(
                &path,
                NationCsv::header(),
                NationGenerator::new(scale, 1, 1).iter().map(NationCsv::new),
            ),
            "supplier" => write_rows(
                &path,
                SupplierCsv::header(),
                SupplierGenerator::new(scale, 1, 1)
                    .iter()
                    .map(SupplierCsv::new),
            ),
            "customer" => write_rows(
                &path,
                CustomerCsv::header(),
                CustomerGenerator::new(scale, 1, 1)
                    .iter()
                    .map(CustomerCsv::new),
            ),
            "part" => write_rows(
                &path,
                PartCsv::header(),
                PartGenerator::new(scale, 1, 1).iter().map(PartCsv::new),
            ),
            "partsupp" => write_rows(
                &path,
                PartSuppCsv::header(),
                PartSuppGenerator::new(scale, 1, 1)
                    .iter()
                    .map(PartSuppCsv::new),
            ),
            "orders" => write_rows(
                &path,
                OrderCsv::header(),
                OrderGenerator::new(scale, 1, 1).iter().map(OrderCsv::new),
            ),
            _ => write_rows(
                &path,
                LineItemCsv::header(),
                LineItemGenerator::new(scale, 1, 1)
                    .iter()
                    .map(LineItemCsv::new),
            ),
        }?;
        let bytes = std::fs::metadata(&path)?.len();
        generated.push(Generated {
            table,
            path,
            rows,
            bytes,
        });
    }
    Ok(generated)
}

fn write_rows<R: Display>(
    path: &Path,
    header: &str,
    rows: impl Iterator<Item = R>,
) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    writeln!(out, "{header}")?;
    let mut count = 0;
    for row in rows {
        writeln!(out, "{row}")?;
        count += 1;
    }
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()?;
    Ok(count)
}
