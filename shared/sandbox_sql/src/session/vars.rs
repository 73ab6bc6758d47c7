//! System variables: what TiDB answers for those a loader or a client asks, and what may be set. A name
//! that is not known can be set and read back, so that tools made for other versions work.

use std::collections::BTreeMap;

const SQL_MODE: &str = "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION";

const DEFAULTS: [(&str, &str); 84] = [
    ("allow_auto_random_explicit_insert", "0"),
    ("auto_increment_increment", "1"),
    ("auto_increment_offset", "1"),
    ("autocommit", "1"),
    ("block_encryption_mode", "aes-128-ecb"),
    ("character_set_client", "utf8mb4"),
    ("character_set_connection", "utf8mb4"),
    ("character_set_database", "utf8mb4"),
    ("character_set_filesystem", "binary"),
    ("character_set_results", "utf8mb4"),
    ("character_set_server", "utf8mb4"),
    ("character_set_system", "utf8mb4"),
    ("collation_connection", "utf8mb4_bin"),
    ("collation_database", "utf8mb4_bin"),
    ("collation_server", "utf8mb4_bin"),
    ("cte_max_recursion_depth", "1000"),
    ("datadir", ""),
    ("default_authentication_plugin", "mysql_native_password"),
    ("default_storage_engine", "InnoDB"),
    ("default_week_format", "0"),
    ("div_precision_increment", "4"),
    ("explicit_defaults_for_timestamp", "1"),
    ("foreign_key_checks", "1"),
    ("group_concat_max_len", "1024"),
    ("have_openssl", "DISABLED"),
    ("have_ssl", "DISABLED"),
    ("hostname", "localhost"),
    ("init_connect", ""),
    ("innodb_lock_wait_timeout", "50"),
    ("interactive_timeout", "28800"),
    ("lc_time_names", "en_US"),
    ("license", "Apache License 2.0"),
    ("lower_case_table_names", "2"),
    ("max_allowed_packet", "67108864"),
    ("max_connections", "0"),
    ("max_execution_time", "0"),
    ("net_buffer_length", "16384"),
    ("net_write_timeout", "60"),
    ("performance_schema", "0"),
    ("port", "4000"),
    ("query_cache_size", "0"),
    ("query_cache_type", "OFF"),
    ("read_only", "0"),
    ("skip_name_resolve", "0"),
    ("socket", ""),
    ("sql_auto_is_null", "0"),
    ("sql_mode", SQL_MODE),
    ("sql_quote_show_create", "1"),
    ("sql_require_primary_key", "0"),
    ("sql_safe_updates", "0"),
    ("sql_select_limit", "18446744073709551615"),
    ("sql_warnings", "0"),
    ("ssl_ca", ""),
    ("system_time_zone", "UTC"),
    (
        "tidb_allow_function_for_expression_index",
        "json_array, json_array_append, json_extract, json_unquote, lower, md5, reverse, upper, vitess_hash",
    ),
    ("tidb_backoff_weight", "2"),
    ("tidb_build_stats_concurrency", "2"),
    ("tidb_checksum_table_concurrency", "4"),
    ("tidb_config", ""),
    ("tidb_constraint_check_in_place", "0"),
    ("tidb_current_ts", "0"),
    ("tidb_distsql_scan_concurrency", "15"),
    ("tidb_enable_check_constraint", "0"),
    ("tidb_enable_clustered_index", "ON"),
    ("tidb_enable_dist_task", "1"),
    ("tidb_enable_row_level_checksum", "0"),
    ("tidb_enable_table_partition", "ON"),
    ("tidb_gc_enable", "1"),
    ("tidb_gc_life_time", "10m0s"),
    ("tidb_gc_run_interval", "10m0s"),
    ("tidb_index_serial_scan_concurrency", "1"),
    ("tidb_multi_statement_mode", "OFF"),
    ("tidb_opt_write_row_id", "0"),
    ("tidb_row_format_version", "2"),
    ("tidb_skip_utf8_check", "0"),
    ("tidb_snapshot", ""),
    ("tidb_txn_mode", "pessimistic"),
    ("time_zone", "SYSTEM"),
    ("transaction_isolation", "REPEATABLE-READ"),
    ("tx_isolation", "REPEATABLE-READ"),
    ("tx_read_only", "0"),
    (
        "version_comment",
        "TiDB Server (Apache License 2.0) Community Edition, MySQL 8.0 compatible",
    ),
    ("version_compile_os", "linux"),
    ("wait_timeout", "28800"),
];

/// Variables by lower-case name.
pub type Variables = BTreeMap<String, String>;

/// What a fresh cluster has.
pub fn defaults(version: &str) -> Variables {
    let mut variables: Variables = DEFAULTS
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    variables.insert("version".to_owned(), version.to_owned());
    variables
}

/// The form in which a value is kept: switches of names that are kept as 0 and 1 are numbers.
pub fn normal_value(current: Option<&String>, value: &str) -> String {
    match (
        current.map(String::as_str),
        value.to_ascii_lowercase().as_str(),
    ) {
        (Some("0" | "1"), "on" | "true") => "1".to_owned(),
        (Some("0" | "1"), "off" | "false") => "0".to_owned(),
        (Some("ON" | "OFF"), "1" | "true" | "on") => "ON".to_owned(),
        (Some("ON" | "OFF"), "0" | "false" | "off") => "OFF".to_owned(),
        _ => value.to_owned(),
    }
}

/// Names whose 0 and 1 `SHOW VARIABLES` prints as OFF and ON.
const SWITCHES: [&str; 13] = [
    "allow_auto_random_explicit_insert",
    "autocommit",
    "explicit_defaults_for_timestamp",
    "foreign_key_checks",
    "performance_schema",
    "read_only",
    "sql_safe_updates",
    "tidb_constraint_check_in_place",
    "tidb_enable_check_constraint",
    "tidb_enable_dist_task",
    "tidb_enable_row_level_checksum",
    "tidb_gc_enable",
    "tidb_opt_write_row_id",
];

/// The form in which SHOW VARIABLES prints a value.
pub fn shown_value(name: &str, value: &str) -> String {
    match value {
        "1" if SWITCHES.contains(&name) => "ON".to_owned(),
        "0" if SWITCHES.contains(&name) => "OFF".to_owned(),
        other => other.to_owned(),
    }
}
