//! The client people have: Debian's `mariadb`. Where it is not installed there is nothing to test.
#![allow(clippy::unwrap_used)]

mod common;

use common::Server;
use std::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mariadb_client_can_work_with_the_port() {
    if Command::new("mariadb").arg("--version").output().is_err() {
        println!("no mariadb client here");
        return;
    }
    let server = Server::start().await;
    let port = server.server.sql_addr().port().to_string();
    let run = move |sql: &str| {
        let output = Command::new("mariadb")
            .args([
                "--no-defaults",
                "--protocol=tcp",
                "-h127.0.0.1",
                "-uroot",
                "-P",
                &port,
                "--batch",
                "--skip-column-names",
                "test",
                "-e",
                sql,
            ])
            .output()
            .unwrap();
        (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    tokio::task::spawn_blocking(move || {
        let (out, err) = run("create table t(a int primary key, b varchar(20), c decimal(6,2)); insert into t values (1,'x',1.5),(2,null,-3); select * from t order by a desc; show tables; show create table t\\G");
        assert_eq!(err, "");
        assert!(out.starts_with("2\tNULL\t-3.00\n1\tx\t1.50\nt\n"), "{out}");
        assert!(out.contains("CREATE TABLE `t`"), "{out}");
        let (_, err) = run("select * from missing");
        assert!(err.contains("ERROR 1146 (42S02)"), "{err}");
        let (out, err) = run("begin; delete from t; rollback; select count(*), sum(c) from t; admin checksum table t; show warnings");
        assert_eq!(err, "");
        assert!(out.starts_with("2\t-1.50\ntest\tt\t"), "{out}");
    })
    .await
    .unwrap();
    server.server.stop().await;
}
