//! Source directories: files in, tables out, and the fingerprints that tell one input from another.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use thunderhead_config::{
    FileFormat, Job, SourceFile, SourceFormat, SourceTree, fingerprint, load, schema_file,
};
use thunderhead_types::{ErrorKind, Result};

/// A directory with these files; a name with `=` gives the content too.
fn directory(files: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let (name, content) = file.split_once('=').unwrap_or((file, "x"));
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn job(dir: &Path, mydumper: &str) -> Job {
    let text = format!(
        "[tikv-importer]\nbackend = 'local'\nsorted-kv-dir = '/sorted'\n[tidb]\npd-addr = 'pd:2379'\n\
         [mydumper]\ndata-source-dir = {dir:?}\n{mydumper}"
    );
    load(&text, "job.toml", &[]).unwrap().job
}

fn no_dumps(_: &SourceFile) -> std::result::Result<Vec<String>, String> {
    Err("no dump of several tables".into())
}

fn scan(dir: &TempDir, mydumper: &str) -> Result<SourceTree> {
    SourceTree::scan(&job(dir.path(), mydumper), &no_dumps)
}

/// One line a table: `db.table schema? file file`.
#[track_caller]
fn check(files: &[&str], mydumper: &str, expected: &[&str]) {
    let tree = scan(&directory(files), mydumper).unwrap();
    let lines: Vec<String> = tree
        .tables
        .iter()
        .map(|table| {
            let mut line = format!("{}.{}", table.database, table.table);
            line.extend(table.schema_file.iter().map(|f| format!(" ({})", f.name)));
            line.extend(table.data_files.iter().map(|f| format!(" {}", f.name)));
            line
        })
        .collect();
    assert_eq!(lines, expected, "{files:?}");
}

/// Asserts an error of the kind whose text has every word.
#[track_caller]
fn check_fails(tree: Result<SourceTree>, words: &[&str]) {
    let error = tree.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Precheck);
    for word in words {
        assert!(error.to_string().contains(word), "no {word:?} in {error}");
    }
    assert!(!error.advice.is_empty());
}

#[test]
fn tables_come_by_size_and_files_by_sort_key() {
    check(
        &[
            "metadata",
            "a-schema-create.sql",
            "a.big-schema.sql",
            "a.big.csv=123456",
            "a.t.0002.csv",
            "a.t.0001.csv",
            "z/a.t.csv",
        ],
        "",
        &[
            "a.t z/a.t.csv a.t.0001.csv a.t.0002.csv",
            "a.big (a.big-schema.sql) a.big.csv",
        ],
    );
}

#[test]
fn filters_leave_out_tables_and_databases() {
    let files = [
        "a.t.csv",
        "a.u.csv",
        "b.t.csv",
        "b-schema-create.sql",
        "a-schema-create.sql",
        "mysql.user.sql",
    ];
    check(&files, "", &["a.t a.t.csv", "a.u a.u.csv", "b.t b.t.csv"]);
    check(&files, "filter = ['a.*', '!*.u']", &["a.t a.t.csv"]);
    let tree = scan(&directory(&files), "filter = ['a.*', '!*.u']").unwrap();
    assert_eq!(
        tree.databases
            .iter()
            .map(|d| d.database.as_str())
            .collect::<Vec<_>>(),
        ["a"]
    );
    assert_eq!(tree.ignored, ["a.u.csv", "b.t.csv", "mysql.user.sql"]);
}

#[test]
fn routes_bring_shards_together() {
    check(
        &[
            "s1.u-schema.sql",
            "s1.u.1.csv",
            "s2.u-schema.sql",
            "s2.u.2.csv",
            "s2.other.csv",
        ],
        "[[routes]]\nschema-pattern = 's?'\ntable-pattern = 'u'\ntarget-schema = 'all'\ntarget-table = 'users'\n\
         [[routes]]\nschema-pattern = 's2'\ntarget-schema = 'rest'\n",
        &[
            "rest.other s2.other.csv",
            "all.users (s1.u-schema.sql) s1.u.1.csv s2.u.2.csv",
        ],
    );
}

#[test]
fn written_rules_come_before_default_names() {
    check(
        &["in/part-2.csv", "in/part-10.csv", "a.b.csv"],
        "default-file-rules = true\n[[mydumper.files]]\npattern = 'part-(\\d+)\\.(csv)$'\nschema = 'd'\ntable = 't'\ntype = '$2'\nkey = '$1'\n",
        &["a.b a.b.csv", "d.t in/part-10.csv in/part-2.csv"],
    );
}

