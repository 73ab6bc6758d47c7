//! The source directory as tables with their files. Owns the walk, its order, and what makes a directory
//! unusable; leaves names to [`crate::routing`]. The result depends on names, sizes and times alone, so the
//! same directory gives the same tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thunderhead_types::{Error, ErrorKind, Result};

use crate::job::{Compression, FileFormat, Job};
use crate::routes::AmbiguousRoute;
use crate::routing::{FileRole, SourceFile};

/// Deeper than any export; a loop of links ends here.
const DEPTH_MAX: usize = 64;

/// Messages name this many files and count the rest.
const NAMED_MAX: usize = 10;

/// What the source directory holds for a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceTree {
    /// The directory, absolute, links resolved.
    pub root: PathBuf,
    /// Databases with a schema file, by name.
    pub databases: Vec<SourceDatabase>,
    /// Tables by size of their data, then by name.
    pub tables: Vec<SourceTable>,
    /// Views, which are created after the tables.
    pub views: Vec<SourceView>,
    /// Names of files that are not for this job.
    pub ignored: Vec<String>,
}

/// A CREATE DATABASE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceDatabase {
    /// Target name.
    pub database: String,
    /// Where its statement is.
    pub schema_file: SchemaFile,
}

/// A CREATE VIEW.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceView {
    /// Target database.
    pub database: String,
    /// Target name.
    pub view: String,
    /// Where its statement is.
    pub schema_file: SchemaFile,
}

/// A file with DDL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFile {
    /// Below the source directory, with `/`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it is packed with.
    pub compression: Compression,
}

/// A target table with its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTable {
    /// Target database.
    pub database: String,
    /// Target table.
    pub table: String,
    /// Its CREATE TABLE, if the source has one.
    pub schema_file: Option<SchemaFile>,
    /// Its data in source order.
    pub data_files: Vec<SourceFile>,
}

impl SourceTable {
    /// Bytes of all data files.
    pub fn bytes(&self) -> u64 {
        self.data_files.iter().map(|file| file.size).sum()
    }
}

/// Names differing in case alone are one object in TiDB, so they are one table here too, or two tasks would
/// write the same keys.
type Folded = (String, String);

fn folded(database: &str, table: &str) -> Folded {
    (database.to_lowercase(), table.to_lowercase())
}

impl SourceTree {
    /// Walks the source directory of `job`. Fails where the directory is missing, holds no data for the job,
    /// leads out of itself, or has files that match a rule and cannot be used.
    /// `tables_of` names the tables of a dump of several.
    pub fn scan(job: &Job, tables_of: TablesOf<'_>) -> Result<SourceTree> {
        let (root, found, ignored) = list_directory(&job.source_dir)?;
        let mut builder = Builder::new(job, tables_of);
        builder.ignored = ignored;
        for file in found {
            builder.add(file);
        }
        builder.finish(root)
    }

    /// The tree of what a store lists below `root`. Fails as [`SourceTree::scan`] does.
    /// `tables_of` names the tables of a dump of several.
    pub fn of(
        job: &Job,
        root: PathBuf,
        files: Vec<ListedFile>,
        tables_of: TablesOf<'_>,
    ) -> Result<SourceTree> {
        let mut builder = Builder::new(job, tables_of);
        for file in files {
            builder.add(file);
        }
        builder.finish(root)
    }
}

/// The directory, links resolved; the files below it in their order; names of what is no file.
pub fn list_directory(dir: &Path) -> Result<(PathBuf, Vec<ListedFile>, Vec<String>)> {
    let root = root_of(dir)?;
    let mut walk = Walk {
        root: &root,
        found: Vec::new(),
        seen: BTreeSet::new(),
        ignored: Vec::new(),
    };
    walk.directory(&root, "", 0)?;
    let (found, ignored) = (walk.found, walk.ignored);
    Ok((root, found, ignored))
}

fn root_of(dir: &Path) -> Result<PathBuf> {
    let place = format!("data-source-dir {}", dir.display());
    let fail = |cause: String| {
        Err(Error::new(ErrorKind::Precheck, &place, cause)
            .advice("set mydumper.data-source-dir to the directory of the source files"))
    };
    match fs::canonicalize(dir) {
        Ok(root) if root.is_dir() => Ok(root),
        Ok(_) => fail("not a directory".into()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => fail("no such directory".into()),
        Err(e) => fail(e.to_string()),
    }
}

/// A file below the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// Below the root, with `/`.
    pub name: String,
    /// Where it is: a path, or a URI without its query.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Last change, nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// The store's mark of the content, if it has one.
    pub etag: Option<String>,
}

impl ListedFile {
    /// A file of this machine.
    pub fn local(name: String, path: PathBuf, metadata: &Metadata) -> Self {
        let seconds = metadata.mtime().saturating_mul(1_000_000_000);
        Self {
            name,
            path,
            size: metadata.len(),
            mtime_ns: seconds.saturating_add(metadata.mtime_nsec()),
            etag: None,
        }
    }
}

