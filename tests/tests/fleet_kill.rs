//! The kill matrix: at every fail point of the product each role that reaches it is killed (SIGKILL) or suspended
//! (SIGSTOP), then restarted, replaced or continued, and the job ends. The tables must be those of one undisturbed
//! process in a cluster of its own, pair by pair, `ADMIN CHECK TABLE` must agree, and nothing may be left in etcd, PD
//! or the stores. `THUNDERHEAD_KILLS=all` runs everything (`make test-kill`), without it a few.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use thunderhead_tests::clashes;
use thunderhead_tests::fleet::{Fleet, SOURCE_POINT, nothing_is_open, sums, tables};
use thunderhead_tests::import::Bench;
use thunderhead_tests::process::Process;

const ROWS: u64 = 40_000;
const SMALL: [&str; 4] = ["--memory", "64MiB", "--threads", "1"];
/// A dozen chunks and ranges of little data.
const SETTINGS: [&str; 2] = [
    "mydumper.max-region-size=128KiB",
    "tikv-importer.region-split-size=1MiB",
];
/// The two ways into TiKV.
const WRITE: &str = "thunderhead.ingest=write";
const UPLOAD: &str = "thunderhead.ingest=upload";
/// Stores delete what no ingest took this often, so that each case can wait for it.
const SWEEPS: [&str; 2] = ["--sweep-interval", "1s"];
const PATIENCE: Duration = Duration::from_secs(60);

/// Places in an agent, in the order in which a task comes by; `:2` is the second visit.
const AGENT_POINTS: [&str; 15] = [
    "read",
    "encode",
    "spill",
    "sync",
    "rename",
    "publish",
    "published",
    "recorded:2",
    "serve-run",
    "write",
    "written",
    "ingest-sent",
    "ingest-acknowledged",
    "range-checksum",
    "drop-runs",
];

/// Places in a coordinator, in the order in which a job comes by.
const COORDINATOR_POINTS: [&str; 16] = [
    "submit",
    "commit-ts",
    "plan",
    "guards",
    "hand-out",
    "record-manifest",
    "plan-ranges",
    "split",
    "scattered",
    "record-report:2",
    "all-ingested",
    "rebase",
    "checksum",
    "finished",
    "close-guards",
    "forget",
];

/// Places that only a fleet has, or only a process that works by itself.
const FLEET_ONLY: [&str; 3] = ["serve-run", "submit", "forget"];
const ONE_PROCESS_ONLY: [&str; 1] = ["clean-up"];
/// Places on the way of files that we build ourselves; the last two are those of the other way, too.
const UPLOAD_POINTS: [&str; 6] = [
    "built:2",
    "proved",
    "upload:2",
    "uploaded",
    "ingest-sent",
    "ingest-acknowledged",
];
/// Only a leader whose agent died with its disk comes by: behind the second of several transactions.
const WHEN_A_DISK_IS_LOST: [&str; 1] = ["void:2"];
/// So many chunks that half of them are more than a transaction takes.
const MANY_CHUNKS: &str = "mydumper.max-region-size=4KiB";
/// The job is over there: nothing is left to go on with, so the table is only looked at.
const AFTER_THE_END: [&str; 1] = ["forgotten"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    /// Killed and started again on its disk.
    Agent,
    /// Killed with its disk, another one comes.
    AgentWithDisk,
    /// Suspended until it is given up, then continued.
    SuspendedAgent,
    /// The leader, killed; another one takes over.
    Leader,
    /// The leader, suspended until another one leads, then continued.
    SuspendedLeader,
    /// `thunderhead import`, killed and run again.
    OneProcess,
}

struct Case {
    role: Role,
    point: &'static str,
    /// The way into TiKV.
    way: &'static str,
}

impl Case {
    fn settings(&self) -> [&'static str; 3] {
        match self.loses_a_disk() {
            true => [MANY_CHUNKS, SETTINGS[1], self.way],
            false => [SETTINGS[0], SETTINGS[1], self.way],
        }
    }

    /// An agent dies with its disk before the leader comes by.
    fn loses_a_disk(&self) -> bool {
        WHEN_A_DISK_IS_LOST.contains(&self.point)
    }
}

fn matrix() -> Vec<Case> {
    let by = |way| move |role| move |point| Case { role, point, way };
    let (case, upload) = (by(WRITE), by(UPLOAD));
    let mut cases = Vec::new();
    for role in [Role::Agent, Role::AgentWithDisk, Role::SuspendedAgent] {
        cases.extend(AGENT_POINTS.map(case(role)));
        cases.extend(UPLOAD_POINTS.map(upload(role)));
    }
    for role in [Role::Leader, Role::SuspendedLeader] {
        cases.extend(COORDINATOR_POINTS.map(case(role)));
        cases.extend(AFTER_THE_END.map(case(role)));
        cases.extend(WHEN_A_DISK_IS_LOST.map(case(role)));
    }
    let here = AGENT_POINTS.into_iter().chain(COORDINATOR_POINTS);
    let here = here.filter(|point| !FLEET_ONLY.contains(point));
    cases.extend(here.chain(ONE_PROCESS_ONLY).map(case(Role::OneProcess)));
    cases.extend(UPLOAD_POINTS.map(upload(Role::OneProcess)));
    cases
}