#[test]
fn names_that_differ_in_case_alone_are_one_table() {
    check(&["a.T.csv", "A.t.2.csv"], "", &["A.t a.T.csv A.t.2.csv"]);
}

#[test]
fn what_cannot_be_imported_is_named() {
    let dir = directory(&[]);
    let missing = dir.path().join("nowhere");
    check_fails(
        SourceTree::scan(&job(&missing, ""), &no_dumps),
        &["nowhere", "data-source-dir", "no such directory"],
    );
    let file = directory(&["f"]);
    check_fails(
        SourceTree::scan(&job(&file.path().join("f"), ""), &no_dumps),
        &["not a directory"],
    );
    check_fails(scan(&dir, ""), &["data-source-dir", "empty"]);
    check_fails(
        scan(&directory(&["metadata", "x.txt"]), ""),
        &["none of its 2 files"],
    );
    check_fails(
        scan(&directory(&["a.b-schema.sql"]), ""),
        &["none of its 1 files"],
    );
    check_fails(
        scan(&directory(&["a.b.csv"]), "filter = ['x.*']"),
        &["mydumper.filter leaves out 1 of 1"],
    );
    check_fails(
        scan(
            &directory(&["a.b.csv.lzo", "a.c.parquet.gz", "a.d.csv"]),
            "",
        ),
        &["a.b.csv.lzo", "lzo", "a.c.parquet.gz"],
    );
    check_fails(
        scan(
            &directory(&["a.b-schema.sql", "x/a.b-schema.sql", "a.b.csv"]),
            "",
        ),
        &["x/a.b-schema.sql", "already has"],
    );
    let route = "[[routes]]\nschema-pattern = 'a'\ntarget-schema = 'x'\n[[routes]]\nschema-pattern = '*'\ntarget-schema = 'y'\n";
    check_fails(
        scan(&directory(&["a.b.csv"]), route),
        &["a.b.csv", "routes 1 and 2"],
    );
}

#[test]
fn links_may_lead_inside_of_the_directory_alone() {
    let dir = directory(&["real/a.t.csv"]);
    std::os::unix::fs::symlink(dir.path().join("real/a.t.csv"), dir.path().join("z.t.csv"))
        .unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
    let tree = scan(&dir, "").unwrap();
    let names: Vec<_> = tree
        .tables
        .iter()
        .flat_map(|t| &t.data_files)
        .map(|f| f.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["real/a.t.csv"],
        "a linked file is not imported twice"
    );
    assert_eq!(tree.ignored, ["z.t.csv"]);

    let outside = directory(&["a.u.csv"]);
    std::os::unix::fs::symlink(outside.path().join("a.u.csv"), dir.path().join("a.u.csv")).unwrap();
    check_fails(scan(&dir, ""), &["a.u.csv", "leads out"]);
    fs::remove_file(dir.path().join("a.u.csv")).unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("more")).unwrap();
    check_fails(scan(&dir, ""), &["more", "leads out"]);
    fs::remove_file(dir.path().join("more")).unwrap();
    std::os::unix::fs::symlink("gone", dir.path().join("a.v.csv")).unwrap();
    check_fails(scan(&dir, ""), &["a.v.csv"]);
}

#[test]
fn a_file_carries_what_a_reader_needs() {
    let dir = directory(&["a.t.01.csv=hello"]);
    let job = job(dir.path(), "[mydumper.csv]\nseparator = '|'\n");
    let tree = SourceTree::scan(&job, &no_dumps).unwrap();
    let file = &tree.tables[0].data_files[0];
    assert_eq!(
        (file.size, file.sort_key.as_str(), file.format),
        (5, "01", FileFormat::Csv)
    );
    assert!(file.path.is_absolute() && file.mtime_ns > 0);
    let format = job.format_of(file);
    let json = serde_json::to_string(&format).unwrap();
    assert_eq!(serde_json::from_str::<SourceFormat>(&json).unwrap(), format);
    assert_eq!(format.csv.separator, "|");
}