struct Walk<'a> {
    root: &'a Path,
    found: Vec<ListedFile>,
    /// Real paths, so that a file that is linked inside of the root is not imported twice.
    seen: BTreeSet<PathBuf>,
    ignored: Vec<String>,
}

impl Walk<'_> {
    /// Files and directories in order of their names, as they lie.
    fn directory(&mut self, dir: &Path, prefix: &str, depth: usize) -> Result<()> {
        let fail = |e: io::Error| Error::new(ErrorKind::Precheck, dir.display(), e);
        if depth > DEPTH_MAX {
            return Err(Error::new(
                ErrorKind::Precheck,
                dir.display(),
                "directories are nested too deeply",
            )
            .advice("look for a link that leads back to its parent"));
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(fail)? {
            names.push(entry.map_err(fail)?.file_name());
        }
        names.sort();
        for name in names {
            let path = dir.join(&name);
            let Some(name) = name.to_str().map(|name| format!("{prefix}{name}")) else {
                self.ignored.push(path.to_string_lossy().into_owned());
                continue;
            };
            self.entry(path, name, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: PathBuf, name: String, depth: usize) -> Result<()> {
        let fail = |e: io::Error| Error::new(ErrorKind::Precheck, path.display(), e);
        let link = fs::symlink_metadata(&path)
            .map_err(fail)?
            .file_type()
            .is_symlink();
        let real = if link {
            fs::canonicalize(&path)
                .map_err(|e| fail(e).advice("repair or remove the symbolic link"))?
        } else {
            path.clone()
        };
        if !real.starts_with(self.root) {
            return Err(Error::new(
                ErrorKind::Precheck,
                path.display(),
                "the symbolic link leads out of data-source-dir",
            )
            .advice("move the files into the directory, or mount their directory there"));
        }
        let metadata = fs::metadata(&path).map_err(fail)?;
        if metadata.is_dir() {
            // What the link leads to lies inside of the root and is visited there.
            if link {
                return Ok(());
            }
            return self.directory(&path, &format!("{name}/"), depth + 1);
        }
        let real = if link {
            real
        } else {
            fs::canonicalize(&path).map_err(fail)?
        };
        if metadata.is_file() && self.seen.insert(real) {
            self.found.push(ListedFile::local(name, path, &metadata));
        } else {
            self.ignored.push(name);
        }
        Ok(())
    }
}

/// The tables whose rows a dump holds, or why that cannot be said.
pub type TablesOf<'a> = &'a dyn Fn(&SourceFile) -> Result<Vec<String>, String>;

/// As the table of a rule: whichever tables the dump holds.
const ALL_TABLES: &str = "*";

struct Builder<'a> {
    job: &'a Job,
    tables_of: TablesOf<'a>,
    databases: BTreeMap<String, SourceDatabase>,
    tables: BTreeMap<Folded, SourceTable>,
    /// Source tables whose schema file was seen.
    schemas: BTreeMap<Folded, String>,
    views: BTreeMap<Folded, SourceView>,
    ignored: Vec<String>,
    files: usize,
    filtered: usize,
    problems: Vec<String>,
}

impl<'a> Builder<'a> {
    fn new(job: &'a Job, tables_of: TablesOf<'a>) -> Self {
        Self {
            job,
            tables_of,
            databases: BTreeMap::new(),
            tables: BTreeMap::new(),
            schemas: BTreeMap::new(),
            views: BTreeMap::new(),
            ignored: Vec::new(),
            files: 0,
            filtered: 0,
            problems: Vec::new(),
        }
    }

    fn add(&mut self, file: ListedFile) {
        self.files += 1;
        let name = file.name.clone();
        let placed = match self.job.file_rules.role(&name) {
            None | Some(Ok(FileRole::Ignored)) => {
                self.ignored.push(name);
                return;
            }
            Some(Err(e)) => Err(e.to_string()),
            Some(Ok(role)) => self.place(role, file),
        };
        if let Err(problem) = placed {
            self.problems.push(format!("{name}: {problem}"));
        }
    }

    fn place(&mut self, role: FileRole, file: ListedFile) -> Result<(), String> {
        let ambiguous = |e: AmbiguousRoute| e.to_string();
        let routes = &self.job.routes;
        match role {
            FileRole::Ignored => {}
            FileRole::Database {
                database,
                compression,
            } => {
                // A database without any wanted table is dropped in `finish`.
                let database = routes.database(&database).map_err(ambiguous)?;
                let schema_file = SchemaFile {
                    name: file.name,
                    path: file.path,
                    compression,
                };
                self.databases
                    .entry(database.to_lowercase())
                    .or_insert(SourceDatabase {
                        database,
                        schema_file,
                    });
            }
            FileRole::View {
                database,
                table,
                compression,
            } => {
                if !self.wanted(&database, &table, &file.name) {
                    return Ok(());
                }
                let (database, view) = routes.table(&database, &table).map_err(ambiguous)?;
                let schema_file = SchemaFile {
                    name: file.name,
                    path: file.path,
                    compression,
                };
                let key = folded(&database, &view);
                self.views.entry(key).or_insert(SourceView {
                    database,
                    view,
                    schema_file,
                });
            }
            FileRole::Table {
                database,
                table,
                compression,
            } => {
                if !self.wanted(&database, &table, &file.name) {
                    return Ok(());
                }
                if let Some(first) = self
                    .schemas
                    .insert(folded(&database, &table), file.name.clone())
                {
                    return Err(format!(
                        "{database}.{table} already has the schema file {first}"
                    ));
                }
                let schema_file = SchemaFile {
                    name: file.name,
                    path: file.path,
                    compression,
                };
                self.table(&database, &table)?
                    .schema_file
                    .get_or_insert(schema_file);
            }
            FileRole::Data {
                database,
                table,
                format,
                compression,
                sort_key,
            } => {
                let data = SourceFile {
                    name: file.name,
                    path: file.path,
                    size: file.size,
                    mtime_ns: file.mtime_ns,
                    etag: file.etag,
                    format,
                    compression,
                    sort_key,
                    source_database: database,
                    source_table: table,
                    only_table: None,
                };
                if data.source_table != ALL_TABLES || format != FileFormat::Sql {
                    return self.data(data);
                }
                for name in (self.tables_of)(&data)? {
                    self.data(SourceFile {
                        only_table: Some(name.to_lowercase()),
                        source_table: name,
                        ..data.clone()
                    })?;
                }
            }
        }
        Ok(())
    }

    fn data(&mut self, data: SourceFile) -> Result<(), String> {
        let (database, table) = (&data.source_database.clone(), &data.source_table.clone());
        if self.wanted(database, table, &data.name) {
            self.table(database, table)?.data_files.push(data);
        }
        Ok(())
    }

    fn wanted(&mut self, database: &str, table: &str, name: &str) -> bool {
        let wanted = self.job.filter.matches(database, table);
        if !wanted {
            self.filtered += 1;
            self.ignored.push(name.to_owned());
        }
        wanted
    }

    /// The target of a source table; the first spelling of its name stays.
    fn table(&mut self, database: &str, table: &str) -> Result<&mut SourceTable, String> {
        let (database, table) = self
            .job
            .routes
            .table(database, table)
            .map_err(|e| e.to_string())?;
        Ok(self
            .tables
            .entry(folded(&database, &table))
            .or_insert(SourceTable {
                database,
                table,
                schema_file: None,
                data_files: Vec::new(),
            }))
    }

    fn finish(mut self, root: PathBuf) -> Result<SourceTree> {
        if !self.problems.is_empty() {
            return Err(unusable(&root, &self.problems));
        }
        // Dumps hold a table in place of each view, for servers that know no views.
        let is_view = |key: &Folded, table: &SourceTable| {
            table.data_files.is_empty() && self.views.contains_key(key)
        };
        self.tables.retain(|key, table| !is_view(key, table));
        self.views.retain(|key, _| !self.tables.contains_key(key));
        let views: Vec<SourceView> = self.views.into_values().collect();
        let mut tables: Vec<SourceTable> = self.tables.into_values().collect();
        if tables.iter().all(|table| table.data_files.is_empty()) {
            return Err(no_data(&root, self.files, self.filtered));
        }
        for table in &mut tables {
            table.data_files.sort_by(|a, b| a.sort_key.cmp(&b.sort_key));
        }
        tables.sort_by(|a, b| {
            (a.bytes(), &a.database, &a.table).cmp(&(b.bytes(), &b.database, &b.table))
        });
        let wanted = tables
            .iter()
            .map(|t| &t.database)
            .chain(views.iter().map(|v| &v.database));
        self.databases
            .retain(|name, _| wanted.clone().any(|wanted| wanted.to_lowercase() == *name));
        self.ignored.sort();
        let databases = self.databases.into_values().collect();
        Ok(SourceTree {
            root,
            databases,
            tables,
            views,
            ignored: self.ignored,
        })
    }
}

fn unusable(root: &Path, problems: &[String]) -> Error {
    let mut lines: Vec<&str> = problems
        .iter()
        .take(NAMED_MAX)
        .map(String::as_str)
        .collect();
    let rest = format!("and {} more", problems.len().saturating_sub(NAMED_MAX));
    if problems.len() > NAMED_MAX {
        lines.push(&rest);
    }
    Error::new(ErrorKind::Precheck, root.display(), lines.join("; "))
        .advice("move these files away, or add a rule of type \"ignore\" to [[mydumper.files]]")
}

fn no_data(root: &Path, files: usize, filtered: usize) -> Error {
    let place = format!("data-source-dir {}", root.display());
    let cause = match (files, filtered) {
        (0, _) => "the directory is empty".to_owned(),
        (files, 0) => format!("none of its {files} files is a data file"),
        (files, filtered) => {
            format!("no data file is left: mydumper.filter leaves out {filtered} of {files} files")
        }
    };
    Error::new(ErrorKind::Precheck, place, cause)
        .advice("data files are named database.table.csv or database.table.0001.csv; give other names in [[mydumper.files]]")
}
