//! A clock that jumps, as after a suspension of the whole machine or a step of the virtual machine's time: the leader
//! has heard nobody meanwhile, and takes nothing from anybody for that.
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
use thunderhead_coordinator::job;
use thunderhead_coordinator::store::StateStore;
use thunderhead_proto::thunderhead as wire;
use thunderhead_proto::thunderhead::agent_message::Body;
use thunderhead_proto::thunderhead::coordinator_message::Body as Order;
use tokio_util::sync::CancellationToken;

#[tokio::test(start_paused = true)]
async fn a_jump_of_an_hour_takes_no_task_from_anybody_and_hands_none_out_twice() {
    let store = Arc::new(MemStore::default());
    store.fail_at.store(u64::MAX, Ordering::Relaxed);
    let epoch = store.lead().await.unwrap();
    let options = FleetOptions::default();
    let (fleet, handle) = Fleet::new(store.clone(), epoch, options, BTreeSet::new());
    let stop = CancellationToken::new();
    let running = tokio::spawn(fleet.run(stop.clone()));
    let mut slow = FakeAgent::connect(&handle, "slow").await;
    let mut quick = FakeAgent::connect(&handle, "quick").await;
    let led = lead(&handle, one_table(handle.planned_at()), 0);
    let held = slow.chunk().await;
    let mut handed_out = BTreeSet::from([held.task_id]);
    for _ in 1..CHUNKS {
        let chunk = quick.chunk().await;
        assert!(handed_out.insert(chunk.task_id), "handed out twice");
        quick.encoded(chunk).await;
    }
    // One chunk is left, at one agent; the other one is idle and there is nothing else to do.
    tokio::time::advance(Duration::from_secs(3600)).await;
    for agent in [&slow, &quick] {
        agent.say(Body::Progress(wire::Progress::default())).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for agent in [&mut slow, &mut quick] {
        while let Ok(order) = agent.orders.try_recv() {
            let body = order.body.unwrap();
            assert!(
                !matches!(body, Order::Encode(_) | Order::Cancel(_)),
                "{body:?}"
            );
        }
    }
    let status = handle.status().borrow().clone();
    assert_eq!(status.jobs[0].retries, Default::default());
    slow.encoded(held).await;
    loop {
        let order = slow.orders.recv().await.unwrap().body.unwrap();
        if matches!(&order, Order::Recorded(r) if r.task_id == held.task_id) {
            break;
        }
    }
    for number in 0..CHUNKS as u64 {
        let key = job::item_key(JOB, 0, 'm', number);
        assert!(store.get(&key).await.unwrap().is_some(), "{number} is lost");
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    drop(led);
}
