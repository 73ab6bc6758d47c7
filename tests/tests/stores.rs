//! Imports from an object store, as users run them.
#![allow(clippy::unwrap_used)]

use flate2::write::GzEncoder;
use std::io::Write;
use thunderhead_coordinator::store::{EtcdConfig, EtcdStore, StateStore};
use thunderhead_net::Security;
use thunderhead_tests::certificates::{self, authority};
use thunderhead_tests::clouds::{ACCOUNT, ACCOUNT_KEY, Asked, Cloud};
use thunderhead_tests::emulators::{Azurite, FakeGcs};
use thunderhead_tests::fleet::{Fleet, SETTINGS};
use thunderhead_tests::import::{Bench, Outcome};
use thunderhead_tests::s3::S3;

const DDL: &str = "CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR(20), KEY kn (name));\n";

fn import(bench: &Bench, uri: &str, args: &[&str]) -> Outcome {
    let mut all = vec!["-d", uri, "--no-progress"];
    all.extend(args);
    let outcome = bench.import(&all);
    let sorted = bench.path("sorted/state.redb");
    let kept = std::fs::read(sorted).unwrap_or_default();
    let shown = format!("{}{}", outcome.stdout, outcome.stderr);
    for secret in ["SECRETEXAMPLE", "AKEXAMPLE", ACCOUNT_KEY, "TOKENEXAMPLE"] {
        assert!(!shown.contains(secret), "{shown}");
        let found = kept.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!found, "the state on disk holds a credential");
    }
    outcome
}

