//! An encode task: the records of one chunk, part after part, become key-value pairs, pairs become sorted runs, and
//! the finished runs are published as one immutable manifest. Synchronous; runs on its own thread.

use crate::existing::{Reader, not_encoded};
use crate::fields::{Refused, RowMap};
use crate::held;
use crate::refused::LeftOut;
use crate::sort::{Ledger, SortBuffer, run_message};
use crate::worker::Shared;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::session::Session;
use thunderhead_codec::table::{AutoIds, PairSink, RowError, Slot};
use thunderhead_config::{FieldOptions, SourceFormat};
use thunderhead_proto::thunderhead::{self as wire, EncodeTask, FilePart, Manifest};
use thunderhead_source::{
    ByteSource, Chunk, Entry, Place, ReadLimits, open_records_with, store::with_access, stored_at,
    unpacked_from,
};
use thunderhead_types::{Checksum, Epoch, Error, ErrorKind, Result, Tally, fail_point};
use tokio_util::sync::CancellationToken;

/// Part of the agent's memory that all encode slots together may fill with unsorted pairs; the rest is
/// for merging and sending.
const SORT_MEMORY_SHARE: f64 = 0.55;

/// Runs the task to its manifest. A failed attempt leaves nothing on disk: the next one may be elsewhere.
pub(crate) fn run(
    shared: &Arc<Shared>,
    task: &EncodeTask,
    epoch: Epoch,
    cluster: Option<&Reader>,
    cancel: &CancellationToken,
) -> Result<Manifest> {
    let spec = task
        .table
        .as_ref()
        .ok_or_else(|| bug("an encode task without its table"))?;
    let dir = shared.attempts.create(
        &shared.ledger,
        (task.task_id, task.attempt),
        &spec.job_id,
        epoch,
    )?;
    let work = Encoding {
        shared,
        task,
        spec,
        dir: &dir,
        cancel,
    };
    let result = match (&task.existing, cluster) {
        (None, _) => work.files(),
        (Some(existing), Some(cluster)) => work.existing(existing, cluster),
        (Some(_), None) => Err(bug("existing rows without a cluster")),
    };
    if result.is_err()
        && let Err(error) = shared.ledger.remove_dir(&dir)
    {
        tracing::warn!(%error, "the runs of a failed attempt stay on disk");
    }
    result
}

/// One attempt.
struct Encoding<'a> {
    shared: &'a Arc<Shared>,
    task: &'a EncodeTask,
    spec: &'a wire::TableSpec,
    dir: &'a Path,
    cancel: &'a CancellationToken,
}

