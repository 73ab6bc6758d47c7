//! `make bench-fleet`: TPC-H lineitem by one process, then by fleets of one, two and four agents on this machine.
//! What counts is CPU time: all processes share the same cores, so more agents cannot be faster here. A fleet is compared
//! with the one process that has as many threads and as much memory as all its agents together: more threads than cores
//! cost both of them caches and switches. `bench_fleet SCALE ROUNDS`, 0.5 and 5 unless told otherwise, takes turns and
//! prints medians: of each column, and of what a fleet took more than the one process in the same round, since the speed
//! of a machine that others use, too, changes from minute to minute. Every second round goes the other way round, and
//! each run begins when the disk has what the one before wrote: otherwise it would pay for it, and the first one never.
//! `bench_fleet SCALE ROUNDS THREADS` has only those of so many threads in all.

use std::io;
use std::process::{Command, ExitCode};
use thunderhead_tests::fleet::Fleet;
use thunderhead_tests::import::Bench;
use thunderhead_tests::process::{cpu_seconds, peak_rss};
use thunderhead_tests::tpch;

/// Who imports.
#[derive(Clone, Copy, PartialEq)]
struct Setup {
    /// 0 is one process that does it all.
    agents: usize,
    /// Of each process.
    threads: usize,
}

const SETUPS: [Setup; 5] = [
    setup(0, 2),
    setup(1, 2),
    setup(2, 1),
    setup(0, 4),
    setup(4, 1),
];

const fn setup(agents: usize, threads: usize) -> Setup {
    Setup { agents, threads }
}

impl Setup {
    fn name(self) -> String {
        match self.agents {
            0 => format!("one process, {} threads", self.threads),
            agents => format!("{agents} agents of {} threads", self.threads),
        }
    }

    /// The one process with as many threads in all.
    fn alone(self) -> Setup {
        setup(0, self.threads * self.agents.max(1))
    }
}

fn main() -> ExitCode {
    let scale = std::env::args()
        .nth(1)
        .map_or(Ok(0.5), |text| text.parse::<f64>());
    let rounds = std::env::args()
        .nth(2)
        .map_or(Ok(5), |text| text.parse::<usize>());
    let threads = std::env::args().nth(3).map(|text| text.parse::<usize>());
    let done = scale.map_err(io::Error::other).and_then(|scale| {
        let rounds = rounds.map_err(io::Error::other)?;
        run(
            scale,
            rounds,
            threads.transpose().map_err(io::Error::other)?,
        )
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
    setup: Setup,
    seconds: f64,
    cpu_seconds: f64,
    coordinator_cpu_seconds: f64,
    peak_rss_bytes: u64,
}

fn run(scale: f64, rounds: usize, threads: Option<usize>) -> io::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let data = tempfile::tempdir()?;
    let file = tpch::generate(data.path(), scale, &["lineitem"])?.remove(0);
    let gb = file.bytes as f64 / 1e9;
    println!(
        "TPC-H lineitem, scale {scale}: {:.0} MB of CSV, three key-value pairs a row",
        gb * 1e3
    );
    println!(
        "{:<24} {:>8} {:>9} {:>24} {:>13} {:>13}",
        "", "seconds", "CPU s/GB", "more than one process", "leader CPU s", "peak RSS MiB"
    );
    let mut costs: [Vec<Cost>; SETUPS.len()] = Default::default();
    for round in 0..rounds.max(1) {
        for turn in 0..SETUPS.len() {
            let n = match round % 2 {
                0 => turn,
                _ => SETUPS.len() - 1 - turn,
            };
            if threads.is_some_and(|threads| SETUPS[n].alone().threads != threads) {
                continue;
            }
            Command::new("sync").status()?;
            let cost = match SETUPS[n].agents {
                0 => single(&runtime, &file, SETUPS[n])?,
                _ => fleet(&runtime, &file, SETUPS[n])?,
            };
            eprintln!("{}: {:.2} CPU s", cost.setup.name(), cost.cpu_seconds);
            costs[n].push(cost);
        }
    }
    for (n, of) in costs.iter().enumerate() {
        let alone = SETUPS
            .iter()
            .position(|setup| *setup == SETUPS[n].alone())
            .unwrap_or(n);
        print(of, &costs[alone], gb);
    }
    Ok(())
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(costs: &[Cost], alone: &[Cost], gb: f64) {
    let Some(first) = costs.first() else {
        return;
    };
    let of = |part: fn(&Cost) -> f64| median(costs.iter().map(part));
    let pairs = costs.iter().zip(alone);
    println!(
        "{:<24} {:>8.1} {:>9.1} {:>23.1}% {:>13.2} {:>13.0}",
        first.setup.name(),
        of(|cost| cost.seconds),
        of(|cost| cost.cpu_seconds) / gb,
        (median(pairs.map(|(cost, alone)| cost.cpu_seconds / alone.cpu_seconds)) - 1.0) * 100.0,
        of(|cost| cost.coordinator_cpu_seconds),
        of(|cost| cost.peak_rss_bytes as f64) / f64::from(1 << 20),
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

fn single(
    runtime: &tokio::runtime::Runtime,
    file: &tpch::Generated,
    setup: Setup,
) -> io::Result<Cost> {
    let bench = bench(runtime, file)?;
    let report = bench.path("report.json");
    let outcome = bench.import(&[
        "--no-progress",
        "--threads",
        &setup.threads.to_string(),
        "--report-file",
        &report.to_string_lossy(),
    ]);
    if outcome.code != 0 {
        return Err(io::Error::other(outcome.stderr));
    }
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report)?)?;
    let number = |name: &str| report[name].as_f64().unwrap_or(0.0);
    Ok(Cost {
        setup,
        seconds: number("seconds"),
        cpu_seconds: number("cpu_seconds"),
        coordinator_cpu_seconds: 0.0,
        peak_rss_bytes: number("peak_rss_bytes") as u64,
    })
}

/// CPU time of all agents and of the coordinator together. The agents share the memory that the one process may use.
fn fleet(
    runtime: &tokio::runtime::Runtime,
    file: &tpch::Generated,
    setup: Setup,
) -> io::Result<Cost> {
    let agents = setup.agents;
    let fleet = Fleet::start(bench(runtime, file)?, 1);
    let threads = setup.threads.to_string();
    let memory = format!("{}MiB", 512 / agents);
    let limits = ["--threads", &threads, "--memory", &memory];
    let processes: Vec<_> = (0..agents)
        .map(|n| fleet.agent(&n.to_string(), &limits))
        .collect();
    fleet.wait("all agents", |fleet| {
        fleet.agents().is_some_and(|found| found.len() == agents)
    });
    let job = fleet.submit(&[]);
    // One that watches to the end: a program started for each look takes a quarter of a core from who is measured.
    fleet.ask(&["status", &job, "--watch"]);
    let report = fleet.wait_finished(&job);
    let seconds = report["seconds"].as_f64().unwrap_or(f64::NAN);
    let coordinator = fleet.coordinators[0]
        .as_ref()
        .map_or(0, |process| process.pid());
    let mut cost = Cost {
        setup,
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
