//! What the leader tells agents of a table, a chunk and a range. The orders of the search for conflicts are beside its
//! other steps, in `leader/conflicts.rs`.

use super::{Leader, overlaps};
use crate::job::TaskRef;
use thunderhead_proto::thunderhead::{self as wire, EncodeTask, IngestTask, RemoteRun, TableSpec};

impl Leader {
    pub(super) fn table_spec(&self, n: usize) -> TableSpec {
        let record = &self.tables[n].record;
        TableSpec {
            job_id: self.job_id.clone(),
            database: record.database.clone(),
            table: record.table.clone(),
            table_info_json: record.table_info_json.clone().into(),
            session_json: record.session_json.clone().into(),
            commit_ts: record.commit_ts,
            cluster: Some(self.cluster.clone()),
            conflict: record
                .conflicts
                .as_ref()
                .map(crate::conflicts::TableConflicts::spec),
            existing: record.existing.map(|existing| wire::ExistingTable {
                snapshot_ts: existing.snapshot_ts,
                delete_ts: existing.delete_ts,
            }),
        }
    }

    pub(super) fn encode_task(&self, n: usize, number: u64, attempt: u32) -> EncodeTask {
        EncodeTask {
            task_id: TaskRef::Chunk { table: n, number }.id(),
            attempt,
            table: Some(self.table_spec(n)),
            refused_records_max: self.refused_records_left(),
            ..EncodeTask::clone(&self.tables[n].chunks[&number])
        }
    }

    /// The runs are those of the manifests as they are now, so that a re-encoded chunk is found.
    pub(super) fn ingest_task(
        &mut self,
        n: usize,
        number: u64,
        attempt: u32,
        agent: &str,
        address_of: impl Fn(&str) -> String,
    ) -> IngestTask {
        let (range, expected_bytes) = self.tables[n].ranges[&number].clone();
        let near = self.chunks_near(n, &range);
        let table = &self.tables[n];
        let (mut run_paths, mut remote_runs) = (Vec::new(), Vec::new());
        let losers = self.losers(n, &address_of);
        let mut existing_runs = Vec::new();
        for (chunk, manifest) in near.iter().map(|chunk| (*chunk, &table.manifests[chunk])) {
            let is_existing = table.is_existing(chunk);
            if is_existing && losers.is_none() {
                continue;
            }
            let runs = manifest
                .runs
                .iter()
                .filter(|run| run.entries > 0 && overlaps(&range, &run.first_key, &run.last_key));
            if manifest.agent_id == agent && !is_existing {
                run_paths.extend(runs.map(|run| run.path.clone()));
                continue;
            }
            let list = match is_existing {
                true => &mut existing_runs,
                false => &mut remote_runs,
            };
            list.extend(runs.map(|run| {
                RemoteRun {
                    agent_id: manifest.agent_id.clone(),
                    address: address_of(&manifest.agent_id),
                    path: run.path.clone(),
                    stored: manifest.stored,
                    chunk_task_id: TaskRef::Chunk {
                        table: n,
                        number: chunk,
                    }
                    .id(),
                }
            }));
        }
        IngestTask {
            task_id: TaskRef::Range { table: n, number }.id(),
            attempt,
            table: Some(self.table_spec(n)),
            range: Some(wire::KeyRange {
                start: range.start.into(),
                end: range.end.into(),
            }),
            run_paths,
            remote_runs,
            expected_bytes,
            losers,
            existing_runs,
        }
    }
}