impl Encoding<'_> {
    fn spiller(&self) -> Spiller {
        let config = &self.shared.config;
        let slots = f64::from(config.encode_slots.max(1));
        let buffer_bytes = (config.memory_bytes as f64 * SORT_MEMORY_SHARE / slots) as usize;
        let buffers = self.shared.idle_buffers.take();
        Spiller {
            dir: self.dir.to_owned(),
            ledger: Arc::clone(&self.shared.ledger),
            buffers: buffers.unwrap_or_else(|| SortBuffers {
                records: SortBuffer::new(buffer_bytes / 2),
                indexes: SortBuffer::new(buffer_bytes / 2),
            }),
            runs: Vec::new(),
            tally: Tally::default(),
            full: [false; 2],
            row: None,
        }
    }

    fn stopped(&self, place: &str) -> Result<()> {
        match self.cancel.is_cancelled() {
            true => Err(Error::new(
                ErrorKind::Cancelled,
                place,
                "stopped on request",
            )),
            false => Ok(()),
        }
    }

    /// Rows that the table held before.
    fn existing(&self, existing: &wire::ExistingRows, cluster: &Reader) -> Result<Manifest> {
        let first_row_id = self.spec.conflict.as_ref().map(|c| c.first_row_id);
        let first_row_id = first_row_id.ok_or_else(|| bug("existing rows without a strategy"))?;
        let mut pairs = self.spiller();
        let mut row_id = existing.row_id_base;
        let rows = cluster.rows(self.spec, existing, |row, encoder| {
            pairs.number_row(row_id.abs_diff(first_row_id));
            encoder
                .encode_decoded(row, &mut pairs)
                .map_err(|refused| not_encoded(self.spec, &refused.column))?;
            row_id += 1;
            pairs.spill_full()?;
            self.stopped(&existing.table_name)?;
            Ok(true)
        })?;
        if rows != existing.rows {
            let cause = format!("{rows} rows were read where {} lay", existing.rows);
            return Err(bug(&cause));
        }
        let read = Counted {
            rows,
            source_bytes: 0,
        };
        self.publish(pairs, read, AutoIds::default(), LeftOut::default())
    }

    fn publish(
        &self,
        pairs: Spiller,
        read: Counted,
        ids: AutoIds,
        left_out: LeftOut,
    ) -> Result<Manifest> {
        let (runs, checksum) = pairs.finish(&self.shared.idle_buffers)?;
        let totals = &self.shared.totals;
        totals.kvs.fetch_add(checksum.kvs, Ordering::Relaxed);
        totals.kv_bytes.fetch_add(checksum.bytes, Ordering::Relaxed);
        let run_store = self.shared.config.run_store.as_ref();
        let stored = run_store.is_some_and(|store| {
            let kept = store.keep(&runs);
            if let Err(error) = &kept {
                tracing::warn!(%error, "runs are not in the run store: they are lost with this agent's disk");
            }
            kept.is_ok()
        });
        let manifest = Manifest {
            runs,
            stored,
            rows: read.rows,
            source_bytes: read.source_bytes,
            checksum: Some(wire::Checksum {
                crc64_xor: checksum.crc64_xor,
                kvs: checksum.kvs,
                bytes: checksum.bytes,
            }),
            max_row_id: ids.row_id,
            max_auto_increment: ids.auto_increment,
            max_auto_random: ids.auto_random,
            agent_id: self.shared.config.id.clone(),
            warnings: 0,
            attempt_dir: self
                .dir
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            refused_rows: left_out.count,
            refused: left_out.rows,
        };
        held::publish(self.dir, &manifest)?;
        Ok(manifest)
    }

    /// Rows of files.
    fn files(&self) -> Result<Manifest> {
        let task = self.task;
        let mut format = format(task)?;
        // The limit may have been raised after the plan was made.
        format.skip_malformed = task.refused_records_max.is_some();
        let mut files = Files {
            work: self,
            maps: Maps::new(self.spec, task, &format)?,
            format,
            pairs: self.spiller(),
            left_out: task.refused_records_max.map(LeftOut::new),
            read: Counted::default(),
        };
        for (number, part) in (0..).zip(&task.parts) {
            files.part(number, part)?;
        }
        let (ids, left_out) = (files.maps.auto_ids(), files.left_out.unwrap_or_default());
        self.publish(files.pairs, files.read, ids, left_out)
    }
}

/// What was read for a chunk.
#[derive(Clone, Copy, Default)]
struct Counted {
    rows: u64,
    source_bytes: u64,
}

/// A chunk of files, as far as it is encoded.
struct Files<'a> {
    work: &'a Encoding<'a>,
    format: SourceFormat,
    maps: Maps,
    pairs: Spiller,
    left_out: Option<LeftOut>,
    read: Counted,
}

impl Files<'_> {
    fn part(&mut self, number: u32, part: &FilePart) -> Result<()> {
        let &Encoding {
            shared, task, spec, ..
        } = self.work;
        let config = &shared.config;
        let source = source_of(task, part, &self.format)?;
        same_file(&*source, part)?;
        let limits = ReadLimits::within(config.memory_bytes, config.encode_slots);
        let mut reader = open_records_with(&source, &chunk_of(part), &self.format, limits)?;
        let first_row_id = spec.conflict.as_ref().map(|conflict| conflict.first_row_id);

        let (mut row_id, mut reported) = (part.row_id_base, part.offset);
        loop {
            let count = reader.advance()?;
            if count == 0 {
                break;
            }
            self.work.stopped(&part.path)?;
            fail_point("read");
            let map = self.maps.of(reader.columns())?;
            let mut values = Vec::with_capacity(map.width());
            for index in 0..count {
                if row_id >= part.row_id_end {
                    return Err(bug("more rows in a chunk than were planned for it"));
                }
                if let Some(first) = first_row_id {
                    self.pairs.number_row(row_id.abs_diff(first));
                }
                values.clear();
                let at = reader.record(index, &mut values);
                let encoded = match reader.malformed(index) {
                    None => map.encode(&values, row_id, &mut self.pairs),
                    Some(error) => Err(Refused::Syntax(error.into())),
                };
                if let Err(refused) = encoded {
                    let error = refusal(at.place(&part.path), map.width(), &refused);
                    match &mut self.left_out {
                        Some(rows) => rows.add((number, at), &refused, &error, &values),
                        None => return Err(error),
                    }
                }
                row_id += 1;
                self.pairs.spill_full()?;
            }
            fail_point("encode");
            let (rows, offset) = (count as u64, reader.offset());
            self.read.rows += rows;
            let totals = &shared.totals;
            totals
                .source_bytes
                .fetch_add(offset - reported, Ordering::Relaxed);
            totals.rows.fetch_add(rows, Ordering::Relaxed);
            reported = offset;
        }
        self.read.source_bytes += reader.offset() - part.offset;
        same_file(&*source, part)
    }
}

