//! The files of a source that lies on the hosts of agents: one list out of many. Two agents may hold the same file; two
//! files of one name would be rows lost without a word, and are refused.

use crate::fleet::status::AgentStatus;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use thunderhead_config::{FileRole, Job, ListedFile};
use thunderhead_proto::thunderhead::FileEntry;
use thunderhead_types::{Error, ErrorKind, Result};

/// As the table of a rule: whichever tables the dump holds.
const ALL_TABLES: &str = "*";

/// A file of the source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Below the source directory, with `/`.
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) modified_ns: i64,
    mark: u64,
    /// It holds rows, not a statement.
    rows: bool,
    /// Who held it when the job was planned.
    pub(super) agents: Vec<String>,
}

/// What agents hold of a source, as the job was planned. Recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listing {
    /// In the order in which one directory with all of them would be read.
    pub(super) files: Vec<Known>,
    /// The tables of dumps of several tables, by name of the file.
    pub(super) dumps: BTreeMap<String, Vec<String>>,
}

/// What the file is to the job: rows, or a statement; `None` = nothing.
fn role(job: &Job, name: &str) -> Option<bool> {
    let wanted = |database: &str, table: &str| job.filter.matches(database, table);
    match job.file_rules.role(name)? {
        Ok(FileRole::Ignored) => None,
        Ok(FileRole::Database { .. }) => Some(false),
        Ok(
            FileRole::Table {
                database, table, ..
            }
            | FileRole::View {
                database, table, ..
            },
        ) => wanted(&database, &table).then_some(false),
        Ok(FileRole::Data {
            database, table, ..
        }) => (table == ALL_TABLES || wanted(&database, &table)).then_some(true),
        // Told when the list becomes tables.
        Err(_) => Some(true),
    }
}

impl Known {
    /// What is different in a file of the same name.
    fn difference(&self, other: &FileEntry) -> Option<&'static str> {
        if self.size != other.size {
            Some("size")
        } else if self.rows && self.modified_ns != other.modified_ns {
            Some("time of change")
        } else if self.mark != other.mark {
            Some("content")
        } else {
            None
        }
    }
}

impl Listing {
    /// One list out of those of the agents, by their names.
    ///
    /// # Errors
    /// When two agents hold different files of one name.
    pub(super) fn of(
        job: &Job,
        root: &Path,
        lists: &BTreeMap<String, (AgentStatus, Vec<FileEntry>)>,
    ) -> Result<Self> {
        let mut files: BTreeMap<&Path, Known> = BTreeMap::new();
        for (agent, (_, entries)) in lists {
            for entry in entries {
                let Some(rows) = role(job, &entry.name) else {
                    continue;
                };
                let known = files
                    .entry(Path::new(&entry.name))
                    .or_insert_with(|| Known {
                        name: entry.name.clone(),
                        size: entry.size,
                        modified_ns: entry.modified_ns,
                        mark: entry.mark,
                        rows,
                        agents: Vec::new(),
                    });
                if let Some(what) = known.difference(entry) {
                    return Err(different(root, known, agent, what));
                }
                known.agents.push(agent.clone());
            }
        }
        Ok(Self {
            files: files.into_values().collect(),
            dumps: BTreeMap::new(),
        })
    }

    /// Which of the files `agent` holds, by its own list.
    ///
    /// # Errors
    /// When it holds another file of one of the names, or rows that the job does not know.
    pub(super) fn held_by(
        &self,
        job: &Job,
        root: &Path,
        agent: &str,
        entries: &[FileEntry],
    ) -> Result<Vec<bool>> {
        let mut held = vec![false; self.files.len()];
        for entry in entries {
            let at = self.position(&entry.name);
            match (at, role(job, &entry.name)) {
                (_, None) | (None, Some(false)) => {}
                (None, Some(true)) => {
                    let place = root.join(&entry.name);
                    let cause = format!(
                        "agent {agent} holds this file, which was not there when the job was planned"
                    );
                    return Err(Error::new(ErrorKind::Data, place.display(), cause).advice(
                        "move it away and submit the job again; or cancel the job, empty its tables, set \
                         thunderhead.source-agents to the number of all agents that hold files, and submit it",
                    ));
                }
                (Some(at), Some(_)) => {
                    let known = &self.files[at];
                    if let Some(what) = known.difference(entry) {
                        return Err(different(root, known, agent, what));
                    }
                    // A statement may be a copy of another time: it is the same, but not read there.
                    held[at] = known.modified_ns == entry.modified_ns;
                }
            }
        }
        Ok(held)
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        let by_path = |known: &Known| Path::new(&known.name).cmp(Path::new(name));
        self.files.binary_search_by(by_path).ok()
    }

    /// As a store would list them.
    pub(super) fn listed(&self, root: &Path) -> Vec<ListedFile> {
        let file = |known: &Known| ListedFile {
            name: known.name.clone(),
            path: root.join(&known.name),
            size: known.size,
            mtime_ns: known.modified_ns,
            etag: None,
        };
        self.files.iter().map(file).collect()
    }
}

