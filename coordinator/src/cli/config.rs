//! The configuration of a job on the command line: a file, flags over it, the environment between.

use clap::Args;
use std::io::Read;
use std::path::{Path, PathBuf};
use thunderhead_config::Job;
use thunderhead_types::{Error, ErrorKind, Result};

#[derive(Args)]
pub(super) struct ConfigArgs {
    /// A TiDB Lightning configuration (TOML); `-` reads standard input
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Directory of the source files [mydumper.data-source-dir]
    #[arg(long, short = 'd', value_name = "DIR")]
    data_source_dir: Option<String>,

    /// Directory for sorted runs and the job's state [tikv-importer.sorted-kv-dir]
    #[arg(long, value_name = "DIR")]
    sorted_kv_dir: Option<String>,

    /// How rows reach the cluster: local [tikv-importer.backend]
    #[arg(long)]
    backend: Option<String>,

    /// Tables to import, such as `db.*,!db.tmp*` [mydumper.filter]
    #[arg(long, short)]
    filter: Option<String>,

    /// TiDB host [tidb.host]
    #[arg(long, value_name = "HOST")]
    tidb_host: Option<String>,

    /// TiDB MySQL port [tidb.port]
    #[arg(long, value_name = "PORT")]
    tidb_port: Option<String>,

    /// TiDB status port [tidb.status-port]
    #[arg(long, value_name = "PORT")]
    tidb_status_port: Option<String>,

    /// TiDB user [tidb.user]
    #[arg(long, value_name = "USER")]
    tidb_user: Option<String>,

    /// File that holds the password; the environment variable THUNDERHEAD_TIDB_PASSWORD serves too
    #[arg(long, value_name = "FILE")]
    tidb_password_file: Option<PathBuf>,

    /// PD addresses, separated by commas [tidb.pd-addr]
    #[arg(long, value_name = "ADDRESSES")]
    pd_urls: Option<String>,

    /// Encode threads [lightning.region-concurrency]
    #[arg(long, value_name = "N")]
    threads: Option<String>,

    /// Memory for sorting, merging and sending, such as 512MiB [thunderhead.memory]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,

    /// The job as one statement: LOAD DATA … or IMPORT INTO … FROM … [thunderhead.statement]
    #[arg(long, value_name = "STATEMENT")]
    sql: Option<String>,

    /// Any other key of the configuration
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// A configuration as it was written, with what goes over it.
pub(super) struct Written {
    /// TOML.
    pub(super) text: String,
    /// What the text is called in messages.
    pub(super) origin: String,
    /// Dotted keys with their values.
    pub(super) overrides: Vec<(String, String)>,
}

impl ConfigArgs {
    /// The checked job; notes go to standard error.
    pub(super) fn load(&self) -> Result<Job> {
        self.read()?.check()
    }

    /// Reads what was written.
    pub(super) fn read(&self) -> Result<Written> {
        let config = |place: &str, cause: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Config, place, cause)
        };
        let (text, origin) = match &self.config {
            None => (String::new(), "command line".to_owned()),
            Some(path) if path == Path::new("-") => {
                let mut text = String::new();
                std::io::stdin()
                    .read_to_string(&mut text)
                    .map_err(|e| config("standard input", &e))?;
                (text, "standard input".to_owned())
            }
            Some(path) => {
                let name = path.display().to_string();
                (
                    std::fs::read_to_string(path).map_err(|e| config(&name, &e))?,
                    name,
                )
            }
        };
        let mut overrides = thunderhead_config::environment_overrides(std::env::vars());
        let flags = [
            ("mydumper.data-source-dir", &self.data_source_dir),
            ("tikv-importer.sorted-kv-dir", &self.sorted_kv_dir),
            ("tikv-importer.backend", &self.backend),
            ("mydumper.filter", &self.filter),
            ("tidb.host", &self.tidb_host),
            ("tidb.port", &self.tidb_port),
            ("tidb.status-port", &self.tidb_status_port),
            ("tidb.user", &self.tidb_user),
            ("tidb.pd-addr", &self.pd_urls),
            ("lightning.region-concurrency", &self.threads),
            ("thunderhead.memory", &self.memory),
            ("thunderhead.statement", &self.sql),
        ];
        overrides.extend(
            flags
                .iter()
                .filter_map(|(key, value)| Some(((*key).to_owned(), (*value).clone()?))),
        );
        for pair in &self.set {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| config("--set", &format!("{pair:?} is not KEY=VALUE")))?;
            overrides.push((key.trim().to_owned(), value.trim().to_owned()));
        }
        if let Some(path) = &self.tidb_password_file {
            let password = std::fs::read_to_string(path)
                .map_err(|e| config(&path.display().to_string(), &e))?;
            overrides.push((
                "tidb.password".to_owned(),
                password.trim_end_matches(['\r', '\n']).to_owned(),
            ));
        }
        Ok(Written {
            text,
            origin,
            overrides,
        })
    }
}

impl Written {
    /// The checked job; notes go to standard error.
    pub(super) fn check(&self) -> Result<Job> {
        let loaded = thunderhead_config::load(&self.text, &self.origin, &self.overrides)
            .map_err(|problems| thunderhead_config::to_error(&problems))?;
        for note in &loaded.notes {
            eprintln!("note: {note}");
        }
        Ok(loaded.job)
    }
}
