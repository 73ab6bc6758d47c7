//! ADMIN CHECKSUM and ADMIN CHECK, with damage planted in the store.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, error, exec, rows};
use mysql_async::prelude::Queryable;
use thunderhead_codec::keys;
use thunderhead_sandbox_sql::{KvEngine, Mutation, ScanLimit};
use thunderhead_types::{Checksum, KeyRange};

async fn table_id(conn: &mut mysql_async::Conn, name: &str) -> i64 {
    conn.query_first(format!("select tidb_table_id from information_schema.tables where table_schema = 'test' and table_name = '{name}'")).await.unwrap().unwrap()
}

fn pairs(server: &Server, range: KeyRange) -> Vec<(Vec<u8>, Vec<u8>)> {
    let ts = server.engine.tso().unwrap();
    server
        .engine
        .scan(
            &range,
            ts,
            ScanLimit {
                pairs: 1000,
                bytes: 1 << 20,
            },
        )
        .unwrap()
}

fn commit(server: &Server, mutations: &[Mutation]) {
    let ts = server.engine.tso().unwrap();
    server.engine.commit(ts, mutations).unwrap();
}

const TABLE: &str = "create table c(id int primary key, a int, b varchar(10) collate utf8mb4_general_ci, unique key ua(a), key kb(b))";
const ROWS: &str = "insert into c values (1, 10, 'x'), (2, 20, 'Y'), (3, 30, null)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checksum_is_that_of_all_pairs() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(&mut conn, &[TABLE, ROWS]).await;
    let id = table_id(&mut conn, "c").await;
    let mut sum = Checksum::default();
    for (key, value) in pairs(&server, keys::table_range(id)) {
        sum.add(&key, &value);
    }
    assert_eq!(sum.kvs, 9);
    assert_eq!(
        rows(&mut conn, "admin checksum table c").await,
        [format!(
            "test|c|{}|{}|{}",
            sum.crc64_xor, sum.kvs, sum.bytes
        )]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_table_passes_and_each_kind_of_damage_is_named() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(
        &mut conn,
        &[TABLE, ROWS, "admin check table c", "admin check index c kb"],
    )
    .await;
    let id = table_id(&mut conn, "c").await;
    let (unique, plain) = (
        pairs(&server, keys::index_range(id, 1)),
        pairs(&server, keys::index_range(id, 2)),
    );
    assert_eq!((unique.len(), plain.len()), (3, 3));
    let put = |(key, value): &(Vec<u8>, Vec<u8>)| Mutation::Put(key.clone(), value.clone());

    commit(&server, &[Mutation::Delete(plain[1].0.clone())]);
    let (code, text) = error(&mut conn, "admin check table c").await;
    assert_eq!(code, 8223);
    assert!(
        text.contains("table: c, index: kb, handle: ") && text.contains("missing"),
        "{text}"
    );
    commit(&server, &[put(&plain[1])]);

    let mut extra = unique[0].0.clone();
    *extra.last_mut().unwrap() ^= 1;
    commit(
        &server,
        &[Mutation::Put(extra.clone(), unique[0].1.clone())],
    );
    let (code, text) = error(&mut conn, "admin check table c").await;
    assert_eq!(code, 8223);
    assert!(
        text.contains("index: ua, handle: 1") && text.contains("row does not have"),
        "{text}"
    );
    commit(
        &server,
        &[Mutation::Put(extra.clone(), 99u64.to_be_bytes().to_vec())],
    );
    let (_, text) = error(&mut conn, "admin check table c").await;
    assert!(
        text.contains("index: ua, handle: 99") && text.contains("without a row"),
        "{text}"
    );
    commit(&server, &[Mutation::Delete(extra)]);

    // Two entries that changed their values with each other: count and XOR of CRCs stay as they were.
    commit(
        &server,
        &[
            Mutation::Put(unique[0].0.clone(), unique[1].1.clone()),
            Mutation::Put(unique[1].0.clone(), unique[0].1.clone()),
        ],
    );
    let (code, text) = error(&mut conn, "admin check table c").await;
    assert_eq!(code, 8223);
    assert!(
        text.contains("index: ua") && text.contains("another value"),
        "{text}"
    );
    commit(&server, &[put(&unique[0]), put(&unique[1])]);

    let record = pairs(&server, keys::record_range(id)).remove(0);
    commit(
        &server,
        &[Mutation::Put(record.0.clone(), vec![0x80, 9, 9])],
    );
    assert_eq!(error(&mut conn, "admin check table c").await.0, 8003);
    commit(&server, &[put(&record)]);
    exec(&mut conn, &["admin check table c"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_added_later_has_an_entry_for_every_row() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(
        &mut conn,
        &[
            TABLE,
            ROWS,
            "alter table c add index kab(a, b), drop index kb",
            "alter table c add column n int not null default 4",
            "create index kn on c(n)",
            "admin check table c",
        ],
    )
    .await;
    let id = table_id(&mut conn, "c").await;
    assert_eq!(pairs(&server, keys::index_range(id, 3)).len(), 3);
    assert_eq!(pairs(&server, keys::index_range(id, 2)).len(), 0);
    assert_eq!(pairs(&server, keys::index_range(id, 4)).len(), 3);
    assert_eq!(rows(&mut conn, "select sum(n) from c").await, ["12"]);
    assert_eq!(
        error(&mut conn, "alter table c add unique index un(n)")
            .await
            .0,
        1062
    );
    exec(&mut conn, &["admin check table c"]).await;
    assert_eq!(error(&mut conn, "admin check index c un").await.0, 1176);
}
