//! Conflicts as the control plane sees them: which ranges of unique keys have to be merged, what was found, the
//! budgets of the job, and what people are told. Rows pass through here only as the bounded records that go to
//! the tables of `lightning_task_info`, because only the coordinator speaks SQL.

use crate::job::Table;
use crate::plan::ranges::{Blocks, plan_ranges};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thunderhead_cluster::{ConflictCount, ConflictRow, is_tiflash, quote};
use thunderhead_codec::keys;
use thunderhead_codec::schema::{IndexInfo, TableInfo};
use thunderhead_proto::metapb::Store;
use thunderhead_proto::thunderhead::{ConflictPart, ConflictReport, ConflictSpec, Run};
use thunderhead_types::{Error, ErrorKind, KeyRange};

/// Looking for conflicts reads and forgets, so its ranges are larger than those that are ingested.
const RANGE_FACTOR: u64 = 4;

/// The specification: with an older TiKV `record` is `none`.
const RECORD_NEEDS: [u64; 2] = [5, 2];

/// Why conflicts are not recorded although the configuration asks for it.
pub fn too_old_to_record(stores: &[Store]) -> Option<String> {
    let old = stores
        .iter()
        .filter(|store| !is_tiflash(store))
        .find(|store| is_before(&store.version, RECORD_NEEDS))?;
    Some(format!(
        "conflict strategy \"record\" was not in force, nobody looked for rows that share a key: it needs TiKV v5.2.0, store {} has {}; \
         \"remove\", \"error\", \"replace\" and \"ignore\" do not",
        old.id, old.version
    ))
}

/// `v5.1.5`, `5.2.0-alpha`; what is no version is not old.
fn is_before(version: &str, least: [u64; 2]) -> bool {
    let mut numbers = version
        .trim_start_matches('v')
        .split(['.', '-', '+'])
        .map_while(|part| part.parse::<u64>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => [major, minor] < least,
        _ => false,
    }
}

/// How a table deals with conflicts; recorded with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableConflicts {
    /// record, remove, error, replace or ignore.
    pub strategy: String,
    /// Row id of the first row of the source.
    pub first_row_id: i64,
}

impl TableConflicts {
    /// For the agents.
    pub fn spec(&self) -> ConflictSpec {
        ConflictSpec {
            strategy: self.strategy.clone(),
            first_row_id: self.first_row_id,
        }
    }
}

/// What was found in a table and settled; recorded before anything of the table is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// Rows that share a key with another one.
    pub rows: u64,
    /// Rows that are left out.
    pub losers: u64,
    /// Participants that are recorded one by one.
    pub recorded: u64,
    /// Index id (0 = records), shared keys, participants.
    pub indexes: Vec<(i64, u64, u64)>,
    /// Where the losers' numbers lie: agent, attempt directory, file. Empty without losers.
    pub run: Option<(String, String, String)>,
}

impl Resolution {
    /// Rows, each counted once for each key that it shares.
    pub fn participants(&self) -> u64 {
        self.indexes
            .iter()
            .map(|(_, _, participants)| participants)
            .sum()
    }

    /// Keys that rows share.
    pub fn groups(&self) -> u64 {
        self.indexes.iter().map(|(_, groups, _)| groups).sum()
    }
}

/// The search for a table's conflicts. Not recorded: a new leader begins it again.
#[derive(Clone, Debug, Default)]
pub struct Detection {
    /// Ranges of unique keys.
    pub ranges: Vec<KeyRange>,
    /// What was found in each.
    pub found: BTreeMap<u64, ConflictReport>,
    /// Somebody decides, or has: one table at a time, because all share the number of rows that are recorded.
    pub settling: bool,
    /// The decision over all of them, until it is recorded.
    pub settled: Option<ConflictReport>,
    /// The decision is on its way to the tables of records; nothing changes it any more.
    pub recording: bool,
}

impl Detection {
    /// Whether every range was looked at.
    pub fn is_complete(&self) -> bool {
        self.found.len() == self.ranges.len()
    }

    /// By index over all ranges.
    pub fn indexes(&self) -> Vec<(i64, u64, u64)> {
        let mut sums: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
        for index in self.found.values().flat_map(|report| &report.indexes) {
            let sum = sums.entry(index.index_id).or_default();
            sum.0 += index.groups;
            sum.1 += index.participants;
        }
        sums.into_iter()
            .map(|(id, (groups, rows))| (id, groups, rows))
            .collect()
    }

    /// Group numbers of each range, for the decision over all of them.
    pub fn parts(&self) -> Vec<ConflictPart> {
        let parts = self.found.values().map(|report| report.part.clone());
        parts.map(Option::unwrap_or_default).collect()
    }

    /// What is recorded of the decision.
    pub fn resolution(&self) -> Resolution {
        let indexes = self.indexes();
        let Some(settled) = &self.settled else {
            return Resolution {
                indexes,
                ..Resolution::default()
            };
        };
        let run = settled.runs.iter().find(|run| run.entries > 0).map(|run| {
            (
                settled.agent_id.clone(),
                settled.attempt_dir.clone(),
                run.path.clone(),
            )
        });
        Resolution {
            rows: settled.rows,
            losers: settled.losers,
            recorded: settled.records.len() as u64,
            indexes,
            run,
        }
    }
}

