//! The target cluster: addresses, certificates, SQL mode, and what happens to duplicates there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::job::{Backend, ConflictOptions, ConflictStrategy, OnDuplicate, TidbOptions, TlsFiles};
use crate::problem::nearest;
use crate::raw::Written;
use crate::secret::Password;

/// Certificate files of a section; `inherited` where the section does not say.
pub(super) fn tls_files(
    w: &mut Written,
    section: &str,
    inherited: Option<&TlsFiles>,
) -> Option<TlsFiles> {
    let inherit = |path: Option<&PathBuf>| {
        path.map(|p| p.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let client = inherited.and_then(|files| files.client.as_ref());
    let pick = |key: &str, from: Option<&PathBuf>| {
        let path = format!("{section}.{key}");
        w.root
            .written(&path)
            .map_or_else(|| inherit(from), |_| w.root.text(&path))
    };
    let ca = pick("ca-path", inherited.map(|files| &files.ca));
    let cert = pick("cert-path", client.map(|c| &c.0));
    let key = pick("key-path", client.map(|c| &c.1));
    if cert.is_empty() != key.is_empty() {
        let (lacking, given) = if cert.is_empty() {
            ("cert-path", "key-path")
        } else {
            ("key-path", "cert-path")
        };
        w.problem_at(
            &format!("{section}.{given}"),
            format!("{lacking} is missing"),
            "give both or none",
        );
    }
    if ca.is_empty() {
        if inherited.is_none() && !cert.is_empty() {
            w.problem_at(
                &format!("{section}.cert-path"),
                "ca-path is missing",
                "TLS needs the CA's certificate",
            );
        }
        return None;
    }
    let client =
        (!cert.is_empty() && !key.is_empty()).then(|| (PathBuf::from(cert), PathBuf::from(key)));
    Some(TlsFiles {
        ca: PathBuf::from(ca),
        client,
    })
}

pub(super) fn tidb(
    w: &mut Written,
    backend: Option<Backend>,
    security: Option<&TlsFiles>,
) -> TidbOptions {
    sql_tls(w, security);
    let host = w.root.text("tidb.host");
    if host.is_empty() {
        w.problem_at("tidb.host", "it must not be empty", "name a TiDB server");
    }
    let mut session_vars = BTreeMap::new();
    for name in [
        "distsql-scan",
        "build-stats",
        "index-serial-scan",
        "checksum-table",
    ] {
        if let Some(value) = w.root.number(&format!("tidb.{name}-concurrency")) {
            let variable = format!("tidb_{}_concurrency", name.replace('-', "_"));
            session_vars.insert(variable, value.to_string());
        }
    }
    session_vars.extend(w.root.vars("tidb.session-vars"));
    let port = |key: &str, default| {
        w.root
            .number(key)
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(default)
    };
    TidbOptions {
        port: port("tidb.port", 4000),
        status_port: port("tidb.status-port", 10080),
        host,
        user: w.root.text("tidb.user"),
        password: Password::new(w.root.text("tidb.password")),
        pd_addrs: pd_addrs(w, backend),
        session_vars,
    }
}

/// All connections to the cluster share the certificates of `[security]`; asking for less or for other ones
/// on the SQL port must not pass unnoticed.
fn sql_tls(w: &mut Written, security: Option<&TlsFiles>) {
    let files = tls_files(w, "tidb.security", security);
    if files.as_ref() != security {
        let message = "it differs from [security], and other certificates for the SQL port are not supported yet";
        w.problem_at(
            "tidb.security.ca-path",
            message,
            "give the certificates in [security] alone",
        );
    }
    let tls = w.root.text("tidb.tls");
    match (tls.as_str(), security) {
        ("cluster", None) => w.problem_at("tidb.tls", "it needs a CA", "give security.ca-path"),
        ("false", Some(_)) => {
            let message = "SQL connections without TLS beside [security] are not supported yet";
            w.problem_at("tidb.tls", message, "remove the key");
        }
        ("skip-verify" | "preferred", _) => {
            let message = format!("{tls:?} is not supported yet");
            w.problem_at(
                "tidb.tls",
                message,
                "use \"cluster\" with security.ca-path, or \"false\"",
            );
        }
        _ => {}
    }
}

fn pd_addrs(w: &mut Written, backend: Option<Backend>) -> Vec<String> {
    let key = "tidb.pd-addr";
    let mut addrs = Vec::new();
    for text in w.root.texts(key) {
        for addr in text.split(',').map(str::trim).filter(|a| !a.is_empty()) {
            let bare = addr
                .trim_start_matches("http://")
                .trim_start_matches("https://")
                .trim_end_matches('/');
            let valid = bare.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty()
                    && !host.contains('/')
                    && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if valid {
                addrs.push(bare.to_owned());
            } else {
                w.problem_at(
                    key,
                    format!("{addr:?} is not an address"),
                    "write host:port, usually port 2379",
                );
            }
        }
    }
    if addrs.is_empty() && backend == Some(Backend::Local) {
        w.missing(
            key,
            "the backend \"local\" needs the address of a PD server, usually port 2379",
        );
    }
    addrs
}

pub(super) fn conflict(
    w: &mut Written,
    backend: Option<Backend>,
) -> (ConflictOptions, OnDuplicate) {
    let (local_key, sql_key) = (
        "tikv-importer.duplicate-resolution",
        "tikv-importer.on-duplicate",
    );
    let strategy_key = "conflict.strategy";
    let strategy = w.root.text(strategy_key);
    let (own_key, other_key) = match backend {
        Some(Backend::Tidb) => (sql_key, local_key),
        _ => (local_key, sql_key),
    };
    let written = |key: &str| w.root.written(key).map(|_| w.root.text(key));
    let (own, other) = (written(own_key), written(other_key));
    let own_says_something = own
        .as_deref()
        .is_some_and(|own| own != "none" && own != strategy);
    if !strategy.is_empty() && own_says_something {
        w.problem_at(
            own_key,
            "it cannot be combined with conflict.strategy",
            "keep conflict.strategy alone",
        );
    }
    if other.is_some() {
        let line = w.root.line_of(other_key);
        w.note(
            line,
            other_key,
            "has no effect: it belongs to the other backend",
        );
    }
    let chosen = if strategy.is_empty() {
        w.root.text(own_key)
    } else {
        strategy
    };
    if backend == Some(Backend::Tidb) {
        if matches!(chosen.as_str(), "none" | "record" | "remove") {
            let message = format!("{chosen:?} belongs to the backend \"local\"");
            w.problem_at(
                strategy_key,
                message,
                "use \"replace\", \"ignore\" or \"error\"",
            );
        }
        let on_duplicate = match chosen.as_str() {
            "ignore" => OnDuplicate::Ignore,
            "error" => OnDuplicate::Error,
            _ => OnDuplicate::Replace,
        };
        let threshold = w.root.number("conflict.threshold").unwrap_or(10_000);
        return (
            ConflictOptions {
                strategy: ConflictStrategy::None,
                threshold,
                record_rows_max: 0,
            },
            on_duplicate,
        );
    }
    let strategy = match chosen.as_str() {
        "record" => ConflictStrategy::Record,
        "remove" => ConflictStrategy::Remove,
        "error" => ConflictStrategy::Error,
        "replace" => ConflictStrategy::Replace,
        "ignore" => ConflictStrategy::Ignore,
        _ => ConflictStrategy::None,
    };
    let threshold = threshold(w, strategy);
    let record_rows_max = w.root.number("conflict.max-record-rows");
    (
        ConflictOptions {
            strategy,
            threshold,
            record_rows_max: record_rows_max.unwrap_or(match strategy {
                ConflictStrategy::Error => ERROR_RECORD_ROWS,
                _ => threshold,
            }),
        },
        OnDuplicate::Replace,
    )
}

/// With `error` the threshold is 0, but whoever mends the source wants to see more than the first conflict.
const ERROR_RECORD_ROWS: u64 = 1000;

fn threshold(w: &mut Written, strategy: ConflictStrategy) -> u64 {
    let key = "conflict.threshold";
    let counts = !matches!(strategy, ConflictStrategy::None | ConflictStrategy::Error);
    match w.root.number(key) {
        Some(n) if n > 0 && !counts => {
            let message =
                "without effect: the strategy tolerates no conflict or does not look for any";
            w.problem_at(
                key,
                message,
                "remove it, or choose a strategy such as \"remove\"",
            );
            n
        }
        Some(n) => n,
        None if counts => 10_000,
        None => 0,
    }
}

/// Every mode that MySQL and TiDB know.
const SQL_MODES: &[&str] = &[
    "ALLOW_INVALID_DATES",
    "ANSI",
    "ANSI_QUOTES",
    "DB2",
    "ERROR_FOR_DIVISION_BY_ZERO",
    "HIGH_NOT_PRECEDENCE",
    "IGNORE_SPACE",
    "MAXDB",
    "MSSQL",
    "MYSQL323",
    "MYSQL40",
    "NO_AUTO_CREATE_USER",
    "NO_AUTO_VALUE_ON_ZERO",
    "NO_BACKSLASH_ESCAPES",
    "NO_DIR_IN_CREATE",
    "NO_ENGINE_SUBSTITUTION",
    "NO_FIELD_OPTIONS",
    "NO_KEY_OPTIONS",
    "NO_TABLE_OPTIONS",
    "NO_UNSIGNED_SUBTRACTION",
    "NO_ZERO_DATE",
    "NO_ZERO_IN_DATE",
    "ONLY_FULL_GROUP_BY",
    "ORACLE",
    "PAD_CHAR_TO_FULL_LENGTH",
    "PIPES_AS_CONCAT",
    "POSTGRESQL",
    "REAL_AS_FLOAT",
    "STRICT_ALL_TABLES",
    "STRICT_TRANS_TABLES",
    "TRADITIONAL",
];

pub(super) fn sql_mode(w: &mut Written) -> String {
    let key = "tidb.sql-mode";
    let text = w.root.text(key);
    for mode in text
        .split(',')
        .map(str::trim)
        .filter(|mode| !mode.is_empty())
    {
        if !SQL_MODES
            .iter()
            .any(|known| known.eq_ignore_ascii_case(mode))
        {
            let advice = nearest(mode, SQL_MODES.iter().copied())
                .map(|near| format!("did you mean {near}?"))
                .unwrap_or_default();
            w.problem_at(key, format!("{mode:?} is not a SQL mode"), advice);
        }
    }
    text
}
