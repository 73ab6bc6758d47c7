//! Agent processes against a coordinator that the test plays: what they take, what they say, what they keep when
//! coordinators and other agents go away.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use std::fs;
use std::time::Duration;
use thunderhead_proto::thunderhead::{
    CancelTask, Drain, DropRuns, Limit, agent_message::Body, coordinator_message::Body as Order,
};
use thunderhead_tests::control::Control;
use thunderhead_tests::fixture::{
    Fixture, Held, JOB, checksum, encode_all, encoded, failed, ingested, two_agents,
};
use thunderhead_tests::process::peak_rss;
use thunderhead_types::KeyRange;

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_merged_from_the_runs_of_all_agents() {
    let fixture = Fixture::new(4, 20_000).await;
    let mut control = Control::start(0, 7).await;
    let _a = fixture.agent("a", &[&control], &["--memory", "64MiB"]);
    let _b = fixture.agent("b", &[&control], &["--memory", "64MiB"]);
    let agents = two_agents(&mut control).await;
    assert_ne!(agents[0], agents[1]);
    let held = encode_all(&fixture, &mut control, 4, &agents).await;
    // A border from the middle of a run: it cuts blocks.
    let border = held[0]
        .manifest
        .runs
        .iter()
        .find(|run| run.path.contains("record"))
        .unwrap();
    let border = border.blocks[border.blocks.len() / 2].first_key.to_vec();
    let halves = [
        KeyRange::new(fixture.range.start.clone(), border.clone()),
        KeyRange::new(border, fixture.range.end.clone()),
    ];
    for (n, ((agent, _), range)) in agents.iter().zip(&halves).enumerate() {
        control
            .order(agent, fixture.ingest(n as u64, range, agent, &held))
            .await;
    }
    let mut sum = checksum(ingested(&mut control).await.checksum);
    sum.merge(&checksum(ingested(&mut control).await.checksum));
    assert_eq!(sum.kvs, fixture.rows * 3);
    fixture.holds_everything(&held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_without_a_coordinator_and_the_next_leader_learns_of_it() {
    let fixture = Fixture::new(1, 300_000).await;
    let mut first = Control::start(0, 7).await;
    let port = first.port();
    let _agent = fixture.agent("a", &[&first], &[]);
    let (agent, hello) = first.hello().await;
    assert!(hello.held.is_empty() && hello.running.is_empty());
    first.order(&agent, fixture.encode(0, 1)).await;
    first
        .next("progress with rows", |_, body| match body {
            Body::Progress(progress) if progress.rows > 0 => Some(()),
            _ => None,
        })
        .await;
    first.stop().await;

    let mut second = Control::start(port, 9).await;
    let (again, hello) = second.hello().await;
    assert_eq!(again, agent);
    assert_eq!((hello.running.len(), hello.running[0].epoch), (1, 7));
    let (_, done) = encoded(&mut second).await;
    assert_eq!(
        (done.job_id.as_str(), done.task_epoch, done.attempt),
        (JOB, 7, 1)
    );
    second.stop().await;

    // Not recorded: said again. A former leader is not followed.
    let mut third = Control::start(port, 11).await;
    let (_, hello) = third.hello().await;
    assert_eq!((hello.held.len(), hello.running.len()), (1, 1));
    let (_, again) = encoded(&mut third).await;
    assert_eq!(again, done);
    third.recorded(&agent, JOB, 0, 1, 7).await;
    // The end of a server may overtake what it said last: two heartbeats later it was heard.
    for _ in 0..2 {
        let beat = |_: &str, body| matches!(body, Body::Progress(_)).then_some(());
        third.next("a heartbeat", beat).await;
    }
    third.stop().await;
    let mut former = Control::start(port, 10).await;
    let (_, hello) = former.hello().await;
    assert_eq!((hello.held.len(), hello.running.len()), (1, 0));
    former.order(&agent, fixture.encode(0, 2)).await;
    let (_, hello) = former.hello().await;
    assert!(hello.running.is_empty() && hello.held.len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_leads_to_the_leader_and_a_refusal_for_good_ends_the_agent() {
    let fixture = Fixture::new(1, 10).await;
    let mut leader = Control::start(0, 7).await;
    let mut status = tonic::Status::failed_precondition("not the leader");
    status
        .metadata_mut()
        .insert("leader", leader.address.parse().unwrap());
    let follower = Control::refusing(status).await;
    let _agent = fixture.agent("a", &[&follower], &[]);
    leader.hello().await;

    let refusing = Control::refusing(tonic::Status::invalid_argument(
        "agent 0.1.0, coordinator 9.9.9",
    ))
    .await;
    let mut agent = fixture.agent("b", &[&refusing], &[]);
    let status = agent.wait(Duration::from_secs(20)).unwrap();
    assert_eq!(status.code(), Some(3));
    let said = fs::read_to_string(fixture.bench.path("b.log")).unwrap();
    assert!(said.contains("agent 0.1.0, coordinator 9.9.9"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_gone_name_their_chunks() {
    let fixture = Fixture::new(3, 3000).await;
    let mut control = Control::start(0, 7).await;
    let _a = fixture.agent("a", &[&control], &["--peer-patience", "1s"]);
    let (a, hello_a) = control.hello().await;
    let mut process_b = fixture.agent("b", &[&control], &[]);
    let (b, hello_b) = control.hello().await;
    let agents = [
        (a.clone(), hello_a.address),
        (b.clone(), hello_b.address.clone()),
    ];
    let mut held = encode_all(&fixture, &mut control, 3, &agents).await;
    held.sort_by_key(|held| held.chunk);

    // The disk of one chunk is damaged, then gone, then the whole agent is.
    let run = &held[1].manifest.runs[0].path;
    let good = fs::read(run).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    fs::write(run, bad).unwrap();
    control
        .order(&a, fixture.ingest(0, &fixture.range, &a, &held))
        .await;
    let failure = failed(&mut control).await.failure.unwrap();
    assert_eq!(
        (failure.lost_tasks.as_slice(), failure.retryable),
        ([1].as_slice(), true),
        "{failure:?}"
    );
    fs::remove_file(run).unwrap();
    control
        .order(&a, fixture.ingest(1, &fixture.range, &a, &held))
        .await;
    let failure = failed(&mut control).await.failure.unwrap();
    assert_eq!(failure.lost_tasks, [1], "{failure:?}");
    fs::write(run, good).unwrap();
    process_b.kill().unwrap();
    control
        .order(&a, fixture.ingest(2, &fixture.range, &a, &held))
        .await;
    let failure = failed(&mut control).await.failure.unwrap();
    assert_eq!(
        (failure.lost_tasks.as_slice(), failure.kind.as_str()),
        ([1].as_slice(), "cluster"),
        "{failure:?}"
    );
    assert!(failure.place.contains(&hello_b.address), "{failure:?}");

    // Encoded again at the other agent, the range goes in.
    control.order(&a, fixture.encode(1, 2)).await;
    let (_, done) = encoded(&mut control).await;
    held[1] = Held {
        agent: a.clone(),
        manifest: done.manifest.unwrap(),
        ..held[1].clone()
    };
    control
        .order(&a, fixture.ingest(3, &fixture.range, &a, &held))
        .await;
    ingested(&mut control).await;
    fixture.holds_everything(&held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_agent_hands_its_work_back_and_keeps_its_runs() {
    let fixture = Fixture::new(2, 1000).await;
    let mut text = String::new();
    for id in 0..3_000_000u64 {
        text.push_str(&format!("{id},name-{id},1\n"));
    }
    fixture.bench.file("9.csv", text);
    let mut control = Control::start(0, 7).await;
    let mut process = fixture.agent("a", &[&control], &["--grace", "200ms"]);
    let (agent, hello) = control.hello().await;
    let agents = [(agent.clone(), hello.address)];
    encode_all(&fixture, &mut control, 2, &agents).await;
    control.order(&agent, fixture.encode(9, 1)).await;
    control
        .next("progress", |_, body| {
            matches!(body, Body::Progress(p) if p.rows > 2000).then_some(())
        })
        .await;
    process.signal(Signal::TERM).unwrap();
    let leaving = control.next("leaving", |_, body| match body {
        Body::Leaving(leaving) => Some(leaving),
        _ => None,
    });
    let leaving = leaving.await;
    assert_eq!(
        (leaving.reason.as_str(), leaving.serves),
        ("asked to stop", false)
    );
    let handed_back = failed(&mut control).await;
    assert_eq!(
        (
            handed_back.task_id,
            handed_back.failure.unwrap().kind.as_str()
        ),
        (9, "cancelled")
    );
    control.recorded(&agent, JOB, 9, 1, 7).await;
    assert_eq!(
        process.wait(Duration::from_secs(20)).unwrap().code(),
        Some(0)
    );

    let mut process = fixture.agent("a", &[&control], &[]);
    let (again, hello) = control.hello().await;
    assert_eq!((again, hello.held.len()), (agent.clone(), 2));
    // Drained: no more tasks, and gone with its last run.
    control.order(&agent, Order::Drain(Drain {})).await;
    control.order(&agent, fixture.encode(9, 2)).await;
    let refused = failed(&mut control).await;
    assert_eq!(refused.failure.unwrap().kind, "cancelled");
    control.recorded(&agent, JOB, 9, 2, 7).await;
    assert!(process.ended().unwrap().is_none());
    let all = DropRuns {
        job_id: JOB.into(),
        task_ids: Vec::new(),
    };
    control.order(&agent, Order::DropRuns(all)).await;
    assert_eq!(
        process.wait(Duration::from_secs(20)).unwrap().code(),
        Some(0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_ends_when_runs_are_dropped() {
    let fixture = Fixture::new(3, 20_000).await;
    let mut control = Control::start(0, 7).await;
    let _process = fixture.agent("a", &[&control], &["--disk", "1200KiB"]);
    let (agent, hello) = control.hello().await;
    assert!(hello.disk_free > 1 << 20);
    let agents = [(agent.clone(), hello.address)];
    let held = encode_all(&fixture, &mut control, 1, &agents).await;
    assert!(
        held[0]
            .manifest
            .runs
            .iter()
            .map(|run| run.file_bytes)
            .sum::<u64>()
            > 600 << 10
    );
    control.order(&agent, fixture.encode(1, 1)).await;
    let leaving = control.next("leaving", |_, body| match body {
        Body::Leaving(leaving) => Some(leaving),
        _ => None,
    });
    assert!(leaving.await.serves);
    let handed_back = failed(&mut control).await.failure.unwrap();
    assert_eq!(handed_back.kind, "cancelled");
    assert!(handed_back.cause.contains("no space"), "{handed_back:?}");
    control.order(&agent, fixture.encode(2, 1)).await;
    assert_eq!(
        failed(&mut control).await.failure.unwrap().kind,
        "cancelled"
    );
    for task in [1, 2] {
        control.recorded(&agent, JOB, task, 1, 7).await;
    }
    let dropped = DropRuns {
        job_id: JOB.into(),
        task_ids: vec![0],
    };
    control.order(&agent, Order::DropRuns(dropped)).await;
    let (_, hello) = control.hello().await;
    assert!(hello.held.is_empty());
    control.order(&agent, fixture.encode(1, 2)).await;
    encoded(&mut control).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_can_be_cancelled_and_a_limit_holds_and_can_be_raised() {
    let fixture = Fixture::new(1, 100_000).await;
    let mut control = Control::start(0, 7).await;
    let _process = fixture.agent("a", &[&control], &[]);
    let (agent, hello) = control.hello().await;
    let held = encode_all(&fixture, &mut control, 1, &[(agent.clone(), hello.address)]).await;
    let limit = |store_bytes_per_second| {
        Order::Limit(Limit {
            job_id: JOB.into(),
            store_bytes_per_second,
        })
    };
    // About 8 MB of pairs: hours at 1 KiB/s.
    control.order(&agent, limit(1 << 10)).await;
    control
        .order(&agent, fixture.ingest(0, &fixture.range, &agent, &held))
        .await;
    control
        .next("two heartbeats", |_, body| {
            matches!(body, Body::Progress(_)).then_some(())
        })
        .await;
    let cancel = CancelTask {
        job_id: JOB.into(),
        task_id: 1000,
    };
    control.order(&agent, Order::Cancel(cancel)).await;
    let cancelled = failed(&mut control).await;
    assert_eq!(
        (cancelled.task_id, cancelled.failure.unwrap().kind.as_str()),
        (1000, "cancelled")
    );

    let started = std::time::Instant::now();
    control
        .order(&agent, fixture.ingest(1, &fixture.range, &agent, &held))
        .await;
    for _ in 0..3 {
        control
            .next("a heartbeat", |_, body| match body {
                Body::Progress(progress) => (progress.ingested_bytes == 0).then_some(()),
                Body::IngestDone(_) => panic!("the limit did not hold"),
                _ => None,
            })
            .await;
    }
    control.order(&agent, limit(0)).await;
    ingested(&mut control).await;
    assert!(started.elapsed() < Duration::from_secs(40));
    fixture.holds_everything(&held).await;
}

/// What a process holds beside its buffers: code, stacks, connections, the allocator's slack.
const RSS_BESIDE_BUDGET: u64 = 40 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_budget_holds_for_chunks_and_ranges_of_many_times_its_size() {
    let fixture = Fixture::new(4, 700_000).await;
    let mut control = Control::start(0, 7).await;
    let budget = 64 << 20;
    let a = fixture.agent("a", &[&control], &["--memory", "64MiB"]);
    let b = fixture.agent("b", &[&control], &["--memory", "64MiB"]);
    let agents = two_agents(&mut control).await;
    let held = encode_all(&fixture, &mut control, 4, &agents).await;
    let raw: u64 = held
        .iter()
        .map(|held| checksum(held.manifest.checksum).bytes)
        .sum();
    assert!(raw > 6 * budget, "{raw} bytes of pairs");
    let (agent, _) = &agents[0];
    let all = fixture.ingest(0, &fixture.range, agent, &held);
    control.order(agent, all).await;
    ingested(&mut control).await;
    for process in [&a, &b] {
        let peak = peak_rss(process.pid()).unwrap();
        println!(
            "budget {} MiB, pairs {} MiB, peak RSS {} MiB",
            budget >> 20,
            raw >> 20,
            peak >> 20
        );
        assert!(peak < budget + RSS_BESIDE_BUDGET, "{} MiB", peak >> 20);
    }
    fixture.holds_everything(&held).await;
}
