//! The writing half of transactions: each command reads a snapshot and says which keys change. The
//! caller holds the region still in between and replicates the changes.

use crate::engine::{Cf, Change, Engine};
use crate::error::Result;
use crate::keys::{self, SHORT_VALUE_MAX, WriteKind, WriteRecord};
use crate::mvcc::{Lock, Snapshot, Version};
use crate::tso::LOGICAL_BITS;
use std::ops::ControlFlow;
use thunderhead_proto::kvrpcpb::{
    Action, AlreadyExist, CheckTxnStatusRequest, CheckTxnStatusResponse, CommitRequest, KeyError,
    Mutation, Op, PrewriteRequest, TxnLockNotFound, TxnNotFound, WriteConflict,
    write_conflict::Reason,
};
use thunderhead_types::{KeyRange, Timestamp};

/// How a transaction ended at one key.
enum Outcome {
    Committed(Timestamp),
    RolledBack,
    Unknown,
}

fn newest(snapshot: &Snapshot<'_>, key: &[u8]) -> Result<Option<Version>> {
    let mut newest = None;
    snapshot.versions(key, Timestamp::MAX, |version| {
        newest = Some(version);
        ControlFlow::Break(())
    })?;
    Ok(newest)
}

fn outcome(snapshot: &Snapshot<'_>, key: &[u8], start_ts: Timestamp) -> Result<Outcome> {
    let mut outcome = Outcome::Unknown;
    snapshot.versions(key, Timestamp::MAX, |version| {
        if version.commit_ts < start_ts {
            return ControlFlow::Break(());
        }
        if version.start_ts == start_ts {
            outcome = match version.kind {
                WriteKind::Rollback => Outcome::RolledBack,
                _ => Outcome::Committed(version.commit_ts),
            };
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(outcome)
}

/// First phase: locks every key of the request, or says which keys stand in the way.
pub(crate) fn prewrite(
    engine: &Engine,
    request: &PrewriteRequest,
) -> Result<(Vec<Change>, Vec<KeyError>)> {
    let snapshot = Snapshot::new(engine);
    let (mut changes, mut errors) = (Vec::new(), Vec::new());
    for mutation in &request.mutations {
        match obstacle(&snapshot, request, mutation)? {
            Some(error) => errors.push(error),
            None => lock_key(&mut changes, request, mutation),
        }
    }
    if !errors.is_empty() {
        changes.clear();
    }
    Ok((changes, errors))
}

fn obstacle(
    snapshot: &Snapshot<'_>,
    request: &PrewriteRequest,
    mutation: &Mutation,
) -> Result<Option<KeyError>> {
    let start_ts = request.start_version;
    if let Some(lock) = snapshot.lock(&mutation.key)?
        && lock.start_ts != start_ts
    {
        return Ok(Some(KeyError {
            locked: Some(lock.info(&mutation.key)),
            ..Default::default()
        }));
    }
    if let Some(version) = newest(snapshot, &mutation.key)?
        && version.commit_ts >= start_ts
    {
        let rolled_back = version.kind == WriteKind::Rollback && version.start_ts == start_ts;
        let reason = if rolled_back {
            Reason::SelfRolledBack
        } else {
            Reason::Optimistic
        };
        let conflict = WriteConflict {
            start_ts,
            conflict_ts: version.start_ts,
            key: mutation.key.clone(),
            primary: request.primary_lock.clone(),
            conflict_commit_ts: version.commit_ts,
            reason: reason.into(),
        };
        return Ok(Some(KeyError {
            conflict: Some(conflict),
            ..Default::default()
        }));
    }
    if matches!(mutation.op(), Op::Insert | Op::CheckNotExists) && exists(snapshot, &mutation.key)?
    {
        let already_exist = Some(AlreadyExist {
            key: mutation.key.clone(),
        });
        return Ok(Some(KeyError {
            already_exist,
            ..Default::default()
        }));
    }
    Ok(None)
}

fn exists(snapshot: &Snapshot<'_>, key: &[u8]) -> Result<bool> {
    let mut exists = false;
    snapshot.versions(key, Timestamp::MAX, |version| match version.kind {
        WriteKind::Put | WriteKind::Delete => {
            exists = version.kind == WriteKind::Put;
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    })?;
    Ok(exists)
}

fn lock_key(changes: &mut Vec<Change>, request: &PrewriteRequest, mutation: &Mutation) {
    let op = match mutation.op() {
        Op::Put | Op::Insert => Op::Put,
        Op::CheckNotExists => return,
        other => other,
    };
    let mut short_value = None;
    if op == Op::Put {
        if mutation.value.len() <= SHORT_VALUE_MAX {
            short_value = Some(mutation.value.to_vec());
        } else {
            let key = keys::version_key(&mutation.key, request.start_version);
            changes.push(Change::put(Cf::Default, key, mutation.value.to_vec()));
        }
    }
    let lock = Lock {
        op: op.into(),
        primary: request.primary_lock.to_vec(),
        start_ts: request.start_version,
        ttl_ms: request.lock_ttl,
        txn_size: request.txn_size,
        short_value,
    };
    changes.push(Change::put(
        Cf::Lock,
        keys::data_key(&mutation.key),
        prost::Message::encode_to_vec(&lock),
    ));
}

fn commit_lock(changes: &mut Vec<Change>, key: &[u8], lock: Lock, commit_ts: Timestamp) {
    let kind = match lock.op() {
        Op::Del => WriteKind::Delete,
        Op::Put => WriteKind::Put,
        _ => WriteKind::Lock,
    };
    let record = WriteRecord {
        kind,
        start_ts: lock.start_ts,
        short_value: lock.short_value.as_deref(),
    };
    changes.push(Change::put(
        Cf::Write,
        keys::version_key(key, commit_ts),
        record.encode(),
    ));
    changes.push(Change::delete(Cf::Lock, keys::data_key(key)));
}

fn roll_back_key(changes: &mut Vec<Change>, key: &[u8], lock: Option<&Lock>, start_ts: Timestamp) {
    if let Some(lock) = lock {
        changes.push(Change::delete(Cf::Lock, keys::data_key(key)));
        if lock.op() == Op::Put && lock.short_value.is_none() {
            changes.push(Change::delete(
                Cf::Default,
                keys::version_key(key, start_ts),
            ));
        }
    }
    let record = WriteRecord {
        kind: WriteKind::Rollback,
        start_ts,
        short_value: None,
    };
    changes.push(Change::put(
        Cf::Write,
        keys::version_key(key, start_ts),
        record.encode(),
    ));
}

/// Second phase: turns the locks into versions. Doing it again is no error.
pub(crate) fn commit(
    engine: &Engine,
    request: &CommitRequest,
) -> Result<(Vec<Change>, Option<KeyError>)> {
    let snapshot = Snapshot::new(engine);
    let mut changes = Vec::new();
    for key in &request.keys {
        match snapshot
            .lock(key)?
            .filter(|lock| lock.start_ts == request.start_version)
        {
            Some(lock) => commit_lock(&mut changes, key, lock, request.commit_version),
            None => match outcome(&snapshot, key, request.start_version)? {
                Outcome::Committed(_) => {}
                Outcome::RolledBack | Outcome::Unknown => {
                    let error = KeyError {
                        retryable: "Error(Txn(Error(Mvcc(Error(TxnLockNotFound)))))".into(),
                        txn_lock_not_found: Some(TxnLockNotFound { key: key.clone() }),
                        ..Default::default()
                    };
                    return Ok((Vec::new(), Some(error)));
                }
            },
        }
    }
    Ok((changes, None))
}

/// Undoes the first phase and keeps it from happening later.
pub(crate) fn rollback<K: AsRef<[u8]>>(
    engine: &Engine,
    start_ts: Timestamp,
    keys: &[K],
) -> Result<(Vec<Change>, Option<KeyError>)> {
    let snapshot = Snapshot::new(engine);
    let mut changes = Vec::new();
    for key in keys.iter().map(AsRef::as_ref) {
        let lock = snapshot.lock(key)?.filter(|lock| lock.start_ts == start_ts);
        match outcome(&snapshot, key, start_ts)? {
            Outcome::Committed(_) => {
                let error = KeyError {
                    abort: "Error(Txn(Error(Mvcc(Error(Committed)))))".into(),
                    ..Default::default()
                };
                return Ok((Vec::new(), Some(error)));
            }
            Outcome::RolledBack => {}
            Outcome::Unknown => roll_back_key(&mut changes, key, lock.as_ref(), start_ts),
        }
    }
    Ok((changes, None))
}

/// What became of the transaction with this primary key; rolls it back when its time is over.
pub(crate) fn check_status(
    engine: &Engine,
    request: &CheckTxnStatusRequest,
) -> Result<(Vec<Change>, CheckTxnStatusResponse)> {
    let snapshot = Snapshot::new(engine);
    let key = &request.primary_key[..];
    let (mut changes, mut response) = (Vec::new(), CheckTxnStatusResponse::default());
    if let Some(lock) = snapshot
        .lock(key)?
        .filter(|lock| lock.start_ts == request.lock_ts)
    {
        let ends_ms = (lock.start_ts >> LOGICAL_BITS).saturating_add(lock.ttl_ms);
        if ends_ms < request.current_ts >> LOGICAL_BITS {
            roll_back_key(&mut changes, key, Some(&lock), request.lock_ts);
            response.set_action(Action::TtlExpireRollback);
        } else {
            response.lock_ttl = lock.ttl_ms;
            response.lock_info = Some(lock.info(key));
        }
        return Ok((changes, response));
    }
    match outcome(&snapshot, key, request.lock_ts)? {
        Outcome::Committed(commit_ts) => response.commit_version = commit_ts,
        Outcome::RolledBack => {}
        Outcome::Unknown if request.rollback_if_not_exist => {
            roll_back_key(&mut changes, key, None, request.lock_ts);
            response.set_action(Action::LockNotExistRollback);
        }
        Outcome::Unknown => {
            let txn_not_found = TxnNotFound {
                start_ts: request.lock_ts,
                primary_key: request.primary_key.clone(),
            };
            response.error = Some(KeyError {
                txn_not_found: Some(txn_not_found),
                ..Default::default()
            });
        }
    }
    Ok((changes, response))
}

/// Commits (`commit_ts` not 0) or rolls back the locks of a transaction: those on `keys`, or all of
/// `range` when there are none.
pub(crate) fn resolve<K: AsRef<[u8]>>(
    engine: &Engine,
    start_ts: Timestamp,
    commit_ts: Timestamp,
    keys: &[K],
    range: &KeyRange,
) -> Result<Vec<Change>> {
    let snapshot = Snapshot::new(engine);
    let mut locks = Vec::new();
    if keys.is_empty() {
        locks = snapshot.locks(range)?;
    }
    for key in keys.iter().map(AsRef::as_ref) {
        locks.extend(snapshot.lock(key)?.map(|lock| (key.to_vec(), lock)));
    }
    let mut changes = Vec::new();
    for (key, lock) in locks
        .into_iter()
        .filter(|(_, lock)| lock.start_ts == start_ts)
    {
        if commit_ts > 0 {
            commit_lock(&mut changes, &key, lock, commit_ts);
        } else {
            roll_back_key(&mut changes, &key, Some(&lock), start_ts);
        }
    }
    Ok(changes)
}

/// A key and its new value; no value deletes it.
pub(crate) type KeyChange<'a> = (&'a [u8], Option<&'a [u8]>);

/// A whole transaction at once, for callers that keep others out by themselves: the versions it makes,
/// or `None` when a key has a lock or a version newer than `start_ts`.
pub(crate) fn write_once(
    engine: &Engine,
    mutations: &[KeyChange<'_>],
    start_ts: Timestamp,
    commit_ts: Timestamp,
) -> Result<Option<Vec<Change>>> {
    let snapshot = Snapshot::new(engine);
    let mut changes = Vec::new();
    for (key, value) in mutations {
        let newer = newest(&snapshot, key)?.is_some_and(|version| version.commit_ts > start_ts);
        if newer || snapshot.lock(key)?.is_some() {
            return Ok(None);
        }
        let short_value = value.filter(|v| v.len() <= SHORT_VALUE_MAX);
        if let (Some(value), None) = (value, short_value) {
            changes.push(Change::put(
                Cf::Default,
                keys::version_key(key, start_ts),
                value.to_vec(),
            ));
        }
        let kind = if value.is_some() {
            WriteKind::Put
        } else {
            WriteKind::Delete
        };
        let record = WriteRecord {
            kind,
            start_ts,
            short_value,
        };
        changes.push(Change::put(
            Cf::Write,
            keys::version_key(key, commit_ts),
            record.encode(),
        ));
    }
    Ok(Some(changes))
}
