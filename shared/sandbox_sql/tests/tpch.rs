//! Queries of TPC-H's shapes over small tables whose answers can be worked out by hand.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, exec, rows};

async fn load() -> (Server, mysql_async::Conn) {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    exec(&mut conn, &[
        "create table nation(n_nationkey bigint primary key, n_name char(25), n_regionkey bigint)",
        "create table customer(c_custkey bigint primary key, c_name varchar(25), c_nationkey bigint, c_mktsegment char(10), c_acctbal decimal(15,2))",
        "create table orders(o_orderkey bigint primary key, o_custkey bigint, o_totalprice decimal(15,2), o_orderdate date, o_orderpriority char(15), o_comment varchar(79))",
        "create table lineitem(l_orderkey bigint, l_linenumber bigint, l_partkey bigint, l_quantity decimal(15,2), l_extendedprice decimal(15,2), l_discount decimal(15,2), l_tax decimal(15,2), \
         l_returnflag char(1), l_linestatus char(1), l_shipdate date, l_commitdate date, l_receiptdate date, primary key(l_orderkey, l_linenumber))",
        "insert into nation values (1, 'FRANCE', 3), (2, 'GERMANY', 3), (3, 'JAPAN', 2)",
        "insert into customer values (1, 'c1', 1, 'BUILDING', 711.56), (2, 'c2', 2, 'BUILDING', -5.00), (3, 'c3', 3, 'AUTO', 100)",
        "insert into orders values (1, 1, 100.00, '1995-01-01', '1-URGENT', 'x'), (2, 2, 200.50, '1995-06-15', '2-HIGH', 'special requests'), (3, 2, 50.25, '1996-01-02', '5-LOW', 'y')",
        "insert into lineitem values \
         (1, 1, 10, 17, 1000.00, 0.05, 0.02, 'N', 'O', '1995-03-01', '1995-02-01', '1995-03-10'), \
         (1, 2, 11, 36, 2000.00, 0.10, 0.06, 'R', 'F', '1995-03-05', '1995-04-01', '1995-03-10'), \
         (2, 1, 10, 8, 300.10, 0.07, 0.00, 'N', 'O', '1996-02-01', '1996-01-01', '1996-02-03'), \
         (3, 1, 12, 28, 99.99, 0.00, 0.01, 'A', 'F', '1996-12-01', '1996-11-01', '1996-12-09')",
    ])
    .await;
    (server, conn)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_of_decimals_are_exact() {
    let (_server, mut conn) = load().await;
    let q1 = "select l_returnflag, l_linestatus, sum(l_quantity) as sum_qty, sum(l_extendedprice * (1 - l_discount)) as disc, \
              sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) as charge, avg(l_quantity), avg(l_discount), count(*) from lineitem \
              where l_shipdate <= date '1998-12-01' - interval '90' day group by l_returnflag, l_linestatus order by l_returnflag, l_linestatus";
    assert_eq!(
        rows(&mut conn, q1).await,
        [
            "A|F|28.00|99.9900|100.989900|28.000000|0.000000|1",
            "N|O|25.00|1229.0930|1248.093000|12.500000|0.060000|2",
            "R|F|36.00|1800.0000|1908.000000|36.000000|0.100000|1",
        ]
    );
    let q6 = "select sum(l_extendedprice * l_discount) as revenue from lineitem where l_shipdate >= date '1995-01-01' and l_shipdate < date '1995-01-01' + interval '1' year \
              and l_discount between 0.06 - 0.01 and 0.06 + 0.01 and l_quantity < 24";
    assert_eq!(rows(&mut conn, q6).await, ["50.0000"]);
    let ratio = "select 100.00 * sum(case when l_returnflag like 'N%' then l_extendedprice * (1 - l_discount) else 0 end) / sum(l_extendedprice * (1 - l_discount)) as r from lineitem";
    assert_eq!(rows(&mut conn, ratio).await, ["39.2796547743"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_groups_and_subqueries_agree_with_the_rows() {
    let (_server, mut conn) = load().await;
    let q3 = "select l_orderkey, sum(l_extendedprice * (1 - l_discount)) as revenue, o_orderdate from customer, orders, lineitem where c_mktsegment = 'BUILDING' and c_custkey = o_custkey \
              and l_orderkey = o_orderkey and o_orderdate < '1996-01-01' and l_shipdate > '1995-01-15' group by l_orderkey, o_orderdate order by revenue desc, o_orderdate limit 10";
    assert_eq!(
        rows(&mut conn, q3).await,
        ["1|2750.0000|1995-01-01", "2|279.0930|1995-06-15"]
    );
    let q4 = "select o_orderpriority, count(*) as order_count from orders where o_orderdate >= '1995-01-01' and exists (select * from lineitem where l_orderkey = o_orderkey and l_commitdate < l_receiptdate) group by o_orderpriority order by o_orderpriority";
    assert_eq!(
        rows(&mut conn, q4).await,
        ["1-URGENT|1", "2-HIGH|1", "5-LOW|1"]
    );
    let q7 = "select supp_nation, l_year, sum(volume) as revenue from (select n1.n_name as supp_nation, extract(year from l_shipdate) as l_year, l_extendedprice * (1 - l_discount) as volume \
              from lineitem, orders, customer, nation n1, nation n2 where o_orderkey = l_orderkey and c_custkey = o_custkey and c_nationkey = n1.n_nationkey and n2.n_nationkey = 3 \
              and ((n1.n_name = 'FRANCE' and n2.n_name = 'JAPAN') or (n1.n_name = 'GERMANY' and n2.n_name = 'JAPAN'))) as shipping group by supp_nation, l_year order by supp_nation, l_year";
    assert_eq!(
        rows(&mut conn, q7).await,
        ["FRANCE|1995|2750.0000", "GERMANY|1996|379.0830"]
    );
    let q13 = "select c_count, count(*) as custdist from (select c_custkey, count(o_orderkey) as c_count from customer left outer join orders on c_custkey = o_custkey and o_comment not like '%special%requests%' \
               group by c_custkey) as c_orders group by c_count order by custdist desc, c_count desc";
    assert_eq!(rows(&mut conn, q13).await, ["1|2", "0|1"]);
    let q15 = "with revenue(part, total) as (select l_partkey, sum(l_extendedprice * (1 - l_discount)) from lineitem group by l_partkey) select part, total from revenue where total = (select max(total) from revenue)";
    assert_eq!(rows(&mut conn, q15).await, ["11|1800.0000"]);
    let q17 = "select sum(l_extendedprice) / 7.0 as avg_yearly from lineitem l where l_quantity < (select 1.2 * avg(l_quantity) from lineitem where l_partkey = l.l_partkey)";
    assert_eq!(rows(&mut conn, q17).await, ["342.870000"]);
    let q18 = "select c_name, o_orderkey, o_totalprice from customer, orders where o_orderkey in (select l_orderkey from lineitem group by l_orderkey having sum(l_quantity) > 30) and c_custkey = o_custkey order by o_totalprice desc";
    assert_eq!(rows(&mut conn, q18).await, ["c1|1|100.00"]);
    let q22 = "select substring(c_name, 1, 1) as code, count(*), sum(c_acctbal) from customer where c_acctbal > (select avg(c_acctbal) from customer where c_acctbal > 0.00) and not exists (select * from orders where o_custkey = c_custkey and o_orderkey > 1) group by code";
    assert_eq!(rows(&mut conn, q22).await, ["c|1|711.56"]);
    assert_eq!(rows(&mut conn, "select count(distinct l_partkey), min(l_discount), max(l_extendedprice), group_concat(distinct l_returnflag order by l_returnflag) from lineitem").await, ["3|0.00|2000.00|A,N,R"]);
    assert_eq!(rows(&mut conn, "select l_orderkey from lineitem where l_extendedprice > 300 union select o_orderkey + 10 from orders where o_orderkey = 3 order by 1 desc").await, ["13", "2", "1"]);
    assert_eq!(rows(&mut conn, "select o_orderkey, row_number() over (partition by o_custkey order by o_totalprice desc) from orders order by o_orderkey").await, ["1|1", "2|1", "3|2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_answer_as_mysql_does() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    for (sql, expected) in [
        ("7 / 2", "3.5000"),
        ("7 div 2", "3"),
        ("-7 % 3", "-1"),
        ("1.5 + 2", "3.5"),
        ("if(1 > 2, 'a', concat('b', 1, null))", "NULL"),
        ("concat_ws(',', 'a', null, 'c')", "a,c"),
        ("coalesce(null, 5)", "5"),
        ("'abc' like 'A%'", "0"),
        ("date_add('2024-01-31', interval 1 month)", "2024-02-29"),
        ("datediff('2024-03-01', '2024-02-28')", "2"),
        ("date_format('2024-02-09', '%Y-%m %e')", "2024-02 9"),
        ("to_days('2024-01-01')", "739251"),
        ("unix_timestamp('2024-01-01 00:00:00')", "1704067200"),
        ("from_unixtime(0)", "1970-01-01 00:00:00"),
        ("cast('12.345' as decimal(8,2))", "12.35"),
        ("cast('12abc' as signed)", "12"),
        ("hex('az')", "617A"),
        ("round(2.345, 2)", "2.35"),
        ("left('hello', 2)", "he"),
        ("1 in (1, 2) and 3 not in (4)", "1"),
        ("0x41 = 'A'", "1"),
        ("case 2 when 1 then 'x' when 2 then 'y' end", "y"),
        ("greatest(1, 2.5)", "2.5"),
        ("null <=> null", "1"),
        ("timestampdiff(month, '2024-01-31', '2024-03-01')", "1"),
        ("json_unquote(json_extract('{\"a\":\"b\"}', '$.a'))", "b"),
        ("substring('hello', -3, 2)", "ll"),
        ("length('日') + char_length('日')", "4"),
    ] {
        assert_eq!(
            rows(&mut conn, &format!("select {sql}")).await,
            [expected],
            "{sql}"
        );
    }
}
