//! The MySQL port as a client sees it.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, error, exec, rows};
use mysql_async::prelude::Queryable;
use thunderhead_sandbox_sql::SqlConfig;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_connects_asks_and_leaves() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    conn.ping().await.unwrap();
    assert_eq!(
        rows(&mut conn, "select 1, 'a', null, 1.50").await,
        ["1|a|NULL|1.50"]
    );
    assert_eq!(
        rows(&mut conn, "select database(), @@max_allowed_packet").await,
        ["test|67108864"]
    );
    assert!(rows(&mut conn, "select version()").await[0].contains("TiDB-v8"));
    assert!(rows(&mut conn, "select tidb_version()").await[0].starts_with("Release Version: v8"));
    assert_eq!(error(&mut conn, "selec 1").await.0, 1064);
    assert_eq!(error(&mut conn, "select * from nosuch").await.0, 1146);
    assert_eq!(error(&mut conn, "use nosuch").await.0, 1049);
    conn.disconnect().await.unwrap();
    server.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_refused_and_the_right_one_is_not() {
    let server = Server::with(SqlConfig {
        root_password: "s3cret".to_owned(),
        ..SqlConfig::default()
    })
    .await;
    let connect = |password: Option<&'static str>, user: &'static str| {
        mysql_async::Conn::new(server.opts().pass(password).user(Some(user)))
    };
    assert!(connect(Some("s3cret"), "root").await.is_ok());
    for (password, user) in [
        (Some("wrong"), "root"),
        (None, "root"),
        (Some("s3cret"), "somebody"),
    ] {
        let error = connect(password, user).await.unwrap_err();
        assert!(
            matches!(error, mysql_async::Error::Server(ref e) if e.code == 1045),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_statements_carry_values_of_every_kind() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(&mut conn, &["create table p(id bigint primary key, a varchar(20), b double, c decimal(8,2), d datetime, e bigint unsigned, f varbinary(9))"]).await;
    let values = (
        1i64,
        "x'y",
        2.5f64,
        "3.25",
        "2024-02-29 10:11:12",
        u64::MAX,
        vec![0u8, 255, 39],
    );
    conn.exec_drop("insert into p values (?, ?, ?, ?, ?, ?, ?)", values.clone())
        .await
        .unwrap();
    conn.exec_drop("insert into p(id, a) values (?, ?)", (2, None::<String>))
        .await
        .unwrap();
    let row: (i64, String, f64, String, String, u64, Vec<u8>) = conn
        .exec_first(
            "select id, a, b, c, cast(d as char), e, f from p where id = ?",
            (1,),
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        row,
        (
            values.0,
            values.1.to_owned(),
            values.2,
            values.3.to_owned(),
            values.4.to_owned(),
            values.5,
            values.6
        )
    );
    let null: Option<(Option<String>, Option<f64>)> = conn
        .exec_first("select a, b from p where id = ?", (2,))
        .await
        .unwrap();
    assert_eq!(null, Some((None, None)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_statements_in_one_text_answer_one_by_one() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    let mut result = conn
        .query_iter("create table m(a int); insert into m values (1),(2); select count(*) from m")
        .await
        .unwrap();
    assert_eq!(result.affected_rows(), 0);
    result.for_each(|_| ()).await.unwrap();
    assert_eq!(result.affected_rows(), 2);
    result.for_each(|_| ()).await.unwrap();
    let counts: Vec<i64> = result.collect().await.unwrap();
    assert_eq!(counts, [2]);
    drop(result);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_longer_than_a_packet_arrives_whole() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(&mut conn, &["create table long_text(a longtext)"]).await;
    let text = "z".repeat((16 << 20) + 5);
    conn.query_drop(format!("insert into long_text values ('{text}')"))
        .await
        .unwrap();
    assert_eq!(
        rows(&mut conn, "select length(a) from long_text").await,
        [text.len().to_string()]
    );
    let back: Option<String> = conn.query_first("select a from long_text").await.unwrap();
    assert_eq!(back.unwrap().len(), text.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_connection_ends() {
    let server = Server::start().await;
    let (mut victim, mut killer) = (server.connect().await, server.connect().await);
    let id = victim.id();
    exec(&mut killer, &[&format!("kill {id}")]).await;
    assert!(victim.ping().await.is_err());
    assert_eq!(error(&mut killer, "kill 4000000").await.0, 1094);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_port_serves_models_and_refuses_unknown_names() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(
        &mut conn,
        &["create table s(a int primary key, b int, key(b)) partition by hash(a) partitions 2"],
    )
    .await;
    let (code, body) = server.http("/schema/test/s").await;
    assert_eq!(code, 200);
    let table: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(table["name"]["O"], "s");
    let partition = table["partition"]["definitions"][1]["id"].as_i64().unwrap();
    let (code, body) = server.http(&format!("/db-table/{partition}")).await;
    assert_eq!(
        (
            code,
            serde_json::from_str::<serde_json::Value>(&body).unwrap()["table_info"]["name"]["L"]
                .as_str()
                .unwrap()
        ),
        (200, "s")
    );
    assert_eq!(server.http("/schema/test/nosuch").await.0, 400);
    assert_eq!(server.http("/schema/nosuch").await.0, 400);
    assert_eq!(server.http("/db-table/999999").await.0, 400);
    assert!(server.http("/status").await.1.contains("\"version\""));
    assert!(server.http("/schema").await.1.contains("\"db_name\""));
    assert_eq!(
        serde_json::from_str::<Vec<serde_json::Value>>(&server.http("/schema/test").await.1)
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_nesting_is_an_error_and_nothing_worse() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    for sql in [
        format!("select {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("select {}1{}", "(select ".repeat(2_000), ")".repeat(2_000)),
        format!("select 1{}", "+1".repeat(20_000)),
        format!("select {}1", "not ".repeat(20_000)),
        format!("select {}1", "-".repeat(3) + &"~".repeat(20_000)),
        format!("select 1 from {}t{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("select 1 from {}(select 1) a{}", "(select 1 from ".repeat(2_000), ") a".repeat(2_000)),
        format!("select case {} end", "when 1 then case ".repeat(5_000)),
        format!("create table d(a int as ({}1{}))", "(".repeat(20_000), ")".repeat(20_000)),
        "select 'x".to_owned(),
        "select date_add('2024-01-01', interval 9223372036854775807 year), from_days(9223372036854775807), from_unixtime(9223372036854775807), repeat('x', 9223372036854775807) is null, 1 from nope".to_owned(),
    ] {
        assert_ne!(error(&mut conn, &sql).await.0, 0);
    }
    assert_eq!(
        rows(&mut conn, "select date_add('2024-01-01', interval 9223372036854775807 year), from_days(9223372036854775807), from_unixtime(9223372036854775807), date_add('2024-01-01', interval 99999 month)").await,
        ["NULL|NULL|NULL|NULL"]
    );
    assert_eq!(rows(&mut conn, "select 1").await, ["1"]);
}
