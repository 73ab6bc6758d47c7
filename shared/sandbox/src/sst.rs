//! SST files as such: building them for `Write`, and looking at uploaded ones. A file is checked in
//! two steps: its footer before it is applied (what every TiKV needs to open it), and, by the lint, its
//! content (what TiKV would take and later regret).

use crate::engine::{Cf, SstFile, cf_options};
use crate::error::Result;
use crate::keys::{self, SHORT_VALUE_MAX, WriteKind, WriteRecord};
use rocksdb::{DB, IngestExternalFileOptions, IteratorMode, Options, SstFileWriter};
use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use thunderhead_sst::{SstContent, SstReader};
use thunderhead_types::Timestamp;

const FOOTER_BYTES: u64 = 53;
const MAGIC: u64 = 0x88E2_41B7_85F4_CFF7;
/// What TiKV 7.5 to 8.3 can open; later ones read 6.
const FORMAT_VERSION_MAX: u32 = 5;
const CRC32C: u8 = 1;

/// Looks at the last 53 bytes: the reason why TiKV could not open the file, if there is one.
pub(crate) fn check_footer(path: &Path) -> Result<(), String> {
    let read = || -> std::io::Result<Option<[u8; FOOTER_BYTES as usize]>> {
        let file = File::open(path)?;
        let Some(at) = file.metadata()?.len().checked_sub(FOOTER_BYTES) else {
            return Ok(None);
        };
        let mut footer = [0; FOOTER_BYTES as usize];
        file.read_exact_at(&mut footer, at)?;
        Ok(Some(footer))
    };
    let footer = match read() {
        Ok(Some(footer)) => footer,
        Ok(None) => return Err("Corruption: file is too short to be an sstable".into()),
        Err(error) => return Err(format!("IO error: {error}: while stat a file for size")),
    };
    let magic = u64::from_le_bytes(footer[45..].try_into().unwrap_or_default());
    if magic != MAGIC {
        return Err(format!(
            "Corruption: Bad table magic number: expected {MAGIC}, found {magic}"
        ));
    }
    let version = u32::from_le_bytes(footer[41..45].try_into().unwrap_or_default());
    if version > FORMAT_VERSION_MAX {
        return Err(format!(
            "Corruption: Corrupt or unsupported format_version: {version}"
        ));
    }
    if footer[0] != CRC32C {
        return Err(format!(
            "sandbox: block checksum type {} instead of CRC32c",
            footer[0]
        ));
    }
    Ok(())
}

/// Builds the two files of one `Write` stream.
pub(crate) struct PairWriter<'a> {
    default: SstFileWriter<'a>,
    write: SstFileWriter<'a>,
    defaults: u64,
    writes: u64,
    source: u64,
    key: Vec<u8>,
    record: Vec<u8>,
}

/// Options of both writers; they must outlive them.
pub(crate) struct WriterOptions {
    default: Options,
    write: Options,
}

impl WriterOptions {
    pub(crate) fn new() -> Self {
        Self {
            default: cf_options(Cf::Default, None),
            write: cf_options(Cf::Write, None),
        }
    }
}

impl<'a> PairWriter<'a> {
    /// Opens both files; `source` goes into every record unless 0.
    pub(crate) fn create(
        options: &'a WriterOptions,
        default: &Path,
        write: &Path,
        source: u64,
    ) -> Result<Self> {
        let writer = |options: &'a Options, path: &Path| -> Result<SstFileWriter<'a>> {
            let writer = SstFileWriter::create(options);
            writer.open(path)?;
            Ok(writer)
        };
        Ok(Self {
            default: writer(&options.default, default)?,
            write: writer(&options.write, write)?,
            defaults: 0,
            writes: 0,
            source,
            key: Vec::new(),
            record: Vec::new(),
        })
    }

    /// Adds a version of `key`: a put, or with no value a delete. Keys must ascend.
    pub(crate) fn add(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        commit_ts: Timestamp,
    ) -> Result<()> {
        keys::version_key_to(&mut self.key, key, commit_ts);
        let short_value = value.filter(|value| value.len() <= SHORT_VALUE_MAX);
        if let (Some(value), None) = (value, short_value) {
            self.default.put(&self.key, value)?;
            self.defaults += 1;
        }
        let kind = if value.is_some() {
            WriteKind::Put
        } else {
            WriteKind::Delete
        };
        self.record.clear();
        WriteRecord {
            kind,
            start_ts: commit_ts,
            short_value,
        }
        .encode_to(&mut self.record, self.source);
        self.write.put(&self.key, &self.record)?;
        self.writes += 1;
        Ok(())
    }

    /// Finishes the files that hold something: (default, write).
    pub(crate) fn finish(mut self) -> Result<(bool, bool)> {
        if self.defaults > 0 {
            self.default.finish()?;
        }
        if self.writes > 0 {
            self.write.finish()?;
        }
        Ok((self.defaults > 0, self.writes > 0))
    }
}

