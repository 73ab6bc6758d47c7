//! The part of a table's way between its last chunk and its ranges, where conflicts are looked for:
//! 1. the unique keys are cut into ranges; each is merged by an agent, which keeps who shares a key with whom;
//! 2. when all are done and something was found, one agent decides over the whole table;
//! 3. the records go to TiDB, the budget is checked, the decision is recorded; only now ranges are planned.
//!
//! What is found in steps 1 and 2 is not recorded: it is a pure function of the chunks, so a new leader begins
//! again. The decision is; when the run that holds the losers is lost, the table goes back to step 1 and comes
//! to the same decision, also while its ranges are being ingested.

use super::{Leader, overlaps};
use crate::conflicts::{self, Detection, Resolution, plan_detection};
use crate::job::{Phase, Table, TaskRef};
use crate::scheduler::{SLOT, TaskKind};
use std::sync::Arc;
use thunderhead_proto::thunderhead::{
    self as wire, ConflictReport, ConflictTask, RemoteRun, ResolveSpec,
};
use thunderhead_types::{Error, KeyRange, Result, fail_point};

/// With `error` two rows are named even if nothing is recorded.
const NAMED_ROWS: u64 = 2;

/// Agents that hold what conflict tasks of the table left.
pub(super) fn holders(table: &Table) -> impl Iterator<Item = &String> {
    let found = table
        .detection
        .found
        .values()
        .map(|report| &report.agent_id);
    let run = table
        .record
        .resolution
        .as_ref()
        .and_then(|r| r.run.as_ref());
    found.chain(run.map(|(agent, ..)| agent))
}

impl Leader {
    /// Every chunk of the table is encoded: looks for conflicts, or plans its ranges.
    pub(super) async fn all_encoded(&mut self, n: usize) -> Result<()> {
        let table = &self.tables[n];
        if table.record.conflicts.is_none() || table.record.resolution.is_some() {
            return self.after_conflicts(n).await;
        }
        let runs: Vec<&wire::Run> = table.manifests.values().flat_map(|m| &m.runs).collect();
        let spaces = self.steps.unique_spaces(table)?;
        let ranges = plan_detection(&spaces, &runs, self.steps.range_bytes_target());
        tracing::info!(
            table = table.name(),
            ranges = ranges.len(),
            "looking for conflicts"
        );
        self.tables[n].detection = Detection {
            ranges,
            ..Detection::default()
        };
        self.enter_phase(n, Phase::Detecting).await?;
        self.journal.fail_point("detecting");
        self.go_on_detecting(n).await
    }

    /// Queues what is open of the search, or ends it.
    pub(super) async fn go_on_detecting(&mut self, n: usize) -> Result<()> {
        let detection = &self.tables[n].detection;
        if !detection.is_complete() {
            let open = (0..detection.ranges.len() as u64)
                .filter(|number| !detection.found.contains_key(number));
            for number in open.collect::<Vec<_>>() {
                self.push_conflict(n, number);
            }
        } else if detection.indexes().is_empty() {
            self.start_recording(n);
        } else if detection.settled.is_none() {
            self.push_conflict(n, TaskRef::SETTLE);
        }
        Ok(())
    }

    fn push_conflict(&mut self, n: usize, number: u64) {
        if self.failure.is_none() {
            let id = TaskRef::Conflict { table: n, number }.id();
            self.scheduler.push(TaskKind::Ingest, "", SLOT, id);
        }
    }

    /// Whether the conflict task is still to be done.
    pub(super) fn conflict_is_open(&self, n: usize, number: u64) -> bool {
        let table = &self.tables[n];
        let detection = &table.detection;
        table.record.phase == Phase::Detecting
            && if number == TaskRef::SETTLE {
                detection.is_complete() && detection.settled.is_none()
            } else {
                number < detection.ranges.len() as u64 && !detection.found.contains_key(&number)
            }
    }

    /// Whether what the conflict task reads is there: all chunks, and no agent away that holds one.
    pub(super) fn conflict_is_ready(&mut self, n: usize, number: u64) -> bool {
        if number != TaskRef::SETTLE {
            return self.tables[n].is_encoded() && self.all_is_here(n);
        }
        let mut others = self.tables.iter().enumerate();
        let busy = others.any(|(other, table)| other != n && table.detection.settling);
        let mut found = self.tables[n].detection.found.values();
        !busy && found.all(|report| !self.away.contains(&report.agent_id))
    }

