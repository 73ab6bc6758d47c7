//! The product as a user runs it: child processes of the real binary on loopback, stopped by pid when
//! their handle is dropped, also when a test fails.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The `thunderhead` binary built beside the running test or tool.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("THUNDERHEAD_BIN") {
        return path.into();
    }
    let mut dir = std::env::current_exe().expect("a running process has a path");
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    dir.join("thunderhead")
}

/// A child process that does not outlive its handle.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `thunderhead ARGS` with its output in `log`.
    pub fn start(args: &[&str], log: &Path) -> io::Result<Self> {
        Self::start_in(None, args, log)
    }

    /// Starts it with a fail point armed, written as in `THUNDERHEAD_FAIL_POINT`.
    pub fn start_armed(point: &str, args: &[&str], log: &Path) -> io::Result<Self> {
        Self::launch(None, Some(("THUNDERHEAD_FAIL_POINT", point)), args, log)
    }

    /// Starts it with a variable in its environment.
    pub fn start_with(variable: (&str, &str), args: &[&str], log: &Path) -> io::Result<Self> {
        Self::launch(None, Some(variable), args, log)
    }

    /// Starts the agent's own program, which lies beside the other.
    pub fn start_agent(args: &[&str], log: &Path) -> io::Result<Self> {
        let mut command = Command::new(binary().with_file_name("thunderhead-agent"));
        Self::spawn(command.args(args), log)
    }

    /// Starts it in a network namespace.
    pub fn start_in(namespace: Option<&str>, args: &[&str], log: &Path) -> io::Result<Self> {
        Self::launch(namespace, None, args, log)
    }

    /// Starts it where `over` holds one directory with its own name for `real`, which nobody else sees: a host with
    /// files of its own. `over` is a directory that is empty for all others.
    pub fn start_on_host(
        (over, real): (&Path, &Path),
        variable: Option<(&str, &str)>,
        args: &[&str],
        log: &Path,
    ) -> io::Result<Self> {
        let mut command = Command::new("unshare");
        // Becomes the program: its pid is the program's.
        let script = "mount -t tmpfs none \"$1\" && mkdir \"$1/data\" && mount --bind \"$2\" \"$1/data\" \
                      && shift 2 && exec \"$@\"";
        command.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        command.args([over, real]).arg(binary()).args(args);
        if let Some((name, value)) = variable {
            command.env(name, value);
        }
        Self::spawn(&mut command, log)
    }

    /// Whether the kernel lets processes have mounts of their own, and why not.
    pub fn can_have_mounts() -> Result<(), String> {
        let script = "mount -t tmpfs none /mnt";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        let output = command.output().map_err(|e| e.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn launch(
        namespace: Option<&str>,
        variable: Option<(&str, &str)>,
        args: &[&str],
        log: &Path,
    ) -> io::Result<Self> {
        let mut command = match namespace {
            None => Command::new(binary()),
            Some(namespace) => {
                // Becomes the program: its pid is the program's.
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(binary());
                command
            }
        };
        if let Some((name, value)) = variable {
            command.env(name, value);
        }
        Self::spawn(command.args(args), log)
    }

    fn spawn(command: &mut Command, log: &Path) -> io::Result<Self> {
        let out = std::fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        Ok(Self { child })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, with its status.
    pub fn ended(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> io::Result<std::process::ExitStatus> {
        let mut status = None;
        wait_until("a process to end", limit, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })?;
        status.ok_or_else(|| io::Error::other("no exit status"))
    }

    /// Sends a signal by pid.
    pub fn signal(&self, signal: rustix::process::Signal) -> io::Result<()> {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed())
            .expect("a child has a pid");
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// Whether it stands still (SIGSTOP).
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        // The name, in parentheses, may hold anything; the state is the first field behind it.
        stat.is_ok_and(|stat| {
            stat.rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('T'))
        })
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `thunderhead ARGS` to its end.
pub fn run(args: &[&str]) -> io::Result<Output> {
    run_with(args, &[])
}

/// The same with more variables in its environment.
pub fn run_with(args: &[&str], variables: &[(String, String)]) -> io::Result<Output> {
    Command::new(binary())
        .args(args)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
}

/// Polls `done` until it holds; an error that names `what` after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> io::Result<()> {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > limit {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("waited {limit:?} for {what}"),
            ));
        }
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(10));
    }
    Ok(())
}

/// A port that was free a moment ago, for programs that cannot pick one themselves.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