/// Limits of the whole job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Participants that are tolerated.
    pub threshold: u64,
    /// Participants that are recorded one by one.
    pub record_rows_max: u64,
    /// Refused rows that are left out; 0 = the first one is an error.
    pub refused_max: u64,
    /// Refused rows that are recorded one by one; the others are counted.
    pub refused_records_max: u64,
}

/// Key spaces in which two rows of the table can meet: the records, unless every handle is our own, and each
/// unique index; once for each partition that has its own.
pub fn unique_spaces(info: &TableInfo, handles_from_source: bool) -> Vec<KeyRange> {
    let physical = info.physical_ids();
    let mut spaces = Vec::new();
    if !info.has_row_id() || handles_from_source {
        spaces.extend(physical.iter().map(|&id| keys::record_range(id)));
    }
    let clustered = info.clustered_index().map(|index| index.id);
    let separate = |index: &&IndexInfo| {
        (index.is_unique || index.is_primary) && Some(index.id) != clustered && !index.is_columnar()
    };
    for index in info.indexes().iter().filter(separate) {
        if index.is_global {
            spaces.push(keys::index_range(info.id, index.id));
        } else {
            spaces.extend(physical.iter().map(|&id| keys::index_range(id, index.id)));
        }
    }
    spaces.sort_by(|a, b| a.start.cmp(&b.start));
    spaces
}

/// Cuts `spaces` into the ranges that have to be merged. A space whose runs follow one another without touching
/// has no equal keys, unless one run by itself has: then nothing is read at all. That is every table whose source
/// is in the order of its primary key.
pub fn plan_detection(spaces: &[KeyRange], runs: &[&Run], ingest_bytes: u64) -> Vec<KeyRange> {
    let blocks = Blocks::of(runs.iter().copied());
    let met = spaces.iter().filter(|space| may_meet(space, runs));
    let planned = met
        .flat_map(|space| plan_ranges(space, &blocks, ingest_bytes.saturating_mul(RANGE_FACTOR)));
    planned
        .filter(|planned| planned.has_runs)
        .map(|planned| planned.range)
        .collect()
}

fn may_meet(space: &KeyRange, runs: &[&Run]) -> bool {
    let mut spans: Vec<(&[u8], &[u8])> = Vec::new();
    for run in runs.iter().filter(|run| run.entries > 0) {
        if run.last_key.as_ref() < space.start.as_slice()
            || (!space.end.is_empty() && run.first_key.as_ref() >= space.end.as_slice())
        {
            continue;
        }
        if run.equal_keys > 0 {
            return true;
        }
        // What the run holds of the space is known exactly only where the run ends in it.
        let lower = run.first_key.as_ref().max(space.start.as_slice());
        let upper = match run.last_key.as_ref() {
            last if space.end.is_empty() || last < space.end.as_slice() => last,
            _ => space.end.as_slice(),
        };
        spans.push((lower, upper));
    }
    spans.sort_unstable();
    spans.windows(2).any(|pair| pair[0].1 >= pair[1].0)
}

/// The name that people know an index by.
pub fn index_name(info: &TableInfo, index_id: i64) -> String {
    let index = info.indexes().iter().find(|index| index.id == index_id);
    index.map_or_else(
        || "PRIMARY".to_owned(),
        |index| index.idx_name.original.clone(),
    )
}

/// `db.table` in back quotes, as Lightning writes it.
pub fn quoted_name(table: &Table) -> String {
    format!(
        "{}.{}",
        quote(&table.record.database),
        quote(&table.record.table)
    )
}

/// What goes to the tables of records: the counts and the rows.
pub fn rows_to_record(table: &Table, info: &TableInfo) -> (Vec<ConflictCount>, Vec<ConflictRow>) {
    let table_name = quoted_name(table);
    let counts = table
        .detection
        .indexes()
        .into_iter()
        .map(|(id, groups, rows)| ConflictCount {
            table_name: table_name.clone(),
            index_name: index_name(info, id),
            groups,
            participants: rows,
        });
    let records = table
        .detection
        .settled
        .iter()
        .flat_map(|report| &report.records);
    let rows = records.map(|record| ConflictRow {
        index_name: index_name(info, record.index_id),
        key_data: record.key_text.clone(),
        row_data: record.row_text.clone(),
        raw_key: record.key.to_vec(),
        raw_value: record.value.to_vec(),
        raw_handle: record.record_key.to_vec(),
        raw_row: record.record_value.to_vec(),
        path: record.path.clone(),
        offset: record.offset,
        line: record.line,
        row: record.row,
        group: record.group,
        removed: record.lost,
    });
    (counts.collect(), rows.collect())
}