    /// The order for an attempt at a conflict task.
    pub(super) fn conflict_task(
        &self,
        n: usize,
        number: u64,
        attempt: u32,
        address_of: impl Fn(&str) -> String,
    ) -> ConflictTask {
        let table = &self.tables[n];
        let task = |number| TaskRef::Conflict { table: n, number }.id();
        let held = |agent: &str, task: u64, run: &wire::Run| RemoteRun {
            agent_id: agent.to_owned(),
            address: address_of(agent),
            path: run.path.clone(),
            chunk_task_id: task,
            stored: false,
        };
        let order = ConflictTask {
            task_id: task(number),
            attempt,
            table: Some(self.table_spec(n)),
            ..ConflictTask::default()
        };
        if number == TaskRef::SETTLE {
            let found = table.detection.found.iter();
            let runs = found.flat_map(|(&number, report)| {
                let runs = report.runs.iter();
                runs.map(move |run| (report.agent_id.as_str(), task(number), run))
            });
            return ConflictTask {
                remote_runs: runs
                    .map(|(agent, task, run)| held(agent, task, run))
                    .collect(),
                resolve: Some(ResolveSpec {
                    parts: table.detection.parts(),
                    records_max: self.records_left(n),
                    chunks: table.chunks.values().map(|c| c.as_ref().clone()).collect(),
                }),
                ..order
            };
        }
        let range = table
            .detection
            .ranges
            .get(number as usize)
            .cloned()
            .unwrap_or_default();
        let mut remote_runs = Vec::new();
        for (&chunk, manifest) in &table.manifests {
            let chunk = TaskRef::Chunk {
                table: n,
                number: chunk,
            }
            .id();
            let runs = manifest
                .runs
                .iter()
                .filter(|run| run.entries > 0 && overlaps(&range, &run.first_key, &run.last_key));
            remote_runs.extend(runs.map(|run| RemoteRun {
                stored: manifest.stored,
                ..held(&manifest.agent_id, chunk, run)
            }));
        }
        let KeyRange { start, end } = range;
        ConflictTask {
            range: Some(wire::KeyRange {
                start: start.into(),
                end: end.into(),
            }),
            remote_runs,
            number: u32::try_from(number).unwrap_or(u32::MAX),
            ..order
        }
    }