/// What the properties of a file say beyond what RocksDB checks: its id, by which TiKV's block cache tells
/// files apart, or what is wrong.
pub(crate) fn lint_properties(file: &SstFile) -> Result<String, String> {
    let bytes = std::fs::read(&file.path).map_err(|error| error.to_string())?;
    let reader = SstReader::open(SstContent::Memory(bytes.into())).map_err(|e| e.to_string())?;
    let properties = reader.properties();
    let text = |name: &str| {
        let value = properties.get(name).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    };
    let extractor = text("rocksdb.prefix.extractor.name");
    let expected = match file.cf {
        Cf::Write => "FixedSuffixSliceTransform",
        _ => "nullptr",
    };
    if extractor != expected && extractor != "nullptr" {
        return Err(format!("prefix extractor {extractor}"));
    }
    let comparator = text("rocksdb.comparator");
    if comparator != "leveldb.BytewiseComparator" {
        return Err(format!("comparator {comparator}"));
    }
    let session = text("rocksdb.creating.session.identity");
    if session.is_empty() {
        return Err("no session identity".into());
    }
    for name in ["tikv.range_index", "tikv.num_rows"] {
        let wanted = file.cf == Cf::Write || name == "tikv.range_index";
        if wanted && properties.get(name).is_none() {
            tracing::warn!(
                name,
                cf = file.cf.name(),
                "an uploaded file lacks a property of TiKV"
            );
        }
    }
    let number = properties.number("rocksdb.original.file.number");
    Ok(format!("{session}-{}", number.unwrap_or_default()))
}

/// What a look into files says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    /// No TiKV could open one of them.
    Unreadable(String),
    /// TiKV would take them and lose data by it.
    Wrong(String),
}

/// Reads uploaded files through an engine of their own in `scratch` and says what is wrong with them.
/// `start` and `end` are the region's borders as engine keys.
pub(crate) fn lint(files: &[SstFile], scratch: &Path, start: &[u8], end: &[u8]) -> Result<Verdict> {
    let _ = std::fs::remove_dir_all(scratch);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let db = DB::open_cf(&options, scratch, [Cf::Default.name(), Cf::Write.name()])?;
    let verdict = lint_in(&db, files, start, end);
    drop(db);
    let _ = std::fs::remove_dir_all(scratch);
    verdict
}

fn lint_in(db: &DB, files: &[SstFile], start: &[u8], end: &[u8]) -> Result<Verdict> {
    let mut options = IngestExternalFileOptions::default();
    options.set_allow_global_seqno(false);
    for cf in [Cf::Default, Cf::Write] {
        let paths: Vec<_> = files
            .iter()
            .filter(|f| f.cf == cf)
            .map(|f| f.path.as_path())
            .collect();
        let Some(family) = db.cf_handle(cf.name()).filter(|_| !paths.is_empty()) else {
            continue;
        };
        if let Err(error) = db.ingest_external_file_cf_opts(family, &options, paths) {
            return Ok(Verdict::Unreadable(error.to_string()));
        }
    }
    let Some((default, write)) = db
        .cf_handle(Cf::Default.name())
        .zip(db.cf_handle(Cf::Write.name()))
    else {
        return Ok(Verdict::Good);
    };
    let mut long_values = HashSet::new();
    for item in db.iterator_cf(default, IteratorMode::Start) {
        let (key, _) = item?;
        if *key < *start || *key >= *end {
            return Ok(Verdict::Wrong("default key outside of the region".into()));
        }
        long_values.insert(key);
    }
    for item in db.iterator_cf(write, IteratorMode::Start) {
        let (key, value) = item?;
        if *key < *start || *key >= *end {
            return Ok(Verdict::Wrong("write key outside of the region".into()));
        }
        let Ok((data, commit_ts)) = keys::split_version(&key) else {
            return Ok(Verdict::Wrong("write key without timestamp".into()));
        };
        let Ok(record) = WriteRecord::decode(&value) else {
            return Ok(Verdict::Wrong("malformed write record".into()));
        };
        if keys::user_key(data).is_err() || record.start_ts > commit_ts {
            return Ok(Verdict::Wrong(
                "malformed key or start_ts above commit_ts".into(),
            ));
        }
        let long = record.kind == WriteKind::Put && record.short_value.is_none();
        if long && !long_values.remove(&[data, &(!record.start_ts).to_be_bytes()].concat()[..]) {
            return Ok(Verdict::Wrong(
                "write record without its default entry".into(),
            ));
        }
    }
    let left = long_values.len();
    if left > 0 {
        return Ok(Verdict::Wrong(format!(
            "{left} default entries without a write record"
        )));
    }
    Ok(Verdict::Good)
}
