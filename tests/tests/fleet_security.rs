//! A fleet under mutual TLS: coordinator, agents and cluster ask everyone for a certificate of their authority.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Duration;
use thunderhead_cluster::Connector;
use thunderhead_net::Security;
use thunderhead_proto::thunderhead::{DescribeRun, runs_client::RunsClient};
use thunderhead_tests::certificates::{authority, write};
use thunderhead_tests::control::Control;
use thunderhead_tests::fixture::{Fixture, encode_all, ingested, two_agents};
use thunderhead_tests::fleet::{Fleet, SETTINGS, by_one_process, sums, tables};
use thunderhead_tests::import::Bench;
use tonic::Code;

fn path(p: &Option<PathBuf>) -> String {
    p.clone().unwrap().to_string_lossy().into_owned()
}

/// How an agent answers who asks with these certificates.
async fn ask(address: &str, security: &Security) -> Code {
    let endpoint = Connector::new(security).unwrap().endpoint(address).unwrap();
    let mut client = RunsClient::new(endpoint.connect_lazy());
    client
        .describe(DescribeRun::default())
        .await
        .unwrap_err()
        .code()
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_ask_for_certificates_show_theirs_and_take_new_ones() {
    let certs = tempfile::tempdir().unwrap();
    let (old, new, foreign) = (authority(), authority(), authority());
    let server = write(certs.path(), "server", &old, &old);
    let files = write(certs.path(), "agent", &old, &old);
    let stranger = write(certs.path(), "stranger", &old, &foreign);
    let (ca, cert, key) = (path(&server.ca), path(&server.cert), path(&server.key));
    let bench = Bench::start(&["--ca", &ca, "--cert", &cert, "--key", &key]);
    let fixture = Fixture::on(bench, files.clone(), 2, 5000).await;

    let mut control = Control::start_secured(0, 7, &server).await;
    let (ca, cert, key) = (path(&files.ca), path(&files.cert), path(&files.key));
    let tls = ["--ca-path", &ca, "--cert-path", &cert, "--key-path", &key];
    let _a = fixture.agent("a", &[&control], &tls);
    let _b = fixture.agent("b", &[&control], &tls);
    let agents = two_agents(&mut control).await;
    let held = encode_all(&fixture, &mut control, 2, &agents).await;
    let (agent, address) = &agents[0];
    control
        .order(agent, fixture.ingest(0, &fixture.range, agent, &held))
        .await;
    ingested(&mut control).await;
    fixture.holds_everything(&held).await;
    assert_eq!(ask(address, &files).await, Code::NotFound);
    assert_ne!(ask(address, &stranger).await, Code::NotFound);
    assert_ne!(ask(address, &Security::default()).await, Code::NotFound);

    // Everybody gets new certificates of a new authority; nobody is restarted but the coordinator.
    let port = control.port();
    control.stop().await;
    let before = write(certs.path(), "before", &old, &old);
    let server = write(certs.path(), "server", &new, &new);
    write(certs.path(), "agent", &new, &new);
    let mut control = Control::start_secured(port, 8, &server).await;
    two_agents(&mut control).await;
    let asked = async { while ask(address, &files).await != Code::NotFound {} };
    tokio::time::timeout(Duration::from_secs(30), asked)
        .await
        .unwrap();
    assert_ne!(ask(address, &before).await, Code::NotFound);
}

/// Two coordinators, agents, etcd, PD, TiKV, TiDB and people: nobody is let in without a certificate, and new ones are
/// taken by processes that run.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_fleet_works_under_mutual_tls_and_takes_new_certificates_while_it_runs() {
    let rows = 30_000;
    let expected = by_one_process(rows).await;
    let certs = tempfile::tempdir().unwrap();
    let (ours, foreign) = (authority(), authority());
    let files = write(certs.path(), "fleet", &ours, &ours);
    let stranger = write(certs.path(), "stranger", &ours, &foreign);
    let (ca, cert, key) = (path(&files.ca), path(&files.cert), path(&files.key));
    let mut bench = tables(&["--ca", &ca, "--cert", &cert, "--key", &key], rows).await;
    bench.extra =
        format!("\n[security]\nca-path = {ca:?}\ncert-path = {cert:?}\nkey-path = {key:?}\n");
    let mut fleet = Fleet::start_secured(bench, 2, &files);
    let job = fleet.submit(&SETTINGS);

    // Neither without a certificate, nor with one of somebody else.
    let anonymous = Security {
        ca: files.ca.clone(),
        ..Security::default()
    };
    let leader = fleet.leader().unwrap();
    let coordinators = fleet.address();
    let address = coordinators.split(',').nth(leader).unwrap();
    let served = async |security: &Security| {
        let connector = Connector::new(security).unwrap();
        let url = format!("{}/v1/agents", connector.url(address));
        let answer = connector.http().get(url).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    };
    assert!(served(&files).await);
    for other in [&Security::default(), &anonymous, &stranger] {
        assert!(!served(other).await, "{other:?}");
    }

    // Everything new, the authority too; nobody is started again but etcd. Who comes now knows the new ones only.
    let new = authority();
    write(certs.path(), "fleet", &new, &new);
    fleet.etcd.restart().unwrap();
    let _a = fleet.agent("a", &["--threads", "1"]);
    let _b = fleet.agent("b", &["--threads", "1"]);
    fleet.wait("two agents", |fleet| fleet.active() == 2);
    fleet.wait_progress(&job, "chunks_done", 1);
    fleet.coordinators[leader].take().unwrap().kill().unwrap();
    fleet.wait_finished(&job);
    assert_eq!(sums(&fleet.bench).await, expected);
}
