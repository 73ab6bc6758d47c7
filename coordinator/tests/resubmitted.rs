//! The same job again under the same leader, after it was cancelled or finished: what agents still say about the first
//! one is not taken for the second one's.
#![allow(clippy::unwrap_used)]

#[path = "support/agent.rs"]
mod agent;

use agent::{FakeAgent, JOB, lead, one_table};
use std::collections::BTreeSet;
use std::sync::Arc;
use thunderhead_coordinator::fleet::{Fleet, FleetOptions};
use thunderhead_coordinator::job;
use thunderhead_coordinator::store::{EmbeddedStore, StateStore};
use thunderhead_proto::thunderhead as wire;
use thunderhead_proto::thunderhead::agent_message::Body;
use thunderhead_proto::thunderhead::coordinator_message::Body as Order;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_report_about_a_job_is_not_taken_for_one_of_the_same_job_submitted_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(&dir.path().join("s")).unwrap());
    let epoch = store.lead().await.unwrap();
    let (fleet, handle) = Fleet::new(
        store.clone(),
        epoch,
        FleetOptions::default(),
        BTreeSet::new(),
    );
    let stop = CancellationToken::new();
    let running = tokio::spawn(fleet.run(stop.clone()));
    let mut agent = FakeAgent::connect(&handle, "a").await;
    let first = lead(&handle, one_table(handle.planned_at()), 0);
    let former = agent.chunk().await;
    // It is cut off while it encodes, and the job ends without it.
    agent
        .say(Body::Leaving(wire::Leaving {
            reason: "asked to stop".into(),
            serves: false,
        }))
        .await;
    drop(agent);
    handle.cancel(JOB).await.unwrap();
    assert!(first.await.unwrap().is_err());
    handle.drop_runs(JOB).await.unwrap();

    let second = lead(&handle, one_table(handle.planned_at()), 0);
    let mut agent = FakeAgent::connect_with(&handle, "a", vec![former]).await;
    agent.encoded(former).await;
    let (mut told_to_stop, mut acknowledged, mut own) = (false, false, None);
    while !acknowledged || own.is_none() {
        let order = agent.orders.recv().await.unwrap();
        match order.body.unwrap() {
            Order::Cancel(cancel) => told_to_stop |= cancel.task_id == former.task_id,
            Order::Encode(task) => own = own.or(Some((task.task_id, task.attempt))),
            Order::Recorded(r) => {
                acknowledged |= (r.task_id, r.attempt) == (former.task_id, former.attempt);
            }
            _ => {}
        }
    }
    let recorded = job::item_key(JOB, 0, 'm', 0);
    assert!(store.get(&recorded).await.unwrap().is_none());
    assert!(told_to_stop);
    let own = own.unwrap();
    assert_eq!(own.0, former.task_id);
    assert_ne!(own.1, former.attempt);
    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(second.await.unwrap().is_err());
}
