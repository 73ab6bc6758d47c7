//! The state stores: one set of test functions, run against the embedded store and a real etcd; and what only a
//! store with a lease can do.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use std::sync::Arc;
use std::time::Duration;
use thunderhead_cluster::Security;
use thunderhead_coordinator::store::{
    Commit, EmbeddedStore, EtcdConfig, EtcdStore, StateStore, Txn, Versioned,
};
use thunderhead_tests::certificates::{authority, write};
use thunderhead_tests::etcd::Etcd;

const TTL: Duration = Duration::from_secs(2);

fn etcd_store(etcd: &Etcd, prefix: &str, address: &str) -> EtcdStore {
    secured_store(etcd, prefix, address, Security::default(), TTL)
}

fn secured_store(
    etcd: &Etcd,
    prefix: &str,
    address: &str,
    security: Security,
    ttl: Duration,
) -> EtcdStore {
    let config = EtcdConfig {
        urls: vec![etcd.url()],
        security,
        login: None,
    };
    EtcdStore::new(config, prefix, address, ttl).unwrap()
}

async fn done(store: &dyn StateStore, epoch: u64, txn: Txn) -> u64 {
    match store.commit(epoch, txn).await.unwrap() {
        Commit::Done(revision) => revision,
        other => panic!("{other:?}"),
    }
}

async fn value(store: &dyn StateStore, key: &str) -> Option<Vec<u8>> {
    store.get(key).await.unwrap().map(|v| v.value)
}

