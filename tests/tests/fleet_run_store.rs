//! Runs that are kept in an object store: an agent dies with its disk and nothing is encoded again.
#![allow(clippy::unwrap_used)]

use std::fs;
use thunderhead_tests::fleet::{Fleet, SETTINGS, by_one_process, tables};
use thunderhead_tests::s3::S3;

/// Chunks that were handed out, over the whole life of the coordinator.
fn chunks_handed_out(fleet: &Fleet) -> usize {
    let log = fs::read_to_string(fleet.bench.path("coordinator-0.log")).unwrap();
    log.matches("task handed out task=\"chunk\"").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_with_its_disk_costs_nothing_when_its_runs_are_stored() {
    let rows = 120_000;
    let expected = by_one_process(rows).await;
    let store = S3::start();
    let uri = store.uri("runs/of-fleet");
    let fleet = Fleet::start(tables(&[], rows).await, 1);
    let _a = fleet.storing_agent("a", &uri, &["--threads", "1"]);
    let mut b = fleet.storing_agent("b", &uri, &["--threads", "1"]);
    fleet.wait("two agents", |fleet| fleet.active() == 2);
    // Slow enough that ranges are open when the agent dies.
    let limited = "tikv-importer.store-write-bwlimit=512KiB";
    let job = fleet.submit(&[SETTINGS[0], SETTINGS[1], limited]);
    fleet.wait(
        "everything to be encoded and ranges to be in work",
        |fleet| {
            let progress = fleet.status(&job).unwrap_or_default()["progress"].clone();
            progress["chunks"].as_u64().is_some_and(|n| n > 0)
                && progress["chunks"] == progress["chunks_done"]
                && progress["ranges_running"].as_u64().is_some_and(|n| n > 0)
        },
    );
    let handed_out = chunks_handed_out(&fleet);
    let stored = store.list("runs/of-fleet/").await;
    assert!(
        stored.iter().all(|name| name.ends_with(".run")),
        "{stored:?}"
    );
    let own = fs::read_dir(fleet.sort_dir("b").join("runs").join(&job)).unwrap();
    assert!(own.count() > 0, "b holds none of them");

    b.kill().unwrap();
    fs::remove_dir_all(fleet.sort_dir("b")).unwrap();
    assert!(fleet.ask(&["limit", &job, "0"]).status.success());
    fleet.wait_finished(&job);
    assert_eq!(chunks_handed_out(&fleet), handed_out, "encoded again");
    fleet.is_complete_and_clean(&expected).await;
    let log = fs::read_to_string(fleet.bench.path("agent-a.log")).unwrap();
    assert!(log.contains("a run is read in the run store"), "{log}");
    // Neither log nor status show the secret of the URI.
    assert!(!fleet.logs().contains("SECRETEXAMPLE"));
    let start = std::time::Instant::now();
    while !store.list("runs/of-fleet/").await.is_empty() {
        assert!(start.elapsed().as_secs() < 60, "runs stay in the store");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
