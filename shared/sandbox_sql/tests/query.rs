//! SELECT over encoded rows, and the statements that write them.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, error, exec, rows};

const TYPES: &str = "create table v(id int primary key, i bigint unsigned, d decimal(12,3), f double, s varchar(20) collate utf8mb4_general_ci, b varbinary(8), \
    dt date, ts datetime(3), tm time, y year, e enum('x','y'), st set('p','q'), bi bit(9), j json, g int as (id*2), key(s), unique key(i))";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_comes_back_as_it_went_in() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(&mut conn, &[TYPES]).await;
    exec(&mut conn, &[
        "insert into v values (1, 18446744073709551615, -1.5, 2.25, 'Ab', x'00ff', '2024-02-29', '2024-02-29 12:13:14.567', '-01:02:03', 1999, 'y', 'p,q', b'100000001', '{\"a\": [1, \"z\"]}', default)",
        "insert into v(id) values (-2)",
    ])
    .await;
    assert_eq!(
        rows(&mut conn, "select id, i, d, f, s, hex(b), dt, ts, tm, y, e, st, hex(bi), j, g from v order by id desc").await,
        [
            "1|18446744073709551615|-1.500|2.25|Ab|00FF|2024-02-29|2024-02-29 12:13:14.567|-01:02:03|1999|y|p,q|0101|{\"a\": [1, \"z\"]}|2",
            "-2|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|-4"
        ]
    );
    assert_eq!(
        rows(&mut conn, "select id from v where s = 'AB'").await,
        ["1"]
    );
    assert_eq!(
        rows(
            &mut conn,
            "select id from v where d = -1.5 and dt = '2024-02-29' and ts > '2024-02-29'"
        )
        .await,
        ["1"]
    );
    assert_eq!(
        rows(
            &mut conn,
            "select j->'$.a', j->>'$.a[1]' from v where id = 1"
        )
        .await,
        ["[1,\"z\"]|z"]
    );
    assert_eq!(
        rows(
            &mut conn,
            "select count(*), count(i), sum(d), avg(d), max(ts) from v where id between 1 and 5"
        )
        .await,
        ["1|1|-1.500|-1.5000000|2024-02-29 12:13:14.567"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_answer_as_tidb_does() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(&mut conn, &["create table w(id bigint primary key auto_increment, k varchar(10) not null, n int default 7, unique key uk(k), key kn(n))"]).await;
    exec(&mut conn, &["insert into w(k) values ('a'), ('b')"]).await;
    assert_eq!(conn.last_insert_id(), Some(1));
    let (code, text) = error(&mut conn, "insert into w(k) values ('a')").await;
    assert_eq!(
        (code, text.as_str()),
        (1062, "Duplicate entry 'a' for key 'w.uk'")
    );
    assert_eq!(
        error(&mut conn, "insert into w values (1, 'z', 1)").await.1,
        "Duplicate entry '1' for key 'w.PRIMARY'"
    );
    assert_eq!(
        error(&mut conn, "insert into w(k, n) values ('c', 99999999999)")
            .await
            .0,
        1264
    );
    assert_eq!(
        error(&mut conn, "insert into w(k, nope) values ('c', 1)")
            .await
            .0,
        1054
    );
    assert_eq!(
        error(&mut conn, "insert into w(k, n) values ('c')").await.0,
        1136
    );
    assert_eq!(
        error(&mut conn, "insert into w(k) values (null)").await.0,
        1048
    );
    exec(
        &mut conn,
        &["insert ignore into w(k, n) values ('a', 1), ('c', 3)"],
    )
    .await;
    assert_eq!(conn.affected_rows(), 1);
    exec(&mut conn, &["replace into w(id, k, n) values (1, 'c', 5)"]).await;
    assert_eq!(conn.affected_rows(), 3);
    exec(
        &mut conn,
        &["insert into w(k, n) values ('b', 2) on duplicate key update n = n + values(n)"],
    )
    .await;
    assert_eq!(conn.affected_rows(), 2);
    assert_eq!(
        rows(&mut conn, "select k, n from w order by k").await,
        ["b|9", "c|5"]
    );
    exec(
        &mut conn,
        &[
            "update w set n = n * 2, k = concat(k, 'x') where n > 5",
            "delete from w where k = 'c'",
        ],
    )
    .await;
    assert_eq!(rows(&mut conn, "select k, n from w").await, ["bx|18"]);
    exec(
        &mut conn,
        &[
            "insert into w(k) select concat(k, '1') from w",
            "admin check table w",
        ],
    )
    .await;
    assert_eq!(rows(&mut conn, "select count(*) from w").await, ["2"]);
    exec(&mut conn, &["truncate table w"]).await;
    assert_eq!(rows(&mut conn, "select count(*) from w").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_seen_by_others_only_once_it_commits() {
    let server = Server::start().await;
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    exec(
        &mut one,
        &[
            "create table x(id int primary key, v int)",
            "begin",
            "insert into x values (1, 1)",
            "update x set v = 5",
        ],
    )
    .await;
    assert_eq!(rows(&mut one, "select * from x").await, ["1|5"]);
    assert!(rows(&mut two, "select * from x").await.is_empty());
    exec(&mut one, &["commit"]).await;
    assert_eq!(rows(&mut two, "select * from x").await, ["1|5"]);
    exec(&mut one, &["begin", "delete from x", "rollback"]).await;
    assert_eq!(rows(&mut two, "select count(*) from x").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_locks_waits_for_the_writer_before_it_reads() {
    let server = Server::start().await;
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    exec(
        &mut one,
        &[
            "create table alloc(id int primary key, top bigint)",
            "insert into alloc values (1, 0)",
            "begin",
        ],
    )
    .await;
    assert_eq!(
        rows(&mut one, "select top from alloc where id = 1 for update").await,
        ["0"]
    );
    let other = tokio::spawn(async move {
        exec(&mut two, &["begin"]).await;
        let top = rows(&mut two, "select top from alloc where id = 1 for update").await;
        exec(&mut two, &["update alloc set top = top + 10", "commit"]).await;
        top
    });
    exec(&mut one, &["update alloc set top = top + 5", "commit"]).await;
    assert_eq!(other.await.unwrap(), ["5"]);
    assert_eq!(rows(&mut one, "select top from alloc").await, ["15"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_are_raised_and_shown() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(
        &mut conn,
        &[
            "create table a(id bigint primary key auto_increment, b int)",
            "create table r(a int)",
            "create table z(id bigint primary key auto_random, b int)",
        ],
    )
    .await;
    exec(
        &mut conn,
        &[
            "alter table a auto_increment = 1000",
            "insert into a(b) values (1)",
            "alter table r auto_increment = 50",
            "insert into r values (1)",
        ],
    )
    .await;
    assert_eq!(rows(&mut conn, "select id from a").await, ["1000"]);
    assert_eq!(
        rows(&mut conn, "select _tidb_rowid, a from r").await,
        ["50|1"]
    );
    assert_eq!(
        rows(&mut conn, "show table a next_row_id").await,
        ["test|a|id|1001|AUTO_INCREMENT"]
    );
    assert_eq!(
        rows(&mut conn, "show table r next_row_id").await,
        ["test|r|_tidb_rowid|51|_TIDB_ROWID"]
    );
    exec(&mut conn, &["alter table z auto_random_base = 700"]).await;
    assert_eq!(
        rows(&mut conn, "show table z next_row_id").await,
        ["test|z|id|700|AUTO_RANDOM"]
    );
    exec(
        &mut conn,
        &[
            "insert into a values (5000, 1)",
            "insert into a(b) values (2)",
        ],
    )
    .await;
    assert_eq!(rows(&mut conn, "select max(id) from a").await, ["5001"]);
    exec(&mut conn, &["alter table a auto_increment = 10"]).await;
    assert_eq!(rows(&mut conn, "show warnings").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_describe_themselves() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(&mut conn, &["create table c(a int, b varchar(10) not null default 'q', primary key(a) nonclustered, key kb(b(3))) comment='hi'"]).await;
    let create = rows(&mut conn, "show create table c").await;
    assert_eq!(
        create[0].split_once('|').unwrap().1,
        "CREATE TABLE `c` (\n  `a` int NOT NULL,\n  `b` varchar(10) NOT NULL DEFAULT 'q',\n  PRIMARY KEY (`a`) /*T![clustered_index] NONCLUSTERED */,\n  KEY `kb` (`b`(3))\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='hi'"
    );
    assert_eq!(
        rows(&mut conn, "desc c").await,
        ["a|int|NO|PRI|NULL|", "b|varchar(10)|NO|MUL|q|"]
    );
    assert_eq!(
        rows(&mut conn, "show columns from c like 'b'").await.len(),
        1
    );
    assert_eq!(rows(&mut conn, "show tables").await, ["c"]);
    assert!(
        rows(&mut conn, "show databases")
            .await
            .contains(&"test".to_owned())
    );
    assert_eq!(
        rows(&mut conn, "show variables like 'tidb_row_format_version'").await,
        ["tidb_row_format_version|2"]
    );
    let id = rows(&mut conn, "select tidb_table_id from information_schema.tables where table_schema = 'test' and table_name = 'c'").await;
    assert!(id[0].parse::<i64>().unwrap() > 100);
    assert_eq!(rows(&mut conn, "select column_name, data_type, column_key from information_schema.columns where table_schema = 'TEST' and table_name = 'c' order by ordinal_position").await, ["a|int|PRI", "b|varchar|MUL"]);
    assert_eq!(rows(&mut conn, "select variable_value from mysql.tidb where variable_name in ('new_collation_enabled', 'system_tz') order by variable_name").await, ["True", "UTC"]);
    assert_eq!(rows(&mut conn, "select index_name, seq_in_index, column_name, sub_part from information_schema.statistics where table_name = 'c' order by 1").await, ["kb|1|b|3", "PRIMARY|1|a|NULL"]);
    assert_eq!(
        rows(
            &mut conn,
            "select @@global.time_zone, @@session.tidb_row_format_version, @@autocommit"
        )
        .await,
        ["SYSTEM|2|1"]
    );
    exec(
        &mut conn,
        &["set session sql_mode = '', @x = 5, global tidb_gc_life_time = '1h'"],
    )
    .await;
    assert_eq!(
        rows(
            &mut conn,
            "select @@sql_mode, @x + 1, @@global.tidb_gc_life_time"
        )
        .await,
        ["|6|1h"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_info_schema_of_lightning_works() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(&mut conn, &[
        "create database if not exists `lightning_task_info`",
        "create table if not exists lightning_task_info.conflict_error_v4 (id bigint PRIMARY KEY AUTO_INCREMENT, task_id bigint NOT NULL, create_time datetime(6) NOT NULL DEFAULT now(6), \
         table_name varchar(261) NOT NULL, index_name varchar(128) NOT NULL, key_data text COMMENT 'decoded from raw_key, human readable only, not for machine use', row_data text, \
         raw_key mediumblob NOT NULL COMMENT 'the conflicted key', raw_value mediumblob NOT NULL, raw_handle mediumblob NOT NULL, raw_row mediumblob NOT NULL, kv_type tinyint(1) NOT NULL, \
         INDEX (task_id, table_name), INDEX (index_name), INDEX (table_name, index_name), INDEX (kv_type))",
        "insert into lightning_task_info.conflict_error_v4 (task_id, table_name, index_name, key_data, row_data, raw_key, raw_value, raw_handle, raw_row, kv_type) values (7, '`db`.`t`', 'PRIMARY', '1', '(1)', x'74ff', x'00', x'01', x'80', 1), (7, '`db`.`t`', 'k', null, null, x'7480', '', x'01', x'80', 0)",
    ])
    .await;
    assert_eq!(rows(&mut conn, "select id, hex(raw_key), create_time > '2020-01-01' from lightning_task_info.conflict_error_v4 where task_id = 7 and kv_type <> 0 order by id limit 10").await, ["1|74FF|1"]);
    exec(
        &mut conn,
        &[
            "delete from lightning_task_info.conflict_error_v4 where task_id = 7",
            "drop database lightning_task_info",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_loaders_and_clients_ask_is_answered() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(&mut conn, &[
        "create table q(id bigint primary key, v varchar(10), key(v)) /*!50100 ENGINE=InnoDB */ /*T! SHARD_ROW_ID_BITS=0 */",
        "/* c */ insert into q values (1,'a'); -- end",
        "SET SESSION tidb_build_stats_concurrency = 4, @@session.tidb_distsql_scan_concurrency=3, sql_mode='', time_zone='+08:00'",
        "SET @OLD_TIME_ZONE=@@TIME_ZONE, NAMES=1",
        "update mysql.tidb set variable_value = '100h' where variable_name = 'tikv_gc_life_time'",
        "analyze table q",
        "lock tables q read",
        "unlock tables",
        "flush privileges",
        "start transaction with consistent snapshot",
        "commit",
        "kill tidb 0",
    ][..11])
    .await;
    assert_eq!(
        rows(&mut conn, "select 1 from `test`.`q` use index() limit 1").await,
        ["1"]
    );
    assert_eq!(
        rows(
            &mut conn,
            "SELECT VARIABLE_VALUE FROM mysql.tidb WHERE VARIABLE_NAME='tikv_gc_life_time'"
        )
        .await,
        ["100h"]
    );
    assert_eq!(
        rows(
            &mut conn,
            "show variables where Variable_name in ('time_zone', 'autocommit')"
        )
        .await,
        ["autocommit|ON", "time_zone|+08:00"]
    );
    assert_eq!(
        rows(
            &mut conn,
            "show full tables from test where table_type = 'BASE TABLE'"
        )
        .await
        .len(),
        1
    );
    assert_eq!(
        rows(
            &mut conn,
            "select count(*) from information_schema.tidb_indexes where table_name = 'q'"
        )
        .await,
        ["2"]
    );
    assert_eq!(rows(&mut conn, "show index from q").await.len(), 2);
    assert_eq!(
        rows(&mut conn, "show table status from test like 'q'")
            .await
            .len(),
        1
    );
    assert_eq!(
        rows(
            &mut conn,
            "select @@tidb_config, @@socket, @@version_comment"
        )
        .await
        .len(),
        1
    );
    assert_eq!(
        rows(&mut conn, "select t.*, q.v as w from q t join q using (id)").await,
        ["1|a|a"]
    );
    assert_eq!(
        rows(
            &mut conn,
            "select upper(v) as u, sum(id) over () from q having u = 'A'"
        )
        .await,
        ["A|1"]
    );
    assert_eq!(
        error(&mut conn, "alter table q modify column v int")
            .await
            .0,
        1235
    );
    assert_eq!(
        error(&mut conn, "set time_zone = 'Nowhere/At_all'").await.0,
        1298
    );
    assert_eq!(error(&mut conn, "create table q(a int)").await.0, 1050);
    assert_eq!(error(&mut conn, "drop table nope").await.0, 1051);
    assert_eq!(error(&mut conn, "create database test").await.0, 1007);
    assert_eq!(
        error(&mut conn, "create table bad(a int, a int)").await.0,
        1060
    );
    assert_eq!(
        error(&mut conn, "create table bad(a int, key k(a), key k(a))")
            .await
            .0,
        1061
    );
    assert_eq!(
        error(&mut conn, "create table bad(a text, key k(a))")
            .await
            .0,
        1170
    );
    assert_eq!(
        error(&mut conn, "create table bad(a int default 'x')")
            .await
            .0,
        1067
    );
    assert_eq!(
        error(&mut conn, "create table bad(a int) charset nosuch")
            .await
            .0,
        1115
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitioned_tables_are_read_and_cut_as_one() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(&mut conn, &[
        "create table p(a int, b int, c int, primary key(a), unique key ub(b) global, key kc(c)) partition by range(a) (partition p0 values less than (10), partition p1 values less than (maxvalue))",
        "insert into p values (1, 10, 5), (11, 20, 5), (12, 30, 6)",
        "admin check table p",
    ])
    .await;
    assert_eq!(
        rows(&mut conn, "select a, c from p where a >= 11 order by a").await,
        ["11|5", "12|6"]
    );
    assert_eq!(
        error(&mut conn, "insert into p values (3, 20, 1)").await.1,
        "Duplicate entry '20' for key 'p.ub'"
    );
    assert_eq!(rows(&mut conn, "select partition_name, partition_description from information_schema.partitions where table_name = 'p'").await, ["p0|10", "p1|MAXVALUE"]);
    exec(
        &mut conn,
        &[
            "update p set a = 5 where a = 12",
            "delete from p where b = 20",
            "admin check table p",
        ],
    )
    .await;
    assert_eq!(
        rows(&mut conn, "select a, b, c from p order by b").await,
        ["1|10|5", "5|30|6"]
    );
    assert!(rows(&mut conn, "show create table p").await[0].contains("PARTITION BY RANGE (`a`)\n(PARTITION `p0` VALUES LESS THAN (10),\n PARTITION `p1` VALUES LESS THAN (MAXVALUE))"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_is_its_query_wherever_it_is_read_from() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(&mut conn, &[
        "create database d",
        "use d",
        "create table t(id int primary key, s varchar(20), n int)",
        "insert into t values (1, 'a', 10), (2, 'b', 20), (3, 'b', 30)",
        "create algorithm=undefined definer=`root`@`%` sql security definer view `v` (`word`, `total`) as \
         select s, sum(n) from t group by s",
        "create view w as select v.word, t.id from v join t on t.s = v.word where v.total > 10",
        "use test",
    ])
    .await;
    let sums = ["a|10", "b|50"];
    assert_eq!(
        rows(&mut conn, "select * from d.v order by word").await,
        sums
    );
    let joined = "with t as (select 1 x) select w.id from d.w w, t where w.word = 'b' order by 1";
    assert_eq!(rows(&mut conn, joined).await, ["2", "3"]);
    assert_eq!(
        rows(
            &mut conn,
            "select table_name, table_type from information_schema.tables where table_schema = 'd' order by 1"
        )
        .await,
        ["t|BASE TABLE", "v|VIEW", "w|VIEW"]
    );
    assert_eq!(
        rows(&mut conn, "select column_name, data_type from information_schema.columns where table_name = 'w' order by ordinal_position").await,
        ["word|varchar", "id|int"]
    );
    let shown = rows(&mut conn, "show create view d.v").await;
    assert!(
        shown[0].contains("VIEW `v` (`word`, `total`) AS select s, sum(n) from t group by s"),
        "{shown:?}"
    );
    // A view is no table, and a table is no view.
    assert_eq!(
        error(&mut conn, "insert into d.v values (1, 2)").await.0,
        1347
    );
    assert_eq!(error(&mut conn, "drop table d.v").await.0, 1051);
    assert_eq!(error(&mut conn, "drop view d.t").await.0, 1347);
    assert_eq!(
        error(&mut conn, "create view d.v as select 1").await.0,
        1050
    );
    exec(
        &mut conn,
        &[
            "create or replace view d.v as select id word from d.t where id < 3",
            "drop table if exists d.v",
            "drop view if exists d.x",
        ],
    )
    .await;
    assert_eq!(
        rows(&mut conn, "select count(*), max(word) from d.v").await,
        ["2|2"]
    );
    exec(&mut conn, &["drop view d.v"]).await;
    assert_eq!(error(&mut conn, "select * from d.w").await.0, 1356);
    assert_eq!(error(&mut conn, "drop view d.v").await.0, 1051);
}