/// What `make test` runs of it: each role once, at the places that have cost most thought.
const FEW: [(Role, &str, &str); 12] = [
    (Role::Agent, "ingest-sent", WRITE),
    (Role::Agent, "uploaded", UPLOAD),
    (Role::AgentWithDisk, "written", WRITE),
    (Role::AgentWithDisk, "serve-run", WRITE),
    (Role::SuspendedAgent, "written", WRITE),
    (Role::Leader, "plan-ranges", WRITE),
    (Role::Leader, "void:2", WRITE),
    (Role::SuspendedLeader, "record-report:2", WRITE),
    (Role::OneProcess, "rename", WRITE),
    (Role::OneProcess, "ingest-acknowledged", WRITE),
    (Role::OneProcess, "upload:2", UPLOAD),
    (Role::OneProcess, "clean-up", WRITE),
];

fn name_of(point: &str) -> &str {
    point.split(':').next().unwrap()
}

#[test]
fn every_fail_point_of_the_product_is_in_the_matrix() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeSet::new();
    let mut open: Vec<_> = ["agent/src", "coordinator/src", "shared"]
        .map(|dir| root.join(dir))
        .into();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("fail.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for (at, _) in text.match_indices("fail_point(\"") {
                    let name = &text[at + "fail_point(\"".len()..];
                    let name = name.split('"').next().unwrap().to_owned();
                    assert!(found.insert(name.clone()), "{name} is there twice");
                }
            }
        }
    }
    // Those that only a table with conflicts reaches are tried in conflicts_kill.rs.
    let of_conflicts = clashes::AGENT_POINTS.into_iter();
    let of_conflicts = of_conflicts.chain(clashes::COORDINATOR_POINTS);
    let tried: BTreeSet<String> = matrix()
        .iter()
        .map(|case| case.point)
        .chain(of_conflicts)
        .chain([SOURCE_POINT])
        .map(|point| name_of(point).to_owned())
        .collect();
    assert_eq!(found, tried);
}

/// The cluster of the fleet and, in step with it, one whose tables an undisturbed process fills: equal statements
/// give the tables equal ids, hence equal keys.
struct Rig {
    fleet: Fleet,
    agents: [Process; 2],
    /// Name of the agent that dies; another one after it died with its disk.
    dying: String,
    twin: Bench,
}

impl Rig {
    async fn start() -> Self {
        let fleet = Fleet::start(tables(&SWEEPS, ROWS).await, 2);
        let agents = ["a0", "stays"].map(|name| fleet.agent(name, &SMALL));
        Self {
            fleet,
            agents,
            dying: "a0".to_owned(),
            twin: tables(&[], ROWS).await,
        }
    }

    /// Empties the tables and gives what one process makes of the source.
    async fn next_tables(&self) -> Vec<Vec<String>> {
        let empty = ["TRUNCATE TABLE d.t", "TRUNCATE TABLE d.heap"];
        self.fleet.bench.sql(&empty).await;
        self.twin.sql(&empty).await;
        let settings = [SETTINGS[0], SETTINGS[1], WRITE];
        self.twin.import(&import_args(&settings)).succeeds();
        sums(&self.twin).await
    }

    fn two_agents(&self) {
        self.fleet.wait("two agents", |fleet| fleet.active() == 2);
    }

    /// An agent dies, or is suspended for longer than its lease.
    fn agent_case(&mut self, case: &Case, n: usize) {
        let (fleet, role, point) = (&self.fleet, case.role, case.point);
        self.agents[0].kill().unwrap();
        let armed = if role == Role::SuspendedAgent {
            format!("{point}=stop")
        } else {
            point.to_owned()
        };
        self.agents[0] = fleet.armed_agent(&self.dying, &armed, &SMALL);
        self.two_agents();
        let job = fleet.submit(&case.settings());
        let agent = &mut self.agents[0];
        match role {
            Role::SuspendedAgent => {
                let id = fleet.sort_dir(&self.dying).join("agent-id");
                let id = std::fs::read_to_string(id).unwrap();
                fleet.wait("the agent to stand still", |_| agent.is_stopped());
                fleet.wait("it to be given up", |fleet| {
                    let agents = fleet.agents().unwrap_or_default();
                    agents
                        .iter()
                        .all(|a| a["agent"] != id.trim() || a["state"] == "lost")
                });
                agent.signal(Signal::CONT).unwrap();
            }
            Role::AgentWithDisk => self.another_agent(n),
            _ => {
                fleet.wait("the agent to die", |_| agent.ended().unwrap().is_some());
                self.agents[0] = fleet.agent(&self.dying, &SMALL);
            }
        }
        self.fleet.wait_finished(&job);
    }

