//! The cluster's own database: region table, ids, timestamp bound, PD's settings and the log entries
//! that some peer has not applied yet. Keys are a tag and an id; values prost or JSON. Everything but
//! the log is written with sync.

use crate::engine::be_u64;
use crate::error::Result;
use rocksdb::{DB, Direction, IteratorMode, Options, WriteBatch, WriteOptions};
use serde::{Serialize, de::DeserializeOwned};
use std::path::Path;

/// A key and its value.
type Stored = (Box<[u8]>, Vec<u8>);

pub(crate) struct Meta {
    db: DB,
}

/// Changes that become durable together.
#[derive(Default)]
pub(crate) struct MetaBatch(WriteBatch);

impl MetaBatch {
    pub(crate) fn put_region(&mut self, id: u64, record: &[u8]) {
        self.0.put(numbered(b'r', &[id]), record);
    }

    pub(crate) fn delete_region(&mut self, id: u64) {
        self.0.delete(numbered(b'r', &[id]));
    }

    pub(crate) fn put_entry(&mut self, region: u64, index: u64, entry: &[u8]) {
        self.0.put(numbered(b'l', &[region, index]), entry);
    }

    pub(crate) fn delete_entry(&mut self, region: u64, index: u64) {
        self.0.delete(numbered(b'l', &[region, index]));
    }
}

impl Meta {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_keep_log_file_num(2);
        options.set_write_buffer_size(4 << 20);
        Ok(Self {
            db: DB::open(&options, path)?,
        })
    }

    /// Durable when it returns.
    pub(crate) fn write_sync(&self, batch: MetaBatch) -> Result<()> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.db.write_opt(batch.0, &options)?)
    }

    /// Survives the end of the process, not that of the machine.
    pub(crate) fn write(&self, batch: MetaBatch) -> Result<()> {
        Ok(self.db.write(batch.0)?)
    }

    pub(crate) fn regions(&self) -> Result<Vec<Vec<u8>>> {
        self.with_tag(b'r')
            .map(|all| all.into_iter().map(|(_, value)| value).collect())
    }

    /// `(region, index, entry)` in order.
    pub(crate) fn entries(&self) -> Result<Vec<(u64, u64, Vec<u8>)>> {
        let all = self.with_tag(b'l')?;
        all.into_iter()
            .map(|(key, entry)| Ok((be_u64(&key[1..9])?, be_u64(&key[9..])?, entry)))
            .collect()
    }

    /// A named setting.
    pub(crate) fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let value = self.db.get(named(name))?;
        Ok(value
            .map(|json| serde_json::from_slice(&json))
            .transpose()?)
    }

    pub(crate) fn put<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self
            .db
            .put_opt(named(name), serde_json::to_vec(value)?, &options)?)
    }

    fn with_tag(&self, tag: u8) -> Result<Vec<Stored>> {
        let mut all = Vec::new();
        for item in self
            .db
            .iterator(IteratorMode::From(&[tag], Direction::Forward))
        {
            let (key, value) = item?;
            if key[0] != tag {
                break;
            }
            all.push((key, value.into_vec()));
        }
        Ok(all)
    }
}

fn numbered(tag: u8, numbers: &[u64]) -> Vec<u8> {
    let mut key = vec![tag];
    for number in numbers {
        key.extend_from_slice(&number.to_be_bytes());
    }
    key
}

fn named(name: &str) -> Vec<u8> {
    [b"n", name.as_bytes()].concat()
}