fn rows(from: u32, to: u32) -> String {
    (from..to).map(|id| format!("{id},name-{id}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_in_a_bucket_is_imported_with_its_schema() {
    let (mut bench, s3) = (Bench::start(&[]), S3::start());
    bench.extra = "[mydumper.csv]\nheader = false".into();
    s3.put("dump/d-schema-create.sql", "CREATE DATABASE d;")
        .await;
    s3.put("dump/d.t-schema.sql", DDL).await;
    // More than the blocks that are read ahead, so that a chunk begins in the middle of the object.
    s3.put("dump/d.t.0.csv", rows(0, 400_000)).await;
    s3.put("dump/sub/d.t.1.csv", rows(400_000, 400_010)).await;
    import(&bench, &s3.uri("dump/"), &["--threads", "2"]).succeeds();
    let found = bench
        .query("SELECT COUNT(*), SUM(id), MAX(name) FROM d.t")
        .await;
    assert_eq!(found, [["400010", "80003800045", "name-99999"]]);
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_star_takes_matching_objects_of_one_directory_and_not_of_those_below() {
    let (mut bench, s3) = (Bench::start(&[]), S3::start());
    bench
        .sql(&[
            "CREATE DATABASE d",
            &format!("USE d; {DDL}").replace("USE d; CREATE TABLE t", "CREATE TABLE d.t"),
        ])
        .await;
    bench.extra = "[mydumper.csv]\nheader = false\n[[mydumper.files]]\npattern = '.*'\nschema = 'd'\ntable = 't'\ntype = 'csv'".into();
    s3.put("x/foo1.csv", "1,a\n").await;
    s3.put("x/foo2.csv", "2,b\n").await;
    s3.put("x/bar.csv", "3,c\n").await;
    s3.put("x/below/foo3.csv", "4,d\n").await;
    import(&bench, &s3.uri("x/foo*.csv"), &[]).succeeds();
    let found = bench.query("SELECT id FROM d.t ORDER BY id").await;
    assert_eq!(found, [["1"], ["2"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_has_not_is_named_with_its_uri() {
    let (bench, s3) = (Bench::start(&[]), S3::start());
    import(&bench, &s3.uri("none/x*.csv"), &[])
        .fails(3, &["s3://bucket/none/x*.csv", "no object matches"]);
    import(&bench, &s3.uri("none/"), &[]).fails(3, &["s3://bucket/none/"]);
    let wrong = format!("{}&colour=red", s3.uri("x/"));
    import(&bench, &wrong, &[]).fails(2, &["unknown option \"colour\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_about_a_malformed_uri_shows_its_secrets() {
    let bench = Bench::start(&[]);
    for uri in [
        "s3:/bucket/x?secret-access-key=SECRETEXAMPLE",
        "s3://AKEXAMPLE:SECRETEXAMPLE@bucket/x",
        "s3:///x?secret-access-key=SECRETEXAMPLE",
        "s3://bucket/%zz?secret-access-key=SECRETEXAMPLE&access-key=AKEXAMPLE",
        "s3://bucket/x?secret-access-key=SECRETEXAMPLE",
        "s3://bucket/x?access-key=AKEXAMPLE&secret-access-key=SECRETEXAMPLE&endpoint=SECRETEXAMPLE",
        "s3://bucket/x?access-key=AKEXAMPLE&secret-access-key=SECRETEXAMPLE&endpoint=http://[",
        "S3//bucket/x?SECRETEXAMPLE",
        "gs://bucket/x?credentials-file=/none/SECRETEXAMPLE",
        "azblob://c/x?account-name=a&account-key=SECRETEXAMPLE*",
        "azblob://c/x?account-name=a&sas-token=SECRETEXAMPLE&colour=AKEXAMPLE",
        "http://AKEXAMPLE:SECRETEXAMPLE@127.0.0.1:1/d.t.csv",
    ] {
        let outcome = import(&bench, uri, &[]);
        assert!(outcome.code > 0 && outcome.code < 100, "{uri}: {outcome:?}");
    }
}

const NO_HEADER: &str = "[mydumper.csv]\nheader = false";

fn gzip(text: &str) -> Vec<u8> {
    let mut to = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    to.write_all(text.as_bytes()).unwrap();
    to.finish().unwrap()
}

/// An export with packed schema files, more objects than a page of a list has, and one below.
fn export(cloud: &Cloud, dir: &str) {
    cloud.put(
        &format!("{dir}/d-schema-create.sql.gz"),
        gzip("CREATE DATABASE d;"),
    );
    cloud.put(&format!("{dir}/d.t-schema.sql.gz"), gzip(DDL));
    for file in 0..5 {
        let text = rows(file * 10, file * 10 + 10);
        cloud.put(&format!("{dir}/d.t.{file}.csv"), text);
    }
    cloud.put(&format!("{dir}/below/d.t.9.csv"), rows(90, 100));
}

async fn imported(bench: &Bench, uri: &str) -> Vec<Vec<String>> {
    import(bench, uri, &[]).succeeds();
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    let found = bench.query("SELECT COUNT(*), SUM(id) FROM d.t").await;
    bench.sql(&["DROP DATABASE d"]).await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_google_is_read_with_and_without_a_key_file() {
    let (mut bench, cloud) = (Bench::start(&[]), Cloud::xml());
    bench.extra = NO_HEADER.into();
    export(&cloud, "bucket/dump");
    let endpoint = &cloud.endpoint;
    let uri = format!("gs://bucket/dump/?endpoint={endpoint}&skip-signature=true");
    assert_eq!(imported(&bench, &uri).await, [["60", "2170"]]);
    // A star does not go into directories, and pages of a list are all read.
    bench
        .sql(&["CREATE DATABASE d", &DDL.replace("TABLE t", "TABLE d.t")])
        .await;
    let key = bench.path("key.json");
    let text = r#"{"type":"service_account","private_key":"SECRETEXAMPLE","private_key_id":"1","client_email":"a@b","disable_oauth":true}"#;
    std::fs::write(&key, text).unwrap();
    let key = key.to_str().unwrap();
    let uri = format!("gcs://bucket/dump/d.t.*.csv?endpoint={endpoint}&credentials_file={key}");
    assert_eq!(imported(&bench, &uri).await, [["50", "1225"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_azure_is_read_with_its_key_and_with_a_token() {
    let (mut bench, cloud) = (Bench::start(&[]), Cloud::azure());
    bench.extra = NO_HEADER.into();
    export(&cloud, "container/a dump");
    let account = format!("account-name={ACCOUNT}&endpoint={}", cloud.endpoint);
    let key = format!("azblob://container/a%20dump/?{account}&account-key={ACCOUNT_KEY}");
    assert_eq!(imported(&bench, &key).await, [["60", "2170"]]);
    let token = "sas-token=sv%3D2026-02-06%26sig%3DSECRETEXAMPLE%252F%252B%253D";
    let one = format!("azure://container/a%20dump/d*.*?{account}&{token}");
    assert_eq!(imported(&bench, &one).await, [["50", "1225"]]);
    let wrong = key.replace("U0VD", "U0VE");
    let refused = import(&bench, &wrong, &[]);
    refused.fails(3, &["azblob://container/a dump/", "check the credentials"]);
}

/// The objects of an export of which one is more than the blocks that are read ahead.
fn large_export() -> [(&'static str, Vec<u8>); 4] {
    [
        ("dump/d-schema-create.sql", "CREATE DATABASE d;".into()),
        ("dump/d.t-schema.sql.gz", gzip(DDL)),
        ("dump/d.t.0.csv", rows(0, 400_000).into()),
        ("dump/below/d.t.1.csv", rows(400_000, 400_010).into()),
    ]
}

/// What is in the table, and goes away with it.
async fn whole_and_starred(bench: &Bench, uri: impl Fn(&str) -> String) {
    let whole = imported(bench, &uri("dump/")).await;
    assert_eq!(whole, [["400010", "80003800045"]]);
    let starred = imported(bench, &uri("dump/d*.*")).await;
    assert_eq!(starred, [["400000", "79999800000"]]);
    let nothing = import(bench, &uri("dump/x*.csv"), &["--threads", "2"]);
    nothing.fails(3, &["no object matches"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_in_an_emulator_of_google_is_imported() {
    let (mut bench, store) = (Bench::start(&[]), FakeGcs::start().await);
    bench.extra = NO_HEADER.into();
    for (key, content) in large_export() {
        store.put(key, content).await;
    }
    whole_and_starred(&bench, |key| store.uri(key)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_in_an_emulator_of_azure_is_imported_by_who_has_its_key() {
    let (mut bench, store) = (Bench::start(&[]), Azurite::start().await);
    bench.extra = NO_HEADER.into();
    for (key, content) in large_export() {
        store.put(key, content).await;
    }
    whole_and_starred(&bench, |key| store.uri(key)).await;
    let wrong = store.uri("dump/").replace("U0VD", "U0VE");
    let refused = import(&bench, &wrong, &[]);
    refused.fails(3, &["azblob://bucket/dump/", "check the credentials"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_web_server_is_read_with_its_signed_query() {
    let (mut bench, cloud) = (Bench::start(&[]), Cloud::xml());
    bench.extra = NO_HEADER.into();
    cloud.put("dir/d.t.csv", rows(0, 10));
    bench
        .sql(&["CREATE DATABASE d", &DDL.replace("TABLE t", "TABLE d.t")])
        .await;
    let uri = format!(
        "{}/dir/d.t.csv?X-Amz-Signature=SECRETEXAMPLE",
        cloud.endpoint
    );
    assert_eq!(imported(&bench, &uri).await, [["10", "45"]]);
    let asked = cloud.asked();
    let signed = |asked: &Asked| asked.query == "X-Amz-Signature=SECRETEXAMPLE";
    assert!(asked.len() > 2 && asked.iter().all(signed), "{asked:?}");
    let all = uri.replace("d.t.csv", "");
    import(&bench, &all, &[]).fails(2, &["a web server cannot list its files"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_under_tls_are_read_by_who_trusts_their_authority() {
    let mut bench = Bench::start(&[]);
    let authority = authority();
    let files = certificates::write(bench.dir.path(), "store", &authority, &authority);
    let cloud = Cloud::secured(&files);
    bench.extra = NO_HEADER.into();
    export(&cloud, "bucket/dump");
    cloud.put("dir/d.t.csv", rows(0, 10));
    let endpoint = &cloud.endpoint;
    let bucket = format!("s3://bucket/dump/?endpoint={endpoint}&skip-signature=true&region=r-1");
    let file = format!("{endpoint}/dir/d.t.csv?X-Amz-Signature=SECRETEXAMPLE");
    let strange = import(&bench, &bucket, &[]);
    strange.fails(3, &["s3://bucket/dump/", "certificate"]);
    let ca = files.ca.unwrap().to_string_lossy().into_owned();
    bench.variables = vec![("SSL_CERT_FILE".into(), ca)];
    assert_eq!(imported(&bench, &bucket).await, [["60", "2170"]]);
    bench
        .sql(&["CREATE DATABASE d", &DDL.replace("TABLE t", "TABLE d.t")])
        .await;
    assert_eq!(imported(&bench, &file).await, [["10", "45"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_region_of_a_bucket_is_looked_up_and_a_wrong_one_is_put_right() {
    let (mut bench, cloud) = (Bench::start(&[]), Cloud::in_region("eu-west-9"));
    bench.extra = NO_HEADER.into();
    export(&cloud, "bucket/dump");
    let keys = "access_key=AKEXAMPLE&secret_access_key=SECRETEXAMPLE";
    let uri = format!("s3://bucket/dump/?endpoint={}&{keys}", cloud.endpoint);
    assert_eq!(imported(&bench, &uri).await, [["60", "2170"]]);
    let asked = cloud.asked();
    let unsigned = asked
        .iter()
        .filter(|a| a.header("authorization").is_empty());
    assert_eq!(unsigned.count(), 1, "the region is asked for once");
    import(&bench, &format!("{uri}&region=r-1"), &[]).fails(
        3,
        &["the bucket is in region eu-west-9, not in r-1: write region=eu-west-9"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_the_query_the_environment_the_machine_or_a_role() {
    let (mut bench, cloud) = (Bench::start(&[]), Cloud::xml());
    bench.extra = NO_HEADER.into();
    export(&cloud, "bucket/dump");
    // As a host of its own: the address names the bucket, the path does not.
    cloud.put("dump/d-schema-create.sql", "CREATE DATABASE d;");
    cloud.put("dump/d.t-schema.sql", DDL);
    cloud.put("dump/d.t.csv", rows(0, 10));
    let endpoint = cloud.endpoint.clone();
    let query = |more: &str| format!("s3://bucket/dump/?endpoint={endpoint}{more}");
    let variables = |all: &[(&str, &str)]| {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        all.iter().map(owned).collect::<Vec<_>>()
    };
    let signed = |asked: &[Asked], by: &str, region: &str, token: &str| {
        let reads = asked
            .iter()
            .filter(|asked| asked.path.contains("dump") || asked.query.contains("dump"));
        for asked in reads.clone() {
            let (scope, date) = (asked.header("authorization"), "/20");
            assert!(
                scope.contains(&format!("Credential={by}{date}")),
                "{asked:?}"
            );
            assert!(
                scope.contains(&format!("/{region}/s3/aws4_request")),
                "{asked:?}"
            );
            assert_eq!(asked.header("x-amz-security-token"), token);
        }
        assert!(reads.count() > 5);
    };

    let keys = "&access_key=AKEXAMPLE&secret_access_key=SECRETEXAMPLE";
    let token = format!("{keys}&session-token=TOKENEXAMPLE&region=eu-west-9");
    assert_eq!(imported(&bench, &query(&token)).await, [["60", "2170"]]);
    let asked = cloud.asked();
    signed(&asked, "AKEXAMPLE", "eu-west-9", "TOKENEXAMPLE");
    assert!(asked.iter().all(|asked| asked.path.starts_with("/bucket")));

    // A token of the environment is not that of other keys.
    bench.variables = variables(&[
        ("AWS_ACCESS_KEY_ID", "ENVKEY"),
        ("AWS_SECRET_ACCESS_KEY", "SECRETEXAMPLE"),
        ("AWS_SESSION_TOKEN", "TOKENEXAMPLE"),
        ("AWS_REGION", "ap-north-1"),
    ]);
    let host = format!("{keys}&force-path-style=false&region=r-1");
    assert_eq!(imported(&bench, &query(&host)).await, [["10", "45"]]);
    let asked = cloud.asked();
    signed(&asked, "AKEXAMPLE", "r-1", "");
    assert!(
        !asked.iter().any(|asked| asked.path.contains("bucket")),
        "{asked:?}"
    );
    assert_eq!(imported(&bench, &query("")).await, [["60", "2170"]]);
    signed(&cloud.asked(), "ENVKEY", "ap-north-1", "TOKENEXAMPLE");

    bench.variables = variables(&[("AWS_METADATA_ENDPOINT", &endpoint)]);
    assert_eq!(imported(&bench, &query("")).await, [["60", "2170"]]);
    signed(&cloud.asked(), "MACHINEKEY", "us-east-1", "MACHINETOKEN");

    bench.variables = variables(&[("AWS_ENDPOINT_URL_STS", &endpoint)]);
    let role = format!("{keys}&role-arn=arn:aws:iam::1:role/reader&external-id=a%20b");
    assert_eq!(imported(&bench, &query(&role)).await, [["60", "2170"]]);
    let asked = cloud.asked();
    signed(&asked, "ROLEKEY", "us-east-1", "ROLETOKEN");
    let service: Vec<_> = asked
        .iter()
        .filter(|a| a.query.contains("AssumeRole"))
        .collect();
    assert!(
        service[0]
            .header("authorization")
            .contains("Credential=AKEXAMPLE/")
    );
    assert!(service[0].query.contains("ExternalId=a%20b"), "{service:?}");
    assert_eq!(service.len(), 1, "a session is asked for once");
    let refused = import(&bench, &query(&role.replace("reader", "nobody")), &[]);
    refused.fails(3, &["cannot become the role", "AccessDenied"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_a_fleet_read_the_bucket_that_a_job_names() {
    let (mut bench, s3) = (Bench::start(&[]), S3::start());
    bench
        .sql(&["CREATE DATABASE d", &DDL.replace("TABLE t", "TABLE d.t")])
        .await;
    s3.put("dump/d.t.0.csv", rows(0, 60_000)).await;
    s3.put("dump/d.t.1.csv", rows(60_000, 120_000)).await;
    bench.extra = NO_HEADER.into();
    let mut fleet = Fleet::start(bench, 1);
    let source = format!("mydumper.data-source-dir={}", s3.uri("dump/"));
    let mut settings = vec![source.as_str()];
    settings.extend(SETTINGS);
    let job = fleet.submit(&settings);
    fleet.wait_progress(&job, "chunks", 2);
    let config = EtcdConfig {
        urls: vec![fleet.etcd.url()],
        security: Security::default(),
        login: None,
    };
    let patience = std::time::Duration::from_secs(10);
    let store = EtcdStore::new(config, "/thunderhead", "nobody:1", patience).unwrap();
    let recorded = store.list("jobs/").await.unwrap();
    assert!(recorded.iter().any(|(key, _)| key.contains("/c/")));
    for (key, item) in recorded {
        let text = String::from_utf8_lossy(&item.value);
        assert!(!text.contains("EXAMPLE"), "{key} holds a credential");
    }
    // The next leader knows none; with the same submission it goes on.
    fleet.coordinators[0].take().unwrap().kill().unwrap();
    fleet.coordinators[0] = Some(fleet.coordinator(0));
    fleet.wait("the job to fail", |fleet| {
        fleet.status(&job).unwrap_or_default()["job"]["state"] == "failed"
    });
    assert_eq!(fleet.submit(&settings), job);
    let agents = [fleet.agent("one", &[]), fleet.agent("two", &[])];
    fleet.wait_finished(&job);
    let found = fleet.bench.query("SELECT COUNT(*), SUM(id) FROM d.t").await;
    assert_eq!(found, [["120000", "7199940000"]]);
    drop(agents);
    for name in ["coordinator-0", "agent-one", "agent-two"] {
        let log = std::fs::read_to_string(fleet.bench.path(&format!("{name}.log"))).unwrap();
        assert!(!log.contains("EXAMPLE"), "{name}: {log}");
    }
}
