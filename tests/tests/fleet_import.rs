//! One job on many processes, any of which may die: the tables are those of one process, byte for byte, and nothing
//! is left behind in etcd, PD or the stores.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use std::fs;
use std::time::Duration;
use thunderhead_tests::fleet::{Fleet, SETTINGS, by_one_process, tables};

fn has_runs(fleet: &Fleet, agent: &str) -> bool {
    let jobs = fs::read_dir(fleet.sort_dir(agent).join("runs"))
        .into_iter()
        .flatten();
    jobs.flatten()
        .any(|job| fs::read_dir(job.path()).is_ok_and(|mut attempts| attempts.next().is_some()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_writes_what_one_process_writes_and_uses_every_agent() {
    let rows = 120_000;
    let expected = by_one_process(rows).await;
    let fleet = Fleet::start(tables(&[], rows).await, 2);
    let job = fleet.submit(&SETTINGS);
    // Without agents it waits, and says so.
    fleet.wait("the job to say that it waits", |fleet| {
        let status = fleet.status(&job).unwrap_or_default();
        status["progress"]["waiting_for"]
            .as_str()
            .is_some_and(|what| what.contains("agent"))
    });
    let _a = fleet.agent("a", &["--threads", "1"]);
    let _b = fleet.agent("b", &["--threads", "1"]);
    fleet.wait_progress(&job, "chunks_done", 2);
    // Late, and at work at once.
    let _c = fleet.agent("c", &["--threads", "1"]);
    fleet.wait_finished(&job);
    fleet.is_complete_and_clean(&expected).await;
    for agent in ["a", "b", "c"] {
        fleet.wait("runs to be dropped", |fleet| !has_runs(fleet, agent));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_with_its_disk_costs_only_its_share() {
    let rows = 120_000;
    let expected = by_one_process(rows).await;
    let fleet = Fleet::start(tables(&[], rows).await, 1);
    let _a = fleet.agent("a", &["--threads", "1"]);
    let mut b = fleet.agent("b", &["--threads", "1"]);
    let job = fleet.submit(&[
        SETTINGS[0],
        SETTINGS[1],
        "tikv-importer.store-write-bwlimit=2MiB",
    ]);
    fleet.wait("runs at b", |fleet| has_runs(fleet, "b"));
    fleet.wait_progress(&job, "ranges_running", 1);
    b.kill().unwrap();
    fs::remove_dir_all(fleet.sort_dir("b")).unwrap();
    let raise = fleet.ask(&["limit", &job, "0"]);
    assert!(raise.status.success(), "{raise:?}");
    fleet.wait_finished(&job);
    fleet.is_complete_and_clean(&expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_killed_is_followed_by_another_and_nothing_is_done_twice() {
    let rows = 120_000;
    let expected = by_one_process(rows).await;
    let mut fleet = Fleet::start(tables(&[], rows).await, 2);
    let _a = fleet.agent("a", &["--threads", "1"]);
    let _b = fleet.agent("b", &["--threads", "1"]);
    let job = fleet.submit(&SETTINGS);
    for (kill, field) in [(0, "chunks_done"), (1, "ranges_done")] {
        fleet.wait_progress(&job, field, 1);
        // Whichever leads: both die once.
        fleet.coordinators[kill].take().unwrap().kill().unwrap();
        let again = fleet.coordinator(kill);
        fleet.coordinators[kill] = Some(again);
    }
    fleet.wait_finished(&job);
    fleet.is_complete_and_clean(&expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_may_be_drained_stopped_and_suspended_in_the_middle() {
    let rows = 120_000;
    let expected = by_one_process(rows).await;
    let fleet = Fleet::start(tables(&[], rows).await, 1);
    let mut drained = fleet.agent("a", &["--threads", "1"]);
    let mut stopped = fleet.agent("b", &["--threads", "1", "--grace", "1s"]);
    let suspended = fleet.agent("c", &["--threads", "1"]);
    let _stays = fleet.agent("d", &["--threads", "1"]);
    fleet.wait("four agents", |fleet| {
        fleet.agents().is_some_and(|agents| agents.len() == 4)
    });
    let id = fs::read_to_string(fleet.sort_dir("a").join("agent-id")).unwrap();
    let job = fleet.submit(&SETTINGS);
    fleet.wait_progress(&job, "chunks_done", 1);
    suspended.signal(Signal::STOP).unwrap();
    let drain = fleet.ask(&["drain", id.trim()]);
    assert!(drain.status.success(), "{drain:?}");
    stopped.signal(Signal::TERM).unwrap();
    // Its grace period, a last word, and a machine that has other things to do.
    assert_eq!(
        stopped.wait(Duration::from_secs(15)).unwrap().code(),
        Some(0)
    );
    // Its lease ends; then it comes back and may change nothing that others do now.
    fleet.wait("the suspended agent to be missed", |fleet| {
        fleet
            .status(&job)
            .is_some_and(|status| status["job"]["state"] != "running")
            || fleet.agents().is_some_and(|agents| {
                agents
                    .iter()
                    .any(|agent| agent["silent_ms"].as_u64().is_some_and(|ms| ms > 2500))
            })
            || fleet.agents().is_some_and(|agents| agents.len() <= 2)
    });
    suspended.signal(Signal::CONT).unwrap();
    fleet.wait_finished(&job);
    fleet.is_complete_and_clean(&expected).await;
    assert_eq!(
        drained.wait(Duration::from_secs(30)).unwrap().code(),
        Some(0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_etcd_work_in_hand_goes_on_and_nothing_new_is_committed_until_it_is_back() {
    let rows = 120_000;
    let expected = by_one_process(rows).await;
    let fleet = Fleet::start(tables(&[], rows).await, 2);
    let _a = fleet.agent("a", &["--threads", "1"]);
    let job = fleet.submit(&SETTINGS);
    fleet.wait_progress(&job, "chunks_done", 1);
    fleet.etcd.signal(Signal::STOP).unwrap();
    // Longer than a lease.
    let over = std::time::Instant::now() + Duration::from_secs(5);
    fleet.wait("the outage to pass", |_| std::time::Instant::now() > over);
    fleet.etcd.signal(Signal::CONT).unwrap();
    fleet.wait_finished(&job);
    fleet.is_complete_and_clean(&expected).await;
}
