//! Debian's MariaDB server on a directory of its own, reached over loopback: the oracle of what `LOAD DATA` reads.

use crate::process::free_port;
use crate::process::wait_until;
use mysql_async::{Conn, Opts, OptsBuilder};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server that starts from nothing takes seconds, on a busy machine many.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running server, stopped by pid when its handle is dropped.
pub struct MariaDb {
    child: Child,
    port: u16,
}

fn program(name: &str) -> Command {
    let installed = Path::new("/usr/sbin").join(name);
    if installed.exists() {
        Command::new(installed)
    } else {
        Command::new(name)
    }
}

impl MariaDb {
    /// Installs an empty database in `dir` and starts a server on it.
    pub fn start(dir: &Path) -> Self {
        let data = dir.join("mariadb");
        let installed = Command::new("mariadb-install-db")
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .args([
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--force",
            ])
            .arg(format!("--user={}", user()))
            .output()
            .expect("mariadb-install-db (Debian package mariadb-server)");
        assert!(installed.status.success(), "{installed:?}");
        let port = free_port();
        let log = std::fs::File::create(dir.join("mariadb.log")).expect("a log file");
        let child = program("mariadbd")
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", data.join("s").display()))
            .arg(format!("--pid-file={}", data.join("pid").display()))
            .arg(format!("--port={port}"))
            .arg(format!("--user={}", user()))
            .args(["--bind-address=127.0.0.1", "--secure-file-priv="])
            .args([
                "--innodb-buffer-pool-size=16M",
                "--innodb-flush-log-at-trx-commit=0",
                "--key-buffer-size=1M",
                "--max-connections=10",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("mariadbd (Debian package mariadb-server)");
        let server = Self { child, port };
        wait_until("MariaDB to listen", PATIENCE, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .expect("MariaDB listens");
        server
    }

    /// A connection as root.
    pub async fn connect(&self) -> Conn {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some("root"))
            .prefer_socket(false);
        Conn::new(Opts::from(options))
            .await
            .expect("MariaDB answers")
    }
}

/// The server refuses to run as root unless it is told so.
fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| "root".to_owned())
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
