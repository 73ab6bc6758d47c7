//! What an importer must survive: uploads of its own files, faults in streams, changes of topology
//! under an import, and files that TiKV must never be given.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use rocksdb::{BlockBasedOptions, ChecksumType, Options, SstFileWriter};
use thunderhead_proto::import_sstpb::*;
use thunderhead_sandbox::{Action, Fault, Point, RegionErrorKind};
use tonic::Code;

/// A write-family file as a client would build it.
fn build(pairs: &Pairs, commit_ts: u64, format: i32, with_value: bool) -> Vec<u8> {
    let mut table = BlockBasedOptions::default();
    table.set_format_version(format);
    table.set_checksum_type(ChecksumType::CRC32c);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sst");
    let mut writer = SstFileWriter::create(&options);
    writer.open(&path).unwrap();
    for (key, value) in pairs {
        let engine_key = [b"z", &encode(key)[..], &(!commit_ts).to_be_bytes()].concat();
        let mut record = vec![b'P', commit_ts as u8];
        if with_value {
            record.extend([b'v', value.len() as u8]);
            record.extend(value);
        }
        writer.put(engine_key, record).unwrap();
    }
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

fn write_meta(target: &Target, pairs: &Pairs, file: &[u8]) -> SstMeta {
    SstMeta {
        cf_name: "write".into(),
        crc32: crc32fast::hash(file),
        length: file.len() as u64,
        ..target.meta(pairs)
    }
}

async fn upload_everywhere(bench: &Bench, target: &Target, meta: &SstMeta, file: &[u8]) {
    for peer in &target.region.peers {
        bench
            .upload(peer.store_id, meta.clone(), file)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploaded_file_is_ingested_like_a_written_one() {
    let mut bench = Bench::start().await;
    let data = pairs(0, 2000, 40);
    let target = bench.region_at(b"t").await;
    let file = build(&data, 7, 5, true);
    let meta = write_meta(&target, &data, &file);
    upload_everywhere(&bench, &target, &meta, &file).await;
    assert_eq!(bench.ingest(&target, &[meta]).await.unwrap(), None);
    assert_eq!(
        bench.checksum(&target, b"t", b"u").await.unwrap(),
        checksum(&data)
    );
    assert!(bench.sandbox.panics().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_newer_format_kills_the_store_that_applies_it() {
    let mut bench = Bench::start().await;
    let data = pairs(0, 20, 40);
    let target = bench.region_at(b"t").await;
    let file = build(&data, 7, 7, true);
    let mut meta = write_meta(&target, &data, &file);
    upload_everywhere(&bench, &target, &meta, &file).await;
    // Declared as of another API version, the file is looked at before anything is proposed.
    meta.set_api_version(thunderhead_proto::kvrpcpb::ApiVersion::V2);
    let status = bench.ingest(&target, &[meta.clone()]).await.unwrap_err();
    assert!(
        status.code() == Code::Unknown && status.message().contains("format_version: 7"),
        "{status}"
    );
    assert!(bench.sandbox.panics().is_empty());
    meta.set_api_version(thunderhead_proto::kvrpcpb::ApiVersion::V1);
    assert_eq!(
        bench.ingest(&target, &[meta]).await.unwrap_err().code(),
        Code::Unavailable
    );
    assert_eq!(
        bench.sandbox.panics()[0].reason,
        "Corruption: Corrupt or unsupported format_version: 7"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_would_lose_data_are_refused_by_the_lint() {
    let mut bench = Bench::start().await;
    bench.split(&[b"t00000010", b"u"]).await;
    let target = bench.region_at(b"t00000010").await;
    let inside = pairs(10, 20, 8);
    for (file, text) in [
        (
            build(&pairs(5, 20, 8), 7, 5, true),
            "write key outside of the region",
        ),
        (
            build(&inside, 7, 5, false),
            "write record without its default entry",
        ),
    ] {
        let meta = write_meta(&target, &inside, &file);
        upload_everywhere(&bench, &target, &meta, &file).await;
        let status = bench.ingest(&target, &[meta]).await.unwrap_err();
        assert_eq!(status.message(), format!("sandbox lint: {text}"));
    }
    assert!(bench.sandbox.panics().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_break_get_damaged_and_lose_their_reply_as_told() {
    let mut bench = Bench::start().await;
    let data = pairs(0, 2000, 40);
    let target = bench.region_at(b"t").await;
    let file = build(&data, 7, 5, true);
    let meta = write_meta(&target, &data, &file);
    let fault = |point, action| Fault::new(point, action, 1);
    let broken = Action::Status {
        code: "unavailable".into(),
        message: String::new(),
    };
    bench.sandbox.add_fault(fault(Point::UploadData, broken));
    assert_eq!(
        bench
            .upload(1, meta.clone(), &file)
            .await
            .unwrap_err()
            .code(),
        Code::Unavailable
    );
    bench
        .sandbox
        .add_fault(fault(Point::UploadData, Action::FlipBit));
    assert!(
        bench
            .upload(1, meta.clone(), &file)
            .await
            .unwrap_err()
            .message()
            .starts_with("FileCorrupted(")
    );
    bench
        .sandbox
        .add_fault(fault(Point::UploadDone, Action::DropReply));
    assert_eq!(
        bench
            .upload(1, meta.clone(), &file)
            .await
            .unwrap_err()
            .code(),
        Code::Unavailable
    );
    assert!(
        bench
            .upload(1, meta.clone(), &file)
            .await
            .unwrap_err()
            .message()
            .starts_with("FileExists(")
    );
    let full = Action::Status {
        code: "unknown".into(),
        message: "DiskSpaceNotEnough".into(),
    };
    bench.sandbox.add_fault(fault(Point::WriteOpen, full));
    assert_eq!(
        bench
            .write(1, target.meta(&data), 7, &data)
            .await
            .unwrap_err()
            .message(),
        "DiskSpaceNotEnough"
    );
    bench
        .sandbox
        .add_fault(fault(Point::UploadDone, Action::LoseFile));
    bench.upload(2, meta.clone(), &file).await.unwrap();
    bench.upload(3, meta.clone(), &file).await.unwrap();
    assert_eq!(bench.ingest(&target, &[meta]).await.unwrap(), None);
    assert_eq!(bench.sandbox.panics()[0].store, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_topology_under_an_import_show_as_region_errors() {
    for (action, epoch_changes) in [
        (Action::Split, true),
        (Action::ConfChange, true),
        (Action::TransferLeader, false),
    ] {
        let mut bench = Bench::start().await;
        bench.split(&[b"t", b"u"]).await;
        let data = pairs(0, 20, 8);
        let target = bench.region_at(b"t").await;
        let metas = bench.write_everywhere(&target, 7, &data).await;
        bench
            .sandbox
            .add_fault(Fault::new(Point::Ingest, action.clone(), 1));
        let error = bench.ingest(&target, &metas).await.unwrap().unwrap();
        assert_eq!(
            error.epoch_not_match.is_some(),
            epoch_changes,
            "{action:?}: {}",
            error.message
        );
        assert_eq!(
            error.not_leader.is_some(),
            !epoch_changes,
            "{action:?}: {}",
            error.message
        );
    }
    let mut bench = Bench::start().await;
    bench.split(&[b"t", b"u"]).await;
    let data = pairs(0, 20, 8);
    let target = bench.region_at(b"t").await;
    let metas = bench.write_everywhere(&target, 7, &data).await;
    bench
        .sandbox
        .add_fault(Fault::new(Point::Ingest, Action::Merge, 1));
    let error = bench.ingest(&target, &metas).await.unwrap().unwrap();
    assert!(error.region_not_found.is_some(), "{}", error.message);
    let merged = bench.region_at(b"t").await;
    assert!(merged.region.end_key.is_empty() && merged.region.region_epoch.unwrap().version > 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_applies_late_still_finds_its_file() {
    let mut bench = Bench::start().await;
    let data = pairs(0, 20, 8);
    let target = bench.region_at(b"t").await;
    let metas = bench.write_everywhere(&target, 7, &data).await;
    let late = target.follower().store_id;
    let mut fault = Fault::new(Point::Apply, Action::Delay { ms: 150 }, 1);
    fault.matching.store = Some(late);
    bench.sandbox.add_fault(fault);
    assert_eq!(bench.ingest(&target, &metas).await.unwrap(), None);
    let files =
        |bench: &Bench| bench.sandbox.state().unwrap().stores[late as usize - 1].import_files;
    assert_eq!(files(&bench), 1, "not applied there yet");
    until("the late follower", async || files(&bench) == 0).await;
    let range = thunderhead_types::KeyRange::new(*b"t", *b"u");
    assert_eq!(
        bench.sandbox.store_checksum(late, &range).unwrap(),
        checksum(&data)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_an_ingest_knew_is_deadly_when_it_is_uploaded_again() {
    let mut bench = Bench::start().await;
    let data = pairs(0, 20, 8);
    let target = bench.region_at(b"t").await;
    let file = build(&data, 7, 5, true);
    let meta = write_meta(&target, &data, &file);
    upload_everywhere(&bench, &target, &meta, &file).await;
    let late = target.follower().store_id;
    let mut fault = Fault::new(Point::Apply, Action::Delay { ms: 1500 }, 1);
    fault.matching.store = Some(late);
    bench.sandbox.add_fault(fault);
    let metas = [meta.clone()];
    assert_eq!(bench.ingest(&target, &metas).await.unwrap(), None);
    for peer in &target.region.peers {
        let again = bench.upload(peer.store_id, meta.clone(), &file).await;
        // The late follower still has the file of the first time, for two entries that want it.
        assert_eq!(again.is_ok(), peer.store_id != late, "{again:?}");
    }
    assert_eq!(bench.ingest(&target, &metas).await.unwrap(), None);
    until("the late follower", async || {
        !bench.sandbox.panics().is_empty()
    })
    .await;
    assert_eq!(bench.sandbox.panics()[0].store, late);
    assert_eq!(bench.sandbox.state().unwrap().names_used_again, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_answers_what_it_is_told_and_what_tikv_says_to_nothing() {
    let mut bench = Bench::start().await;
    let target = bench.region_at(b"t").await;
    for (kind, text) in [
        (RegionErrorKind::IngestConflict, "ingest file conflict"),
        (
            RegionErrorKind::ProposalDropped,
            "Raft raft: proposal dropped",
        ),
        (RegionErrorKind::StaleCommand, "stale command"),
        (
            RegionErrorKind::FileNotExist,
            "The file which would be ingested doest not exist.",
        ),
    ] {
        bench.sandbox.add_fault(Fault::new(
            Point::Ingest,
            Action::RegionError {
                error: kind,
                backoff_ms: 0,
            },
            1,
        ));
        assert_eq!(
            bench.ingest(&target, &[]).await.unwrap().unwrap().message,
            text
        );
    }
    let empty = bench.ingest(&target, &[]).await.unwrap().unwrap();
    assert!(
        empty
            .message
            .ends_with("ingest failed: Error(Kv(Error(EmptyRequest)))"),
        "{}",
        empty.message
    );
    let mut import = bench.import(target.leader.store_id).await;
    let suspend = SuspendImportRpcRequest {
        should_suspend_imports: true,
        duration_in_secs: 60,
        ..Default::default()
    };
    assert!(
        !import
            .suspend_import_rpc(suspend)
            .await
            .unwrap()
            .into_inner()
            .already_suspended
    );
    let busy = bench
        .ingest(&target, &[])
        .await
        .unwrap()
        .unwrap()
        .server_is_busy
        .unwrap();
    assert!(busy.backoff_ms > 50_000 && busy.backoff_ms <= 60_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_detect_shows_both_versions_newest_first() {
    let mut bench = Bench::start().await;
    bench.import_pairs(&pairs(0, 20, 8), 5).await;
    bench.import_pairs(&pairs(10, 12, 300), 9).await;
    let target = bench.region_at(b"t").await;
    let request = |min_commit_ts| DuplicateDetectRequest {
        context: Some(target.context()),
        start_key: "t".into(),
        end_key: "u".into(),
        min_commit_ts,
        ..Default::default()
    };
    let mut import = bench.import(target.leader.store_id).await;
    for (min, count) in [(0, 4), (4, 4), (5, 4), (9, 0)] {
        let mut stream = import
            .duplicate_detect(request(min))
            .await
            .unwrap()
            .into_inner();
        let pairs = stream
            .message()
            .await
            .unwrap()
            .map_or(Vec::new(), |message| message.pairs);
        assert_eq!(pairs.len(), count, "min_commit_ts {min}");
        if count > 0 {
            assert_eq!((pairs[0].commit_ts, pairs[1].commit_ts), (9, 5));
            assert_eq!((pairs[0].value.len(), pairs[1].value.len()), (300, 8));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_and_panics_can_be_handled_over_http() {
    let bench = Bench::start().await;
    let pd = bench.sandbox.addresses().pd.clone();
    let fault =
        r#"{"point":"ingest","action":{"kind":"region-error","error":"disk-full"},"times":0}"#;
    assert_eq!(http(&pd, "POST", "/sandbox/faults", fault).await.1["id"], 1);
    assert_eq!(
        http(&pd, "GET", "/sandbox/faults", "").await.1[0]["action"]["error"],
        "disk-full"
    );
    assert_eq!(http(&pd, "DELETE", "/sandbox/faults/1", "").await.0, 200);
    assert_eq!(http(&pd, "DELETE", "/sandbox/faults/1", "").await.0, 404);
    assert_eq!(
        http(&pd, "POST", "/sandbox/faults", r#"{"point":"nowhere"}"#)
            .await
            .0,
        422
    );
    assert_eq!(
        http(&pd, "GET", "/sandbox/panics", "").await.1,
        serde_json::json!([])
    );
    assert_eq!(http(&pd, "POST", "/sandbox/stores/2/stop", "").await.0, 200);
    assert_eq!(
        http(&pd, "GET", "/sandbox/state", "").await.1["stores"][1]["alive"],
        false
    );
    assert_eq!(
        http(&pd, "POST", "/sandbox/stores/2/start", "").await.0,
        200
    );
    assert_eq!(
        http(&pd, "GET", "/sandbox/state", "").await.1["stores"][1]["alive"],
        true
    );
}
