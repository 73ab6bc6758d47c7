//! Small tasks share a slot while there are many, and what comes together is recorded together.
#![allow(clippy::unwrap_used)]

#[path = "support/agent.rs"]
mod agent;
mod support;

use agent::{FakeAgent, lead, table_of};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::MemStore;
use thunderhead_coordinator::fleet::{Fleet, FleetHandle, FleetOptions};
use thunderhead_coordinator::scheduler::SLOT;
use thunderhead_coordinator::store::StateStore;
use tokio_util::sync::CancellationToken;

async fn fleet(store: &Arc<MemStore>) -> (FleetHandle, CancellationToken) {
    store.fail_at.store(u64::MAX, Ordering::Relaxed);
    let epoch = store.lead().await.unwrap();
    let options = FleetOptions::default();
    let (fleet, handle) = Fleet::new(store.clone(), epoch, options, BTreeSet::new());
    let stop = CancellationToken::new();
    tokio::spawn(fleet.run(stop.clone()));
    (handle, stop)
}

#[tokio::test(start_paused = true)]
async fn a_slot_takes_several_small_chunks_while_many_wait_and_their_reports_share_transactions() {
    let store = Arc::new(MemStore::default());
    let (handle, stop) = fleet(&store).await;
    let mut a = FakeAgent::connect(&handle, "a").await;
    lead(&handle, table_of(40, 1000, handle.planned_at()), 0);
    let first = a.chunks().await;
    assert_eq!(first.len(), SLOT as usize);
    // One that comes later is not too late.
    let mut b = FakeAgent::connect(&handle, "b").await;
    let second = b.chunks().await;
    assert_eq!(second.len(), SLOT as usize);
    let before = store.commits.load(Ordering::Relaxed);
    for name in &first {
        a.encoded(*name).await;
    }
    // Eight are left: one for the free slot, more of them while there are more than two slots could take.
    let third = a.chunks().await;
    assert_eq!(third.len(), 6);
    for name in &second {
        b.encoded(*name).await;
    }
    let fourth = b.chunks().await;
    assert_eq!(fourth.len(), 1);
    for name in &third {
        a.encoded(*name).await;
    }
    let fifth = a.chunks().await;
    assert_eq!(fifth.len(), 1);
    let given = [first, second, third, fourth, fifth].into_iter().flatten();
    let given: BTreeSet<u64> = given.map(|name| name.task_id).collect();
    assert_eq!(given.len(), 40, "each once");
    let commits = store.commits.load(Ordering::Relaxed) - before;
    assert!(commits <= 8, "{commits} transactions for 38 reports");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_large_chunk_has_a_slot_for_itself_and_so_has_the_last_small_one() {
    let store = Arc::new(MemStore::default());
    let (handle, stop) = fleet(&store).await;
    let mut a = FakeAgent::connect(&handle, "a").await;
    lead(&handle, table_of(5, 4 << 20, handle.planned_at()), 0);
    assert_eq!(a.chunks().await.len(), 1);
    stop.cancel();

    let store = Arc::new(MemStore::default());
    let (handle, stop) = fleet(&store).await;
    let mut a = FakeAgent::connect(&handle, "a").await;
    let mut b = FakeAgent::connect(&handle, "b").await;
    lead(&handle, table_of(3, 1000, handle.planned_at()), 0);
    let (of_a, of_b) = (a.chunks().await, b.chunks().await);
    assert_eq!((of_a.len(), of_b.len()), (1, 1));
    a.encoded(of_a[0]).await;
    assert_eq!(a.chunks().await.len(), 1);
    stop.cancel();
}
