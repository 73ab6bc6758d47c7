//! A source that lies on the hosts of agents, where neither the coordinators nor whoever submits the job see it. Each
//! host is a mount namespace; skipped with a message where the kernel forbids them.
#![allow(clippy::unwrap_used)]

use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use thunderhead_cluster::Connector;
use thunderhead_net::Security;
use thunderhead_proto::thunderhead::{ListFiles, files_client::FilesClient};
use thunderhead_tests::certificates::{authority, write};
use thunderhead_tests::fleet::{Fleet, SOURCE_POINT, nothing_is_open};
use thunderhead_tests::import::Bench;
use thunderhead_tests::process::Process;

const TABLE: &str =
    "CREATE TABLE d.t (id BIGINT PRIMARY KEY CLUSTERED, a VARCHAR(64), b INT, KEY b (b))";
const SMALL: [&str; 4] = ["--memory", "64MiB", "--threads", "1"];
const ROWS: u64 = 20_000;

/// Rows of one file out of six, in an order that is not that of the key.
fn rows(file: u64) -> impl Iterator<Item = (u64, String, u64)> {
    (0..ROWS).map(move |i| {
        let id = (i * 6 + file).wrapping_mul(7_368_787) % 15_485_863;
        (id, format!("{:x}{:x}", id * id, id * 31), id % 1000)
    })
}

fn csv(file: u64) -> Vec<u8> {
    let mut text = b"id,a,b\n".to_vec();
    for (id, a, b) in rows(file) {
        writeln!(text, "{id},{a},{b}").unwrap();
    }
    text
}

fn gzip(file: u64) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&csv(file)).unwrap();
    packed.finish().unwrap()
}

fn sql(file: u64) -> Vec<u8> {
    let values: Vec<String> = rows(file)
        .map(|(id, a, b)| format!("({id},'{a}',{b})"))
        .collect();
    format!(
        "INSERT INTO `t` (`id`,`a`,`b`) VALUES\n{};\n",
        values.join(",\n")
    )
    .into_bytes()
}

