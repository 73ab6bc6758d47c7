//! Target tables that are not empty: what they hold when the job is planned, and the chunks that read their rows
//! where conflicts with them are looked for. Counting is exact: TiKV tells the number of records of each region at
//! the snapshot, and the reader must find as many.

use crate::conflicts::unique_spaces;
use crate::job::Existing;
use crate::target::Target;
use thunderhead_cluster::quote;
use thunderhead_codec::keys;
use thunderhead_codec::schema::TableInfo;
use thunderhead_config::SourceTable;
use thunderhead_proto::thunderhead::{self as wire, EncodeTask};
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, Result};

/// What a table holds.
pub(crate) struct Found {
    pub(crate) table: Existing,
    /// Ranges of records with how many are in each.
    ranges: Vec<(KeyRange, u64)>,
    name: String,
}

impl Target {
    /// What the table holds now; with `looks` also where its rows lie, if those of `source_chunks` can conflict with
    /// them.
    pub(crate) async fn existing(
        &self,
        source: &SourceTable,
        info: &TableInfo,
        source_chunks: &[EncodeTask],
        looks: bool,
    ) -> Result<Found> {
        let (snapshot_ts, delete_ts) = (self.pd.tso().await?, self.pd.tso().await?);
        let mut sum = Checksum::default();
        for id in info.key_space_ids() {
            let range = keys::table_range(id);
            sum.merge(&self.importer.checksum_at(&range, snapshot_ts).await?);
        }
        let from_source = |chunk: &EncodeTask| chunk.columns.iter().any(|c| c == "_tidb_rowid");
        let meet = !unique_spaces(info, source_chunks.iter().any(from_source)).is_empty();
        let mut ranges = Vec::new();
        if looks && meet {
            for id in info.physical_ids() {
                let records = keys::record_range(id);
                let sums = self.importer.checksums_at(&records, snapshot_ts).await?;
                let filled = sums.into_iter().filter(|(_, sum)| sum.kvs > 0);
                ranges.extend(filled.map(|(range, sum)| (range, sum.kvs)));
            }
        }
        let rows: u64 = ranges.iter().map(|(_, rows)| rows).sum();
        if i64::try_from(rows).is_err() {
            let place = format!("table {}.{}", source.database, source.table);
            return Err(Error::new(ErrorKind::Internal, place, "too many rows"));
        }
        Ok(Found {
            table: Existing {
                snapshot_ts,
                delete_ts,
                sum,
            },
            ranges,
            name: format!("{}.{}", quote(&source.database), quote(&source.table)),
        })
    }
}

impl Found {
    /// The number that the first existing row gets, so that the first of the source has `source_first`.
    pub(crate) fn first_row_id(&self, source_first: i64) -> i64 {
        let rows: u64 = self.ranges.iter().map(|(_, rows)| rows).sum();
        source_first.saturating_sub_unsigned(rows)
    }

    /// One chunk for each range, numbered from `first` on.
    pub(crate) fn chunks(&self, first: i64) -> Vec<EncodeTask> {
        let mut row_id = first;
        let chunk = |(range, rows): &(KeyRange, u64)| {
            let row_id_base = row_id;
            row_id = row_id.saturating_add_unsigned(*rows);
            EncodeTask {
                existing: Some(wire::ExistingRows {
                    table_name: self.name.clone(),
                    row_id_base,
                    range: Some(wire::KeyRange {
                        start: range.start.clone().into(),
                        end: range.end.clone().into(),
                    }),
                    snapshot_ts: self.table.snapshot_ts,
                    rows: *rows,
                }),
                ..EncodeTask::default()
            }
        };
        self.ranges.iter().map(chunk).collect()
    }
}