/// Whether the file holds rows of the job.
pub(super) fn holds_rows(job: &Job, name: &str) -> bool {
    role(job, name) == Some(true)
}

fn different(root: &Path, known: &Known, agent: &str, what: &str) -> Error {
    let place = root.join(&known.name);
    let cause = match known.agents.iter().any(|name| name == agent) {
        true => {
            format!("the file at agent {agent} is not the one that was listed: its {what} differs")
        }
        false => format!(
            "agents {} and {agent} hold different files of this name: their {what} differs",
            known.agents.join(", ")
        ),
    };
    Error::new(ErrorKind::Data, place.display(), cause).advice(
        "give different files different names; a copy of a file keeps its time with `cp -p` or `rsync -t`",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn job() -> Job {
        let config = "[mydumper]\ndata-source-dir = \"/src\"\nfilter = [\"d.*\"]\n[tikv-importer]\n\
                      backend = \"local\"\nsorted-kv-dir = \"/sort\"\n[tidb]\nhost = \"h\"\npd-addr = \"p:1\"\n";
        thunderhead_config::load(config, "c", &[]).unwrap().job
    }

    fn entry(name: &str, size: u64, modified_ns: i64, mark: u64) -> FileEntry {
        FileEntry {
            name: name.to_owned(),
            size,
            modified_ns,
            mark,
        }
    }

    fn union(lists: &[(&str, &[FileEntry])]) -> Result<Listing> {
        let lists = lists.iter().map(|(agent, files)| {
            (
                (*agent).to_owned(),
                (AgentStatus::default(), files.to_vec()),
            )
        });
        Listing::of(&job(), Path::new("/src"), &lists.collect())
    }

    #[test]
    fn files_of_all_agents_are_one_source_in_the_order_of_one_directory() {
        let (a, b) = (
            [
                entry("d.t.2.csv", 5, 1, 1),
                entry("d/x.sql", 1, 1, 1),
                entry("e.t.csv", 1, 1, 1),
            ],
            [
                entry("d.t.2.csv", 5, 1, 1),
                entry("d.t.1.csv", 4, 2, 2),
                entry("README", 1, 1, 1),
            ],
        );
        let listing = union(&[("a", &a), ("b", &b)]).unwrap();
        let found: Vec<(&str, String)> = listing
            .files
            .iter()
            .map(|f| (f.name.as_str(), f.agents.join(",")))
            .collect();
        assert_eq!(
            found,
            [
                ("d.t.1.csv", "b".to_owned()),
                ("d.t.2.csv", "a,b".to_owned())
            ]
        );
        let held = listing.held_by(&job(), Path::new("/src"), "a", &a).unwrap();
        assert_eq!(held, [false, true]);
        assert!(holds_rows(&job(), "d.t.1.csv"));
        assert!(!holds_rows(&job(), "README") && !holds_rows(&job(), "d.t-schema.sql"));
    }

    #[test]
    fn one_name_for_different_files_is_refused_whatever_differs() {
        let first = [entry("d.t.csv", 5, 1, 7)];
        for (other, what) in [
            (entry("d.t.csv", 6, 1, 7), "size"),
            (entry("d.t.csv", 5, 2, 7), "time of change"),
            (entry("d.t.csv", 5, 1, 8), "content"),
        ] {
            let other = [other];
            let error = union(&[("a", &first), ("b", &other)]).unwrap_err();
            assert!(error.place.ends_with("/src/d.t.csv"), "{error}");
            assert!(
                error.cause.contains("agents a and b") && error.cause.contains(what),
                "{error}"
            );
            let listing = union(&[("a", &first)]).unwrap();
            let later = |agent| listing.held_by(&job(), Path::new("/src"), agent, &other);
            assert!(later("b").unwrap_err().cause.contains("agents a and b"));
            assert!(
                later("a")
                    .unwrap_err()
                    .cause
                    .contains("not the one that was listed")
            );
        }
        // What is not for the job may differ, and so may the time of a statement.
        let a = [
            entry("README", 1, 1, 1),
            entry("d-schema-create.sql", 9, 1, 1),
        ];
        let b = [
            entry("README", 2, 2, 2),
            entry("d-schema-create.sql", 9, 2, 1),
        ];
        let listing = union(&[("a", &a), ("b", &b)]).unwrap();
        let held = listing.held_by(&job(), Path::new("/src"), "b", &b);
        assert_eq!(held.unwrap(), [false]);
    }

    #[test]
    fn rows_that_come_after_the_plan_are_an_error_and_other_files_are_not() {
        let listing = union(&[("a", &[entry("d.t.1.csv", 5, 1, 7)])]).unwrap();
        let late = |name: &str| {
            let entries = [entry(name, 1, 1, 1)];
            listing.held_by(&job(), Path::new("/src"), "b", &entries)
        };
        assert!(
            late("d.t.2.csv")
                .unwrap_err()
                .cause
                .contains("not there when")
        );
        for name in ["README", "e.t.csv", "d-schema-create.sql"] {
            assert_eq!(late(name).unwrap(), [false], "{name}");
        }
    }
}