/// The bytes of a part's file.
pub(crate) fn source_of(
    task: &EncodeTask,
    part: &FilePart,
    format: &SourceFormat,
) -> Result<Arc<dyn ByteSource>> {
    let location = with_access(&part.path, &task.source_access);
    Ok(source_in(stored_at(&location)?, part, format))
}

/// The same of a file that is open already.
pub(crate) fn source_in(
    stored: Arc<dyn ByteSource>,
    part: &FilePart,
    format: &SourceFormat,
) -> Arc<dyn ByteSource> {
    let entry = part.entry_stored.map(|stored| Entry {
        stored,
        unpacked: part.entry_unpacked,
    });
    unpacked_from(stored, format.compression, entry)
}

/// How the files of a task are written.
pub(crate) fn format(task: &EncodeTask) -> Result<SourceFormat> {
    serde_json::from_slice(&task.format_json).map_err(|e| bug(&format!("source format: {e}")))
}

/// The bytes of a part.
pub(crate) fn chunk_of(part: &FilePart) -> Chunk {
    Chunk {
        offset: part.offset,
        end: part.end,
        first_line: part.first_line,
        statement: part.statement,
        ..Chunk::whole()
    }
}

/// Encoders for the columns a task meets: one, unless its statements have different column lists.
pub(crate) struct Maps {
    table: TableInfo,
    session: Session,
    options: FieldOptions,
    maps: Vec<(Option<Arc<[String]>>, RowMap)>,
}

impl Maps {
    pub(crate) fn new(
        spec: &wire::TableSpec,
        task: &EncodeTask,
        format: &SourceFormat,
    ) -> Result<Self> {
        let table: TableInfo = serde_json::from_slice(&spec.table_info_json)
            .map_err(|e| bug(&format!("table info: {e}")))?;
        let session: Session = serde_json::from_slice(&spec.session_json)
            .map_err(|e| bug(&format!("session: {e}")))?;
        let names = (!task.columns.is_empty()).then_some(task.columns.as_slice());
        let first = RowMap::compile(&table, &session, names, &format.fields)?;
        Ok(Self {
            table,
            session,
            options: format.fields.clone(),
            maps: vec![(None, first)],
        })
    }

    /// The map for records whose fields have these names; `None` = as the task says.
    pub(crate) fn of(&mut self, names: Option<&Arc<[String]>>) -> Result<&mut RowMap> {
        let same = |(known, _): &(Option<Arc<[String]>>, RowMap)| known.as_ref() == names;
        let at = match self.maps.iter().position(same) {
            Some(at) => at,
            None => {
                let list = names.map(|names| &**names);
                let map = RowMap::compile(&self.table, &self.session, list, &self.options)?;
                self.maps.push((names.cloned(), map));
                self.maps.len() - 1
            }
        };
        Ok(&mut self.maps[at].1)
    }

    fn auto_ids(&self) -> AutoIds {
        let mut ids = AutoIds::default();
        for (_, map) in &self.maps {
            ids.merge(&map.encoder().auto_ids());
        }
        ids
    }
}

/// A refused record as an error at its place.
pub(crate) fn refusal(place: Place, width: usize, refused: &Refused) -> Error {
    match refused {
        Refused::Width(given) => {
            let cause = format!("the record has {given} fields, {width} were expected");
            Error::new(ErrorKind::Data, place, cause).advice(
                "check separator, delimiter and header in [mydumper.csv], mend the record, or set thunderhead.ragged-rows = \"accept\"",
            )
        }
        Refused::Row(error) => refused_row(place, error),
        Refused::Syntax(error) => error.clone(),
    }
}

