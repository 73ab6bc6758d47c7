//! One store's RocksDB: column families default, lock and write with TiKV's table format, and `raft`,
//! which holds the index up to which each region's log is applied here. It knows changes and files; it
//! leaves versions and locks to `mvcc`, and the order of changes to `replicate`.

use crate::error::{Result, SandboxError};
use rocksdb::{
    BlockBasedOptions, Cache, ChecksumType, ColumnFamily, ColumnFamilyDescriptor, DB,
    DBCompressionType, Direction, IngestExternalFileOptions, IteratorMode, Options, ReadOptions,
    SliceTransform, WriteBatch,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The column families that hold user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Cf {
    Default,
    Lock,
    Write,
}

impl Cf {
    pub(crate) const ALL: [Cf; 3] = [Cf::Default, Cf::Lock, Cf::Write];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Cf::Default => "default",
            Cf::Lock => "lock",
            Cf::Write => "write",
        }
    }

    /// The two families that an SST may be for.
    pub(crate) fn of_sst(name: &str) -> Option<Cf> {
        match name {
            "default" => Some(Cf::Default),
            "write" => Some(Cf::Write),
            _ => None,
        }
    }

    fn from_u32(v: u32) -> Option<Cf> {
        Cf::ALL.into_iter().find(|cf| *cf as u32 == v)
    }
}

/// One key of one column family set or removed; part of a log entry.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Change {
    #[prost(uint32, tag = "1")]
    cf: u32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "3")]
    value: Option<Vec<u8>>,
}

impl Change {
    pub(crate) fn put(cf: Cf, key: Vec<u8>, value: Vec<u8>) -> Self {
        Self {
            cf: cf as u32,
            key,
            value: Some(value),
        }
    }

    pub(crate) fn delete(cf: Cf, key: Vec<u8>) -> Self {
        Self {
            cf: cf as u32,
            key,
            value: None,
        }
    }
}

const RAFT_CF: &str = "raft";
/// How much of a moving peer is held in memory.
const COPY_BATCH_BYTES: usize = 4 << 20;

/// 32 KiB blocks, CRC32c, format 5: what TiKV's own files look like and what every supported release
/// reads. The crate's defaults are newer than what TiKV can open.
pub(crate) fn table_options(cache: Option<&Cache>) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_format_version(5);
    table.set_checksum_type(ChecksumType::CRC32c);
    table.set_block_size(32 << 10);
    if let Some(cache) = cache {
        table.set_block_cache(cache);
    }
    table
}

/// Options of a column family, and of SSTs made for it.
pub(crate) fn cf_options(cf: Cf, cache: Option<&Cache>) -> Options {
    let mut options = Options::default();
    let mut table = table_options(cache);
    table.set_bloom_filter(10.0, false);
    if cf == Cf::Write {
        // The filter is over user keys: an engine key without its timestamp.
        table.set_whole_key_filtering(false);
        options.set_prefix_extractor(SliceTransform::create(
            "FixedSuffixSliceTransform",
            |key| &key[..key.len() - 8],
            Some(|key| key.len() >= 8),
        ));
    }
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Zstd);
    options.set_compression_options(-14, 3, 0, 0);
    options.set_write_buffer_size(16 << 20);
    options
}

/// A file to ingest.
pub(crate) struct SstFile {
    pub cf: Cf,
    pub path: PathBuf,
}

/// See the module.
pub(crate) struct Engine {
    db: DB,
}

