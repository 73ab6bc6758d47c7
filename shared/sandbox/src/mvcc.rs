//! Reading versions: what a snapshot of one store's engine shows at a timestamp. Writes nothing; the
//! commands that write are in `txn`, imports in `import`.

use crate::engine::{Cf, Engine};
use crate::error::{Result, SandboxError};
use crate::keys::{self, WriteKind, WriteRecord};
use rocksdb::{DBRawIterator, ReadOptions};
use std::ops::ControlFlow;
use thunderhead_proto::kvrpcpb::{LockInfo, Op};
use thunderhead_types::{Checksum, KeyRange, Timestamp};

/// Why a read gave no answer.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// A transaction that may commit at or before the read's timestamp holds the key.
    Locked(Box<LockInfo>),
    Failed(SandboxError),
}

impl<E: Into<SandboxError>> From<E> for ReadError {
    fn from(error: E) -> Self {
        ReadError::Failed(error.into())
    }
}

/// A lock as stored in the lock family.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Lock {
    #[prost(enumeration = "Op", tag = "1")]
    pub op: i32,
    #[prost(bytes = "vec", tag = "2")]
    pub primary: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub start_ts: u64,
    #[prost(uint64, tag = "4")]
    pub ttl_ms: u64,
    #[prost(uint64, tag = "5")]
    pub txn_size: u64,
    #[prost(bytes = "vec", optional, tag = "6")]
    pub short_value: Option<Vec<u8>>,
}

impl Lock {
    pub(crate) fn info(&self, key: &[u8]) -> LockInfo {
        LockInfo {
            primary_lock: self.primary.clone().into(),
            lock_version: self.start_ts,
            key: key.to_vec().into(),
            lock_ttl: self.ttl_ms,
            txn_size: self.txn_size,
            lock_type: self.op,
            ..Default::default()
        }
    }

    /// Whether a read at `ts` must wait for this lock.
    fn blocks(&self, ts: Timestamp) -> bool {
        self.start_ts <= ts && matches!(self.op(), Op::Put | Op::Del)
    }
}

/// The newest or an older version of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub commit_ts: Timestamp,
    pub start_ts: Timestamp,
    pub kind: WriteKind,
    pub short_value: Option<Vec<u8>>,
}

/// One consistent state of an engine.
pub(crate) struct Snapshot<'a> {
    engine: &'a Engine,
    at: rocksdb::Snapshot<'a>,
}

impl<'a> Snapshot<'a> {
    pub(crate) fn new(engine: &'a Engine) -> Self {
        Self {
            engine,
            at: engine.db().snapshot(),
        }
    }

    /// The lock on `key`.
    pub(crate) fn lock(&self, key: &[u8]) -> Result<Option<Lock>> {
        let stored = self
            .at
            .get_cf(self.engine.cf(Cf::Lock), keys::data_key(key))?;
        Ok(stored
            .map(|bytes| prost::Message::decode(&bytes[..]))
            .transpose()?)
    }

    /// The locks of `range` in key order with their user keys.
    pub(crate) fn locks(&self, range: &KeyRange) -> Result<Vec<(Vec<u8>, Lock)>> {
        let mut iterator = self.iterate(Cf::Lock, range, false);
        let mut locks = Vec::new();
        iterator.seek(keys::data_key(&range.start));
        while let Some((key, value)) = iterator.item() {
            locks.push((keys::user_key(key)?, prost::Message::decode(value)?));
            iterator.next();
        }
        iterator.status()?;
        Ok(locks)
    }

    fn check_locks(&self, range: &KeyRange, ts: Timestamp) -> Result<(), ReadError> {
        match self
            .locks(range)?
            .into_iter()
            .find(|(_, lock)| lock.blocks(ts))
        {
            Some((key, lock)) => Err(ReadError::Locked(Box::new(lock.info(&key)))),
            None => Ok(()),
        }
    }

    /// The value of `key` as of `ts` and when it was committed.
    pub(crate) fn get(
        &self,
        key: &[u8],
        ts: Timestamp,
    ) -> Result<Option<(Vec<u8>, Timestamp)>, ReadError> {
        if let Some(lock) = self.lock(key)?
            && lock.blocks(ts)
        {
            return Err(ReadError::Locked(Box::new(lock.info(key))));
        }
        let mut found = None;
        self.versions(key, ts, |version| match version.kind {
            WriteKind::Put | WriteKind::Delete => {
                found = Some(version);
                ControlFlow::Break(())
            }
            WriteKind::Lock | WriteKind::Rollback => ControlFlow::Continue(()),
        })?;
        match found {
            Some(version) if version.kind == WriteKind::Put => {
                let value = match version.short_value {
                    Some(value) => value,
                    None => self.long_value(&keys::data_key(key), version.start_ts)?,
                };
                Ok(Some((value, version.commit_ts)))
            }
            _ => Ok(None),
        }
    }