    /// Waits for the end of the agent that dies, with all that it has, and lets another one come.
    fn another_agent(&mut self, n: usize) {
        let (fleet, agent) = (&self.fleet, &mut self.agents[0]);
        fleet.wait("the agent to die", |_| agent.ended().unwrap().is_some());
        std::fs::remove_dir_all(fleet.sort_dir(&self.dying)).unwrap();
        self.dying = format!("a{}", n + 1);
        self.agents[0] = fleet.agent(&self.dying, &SMALL);
    }

    /// The leader dies, or is suspended until another one leads.
    fn leader_case(&mut self, case: &Case, n: usize) {
        let (point, suspended) = (case.point, case.role == Role::SuspendedLeader);
        let armed = if suspended {
            format!("{point}=stop")
        } else {
            point.to_owned()
        };
        // The armed one waits for the lead, gets it, and then has somebody who waits for it in turn.
        let former = self.fleet.leader().unwrap_or(0);
        let leader = 1 - former;
        let fleet = &mut self.fleet;
        drop(fleet.coordinators[leader].take());
        let process = fleet.armed_coordinator(leader, &armed);
        fleet.coordinators[leader] = Some(process);
        fleet.wait("the armed coordinator to listen", |fleet| {
            log(fleet, leader).contains("listening on")
        });
        let mut process = fleet.coordinators[former].take().unwrap();
        process.signal(Signal::TERM).unwrap();
        process.wait(PATIENCE).unwrap();
        fleet.wait("the armed coordinator to lead", |fleet| {
            log(fleet, leader).contains("this coordinator leads")
        });
        let process = fleet.coordinator(former);
        fleet.coordinators[former] = Some(process);
        if case.loses_a_disk() {
            // It has half of the manifests when it dies.
            self.agents[0].kill().unwrap();
            self.agents[0] = self.fleet.armed_agent(&self.dying, "written", &SMALL);
        }
        self.two_agents();
        let job = self.fleet.submit(&case.settings());
        if case.loses_a_disk() {
            self.another_agent(n);
        }
        let fleet = &mut self.fleet;
        let mut process = fleet.coordinators[leader].take().unwrap();
        if suspended {
            fleet.wait("the leader to stand still", |_| process.is_stopped());
            fleet.wait("the other to lead", |fleet| {
                log(fleet, former).contains("this coordinator leads")
            });
            process.signal(Signal::CONT).unwrap();
            fleet.wait_finished(&job);
            fleet.wait("the former leader to notice", |fleet| {
                log(fleet, leader).contains("the term ended")
            });
        } else {
            fleet.wait("the leader to die", |_| process.ended().unwrap().is_some());
            fleet.wait_finished(&job);
            process = fleet.coordinator(leader);
        }
        fleet.coordinators[leader] = Some(process);
    }

    /// A process that works by itself dies; the same command goes on.
    async fn one_process_case(&self, case: &Case) {
        let bench = &self.fleet.bench;
        let path = bench.path("import.log");
        let settings = case.settings();
        let args = import_args(&settings);
        let mut process = bench.start_import_armed(case.point, &args, &path).unwrap();
        let status = process.wait(PATIENCE).unwrap();
        assert_eq!(status.code(), None, "it was not killed: {status}");
        bench.import(&args).succeeds();
        nothing_is_open(bench).await;
    }
}

fn import_args<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["--no-progress"];
    settings
        .iter()
        .for_each(|setting| args.extend(["--set", setting]));
    args
}

fn log(fleet: &Fleet, coordinator: usize) -> String {
    let path = fleet.bench.path(&format!("coordinator-{coordinator}.log"));
    std::fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_or_sleeps_at_whatever_step_the_tables_are_those_of_one_process() {
    let all = std::env::var("THUNDERHEAD_KILLS").is_ok_and(|kills| kills == "all");
    let only = std::env::var("THUNDERHEAD_KILL").ok();
    let mut rig = Rig::start().await;
    rig.two_agents();
    let (mut killed, mut suspended) = (0, 0);
    for (n, case) in matrix().into_iter().enumerate() {
        let Case { role, point, way } = case;
        let wanted = match &only {
            Some(only) => name_of(point) == only || format!("{role:?}@{point}") == *only,
            None => all || FEW.contains(&(role, point, way)),
        };
        if !wanted {
            continue;
        }
        let start = std::time::Instant::now();
        println!("{role:?} at {point}, {way}");
        let expected = rig.next_tables().await;
        match role {
            Role::Agent | Role::AgentWithDisk | Role::SuspendedAgent => rig.agent_case(&case, n),
            Role::Leader | Role::SuspendedLeader => rig.leader_case(&case, n),
            Role::OneProcess => rig.one_process_case(&case).await,
        }
        rig.fleet.is_complete_and_clean(&expected).await;
        rig.fleet.bench.no_import_files().await;
        match role {
            Role::SuspendedAgent | Role::SuspendedLeader => suspended += 1,
            _ => killed += 1,
        }
        println!("  {:.1} s", start.elapsed().as_secs_f64());
    }
    println!(
        "{killed} kills, {suspended} suspensions: {} times the tables of one process, and no file in an import directory",
        killed + suspended
    );
}