fn parquet(file: u64) -> Vec<u8> {
    let schema = "message m { required int64 id; required binary a (UTF8); required int32 b; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    let rows: Vec<_> = rows(file).collect();
    for part in rows.chunks(ROWS as usize / 4) {
        let mut group = writer.next_row_group().unwrap();
        let ids: Vec<i64> = part.iter().map(|row| row.0 as i64).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int64Type>()
            .write_batch(&ids, None, None)
            .unwrap();
        column.close().unwrap();
        let texts: Vec<ByteArray> = part.iter().map(|row| row.1.as_str().into()).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&texts, None, None)
            .unwrap();
        column.close().unwrap();
        let numbers: Vec<i32> = part.iter().map(|row| row.2 as i32).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int32Type>()
            .write_batch(&numbers, None, None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

/// A fleet, and hosts with directories of their own; `None` where that cannot be.
async fn fleet(coordinators: usize) -> Option<Fleet> {
    if let Err(why) = Process::can_have_mounts() {
        eprintln!("SKIPPED: no mount namespaces here: {why}");
        return None;
    }
    Some(Fleet::start(Bench::start(&[]), coordinators))
}

/// Puts a file into the directory of all files and into those of these hosts; all have the same time.
fn put(fleet: &Fleet, hosts: &[&str], name: &str, content: &[u8]) {
    fleet.bench.file(name, content);
    let whole = fleet.bench.path("data").join(name);
    for host in hosts {
        let dir = host_dir(fleet, host);
        fs::hard_link(&whole, dir.join(name)).unwrap();
    }
}

fn host_dir(fleet: &Fleet, host: &str) -> PathBuf {
    let dir = fleet.bench.path(&format!("files-of-{host}"));
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn agent(fleet: &Fleet, host: &str) -> Process {
    fleet.agent_with_files(host, &host_dir(fleet, host), None, &SMALL)
}

/// Submits what the hosts hold.
fn submit(fleet: &Fleet, agents: u32, settings: &[&str]) -> String {
    let source = format!("mydumper.data-source-dir={}", fleet.host_data().display());
    let agents = format!("thunderhead.source-agents={agents}");
    let all = [
        &[source.as_str(), &agents, "mydumper.max-region-size=128KiB"],
        settings,
    ]
    .concat();
    fleet.submit(&all)
}

fn text(fleet: &Fleet, job: &str, part: &str, field: &str) -> String {
    let status = fleet.status(job).unwrap_or_default();
    status[part][field].as_str().unwrap_or_default().to_owned()
}

fn wait_for_error(fleet: &Fleet, job: &str) -> Value {
    fleet.wait("the job to fail", |f| {
        text(f, job, "job", "state") == "failed"
    });
    fleet.status(job).unwrap()["job"]["error"].clone()
}

/// The tables hold what one process makes of all files together, and nothing is left of the job.
async fn all_is_well(fleet: &Fleet, files: u64) {
    let bench = &fleet.bench;
    let left = fleet.etcd.keys().await;
    let left = left
        .iter()
        .find(|key| key.contains("/jobs/") || key.contains("/parts/"));
    assert_eq!(left, None);
    nothing_is_open(bench).await;
    let count = (files * ROWS).to_string();
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.t").await, [[count]]);
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    let pairs = bench.query("ADMIN CHECKSUM TABLE d.t").await;
    bench.sql(&["TRUNCATE TABLE d.t"]).await;
    bench.import(&[]).succeeds();
    let single = bench.query("ADMIN CHECKSUM TABLE d.t").await;
    assert_eq!(
        pairs[0][3..],
        single[0][3..],
        "pairs and bytes as by one process"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_two_hosts_that_nobody_else_sees_become_the_table_of_one_process() {
    let Some(fleet) = fleet(1).await else { return };
    put(&fleet, &["a"], "d-schema-create.sql", b"CREATE DATABASE d;");
    put(
        &fleet,
        &["a", "b"],
        "d.t-schema.sql",
        format!("{TABLE};").as_bytes(),
    );
    put(&fleet, &["a"], "d.t.000.csv", &csv(0));
    put(&fleet, &["a", "b"], "d.t.001.csv", &csv(1));
    put(&fleet, &["b"], "d.t.002.csv", &csv(2));
    put(&fleet, &["b"], "d.t.003.csv.gz", &gzip(3));
    put(&fleet, &["a"], "d.t.004.sql", &sql(4));
    put(&fleet, &["b"], "d.t.005.parquet", &parquet(5));
    // What is not for the job may differ.
    fs::write(host_dir(&fleet, "a").join("README"), "one").unwrap();
    fs::write(host_dir(&fleet, "b").join("README"), "another").unwrap();
    let job = submit(&fleet, 2, &[]);
    let waits = |f: &Fleet, what: &str| text(f, &job, "job", "waiting_for").contains(what);
    fleet.wait("a word about agents", |f| waits(f, "0 of 2 are here"));
    // One that sees nothing of it and says so, and one that shows nothing.
    let _none = fleet.agent_with_files("none", &host_dir(&fleet, "none"), None, &SMALL);
    let _mute = fleet.agent("mute", &SMALL);
    let _a = agent(&fleet, "a");
    fleet.wait("a word about the other", |f| waits(f, "1 of 2 are here"));
    // The same job again joins it while it waits.
    assert_eq!(submit(&fleet, 2, &[]), job);
    let _b = agent(&fleet, "b");
    let report = fleet.wait_finished(&job);
    assert_eq!(report["tables"][0]["rows"], 6 * ROWS);
    // And is told to be finished, by those who hold the source, when it comes once more.
    assert_eq!(submit(&fleet, 2, &[]), job);
    fleet.wait_finished(&job);
    all_is_well(&fleet, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn different_files_of_one_name_and_files_beside_the_plan_are_refused() {
    let Some(fleet) = fleet(1).await else { return };
    fleet.bench.sql(&["CREATE DATABASE d", TABLE]).await;
    put(&fleet, &["a"], "d.t.000.csv", &csv(0));
    put(&fleet, &["a"], "d.t.001.csv", &csv(1));
    // Same size, another content and time.
    let theirs = host_dir(&fleet, "b").join("d.t.001.csv");
    fs::write(&theirs, csv(1).to_ascii_uppercase()).unwrap();
    let (mut a, mut b) = (agent(&fleet, "a"), agent(&fleet, "b"));
    fleet.wait("two agents", |fleet| fleet.active() == 2);
    let job = submit(&fleet, 2, &[]);
    let error = wait_for_error(&fleet, &job);
    assert_eq!(error["kind"], "data", "{error}");
    assert!(
        error["place"].as_str().unwrap().ends_with("/d.t.001.csv"),
        "{error}"
    );
    let cause = error["cause"].as_str().unwrap();
    assert!(
        cause.contains("hold different files of this name"),
        "{error}"
    );
    // Mended; and an agent that comes with rows that the plan does not hold ends the job before it ends without them.
    fs::remove_file(&theirs).unwrap();
    put(&fleet, &["b"], "d.t.002.csv", &csv(2));
    a.kill().unwrap();
    b.kill().unwrap();
    fleet.wait("them to be away", |fleet| fleet.active() == 0);
    // Stands still in its first chunk, so that the job cannot end before the other one comes.
    let dir = host_dir(&fleet, "a");
    let mut a = fleet.agent_with_files("a", &dir, Some("publish=stop"), &SMALL);
    fleet.wait("it to be back", |fleet| fleet.active() == 1);
    assert_eq!(submit(&fleet, 1, &[]), job);
    fleet.wait("it to stand still", |_| a.is_stopped());
    let b = agent(&fleet, "b");
    let error = wait_for_error(&fleet, &job);
    assert!(
        error["place"].as_str().unwrap().ends_with("/d.t.002.csv"),
        "{error}"
    );
    assert!(
        error["cause"].as_str().unwrap().contains("not there when"),
        "{error}"
    );
    // With both of them it is another source: what is in the table is not the beginning of it.
    a.kill().unwrap();
    let _a = agent(&fleet, "a");
    fleet.bench.sql(&["TRUNCATE TABLE d.t"]).await;
    fleet.wait("two agents", |fleet| fleet.active() == 2);
    assert_eq!(submit(&fleet, 2, &[]), job);
    fleet.wait_finished(&job);
    drop(b);
    all_is_well(&fleet, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_which_agents_have_more_than_the_coordinator_is_refused_and_told_how_to_say_so()
{
    let Some(fleet) = fleet(1).await else { return };
    fleet.bench.sql(&["CREATE DATABASE d", TABLE]).await;
    put(&fleet, &["a"], "d.t.000.csv", &csv(0));
    put(&fleet, &["a"], "d.t.001.csv", &csv(1));
    let _a = agent(&fleet, "a");
    fleet.wait("an agent", |fleet| fleet.active() == 1);
    let (config, data) = (fleet.bench.config(), fleet.host_data());
    let (config, dir) = (config.to_str().unwrap(), data.to_str().unwrap());
    let refused = |what: &str| {
        let output = fleet.ask(&["submit", "--config", config, "--data-source-dir", dir]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(
            text.contains(what) && text.contains("thunderhead.source-agents"),
            "{text}"
        );
    };
    refused("no such directory");
    fs::create_dir(&data).unwrap();
    let here = |name: &str| {
        fs::hard_link(fleet.bench.path("data").join(name), data.join(name)).unwrap();
    };
    here("d.t.000.csv");
    refused("d.t.001.csv");
    here("d.t.001.csv");
    let source = format!("mydumper.data-source-dir={dir}");
    let job = fleet.submit(&[&source]);
    fleet.wait_finished(&job);
    all_is_well(&fleet, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_and_the_leader_that_die_are_waited_for_and_followed() {
    let Some(mut fleet) = fleet(2).await else {
        return;
    };
    fleet.bench.sql(&["CREATE DATABASE d", TABLE]).await;
    for file in 0..4 {
        let host = if file < 2 { "a" } else { "b" };
        put(&fleet, &[host], &format!("d.t.00{file}.csv"), &csv(file));
    }
    let leader = fleet.leader().unwrap();
    fleet.coordinators[leader].take().unwrap().kill().unwrap();
    fleet.wait("the other to lead", |f| f.leader() == Some(1 - leader));
    // It dies when the list of the files is recorded, but no plan.
    fleet.coordinators[1 - leader]
        .take()
        .unwrap()
        .kill()
        .unwrap();
    fleet.coordinators[1 - leader] = Some(fleet.armed_coordinator(1 - leader, SOURCE_POINT));
    let _a = agent(&fleet, "a");
    // Dies with its first chunk.
    let mut b = fleet.agent_with_files("b", &host_dir(&fleet, "b"), Some("sync"), &SMALL);
    fleet.wait("two agents", |fleet| fleet.active() == 2);
    let job = submit(&fleet, 2, &[]);
    let armed = fleet.coordinators[1 - leader].as_mut().unwrap();
    armed.wait(std::time::Duration::from_secs(60)).unwrap();
    fleet.coordinators[leader] = Some(fleet.coordinator(leader));
    b.wait(std::time::Duration::from_secs(60)).unwrap();
    let name = fs::read_to_string(fleet.sort_dir("b").join("agent-id")).unwrap();
    let missing = |f: &Fleet| {
        let waits = text(f, &job, "progress", "waiting_for");
        waits.contains("hold the files in") && waits.ends_with(&name)
    };
    fleet.wait("a word about the one that died", missing);
    // The next leader knows it, too, though it never heard of that agent.
    fleet.coordinators[leader].take().unwrap().kill().unwrap();
    fleet.coordinators[1 - leader] = Some(fleet.coordinator(1 - leader));
    fleet.wait("a word of the next leader", missing);
    let _b = agent(&fleet, "b");
    fleet.wait_finished(&job);
    all_is_well(&fleet, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_two_hosts_is_read_at_the_other_when_one_dies() {
    let Some(fleet) = fleet(1).await else { return };
    fleet.bench.sql(&["CREATE DATABASE d", TABLE]).await;
    for file in 0..2 {
        put(
            &fleet,
            &["a", "b"],
            &format!("d.t.00{file}.csv"),
            &csv(file),
        );
    }
    let _a = agent(&fleet, "a");
    let mut b = fleet.agent_with_files("b", &host_dir(&fleet, "b"), Some("sync"), &SMALL);
    fleet.wait("two agents", |fleet| fleet.active() == 2);
    let job = submit(&fleet, 2, &[]);
    b.wait(std::time::Duration::from_secs(60)).unwrap();
    fleet.wait_finished(&job);
    all_is_well(&fleet, 2).await;
}

/// Small files share a chunk where the same hosts have them; whoever gets it reads all of them.
#[tokio::test(flavor = "multi_thread")]
async fn small_files_share_chunks_by_their_hosts() {
    let Some(fleet) = fleet(1).await else { return };
    fleet.bench.sql(&["CREATE DATABASE d", TABLE]).await;
    let holders: [&[&str]; 3] = [&["a"], &["a", "b"], &["b"]];
    for file in 0..30 {
        let rows = (file * 10..file * 10 + 10).map(|id| format!("{id},x,{file}\n"));
        let text = format!("id,a,b\n{}", rows.collect::<String>());
        let name = format!("d.t.{file:03}.csv");
        put(&fleet, holders[file / 10], &name, text.as_bytes());
    }
    let _a = agent(&fleet, "a");
    let mut b = fleet.agent_with_files("b", &host_dir(&fleet, "b"), Some("sync"), &SMALL);
    fleet.wait("two agents", |fleet| fleet.active() == 2);
    let job = submit(&fleet, 2, &[]);
    // With its first chunk, be it the one of both or its own.
    b.wait(std::time::Duration::from_secs(60)).unwrap();
    fleet.wait("the others to be done", |fleet| {
        let progress = fleet.status(&job).unwrap_or_default()["progress"].clone();
        progress["chunks_done"] == 2 && progress["chunks"] == 3
    });
    let _b = agent(&fleet, "b");
    fleet.wait_finished(&job);
    let found = fleet
        .bench
        .query("SELECT COUNT(*), SUM(id), SUM(b) FROM d.t")
        .await;
    assert_eq!(found, [["300", "44850", "4350"]]);
    fleet.bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_show_files_to_the_fleet_only_and_take_its_new_certificates() {
    if let Err(why) = Process::can_have_mounts() {
        eprintln!("SKIPPED: no mount namespaces here: {why}");
        return;
    }
    let certs = tempfile::tempdir().unwrap();
    let (ours, foreign) = (authority(), authority());
    let files = write(certs.path(), "fleet", &ours, &ours);
    let stranger = write(certs.path(), "stranger", &ours, &foreign);
    let [ca, cert, key] = [&files.ca, &files.cert, &files.key]
        .map(|path| path.clone().unwrap().display().to_string());
    let mut bench = Bench::start(&["--ca", &ca, "--cert", &cert, "--key", &key]);
    bench.extra =
        format!("\n[security]\nca-path = {ca:?}\ncert-path = {cert:?}\nkey-path = {key:?}\n");
    let mut fleet = Fleet::start_secured(bench, 1, &files);
    put(&fleet, &["a"], "d-schema-create.sql", b"CREATE DATABASE d;");
    let table = format!("{TABLE};");
    put(&fleet, &["a", "b"], "d.t-schema.sql", table.as_bytes());
    put(&fleet, &["a"], "d.t.000.csv", &csv(0));
    put(&fleet, &["b"], "d.t.001.csv", &csv(1));
    let job = submit(&fleet, 2, &[]);
    let _a = agent(&fleet, "a");
    fleet.wait("a word about the other", |f| {
        text(f, &job, "job", "waiting_for").contains("1 of 2 are here")
    });
    let address = fleet.agents().unwrap()[0]["address"].clone();
    let root = fleet.host_data().display().to_string();
    let list = async |security: &Security| {
        let connector = Connector::new(security).unwrap();
        let endpoint = connector.endpoint(address.as_str().unwrap()).unwrap();
        let root = root.clone();
        FilesClient::new(endpoint.connect_lazy())
            .list(ListFiles { root })
            .await
    };
    assert!(list(&files).await.is_ok());
    let anonymous = Security {
        ca: files.ca.clone(),
        ..Security::default()
    };
    for other in [&Security::default(), &anonymous, &stranger] {
        assert!(list(other).await.is_err(), "{other:?}");
    }

    // Everything new, the authority too; nobody is started again but etcd.
    let new = authority();
    write(certs.path(), "fleet", &new, &new);
    fleet.etcd.restart().unwrap();
    let _b = agent(&fleet, "b");
    let report = fleet.wait_finished(&job);
    assert_eq!(report["tables"][0]["rows"], 2 * ROWS);
    let counted = fleet.bench.query("SELECT COUNT(*) FROM d.t").await;
    assert_eq!(counted, [[(2 * ROWS).to_string()]]);
    fleet.bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
}