/// A sandbox in its own process, on free ports.
pub struct Sandbox {
    /// The process.
    pub process: Process,
    /// `host:port` of PD.
    pub pd: String,
    /// Port of the MySQL protocol.
    pub sql_port: u16,
    /// Port of the status API.
    pub status_port: u16,
    data_dir: PathBuf,
}

impl Sandbox {
    /// Starts `thunderhead sandbox` on `data_dir` with free ports and waits until it serves SQL.
    pub fn start(data_dir: &Path, extra: &[&str]) -> io::Result<Self> {
        Self::start_on(data_dir, (0, 0, 0), extra)
    }

    /// Like [`Sandbox::start`] with given ports (PD, SQL, status), 0 = free.
    pub fn start_on(data_dir: &Path, ports: (u16, u16, u16), extra: &[&str]) -> io::Result<Self> {
        Self::launch(None, data_dir, ports, extra)
    }

    /// Like [`Sandbox::start`] in a network namespace.
    pub fn start_in(namespace: &str, data_dir: &Path, extra: &[&str]) -> io::Result<Self> {
        Self::launch(Some(namespace), data_dir, (0, 0, 0), extra)
    }

    fn launch(
        namespace: Option<&str>,
        data_dir: &Path,
        ports: (u16, u16, u16),
        extra: &[&str],
    ) -> io::Result<Self> {
        std::fs::create_dir_all(data_dir)?;
        let ready = data_dir.join("addresses.json");
        match std::fs::remove_file(&ready) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let log = data_dir.join("sandbox.log");
        let dir = data_dir.to_string_lossy().into_owned();
        let (pd, sql, status) = (
            ports.0.to_string(),
            ports.1.to_string(),
            ports.2.to_string(),
        );
        let mut args = vec![
            "sandbox",
            "--data-dir",
            &dir,
            "--pd-port",
            &pd,
            "--sql-port",
            &sql,
            "--status-port",
            &status,
        ];
        args.extend_from_slice(extra);
        let mut process = Process::start_in(namespace, &args, &log)?;
        let mut addresses = None;
        wait_until("the sandbox to listen", Duration::from_secs(30), || {
            addresses = std::fs::read(&ready)
                .ok()
                .and_then(|json| serde_json::from_slice::<serde_json::Value>(&json).ok());
            addresses.is_some() || process.ended().is_ok_and(|status| status.is_some())
        })?;
        let Some(addresses) = addresses else {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(io::Error::other(format!(
                "the sandbox ended at once: {text}"
            )));
        };
        let port = |name: &str| {
            addresses[name]
                .as_u64()
                .and_then(|p| u16::try_from(p).ok())
                .unwrap_or(0)
        };
        Ok(Self {
            process,
            pd: addresses["pd"].as_str().unwrap_or_default().to_owned(),
            sql_port: port("sql_port"),
            status_port: port("status_port"),
            data_dir: data_dir.to_owned(),
        })
    }

    /// Kills the process (SIGKILL) and starts it again on the same data and ports.
    pub fn restart(mut self) -> io::Result<Self> {
        self.process.kill()?;
        let pd_port = self
            .pd
            .rsplit(':')
            .next()
            .and_then(|p| p.parse().ok())
            .unwrap_or(0);
        Self::start_on(
            &self.data_dir,
            (pd_port, self.sql_port, self.status_port),
            &[],
        )
    }

    /// The address that all of its ports are on.
    pub fn host(&self) -> &str {
        self.pd
            .rsplit_once(':')
            .map_or("127.0.0.1", |(host, _)| host)
    }

    /// A MySQL connection pool to it.
    pub fn mysql(&self) -> mysql_async::Pool {
        mysql_async::Pool::new(mysql_async::Opts::from(
            mysql_async::OptsBuilder::default()
                .ip_or_hostname(self.host())
                .tcp_port(self.sql_port)
                .user(Some("root")),
        ))
    }

    /// The `[tidb]` section that points at it.
    pub fn tidb_section(&self) -> String {
        format!(
            "[tidb]\nhost = \"{}\"\nport = {}\nuser = \"root\"\nstatus-port = {}\npd-addr = \"{}\"\n",
            self.host(),
            self.sql_port,
            self.status_port,
            self.pd
        )
    }
}

/// The most memory that a process has held so far, bytes.
pub fn peak_rss(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map(|kib| kib << 10)
        .ok_or_else(|| io::Error::other("no VmHWM"))
}

/// CPU time that a process has used so far, seconds.
pub fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; user and system time are the 12th and 13th field behind it.
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    // Linux reports in hundredths of a second on every architecture we run on.
    Ok(ticks as f64 / 100.0)
}