/// A refused row, without the value that was refused: it may be private.
fn refused_row(place: Place, error: &RowError) -> Error {
    let why = match error.code {
        1048 => "NULL is not allowed",
        1264 => "the value is out of range",
        1265 => "the value is not one of the column's elements, or is cut",
        1292 => "the text is not a valid value of the type",
        1364 => "the column has no default and no value is given",
        1366 => "the text is not valid for the type or its character set",
        1406 => "the value is too long",
        1526 => "no partition takes the row",
        3140 | 3141 => "the text is not valid JSON",
        _ => "the value is refused",
    };
    Error::new(
        ErrorKind::Data,
        place,
        format!(
            "column `{}`: {why} (MySQL error {})",
            error.column, error.code
        ),
    )
    .advice("mend the record or the table's definition, or relax tidb.sql-mode")
}

/// The file must be the one that was planned, before and after it is read.
fn same_file(source: &dyn ByteSource, part: &FilePart) -> Result<()> {
    let identity = source.identity().map_err(|e| {
        Error::new(ErrorKind::Data, source.name(), e).advice("the file was there when the job was planned: bring it back and run the same command again")
    })?;
    let planned = (part.file_size, part.file_modified_ns);
    let etag = identity.etag.unwrap_or_default();
    if (identity.stored_bytes, identity.modified_ns) != planned || etag != part.file_etag {
        return Err(Error::new(
            ErrorKind::Data,
            source.name(),
            "the file changed during the import",
        )
        .advice("let nothing write to the source directory, then run the same command again"));
    }
    Ok(())
}

fn bug(cause: &str) -> Error {
    Error::new(ErrorKind::Internal, "encode task", cause).advice("this is a bug; please report it")
}

/// Two sort buffers, one for records and one for index entries: records of a source in primary-key order
/// arrive sorted and must not be disturbed by index keys that never do.
struct SortBuffers {
    records: SortBuffer,
    indexes: SortBuffer,
}

/// Buffers that no task uses. The next one takes them as they are: fresh memory costs a page fault every 4 KiB, which
/// is a tenth of the encoding where a buffer is as large as a chunk.
#[derive(Default)]
pub(crate) struct IdleBuffers(Mutex<Vec<SortBuffers>>);

impl IdleBuffers {
    fn take(&self) -> Option<SortBuffers> {
        self.0.lock().pop()
    }

    fn give_back(&self, buffers: SortBuffers) {
        self.0.lock().push(buffers);
    }

    /// Gives the memory back to the system, until a task is encoded again.
    pub(crate) fn free(&self) {
        self.0.lock().clear();
    }
}

/// Takes the pairs of a task and writes its runs.
struct Spiller {
    dir: PathBuf,
    ledger: Arc<Ledger>,
    buffers: SortBuffers,
    runs: Vec<wire::Run>,
    tally: Tally,
    /// The buffers (records, indexes) that took their last pair.
    full: [bool; 2],
    /// The number of the row in hand, where pairs carry it.
    row: Option<u64>,
}

impl Spiller {
    /// The pairs that follow are of this row.
    fn number_row(&mut self, row: u64) {
        self.row = Some(row);
    }

    fn buffer(&mut self, records: bool) -> &mut SortBuffer {
        if records {
            &mut self.buffers.records
        } else {
            &mut self.buffers.indexes
        }
    }

    fn spill(&mut self, records: bool) -> Result<()> {
        let kind = if records { "record" } else { "index" };
        let path = self.dir.join(format!("{kind}-{:04}.run", self.runs.len()));
        let ledger = Arc::clone(&self.ledger);
        let meta = self.buffer(records).spill(&path, &ledger)?;
        self.runs.push(run_message(&meta));
        Ok(())
    }

    /// After each row, so that a buffer never grows by more than one row past its budget.
    fn spill_full(&mut self) -> Result<()> {
        for records in [true, false] {
            if std::mem::take(&mut self.full[usize::from(!records)]) {
                self.spill(records)?;
            }
        }
        Ok(())
    }

    fn finish(mut self, idle: &IdleBuffers) -> Result<(Vec<wire::Run>, Checksum)> {
        for records in [true, false] {
            if !self.buffer(records).is_empty() {
                self.spill(records)?;
            }
        }
        idle.give_back(self.buffers);
        Ok((self.runs, self.tally.sum()))
    }
}

impl PairSink for Spiller {
    fn pair(&mut self, slot: Slot, key: &[u8], value: &[u8]) {
        self.tally.add(key, value);
        let records = slot == Slot::Record;
        let row = self.row;
        let room = self.buffer(records).push_of_row(key, value, row);
        self.full[usize::from(!records)] |= !room;
    }
}
