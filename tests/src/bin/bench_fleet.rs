//! `make bench-fleet`: TPC-H lineitem by one process, then by fleets of one, two and four agents on this machine.
//! What counts is CPU time: all processes share the same cores, so more agents cannot be faster here. `bench_fleet SCALE
//! ROUNDS`, 0.5 and 3 unless told otherwise, takes turns and keeps the cheapest run of each, which is the one that was
//! disturbed least.

use std::io;
use std::process::ExitCode;
use thunderhead_tests::fleet::Fleet;
use thunderhead_tests::import::Bench;
use thunderhead_tests::process::{cpu_seconds, peak_rss};
use thunderhead_tests::tpch;

const FLEETS: [usize; 3] = [1, 2, 4];

fn main() -> ExitCode {
    let scale = std::env::args()
        .nth(1)
        .map_or(Ok(0.5), |text| text.parse::<f64>());
    let rounds = std::env::args()
        .nth(2)
        .map_or(Ok(3), |text| text.parse::<usize>());
    let done = scale.map_err(io::Error::other).and_then(|scale| {
        let rounds = rounds.map_err(io::Error::other)?;
        run(scale, rounds)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_fleet: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What an import cost.
struct Cost {
    name: String,
    seconds: f64,
    cpu_seconds: f64,
    coordinator_cpu_seconds: f64,
    peak_rss_bytes: u64,
}

fn run(scale: f64, rounds: usize) -> io::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let data = tempfile::tempdir()?;
    let file = tpch::generate(data.path(), scale, &["lineitem"])?.remove(0);
    let gb = file.bytes as f64 / 1e9;
    println!(
        "TPC-H lineitem, scale {scale}: {:.0} MB of CSV, three key-value pairs a row",
        gb * 1e3
    );
    println!(
        "{:<16} {:>8} {:>12} {:>12} {:>12} {:>14}",
        "", "seconds", "CPU s/GB", "overhead", "leader CPU s", "peak RSS MiB"
    );
    let mut best: Vec<Cost> = Vec::new();
    for _ in 0..rounds.max(1) {
        let mut costs = vec![single(&runtime, &file)?];
        for agents in FLEETS {
            costs.push(fleet(&runtime, &file, agents)?);
        }
        if best.is_empty() {
            best = costs;
            continue;
        }
        for (best, cost) in best.iter_mut().zip(costs) {
            if cost.cpu_seconds < best.cpu_seconds {
                *best = cost;
            }
        }
    }
    for cost in &best {
        print(cost, &best[0], gb);
    }
    Ok(())
}

fn print(cost: &Cost, single: &Cost, gb: f64) {
    println!(
        "{:<16} {:>8.1} {:>12.1} {:>11.1}% {:>12.2} {:>14.0}",
        cost.name,
        cost.seconds,
        cost.cpu_seconds / gb,
        (cost.cpu_seconds / single.cpu_seconds - 1.0) * 100.0,
        cost.coordinator_cpu_seconds,
        cost.peak_rss_bytes as f64 / f64::from(1 << 20),
    );
}

/// A cluster with the empty table, and the file as its source.
fn bench(runtime: &tokio::runtime::Runtime, file: &tpch::Generated) -> io::Result<Bench> {
    let bench = Bench::start(&[]);
    let ddl = tpch::TABLES
        .iter()
        .find(|(table, _)| *table == "lineitem")
        .map_or("", |(_, ddl)| ddl);
    runtime.block_on(bench.sql(&[
        "CREATE DATABASE tpch",
        &ddl.replace("CREATE TABLE ", "CREATE TABLE tpch."),
    ]));
    std::fs::hard_link(&file.path, bench.path("data/tpch.lineitem.csv"))?;
    Ok(bench)
}

fn single(runtime: &tokio::runtime::Runtime, file: &tpch::Generated) -> io::Result<Cost> {
    let bench = bench(runtime, file)?;
    let report = bench.path("report.json");
    let outcome = bench.import(&["--no-progress", "--report-file", &report.to_string_lossy()]);
    if outcome.code != 0 {
        return Err(io::Error::other(outcome.stderr));
    }
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report)?)?;
    let number = |name: &str| report[name].as_f64().unwrap_or(0.0);
    Ok(Cost {
        name: "one process".into(),
        seconds: number("seconds"),
        cpu_seconds: number("cpu_seconds"),
        coordinator_cpu_seconds: 0.0,
        peak_rss_bytes: number("peak_rss_bytes") as u64,
    })
}

/// CPU time of all agents and of the coordinator together.
fn fleet(
    runtime: &tokio::runtime::Runtime,
    file: &tpch::Generated,
    agents: usize,
) -> io::Result<Cost> {
    let fleet = Fleet::start(bench(runtime, file)?, 1);
    let threads = (2 / agents).max(1).to_string();
    let processes: Vec<_> = (0..agents)
        .map(|n| fleet.agent(&n.to_string(), &["--threads", &threads]))
        .collect();
    fleet.wait("all agents", |fleet| {
        fleet.agents().is_some_and(|found| found.len() == agents)
    });
    let started = std::time::Instant::now();
    let job = fleet.submit(&[]);
    fleet.wait_finished(&job);
    let seconds = started.elapsed().as_secs_f64();
    let coordinator = fleet.coordinators[0]
        .as_ref()
        .map_or(0, |process| process.pid());
    let mut cost = Cost {
        name: format!("{agents} agents"),
        seconds,
        cpu_seconds: cpu_seconds(coordinator)?,
        coordinator_cpu_seconds: cpu_seconds(coordinator)?,
        peak_rss_bytes: 0,
    };
    for process in &processes {
        cost.cpu_seconds += cpu_seconds(process.pid())?;
        cost.peak_rss_bytes = cost.peak_rss_bytes.max(peak_rss(process.pid())?);
    }
    Ok(cost)
}