/// What every store does.
async fn a_store_keeps_its_promises(store: &dyn StateStore) {
    let epoch = store.lead().await.unwrap();

    // A failed compare changes nothing.
    let at = done(store, epoch, Txn::default().when("a", 0).put("a", "1")).await;
    let again = Txn::default().when("a", 0).put("b", "x");
    assert_eq!(store.commit(epoch, again).await.unwrap(), Commit::Conflict);
    assert!(value(store, "b").await.is_none());
    assert!(done(store, epoch, Txn::default().when("a", at).put("b", "x")).await > at);
    assert_eq!(
        store.get("a").await.unwrap().unwrap(),
        Versioned {
            value: b"1".to_vec(),
            mod_revision: at
        }
    );

    // A slash deletes what is below, and nothing beside.
    let txn = Txn::default()
        .put("j/1/a", "1")
        .put("j/1/b", "2")
        .put("j/10", "3")
        .put("j/1", "4");
    done(store, epoch, txn).await;
    assert_eq!(store.list("j/1/").await.unwrap().len(), 2);
    done(store, epoch, Txn::default().delete("j/1/")).await;
    let keys =
        |found: Vec<(String, Versioned)>| found.into_iter().map(|(k, _)| k).collect::<Vec<_>>();
    assert_eq!(keys(store.list("j/").await.unwrap()), ["j/1", "j/10"]);

    // Many keys and large values come back as they were, in order.
    for batch in 0..6 {
        let mut txn = Txn::default();
        for i in 0..100 {
            txn = txn.put(format!("n/{:04}", batch * 100 + i), format!("{i}"));
        }
        done(store, epoch, txn).await;
    }
    let listed = store.list("n/").await.unwrap();
    assert!(listed.len() == 600 && listed.is_sorted_by(|a, b| a.0 < b.0));
    assert_eq!(store.keys("n/").await.unwrap().len(), 600);
    let noise: Vec<u8> = (0..3_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let large = Txn::default()
        .put("l/x", noise.clone())
        .put("l/y", "small")
        .put("l/z", noise.clone());
    done(store, epoch, large).await;
    assert!(value(store, "l/x").await.unwrap() == noise);
    assert!(value(store, "l/z").await.unwrap() == noise);
    assert_eq!(store.list("l/").await.unwrap().len(), 3);
    done(store, epoch, Txn::default().put("l/x", "now small")).await;
    assert_eq!(value(store, "l/x").await.unwrap(), b"now small");
    done(store, epoch, Txn::default().delete("l/")).await;
    assert!(
        store
            .keys("")
            .await
            .unwrap()
            .iter()
            .all(|(key, _)| !key.contains("l/"))
    );

    // What no store takes in one piece is refused by all.
    let mut too_many = Txn::default();
    for i in 0..200 {
        too_many = too_many.put(format!("m/{i}"), "");
    }
    assert!(store.commit(epoch, too_many).await.is_err());
    let both = Txn::default().delete("j/").put("j/10", "x");
    assert!(store.commit(epoch, both).await.is_err());
}

#[tokio::test]
async fn the_embedded_store_keeps_its_promises() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    {
        let store = EmbeddedStore::open(&path).unwrap();
        a_store_keeps_its_promises(&store).await;
        assert!(EmbeddedStore::open(&path).is_err(), "one process at a time");
        let old = store.lead().await.unwrap();
        assert!(store.lead().await.unwrap() > old);
        let late = store
            .commit(old, Txn::default().put("a", "2"))
            .await
            .unwrap();
        assert_eq!(late, Commit::Fenced);
    }
    let store = EmbeddedStore::open(&path).unwrap();
    assert_eq!(
        value(&store, "a").await.unwrap(),
        b"1",
        "still there after reopening"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_keeps_the_same_promises() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(dir.path()).unwrap();
    a_store_keeps_its_promises(&etcd_store(&etcd, "/p", "a:1")).await;
    // Another fleet below another prefix sees nothing of it.
    let other = etcd_store(&etcd, "/p2", "b:1");
    other.lead().await.unwrap();
    assert!(other.list("j/").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_renew_loses_the_lead_and_can_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(dir.path()).unwrap();
    let (first, second) = (
        Arc::new(etcd_store(&etcd, "/p", "a:1")),
        Arc::new(etcd_store(&etcd, "/p", "b:1")),
    );
    let epoch = first.lead().await.unwrap();
    done(first.as_ref(), epoch, Txn::default().put("k", "1")).await;
    assert_eq!(second.leader().await.unwrap().unwrap().address, "a:1");
    // The second waits as long as the first renews.
    let waits = tokio::spawn({
        let second = Arc::clone(&second);
        async move { second.lead().await }
    });
    tokio::time::sleep(TTL * 2).await;
    assert!(!waits.is_finished());
    done(first.as_ref(), epoch, Txn::default().put("k", "2")).await;
    // etcd is away for longer than the lease: the first stops by its own clock, before etcd is back.
    etcd.signal(Signal::STOP).unwrap();
    tokio::time::timeout(TTL, first.lost()).await.unwrap();
    let late = first
        .commit(epoch, Txn::default().put("k", "3"))
        .await
        .unwrap();
    assert_eq!(late, Commit::Fenced);
    etcd.signal(Signal::CONT).unwrap();
    let next = tokio::time::timeout(TTL * 5, waits)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(next > epoch);
    assert_eq!(value(second.as_ref(), "k").await.unwrap(), b"2");
    // Also an epoch that its holder believes in is refused by etcd itself.
    assert_eq!(
        second
            .commit(epoch, Txn::default().put("k", "3"))
            .await
            .unwrap(),
        Commit::Fenced
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_resigns_is_followed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(dir.path()).unwrap();
    let (first, second) = (
        etcd_store(&etcd, "/p", "a:1"),
        etcd_store(&etcd, "/p", "b:1"),
    );
    first.lead().await.unwrap();
    first.resign().await;
    let start = std::time::Instant::now();
    second.lead().await.unwrap();
    assert!(start.elapsed() < TTL, "{:?}", start.elapsed());
    assert_eq!(second.leader().await.unwrap().unwrap().address, "b:1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_takes_new_certificates_for_etcd_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new, foreign) = (authority(), authority(), authority());
    let server = write(dir.path(), "etcd", &old, &old);
    let ours = write(dir.path(), "ours", &old, &old);
    let mut etcd = Etcd::start_secured(dir.path(), &server).unwrap();
    let ttl = Duration::from_secs(30);
    let store = secured_store(&etcd, "/p", "a:1", ours, ttl);
    let epoch = store.lead().await.unwrap();
    done(&store, epoch, Txn::default().put("k", "1")).await;

    // Everybody gets certificates of a new authority; only etcd is started again.
    write(dir.path(), "etcd", &new, &new);
    write(dir.path(), "ours", &new, &new);
    etcd.restart().unwrap();
    done(&store, epoch, Txn::default().put("k", "2")).await;
    assert_eq!(value(&store, "k").await.unwrap(), b"2");
    // Who has a certificate of somebody else is not let in.
    let stranger = write(dir.path(), "stranger", &new, &foreign);
    let stranger = secured_store(&etcd, "/p", "b:1", stranger, ttl);
    assert!(stranger.get("k").await.is_err());
}
