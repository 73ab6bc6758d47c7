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