    /// Shows the versions of `key` with a commit timestamp of at most `ts`, newest first.
    pub(crate) fn versions(
        &self,
        key: &[u8],
        ts: Timestamp,
        mut visit: impl FnMut(Version) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        let mut iterator = self
            .at
            .raw_iterator_cf_opt(self.engine.cf(Cf::Write), options);
        let first = keys::version_key(key, ts);
        iterator.seek(&first);
        while let Some((found, value)) = iterator.item() {
            let (data, commit_ts) = keys::split_version(found)?;
            if data != &first[..first.len() - 8] {
                break;
            }
            let record = WriteRecord::decode(value)?;
            let version = Version {
                commit_ts,
                start_ts: record.start_ts,
                kind: record.kind,
                short_value: record.short_value.map(<[u8]>::to_vec),
            };
            if visit(version).is_break() {
                return Ok(());
            }
            iterator.next();
        }
        Ok(iterator.status()?)
    }

    fn long_value(&self, data: &[u8], start_ts: Timestamp) -> Result<Vec<u8>> {
        let key = [data, &(!start_ts).to_be_bytes()].concat();
        let value = self.at.get_cf(self.engine.cf(Cf::Default), key)?;
        value.ok_or_else(|| SandboxError::Corrupt("default not found".into()))
    }

    fn iterate(&self, cf: Cf, range: &KeyRange, once: bool) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        let end = if range.end.is_empty() {
            keys::data_end(b"")
        } else {
            keys::data_key(&range.end)
        };
        options.set_iterate_upper_bound(end);
        options.fill_cache(!once);
        self.at.raw_iterator_cf_opt(self.engine.cf(cf), options)
    }

    /// Shows the pairs of `range` as of `ts` in key order, each with its commit timestamp, until
    /// `visit` has enough.
    pub(crate) fn scan(
        &self,
        range: &KeyRange,
        ts: Timestamp,
        mut visit: impl FnMut(&[u8], &[u8], Timestamp) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.check_locks(range, ts)?;
        let mut iterator = self.iterate(Cf::Write, range, true);
        let (mut data, mut key) = (Vec::new(), Vec::new());
        iterator.seek(keys::data_key(&range.start));
        while let Some((found, value)) = iterator.item() {
            let (found_data, commit_ts) = keys::split_version(found)?;
            data.clear();
            data.extend_from_slice(found_data);
            if commit_ts > ts {
                data.extend_from_slice(&(!ts).to_be_bytes());
                iterator.seek(&data);
                continue;
            }
            let record = WriteRecord::decode(value)?;
            let decides = matches!(record.kind, WriteKind::Put | WriteKind::Delete);
            if record.kind == WriteKind::Put {
                keys::user_key_to(&mut key, found_data)?;
                let flow = match record.short_value {
                    Some(value) => visit(&key, value, commit_ts),
                    None => visit(
                        &key,
                        &self.long_value(found_data, record.start_ts)?,
                        commit_ts,
                    ),
                };
                if flow.is_break() {
                    return Ok(());
                }
            }
            iterator.next();
            if decides {
                skip_versions(&mut iterator, &mut data)?;
            }
        }
        Ok(iterator.status()?)
    }

    /// The tally of the pairs of `range` as of `ts`.
    pub(crate) fn checksum(&self, range: &KeyRange, ts: Timestamp) -> Result<Checksum, ReadError> {
        let mut sum = Checksum::default();
        self.scan(range, ts, |key, value, _| {
            sum.add(key, value);
            ControlFlow::Continue(())
        })?;
        Ok(sum)
    }

    /// Shows every version of every key of `range`: user key, version, value of a put.
    pub(crate) fn history(
        &self,
        range: &KeyRange,
        mut visit: impl FnMut(&[u8], Timestamp, WriteKind, Vec<u8>) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut iterator = self.iterate(Cf::Write, range, true);
        let mut key = Vec::new();
        iterator.seek(keys::data_key(&range.start));
        while let Some((found, value)) = iterator.item() {
            let (data, commit_ts) = keys::split_version(found)?;
            keys::user_key_to(&mut key, data)?;
            let record = WriteRecord::decode(value)?;
            let value = match (record.kind, record.short_value) {
                (WriteKind::Put, Some(value)) => value.to_vec(),
                (WriteKind::Put, None) => self.long_value(data, record.start_ts)?,
                _ => Vec::new(),
            };
            if visit(&key, commit_ts, record.kind, value).is_break() {
                return Ok(());
            }
            iterator.next();
        }
        Ok(iterator.status()?)
    }
}

/// Goes past the remaining versions of `data`: a few steps, then a seek.
fn skip_versions(iterator: &mut DBRawIterator<'_>, data: &mut Vec<u8>) -> Result<()> {
    for _ in 0..8 {
        match iterator.key() {
            Some(key) if keys::split_version(key)?.0 == data.as_slice() => iterator.next(),
            _ => return Ok(()),
        }
    }
    // The oldest possible version is at timestamp 0; nothing is stored there.
    data.extend_from_slice(&u64::MAX.to_be_bytes());
    iterator.seek(&data[..]);
    Ok(())
}
