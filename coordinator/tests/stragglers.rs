//! A chunk whose agent is slow is encoded a second time where there is nothing else to do: whoever has a complete
//! manifest first, wins; the other one is told to stop, and to drop what it made all the same.
#![allow(clippy::unwrap_used)]

#[path = "support/agent.rs"]
mod agent;
mod support;

use agent::{CHUNKS, FakeAgent, JOB, lead, one_table};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::MemStore;
use thunderhead_coordinator::fleet::{Fleet, FleetOptions};
use thunderhead_coordinator::job::{self, TaskRef};
use thunderhead_coordinator::store::StateStore;
use thunderhead_proto::thunderhead::coordinator_message::Body as Order;
use tokio_util::sync::CancellationToken;

#[tokio::test(start_paused = true)]
async fn a_straggler_is_repeated_by_an_idle_agent_and_the_first_manifest_wins() {
    let store = Arc::new(MemStore::default());
    store.fail_at.store(u64::MAX, Ordering::Relaxed);
    let epoch = store.lead().await.unwrap();
    let options = FleetOptions {
        // Nobody loses a task for being silent here.
        lease: Duration::from_secs(3600),
        ..FleetOptions::default()
    };
    let (fleet, handle) = Fleet::new(store.clone(), epoch, options, BTreeSet::new());
    let stop = CancellationToken::new();
    let running = tokio::spawn(fleet.run(stop.clone()));
    let mut slow = FakeAgent::connect(&handle, "slow").await;
    let mut quick = FakeAgent::connect(&handle, "quick").await;
    let led = lead(&handle, one_table(handle.planned_at()), 0);
    let held = slow.chunk().await;
    for _ in 1..CHUNKS {
        let chunk = quick.chunk().await;
        assert_ne!(chunk.task_id, held.task_id, "there is other work to do");
        quick.encoded(chunk).await;
    }
    let again = quick.chunk().await;
    assert_eq!(again.task_id, held.task_id);
    quick.encoded(again).await;
    let told = async |agent: &mut FakeAgent| loop {
        match agent.orders.recv().await.unwrap().body.unwrap() {
            Order::Cancel(cancel) => break cancel.task_id,
            Order::DropRuns(drop) => break drop.task_ids[0],
            _ => {}
        }
    };
    assert_eq!(told(&mut slow).await, held.task_id);
    // It had been done by then.
    slow.encoded(held).await;
    assert_eq!(told(&mut slow).await, held.task_id);
    let TaskRef::Chunk { table, number } = TaskRef::from_id(held.task_id) else {
        panic!("not a chunk");
    };
    let key = job::item_key(JOB, table, 'm', number);
    let manifest = store.get(&key).await.unwrap().unwrap().value;
    let of_the_first = format!("{}-{}-{}", again.task_id, again.epoch, again.attempt);
    assert!(String::from_utf8_lossy(&manifest).contains(&of_the_first));
    let status = handle.status().borrow().clone();
    let retries = status.jobs.iter().map(|job| job.retries.clone());
    assert!(
        retries
            .flatten()
            .all(|(cause, n)| cause == "straggler" && n == 1)
    );
    stop.cancel();
    running.await.unwrap().unwrap();
    drop(led);
}