impl Engine {
    pub(crate) fn open(path: &Path, cache: &Cache) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_background_jobs(2);
        options.set_max_open_files(512);
        options.set_keep_log_file_num(2);
        let mut families: Vec<_> = Cf::ALL
            .into_iter()
            .map(|cf| ColumnFamilyDescriptor::new(cf.name(), cf_options(cf, Some(cache))))
            .collect();
        families.push(ColumnFamilyDescriptor::new(RAFT_CF, Options::default()));
        Ok(Self {
            db: DB::open_cf_descriptors(&options, path, families)?,
        })
    }

    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    pub(crate) fn cf(&self, cf: Cf) -> &ColumnFamily {
        self.family(cf.name())
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.db
            .cf_handle(name)
            .expect("every column family is opened with the database")
    }

    /// Index up to which each region's log is applied.
    pub(crate) fn applied(&self) -> Result<HashMap<u64, u64>> {
        let mut applied = HashMap::new();
        for entry in self
            .db
            .iterator_cf(self.family(RAFT_CF), IteratorMode::Start)
        {
            let (key, value) = entry?;
            applied.insert(be_u64(&key)?, be_u64(&value)?);
        }
        Ok(applied)
    }

    /// Applies the changes of log entry `index` of `region`, both or neither.
    pub(crate) fn apply(&self, region: u64, index: u64, changes: &[Change]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for change in changes {
            let cf = Cf::from_u32(change.cf)
                .ok_or_else(|| SandboxError::Corrupt("unknown column family in the log".into()))?;
            match &change.value {
                Some(value) => batch.put_cf(self.cf(cf), &change.key, value),
                None => batch.delete_cf(self.cf(cf), &change.key),
            }
        }
        batch.put_cf(
            self.family(RAFT_CF),
            region.to_be_bytes(),
            index.to_be_bytes(),
        );
        Ok(self.db.write(batch)?)
    }

    /// Takes over `files` (the links are consumed). Doing it again with the same content is harmless.
    pub(crate) fn ingest(&self, files: &[SstFile]) -> Result<()> {
        for cf in [Cf::Default, Cf::Write] {
            let paths: Vec<&Path> = files
                .iter()
                .filter(|f| f.cf == cf)
                .map(|f| f.path.as_path())
                .collect();
            if !paths.is_empty() {
                let mut options = IngestExternalFileOptions::default();
                options.set_move_files(true);
                self.db
                    .ingest_external_file_cf_opts(self.cf(cf), &options, paths)?;
            }
        }
        Ok(())
    }

    /// Drops every key of `[start, end)` (engine keys) of all column families.
    pub(crate) fn destroy_range(&self, start: &[u8], end: &[u8]) -> Result<()> {
        for cf in Cf::ALL {
            self.db.delete_file_in_range_cf(self.cf(cf), start, end)?;
            self.db.delete_range_cf(self.cf(cf), start, end)?;
        }
        Ok(())
    }

    /// Copies every key of `[start, end)` into another store's engine.
    pub(crate) fn copy_range(&self, to: &Engine, start: &[u8], end: &[u8]) -> Result<()> {
        for cf in Cf::ALL {
            let mut options = ReadOptions::default();
            options.set_total_order_seek(true);
            options.set_iterate_upper_bound(end);
            let mut batch = WriteBatch::default();
            let from = IteratorMode::From(start, Direction::Forward);
            for item in self.db.iterator_cf_opt(self.cf(cf), options, from) {
                let (key, value) = item?;
                batch.put_cf(to.cf(cf), key, value);
                if batch.size_in_bytes() >= COPY_BATCH_BYTES {
                    to.db.write(std::mem::take(&mut batch))?;
                }
            }
            to.db.write(batch)?;
        }
        Ok(())
    }

    /// Files in level 0 of the write column family.
    pub(crate) fn level0_files(&self) -> u64 {
        let property = self
            .db
            .property_int_value_cf(self.cf(Cf::Write), "rocksdb.num-files-at-level0");
        property.ok().flatten().unwrap_or(0)
    }

    /// Pushes everything to the deepest level.
    pub(crate) fn compact(&self, start: Option<&[u8]>, end: Option<&[u8]>) {
        for cf in [Cf::Default, Cf::Write] {
            self.db.compact_range_cf(self.cf(cf), start, end);
        }
    }
}

pub(crate) fn be_u64(bytes: &[u8]) -> Result<u64> {
    let bytes = bytes
        .try_into()
        .map_err(|_| SandboxError::Corrupt("not eight bytes".into()))?;
    Ok(u64::from_be_bytes(bytes))
}