    /// Participants that may still be recorded one by one, in this job.
    fn records_left(&self, n: usize) -> u64 {
        let max = self.steps.conflict_budget().record_rows_max;
        let others = self
            .tables
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != n);
        let used: u64 = others
            .filter_map(|(_, table)| Some(table.record.resolution.as_ref()?.recorded))
            .sum();
        let least = if self.ends_at_conflict(n) {
            NAMED_ROWS
        } else {
            0
        };
        max.saturating_sub(used).max(least)
    }

    fn ends_at_conflict(&self, n: usize) -> bool {
        let conflicts = self.tables[n].record.conflicts.as_ref();
        conflicts.is_some_and(|conflicts| conflicts.strategy == "error")
    }

    /// Takes a report. The task must be open.
    pub(crate) async fn conflict_done(
        &mut self,
        task_id: u64,
        report: ConflictReport,
    ) -> Result<()> {
        let TaskRef::Conflict { table: n, number } = TaskRef::from_id(task_id) else {
            return Ok(());
        };
        tracing::info!(task = "conflicts", task_id, "task done");
        self.ready.clear();
        let detection = &mut self.tables[n].detection;
        if number == TaskRef::SETTLE {
            detection.settled = Some(report);
            fail_point("conflicts-settled");
            self.start_recording(n);
            return Ok(());
        }
        detection.found.insert(number, report);
        if detection.is_complete() {
            self.go_on_detecting(n).await?;
        }
        Ok(())
    }

    fn start_recording(&mut self, n: usize) {
        let (steps, table) = (Arc::clone(&self.steps), self.tables[n].clone());
        let job_id = self.job_id.clone();
        self.tables[n].detection.recording = true;
        self.journal.begin(n, async move {
            match table.detection.settled {
                Some(_) => steps.record_conflicts(&job_id, &table).await,
                None => Ok(()),
            }
        });
    }

    /// The records are in TiDB: checks the budgets and records the decision.
    pub(super) async fn conflicts_recorded(&mut self, n: usize) -> Result<()> {
        if !self.tables[n].detection.recording {
            // A step of the ingest that was given up.
            return Ok(());
        }
        fail_point("conflicts-recorded");
        let resolution = self.tables[n].detection.resolution();
        if let Some(error) = self.over_budget(n, &resolution) {
            self.fail(error);
            return Ok(());
        }
        self.ready.clear();
        let table = &mut self.tables[n];
        table.record.resolution = Some(resolution);
        // Only the losers are needed from here on.
        let found = std::mem::take(&mut table.detection).found;
        self.after_conflicts(n).await?;
        self.journal.fail_point("conflicts-decided");
        let ids = found
            .keys()
            .map(|&number| TaskRef::Conflict { table: n, number }.id());
        self.unneeded.extend(ids);
        Ok(())
    }

    fn over_budget(&self, n: usize, resolution: &Resolution) -> Option<Error> {
        let (table, participants) = (&self.tables[n], resolution.participants());
        if participants == 0 {
            return None;
        }
        let hint = self.steps.where_to_read(&self.job_id);
        if self.ends_at_conflict(n) {
            let info = serde_json::from_str(&table.record.table_info_json).unwrap_or_default();
            return Some(conflicts::first_conflict(table, &info, &hint));
        }
        let others = self
            .tables
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != n);
        let before: u64 = others
            .filter_map(|(_, table)| Some(table.record.resolution.as_ref()?.participants()))
            .sum();
        let threshold = self.steps.conflict_budget().threshold;
        (before + participants > threshold)
            .then(|| conflicts::beyond_threshold(table, before + participants, threshold, &hint))
    }

    async fn after_conflicts(&mut self, n: usize) -> Result<()> {
        if self.tables[n].ranges.is_empty() {
            return self.plan_ranges(n).await;
        }
        // The losers had been lost while ranges were ingested: those that are done stay done.
        self.enter_phase(n, Phase::Ingesting).await?;
        self.start_split(n);
        Ok(())
    }

    /// What the conflict task left on an agent is gone: it is done again, and what follows from it too.
    pub(super) async fn forget_conflict(&mut self, n: usize, number: u64) -> Result<()> {
        self.ready.clear();
        let Some(table) = self.tables.get_mut(n) else {
            return Ok(());
        };
        match table.record.phase {
            Phase::Detecting => {
                let decided = table.detection.recording;
                if !decided && table.detection.found.remove(&number).is_some() {
                    table.detection.settling = false;
                    self.push_conflict(n, number);
                }
                Ok(())
            }
            Phase::Ingesting if number == TaskRef::SETTLE => {
                table.record.resolution = None;
                self.enter_phase(n, Phase::Detecting).await?;
                self.all_encoded_again(n).await
            }
            _ => Ok(()),
        }
    }

    /// Begins the search when no chunk is open; otherwise the last chunk does.
    pub(super) async fn all_encoded_again(&mut self, n: usize) -> Result<()> {
        let table = &self.tables[n];
        let begun = !table.detection.ranges.is_empty() || table.detection.recording;
        if !begun && table.is_encoded() {
            return self.all_encoded(n).await;
        }
        Ok(())
    }

    /// Whether what this attempt left is needed.
    pub(super) fn conflict_is_kept(
        &self,
        n: usize,
        number: u64,
        agent: &str,
        attempt_dir: &str,
    ) -> bool {
        let Some(table) = self.tables.get(n) else {
            return false;
        };
        if number == TaskRef::SETTLE {
            let settled = table.detection.settled.as_ref();
            let kept = table
                .record
                .resolution
                .as_ref()
                .and_then(|r| r.run.as_ref());
            return settled.is_some_and(|s| s.agent_id == agent && s.attempt_dir == attempt_dir)
                || kept.is_some_and(|(a, dir, _)| a == agent && dir == attempt_dir);
        }
        let found = table.detection.found.get(&number);
        found.is_some_and(|f| f.agent_id == agent && f.attempt_dir == attempt_dir)
    }

    /// Conflict tasks of `agent` whose runs are needed and not among `held`.
    pub(super) fn lost_conflicts(
        &self,
        agent: &str,
        is_held: impl Fn(u64, &str) -> bool,
    ) -> Vec<(usize, u64)> {
        let mut lost = Vec::new();
        for (n, table) in self.tables.iter().enumerate() {
            let gone = |number, holder: &str, attempt: &str| {
                holder == agent && !is_held(TaskRef::Conflict { table: n, number }.id(), attempt)
            };
            match table.record.phase {
                Phase::Detecting => {
                    let found = table.detection.found.iter();
                    lost.extend(
                        found
                            .filter(|(number, report)| {
                                !report.runs.is_empty()
                                    && gone(**number, &report.agent_id, &report.attempt_dir)
                            })
                            .map(|(&number, _)| (n, number)),
                    );
                }
                Phase::Ingesting => {
                    let run = table
                        .record
                        .resolution
                        .as_ref()
                        .and_then(|r| r.run.as_ref());
                    if run
                        .is_some_and(|(holder, attempt, _)| gone(TaskRef::SETTLE, holder, attempt))
                    {
                        lost.push((n, TaskRef::SETTLE));
                    }
                }
                _ => {}
            }
        }
        lost
    }

    /// Where the numbers of the rows lie that every range leaves out.
    pub(super) fn losers(
        &self,
        n: usize,
        address_of: impl Fn(&str) -> String,
    ) -> Option<RemoteRun> {
        let (agent, _, path) = self.tables[n].record.resolution.as_ref()?.run.as_ref()?;
        Some(RemoteRun {
            agent_id: agent.clone(),
            address: address_of(agent),
            path: path.clone(),
            chunk_task_id: TaskRef::Conflict {
                table: n,
                number: TaskRef::SETTLE,
            }
            .id(),
            stored: false,
        })
    }
}