#[test]
fn a_fingerprint_changes_with_what_it_stands_for_and_with_nothing_else() {
    let dir = directory(&["a.t.csv=1", "a.u.csv=1"]);
    let base = job(dir.path(), "");
    let tree = SourceTree::scan(&base, &no_dumps).unwrap();
    let (identity, content) = (
        fingerprint::identity(&base, &tree),
        fingerprint::content(&base, &tree),
    );
    assert_eq!((identity.len(), content.len()), (32, 32));
    assert_ne!(identity, content);

    // Addresses, passwords and speed do not change what is imported.
    let mut same = job(
        dir.path(),
        "max-region-size = '1MiB'\n[mydumper.csv]\nseparator = ','\n",
    );
    same.tidb.host = "elsewhere".into();
    let again = SourceTree::scan(&same, &no_dumps).unwrap();
    assert_eq!(fingerprint::identity(&same, &again), identity);
    assert_eq!(fingerprint::content(&same, &again), content);

    let other = job(dir.path(), "[mydumper.csv]\nheader = false\n");
    assert_eq!(fingerprint::identity(&other, &tree), identity);
    assert_ne!(fingerprint::content(&other, &tree), content);
    let mut strict = base.clone();
    strict.sql_mode = "STRICT_TRANS_TABLES".into();
    assert_ne!(fingerprint::content(&strict, &tree), content);

    // Another size, another time, another file.
    let changed = |change: &dyn Fn(&mut SourceTree)| {
        let mut other = tree.clone();
        change(&mut other);
        fingerprint::content(&base, &other)
    };
    assert_ne!(changed(&|t| t.tables[0].data_files[0].size += 1), content);
    assert_ne!(
        changed(&|t| t.tables[0].data_files[0].mtime_ns += 1),
        content
    );
    assert_ne!(
        changed(&|t| t.tables[0].data_files[0].name.push('x')),
        content
    );
    assert_ne!(changed(&|t| drop(t.tables.pop())), content);
    let mut fewer = tree.clone();
    fewer.tables.pop();
    assert_ne!(fingerprint::identity(&base, &fewer), identity);
    assert_eq!(
        fingerprint::table_content(&base, &fewer.tables[0]),
        fingerprint::table_content(&base, &tree.tables[0])
    );
}

fn statements(tree: &SourceTree) -> Result<Vec<schema_file::Statement>> {
    let file = tree.tables[0].schema_file.as_ref().unwrap();
    schema_file::statements(file, fs::read(&file.path).unwrap())
}

#[test]
fn a_schema_file_is_read_as_statements() {
    let dir = directory(&[
        "a.t-schema.sql=\u{feff}/*!40101 SET NAMES binary*/;\nCREATE TABLE t (a INT);\n",
        "a.t.csv",
    ]);
    let tree = scan(&dir, "").unwrap();
    let found = statements(&tree).unwrap();
    let texts: Vec<(usize, &str)> = found.iter().map(|s| (s.line, s.text.as_str())).collect();
    assert_eq!(texts, [(2, "CREATE TABLE t (a INT)")]);

    fs::write(dir.path().join("a.t-schema.sql"), b"\xff\xfe").unwrap();
    let error = statements(&tree).unwrap_err();
    assert!(error.to_string().contains("UTF-8"), "{error}");
}

#[test]
fn a_dump_of_several_tables_is_a_file_of_each_of_them() {
    let dir = directory(&["all.sql", "d.b.csv"]);
    let rule = "filter = ['d.*', '!d.c']\nfiles = [{ pattern = '^all.sql$', schema = 'd', table = '*', type = 'sql' }]\ndefault-file-rules = true";
    let job = job(dir.path(), rule);
    let tree = SourceTree::scan(&job, &|file: &SourceFile| {
        assert_eq!(file.name, "all.sql");
        Ok(["a", "B", "c"].map(str::to_owned).to_vec())
    })
    .unwrap();
    let files = |table: &str| {
        let table = tree.tables.iter().find(|t| t.table == table).unwrap();
        let files = table.data_files.iter();
        files
            .map(|f| (f.name.clone(), f.only_table.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(tree.tables.len(), 2);
    assert_eq!(files("a"), [("all.sql".into(), Some("a".into()))]);
    assert_eq!(files("B").len(), 2, "one table, whatever the case");
}

#[test]
fn views_take_the_place_of_the_tables_that_dumps_write_for_them() {
    let files = [
        "d.t.csv",
        "d.v-schema.sql",
        "d.v-schema-view.sql",
        "x.w-schema-view.sql.gz",
        "x-schema-create.sql",
        "no.v-schema-view.sql",
    ];
    let tree = scan(&directory(&files), "filter = ['*.*', '!no.*']").unwrap();
    assert_eq!(tree.tables.len(), 1);
    let views = tree
        .views
        .iter()
        .map(|v| format!("{}.{}", v.database, v.view));
    assert_eq!(views.collect::<Vec<_>>(), ["d.v", "x.w"]);
    assert_eq!(tree.databases.len(), 1);
}
