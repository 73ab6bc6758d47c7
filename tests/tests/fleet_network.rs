//! A fleet on several hosts: processes in network namespaces of their own, with delays, losses and partitions between
//! them. Skipped with a message where the kernel forbids namespaces.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};
use thunderhead_tests::fleet::{self, Fleet};
use thunderhead_tests::import::Bench;
use thunderhead_tests::netns::Network;

/// Two coordinators, four agents, and the cluster.
const HOSTS: usize = 7;
const CLUSTER: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn slow_lossy_and_cut_links_between_hosts_change_nothing_in_the_tables() {
    let network = match Network::new(HOSTS) {
        Ok(network) => network,
        Err(why) => {
            eprintln!("SKIPPED: no network namespaces here: {why}");
            return;
        }
    };
    for host in 0..HOSTS {
        if let Err(why) = network.shape(host) {
            eprintln!("WITHOUT delays and losses: this kernel cannot shape links: {why}");
            break;
        }
    }
    let rows = 60_000;
    let expected = fleet::by_one_process(rows).await;
    let host = network.address(CLUSTER);
    let bench = Bench::start_in(&network.namespace(CLUSTER), &["--host", &host]);
    let bench = fleet::tables_of(bench, rows).await;
    let fleet = Fleet::on(bench, 2, Some(network));
    let _agents = ["a", "b", "c", "d"].map(|name| fleet.agent(name, &["--threads", "1"]));
    fleet.wait("four agents", |fleet| {
        fleet.agents().is_some_and(|agents| agents.len() == 4)
    });
    let job = fleet.submit(&fleet::SETTINGS);
    fleet.wait_progress(&job, "chunks_done", 2);
    // One agent and one coordinator, longer than a lease and shorter than two.
    let network = fleet.network.as_ref().unwrap();
    let pause = async |seconds| {
        let over = Instant::now() + Duration::from_secs(seconds);
        fleet.wait("the partition to pass", |_| Instant::now() > over);
    };
    network.cut(3, true);
    network.cut(0, true);
    pause(5).await;
    network.cut(3, false);
    network.cut(0, false);
    fleet.wait_progress(&job, "ranges_done", 1);
    network.cut(1, true);
    network.cut(4, true);
    pause(5).await;
    network.cut(1, false);
    network.cut(4, false);
    // PD, the stores and TiDB, all at once.
    fleet.wait_progress(&job, "ranges_done", 3);
    network.cut(CLUSTER, true);
    pause(5).await;
    network.cut(CLUSTER, false);
    fleet.wait_finished(&job);
    fleet.is_complete_and_clean(&expected).await;
}
