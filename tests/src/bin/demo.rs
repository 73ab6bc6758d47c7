//! `make demo`: the main job on the embedded cluster with real data. Starts a sandbox, generates TPC-H,
//! creates the tables through a MySQL client, imports them with the command a user would type, checks
//! every index against every row and reads the result back through the client.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use thunderhead_tests::process::{Sandbox, binary};
use thunderhead_tests::tpch;

const QUERIES: [(&str, &str); 4] = [
    (
        "rows of the largest table",
        "SELECT COUNT(*) AS lineitems, SUM(l_quantity) AS quantity FROM lineitem",
    ),
    (
        "one order by its primary key",
        "SELECT o_orderkey, o_custkey, o_totalprice, o_orderdate, o_orderpriority FROM orders WHERE o_orderkey = 7",
    ),
    (
        "pricing summary (TPC-H Q1)",
        "SELECT l_returnflag, l_linestatus, SUM(l_quantity) AS qty, SUM(l_extendedprice) AS price, COUNT(*) AS n \
         FROM lineitem WHERE l_shipdate <= '1998-09-02' GROUP BY l_returnflag, l_linestatus ORDER BY 1, 2",
    ),
    (
        "suppliers by nation",
        "SELECT n_name, COUNT(*) AS suppliers FROM supplier JOIN nation ON s_nationkey = n_nationkey \
         GROUP BY n_name ORDER BY suppliers DESC, n_name LIMIT 5",
    ),
];

fn main() -> ExitCode {
    match scale().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn scale() -> io::Result<f64> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => Ok(0.1),
        [flag, value] if flag == "--scale" => value
            .parse()
            .ok()
            .filter(|scale| *scale > 0.0)
            .ok_or_else(|| io::Error::other(format!("--scale {value}: not a positive number"))),
        _ => Err(io::Error::other("usage: demo [--scale FACTOR]")),
    }
}

fn run(scale: f64) -> io::Result<()> {
    let start = Instant::now();
    let dir = std::env::current_dir()?.join(".demo");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    step("start an embedded cluster: PD, three TiKV stores, a MySQL port");
    let sandbox = Sandbox::start(&dir.join("sandbox"), &[])?;
    let client = Client {
        port: sandbox.sql_port,
    };

    step(&format!(
        "generate TPC-H at scale {scale}: eight tables as CSV"
    ));
    let data = dir.join("data");
    for table in tpch::generate(&data, scale, &[])? {
        println!(
            "  {:<10} {:>9} rows {:>12} bytes",
            table.table, table.rows, table.bytes
        );
    }

    step("create the tables through the MySQL client");
    let mut schema = format!("CREATE DATABASE {0}; USE {0};\n", tpch::DATABASE);
    for (_, ddl) in tpch::TABLES {
        schema.push_str(ddl);
        schema.push_str(";\n");
    }
    client.run(None, &schema)?;

    let config = dir.join("lightning.toml");
    let report = dir.join("report.json");
    std::fs::write(
        &config,
        lightning_toml(&sandbox, &data, &dir.join("sorted-kv")),
    )?;
    step("import: thunderhead import --config .demo/lightning.toml");
    let status = Command::new(binary())
        .args(["import", "--config"])
        .arg(&config)
        .arg("--report-file")
        .arg(&report)
        .stdin(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("the import ended with {status}")));
    }

    step("ADMIN CHECK TABLE: decode every index entry against its row, and back");
    let checking = Instant::now();
    for (table, _) in tpch::TABLES {
        client.run(Some(tpch::DATABASE), &format!("ADMIN CHECK TABLE {table}"))?;
    }
    println!(
        "  eight tables consistent ({:.1} s)",
        checking.elapsed().as_secs_f64()
    );

    for (title, query) in QUERIES {
        step(title);
        println!("  {query}");
        print!("{}", client.run(Some(tpch::DATABASE), query)?);
    }
    println!("\ndone in {}", human(start.elapsed()));
    println!(
        "\nTry next:\n  \
         target/release/thunderhead sandbox --data-dir .demo/sandbox        # the same cluster, on ports 2379, 4000 and 10080\n  \
         mariadb --protocol=tcp -h 127.0.0.1 -P 4000 -u root tpch           # query what was imported\n  \
         make demo SCALE=1                                                   # ten times the data, same memory"
    );
    Ok(())
}

fn lightning_toml(sandbox: &Sandbox, data: &Path, sorted: &Path) -> String {
    format!(
        "# A TiDB Lightning configuration, as thunderhead reads it.\n\
         [tikv-importer]\nbackend = \"local\"\nsorted-kv-dir = {sorted:?}\n\n\
         [mydumper]\ndata-source-dir = {data:?}\n\n\
         [mydumper.csv]\nheader = true\n\n{}",
        sandbox.tidb_section()
    )
}

/// Debian's MySQL client, the way a user would call it.
struct Client {
    port: u16,
}

impl Client {
    fn run(&self, database: Option<&str>, sql: &str) -> io::Result<String> {
        let mut command = Command::new("mariadb");
        command
            .args([
                "--protocol=tcp",
                "--host=127.0.0.1",
                "--user=root",
                "--table",
            ])
            .arg(format!("--port={}", self.port));
        let mut child = command
            .args(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(sql.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(io::Error::other(format!(
            "mariadb: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )))
    }
}

fn step(what: &str) {
    println!("\n== {what}");
}

fn human(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}
