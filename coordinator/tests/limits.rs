//! What agents are told of a job's limit: its whole is divided over those that ingest, whoever comes and goes and
//! however it is changed while the job runs.
#![allow(clippy::unwrap_used)]

#[path = "support/agent.rs"]
mod agent;

use agent::{FakeAgent, JOB, lead, one_table};
use std::collections::BTreeSet;
use std::sync::Arc;
use thunderhead_coordinator::fleet::{Fleet, FleetOptions};
use thunderhead_coordinator::store::{EmbeddedStore, StateStore};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_limit_is_divided_over_the_agents_and_changes_while_the_job_runs() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(&dir.path().join("s")).unwrap());
    let epoch = store.lead().await.unwrap();
    let options = FleetOptions::default();
    let lease = options.lease;
    let (fleet, handle) = Fleet::new(store.clone(), epoch, options, BTreeSet::new());
    let stop = CancellationToken::new();
    let running = tokio::spawn(fleet.run(stop.clone()));
    let mut a = FakeAgent::connect(&handle, "a").await;
    assert_eq!(u128::from(a.lease_ms().await), lease.as_millis());
    let led = lead(&handle, one_table((epoch, 0)), 600);
    assert_eq!(a.share().await, 600);
    let mut b = FakeAgent::connect(&handle, "b").await;
    assert_eq!((a.share().await, b.share().await), (300, 300));
    let mut c = FakeAgent::connect(&handle, "c").await;
    assert_eq!(
        (a.share().await, b.share().await, c.share().await),
        (200, 200, 200)
    );
    handle.limit(JOB, 60).await.unwrap();
    assert_eq!(
        (a.share().await, b.share().await, c.share().await),
        (20, 20, 20)
    );
    // One that leaves no longer ingests: the others get its share.
    assert!(handle.drain("c").await.unwrap());
    assert_eq!((a.share().await, b.share().await), (30, 30));
    drop(b);
    assert_eq!(a.share().await, 60);
    handle.limit(JOB, 0).await.unwrap();
    assert_eq!(a.share().await, 0);
    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(led.await.unwrap().is_err());
}
