//! Imports into a cluster that speaks TLS only and asks for certificates.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Duration;
use thunderhead_cluster::{SqlTls, TidbClient, TidbOptions};
use thunderhead_net::{Security, Server, ServerTls, bind};
use thunderhead_tests::certificates::{authority, write};
use thunderhead_tests::import::Bench;

fn section(files: &Security) -> String {
    let path = |p: &Option<PathBuf>| p.clone().unwrap();
    format!(
        "\n[security]\nca-path = {:?}\ncert-path = {:?}\nkey-path = {:?}\n",
        path(&files.ca),
        path(&files.cert),
        path(&files.key)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_under_mutual_tls_reads_the_same_and_strangers_are_refused() {
    let certs = tempfile::tempdir().unwrap();
    let (ours, theirs) = (authority(), authority());
    let server = write(certs.path(), "server", &ours, &ours);
    let client = write(certs.path(), "client", &ours, &ours);
    let stranger = write(certs.path(), "stranger", &ours, &theirs);
    let elsewhere = write(certs.path(), "elsewhere", &theirs, &theirs);
    let path = |p: &Option<PathBuf>| p.clone().unwrap().to_string_lossy().into_owned();
    let mut bench = Bench::start(&[
        "--ca",
        &path(&server.ca),
        "--cert",
        &path(&server.cert),
        "--key",
        &path(&server.key),
    ]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.t (a INT PRIMARY KEY, b VARCHAR(9), KEY kb (b))",
        ])
        .await;
    bench.file("d.t.csv", "a,b\n1,x\n2,y\n");

    // No TLS at all, a certificate that the servers' authority did not give, servers of another authority.
    bench
        .import(&["--set", "thunderhead.retry-time=1s"])
        .fails(7, &["PD"]);
    for files in [&stranger, &elsewhere] {
        bench.extra = section(files);
        bench
            .import(&["--set", "thunderhead.retry-time=1s"])
            .fails(7, &["PD"]);
    }
    bench.extra = section(&client);
    bench.import(&[]).succeeds();
    assert_eq!(
        bench.query("SELECT a, b FROM d.t ORDER BY a").await,
        [["1", "x"], ["2", "y"]]
    );
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_shows_its_new_certificate_without_a_restart() {
    let certs = tempfile::tempdir().unwrap();
    let (old, new) = (authority(), authority());
    let files = write(certs.path(), "server", &old, &old);
    let tls = ServerTls::new(&files).unwrap();
    let (listener, address) = bind("127.0.0.1", 0).await.unwrap();
    let router = axum::Router::new().route("/", axum::routing::get(|| async { "hello" }));
    let _server = Server::start(listener, router, tls);
    let trusts_new = write(certs.path(), "client", &new, &new);
    let connector = thunderhead_cluster::Connector::new(&trusts_new).unwrap();
    let url = connector.url(&address.to_string());
    let ask = || async { connector.http().get(&url).send().await };
    assert!(ask().await.is_err());
    write(certs.path(), "server", &new, &new);
    let answered = async {
        while ask().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), answered)
        .await
        .expect("the new certificate is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_tidb_takes_new_certificates_of_a_new_authority_for_its_next_connections() {
    let certs = tempfile::tempdir().unwrap();
    let (old, new) = (authority(), authority());
    let server = write(certs.path(), "server", &old, &old);
    let client = write(certs.path(), "client", &old, &old);
    let path = |p: &Option<PathBuf>| p.clone().unwrap().to_string_lossy().into_owned();
    let (ca, cert, key) = (path(&server.ca), path(&server.cert), path(&server.key));
    let bench = Bench::start(&["--ca", &ca, "--cert", &cert, "--key", &key]);
    let connect = |security: &Security| {
        TidbClient::connect(TidbOptions {
            host: "127.0.0.1".to_owned(),
            port: bench.sandbox.sql_port,
            user: "root".to_owned(),
            password: String::new(),
            status_port: bench.sandbox.status_port,
            security: security.clone(),
            sql_tls: SqlTls::Verify,
        })
    };
    let tidb = connect(&client).await.unwrap();
    write(certs.path(), "server", &new, &new);
    write(certs.path(), "client", &new, &new);
    // The server has its new one when it lets in who knows no other.
    let probe = write(certs.path(), "probe", &new, &new);
    let taken = async { while connect(&probe).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(30), taken)
        .await
        .expect("the server takes its new certificate");
    // The client has one connection, from before; these need more.
    let ask = || tidb.query("SELECT 1");
    let (a, b, c) = tokio::join!(ask(), ask(), ask());
    for answer in [a, b, c] {
        assert_eq!(answer.unwrap().len(), 1);
    }
}