/// The error that names the first two rows that share a key, and says how many there are.
pub fn first_conflict(table: &Table, info: &TableInfo, where_to_read: &str) -> Error {
    let resolution = table.detection.resolution();
    let found = format!(
        "{} rows share {} keys in table {}",
        resolution.participants(),
        resolution.groups(),
        table.name()
    );
    let records = || {
        table
            .detection
            .settled
            .iter()
            .flat_map(|report| &report.records)
    };
    let pair = records().next().and_then(|first| {
        let same = |other: &&thunderhead_proto::thunderhead::ConflictRecord| {
            other.group == first.group && other.row != first.row
        };
        Some((first, records().find(same)?))
    });
    let (place, cause) = match pair {
        Some((first, second)) => (
            stands_at(second),
            format!(
                "the row has the same key in unique index {} as {}; {found}",
                index_name(info, second.index_id),
                stands_at(first),
            ),
        ),
        None => (format!("table {}", table.name()), found),
    };
    let advice = format!(
        "nothing of the table was written: mend the source, or choose what stays with conflict.strategy{where_to_read}"
    );
    Error::new(ErrorKind::Conflict, place, cause).advice(advice)
}

/// File and line; of an existing row the table.
fn stands_at(record: &thunderhead_proto::thunderhead::ConflictRecord) -> String {
    match record.line {
        0 => format!("the row {} of {}", record.key_text, record.path),
        line => format!("{}:{line}", record.path),
    }
}

/// The error of a job with more conflicts than it tolerates.
pub fn beyond_threshold(
    table: &Table,
    participants: u64,
    threshold: u64,
    where_to_read: &str,
) -> Error {
    let cause = format!(
        "{participants} conflicting rows so far in the job, conflict.threshold is {threshold}"
    );
    Error::new(ErrorKind::Conflict, format!("table {}", table.name()), cause).advice(format!(
        "nothing of the table was written: mend the source, or raise conflict.threshold{where_to_read}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use thunderhead_proto::thunderhead::RunBlock;

    fn run(first: &str, last: &str, equal_keys: u64) -> Run {
        Run {
            entries: 2,
            first_key: first.as_bytes().to_vec().into(),
            last_key: last.as_bytes().to_vec().into(),
            blocks: vec![RunBlock {
                first_key: first.as_bytes().to_vec().into(),
                entries: 2,
                raw_bytes: 10,
                ..RunBlock::default()
            }],
            equal_keys,
            ..Run::default()
        }
    }

    fn planned(runs: &[Run]) -> usize {
        let runs: Vec<&Run> = runs.iter().collect();
        plan_detection(&[KeyRange::new(*b"c", *b"m")], &runs, 1000).len()
    }

    #[test]
    fn runs_that_follow_one_another_are_not_read_and_others_are() {
        assert_eq!(planned(&[]), 0);
        assert_eq!(planned(&[run("c", "d", 0), run("e", "f", 0)]), 0);
        assert_eq!(
            planned(&[run("e", "f", 0), run("c", "d", 0), run("g", "l", 0)]),
            0
        );
        assert_eq!(
            planned(&[run("c", "e", 0), run("e", "f", 0)]),
            1,
            "they touch"
        );
        assert_eq!(
            planned(&[run("c", "d", 1), run("e", "f", 0)]),
            1,
            "one by itself"
        );
        assert_eq!(
            planned(&[run("a", "d", 0), run("b", "f", 0)]),
            1,
            "both begin before"
        );
        assert_eq!(
            planned(&[run("d", "z", 0), run("e", "z", 0)]),
            1,
            "both end behind"
        );
        assert_eq!(
            planned(&[run("a", "b", 1), run("n", "z", 1)]),
            0,
            "elsewhere"
        );
    }

    #[test]
    fn only_a_tikv_before_v5_2_is_too_old_to_record() {
        let store = |version: &str| Store {
            id: 4,
            version: version.into(),
            ..Store::default()
        };
        for old in ["5.1.5", "v4.0.16", "5.1.0-alpha"] {
            let why = too_old_to_record(&[store("5.2.0"), store(old)]);
            assert!(why.is_some_and(|why| why.contains(old)), "{old}");
        }
        for new in ["5.2.0", "v5.2.0-alpha", "9.0.0", "10.1", "", "unknown"] {
            assert_eq!(too_old_to_record(&[store(new)]), None, "{new}");
        }
    }

    #[test]
    fn counts_add_up_over_ranges() {
        use thunderhead_proto::thunderhead::IndexConflicts;
        let report = |index_id, groups, participants| ConflictReport {
            indexes: vec![IndexConflicts {
                index_id,
                groups,
                participants,
            }],
            ..ConflictReport::default()
        };
        let detection = Detection {
            found: BTreeMap::from([
                (0, report(1, 2, 4)),
                (1, report(1, 1, 3)),
                (2, report(0, 1, 2)),
            ]),
            ..Detection::default()
        };
        let resolution = detection.resolution();
        assert_eq!(resolution.indexes, [(0, 1, 2), (1, 3, 7)]);
        assert_eq!((resolution.groups(), resolution.participants()), (4, 9));
    }
}
