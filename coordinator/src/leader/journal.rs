//! What a job has to record, and what begins only then. Changes that come together share one transaction: of a hundred
//! small tables whose tasks end at about the same time, each costs a part of one and not several of its own.
//!
//! The leader changes its own state when it notes a change. Nobody acts on that before [`Leader::record`]: steps begin
//! there, and the fleet sends orders and acknowledgements after it. A transaction that fails ends the leader; the next
//! one enters at what was recorded.

use super::Leader;
use crate::store::{Commit, TXN_BYTES, TXN_OPS_MAX, Txn};
use std::pin::Pin;
use thunderhead_types::{Error, ErrorKind, Result, fail_point};

/// Something that takes longer than the leader may.
pub(super) type Step = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// See the module.
#[derive(Default)]
pub(super) struct Journal {
    txn: Txn,
    bytes: usize,
    /// Fail points that are reached when it is recorded.
    reached: Vec<&'static str>,
    /// Tasks that are done then, with what they are called.
    done: Vec<(&'static str, u64)>,
    /// Steps that begin then, by table.
    steps: Vec<(usize, Step)>,
}

impl Journal {
    /// Whether it and `txn` are the same in one transaction as one after the other.
    fn takes(&self, txn: &Txn) -> bool {
        let mine = &self.txn;
        let puts = mine.puts.len() + txn.puts.len();
        let compares = mine.compares.len() + txn.compares.len();
        mine.deletes.is_empty()
            && txn.deletes.is_empty()
            && puts.max(compares) <= TXN_OPS_MAX
            && self.bytes + txn.bytes() <= TXN_BYTES
            && !txn
                .puts
                .iter()
                .any(|(key, _)| mine.puts.iter().any(|(known, _)| known == key))
    }

    fn add(&mut self, txn: Txn) {
        self.bytes += txn.bytes();
        self.txn.compares.extend(txn.compares);
        self.txn.puts.extend(txn.puts);
        self.txn.deletes.extend(txn.deletes);
    }

    pub(super) fn fail_point(&mut self, point: &'static str) {
        self.reached.push(point);
    }

    pub(super) fn done(&mut self, what: &'static str, task_id: u64) {
        self.done.push((what, task_id));
    }

    /// Begins with what was noted before it.
    pub(super) fn begin(
        &mut self,
        table: usize,
        step: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        self.steps.push((table, Box::pin(step)));
    }

    fn is_empty(&self) -> bool {
        self.txn.is_empty()
            && self.reached.is_empty()
            && self.done.is_empty()
            && self.steps.is_empty()
    }
}

impl Leader {
    /// Notes changes that happen together or not at all, in the order in which they are noted.
    pub(super) async fn note(&mut self, txn: Txn) -> Result<()> {
        if !self.journal.takes(&txn) {
            self.record().await?;
        }
        self.journal.add(txn);
        Ok(())
    }

    /// Records what was noted, and lets begin what waited for it. False when there was nothing.
    ///
    /// # Errors
    /// When the store refused or is gone: the leader is [`fenced`](Leader::fenced).
    pub(crate) async fn record(&mut self) -> Result<bool> {
        if self.journal.is_empty() {
            return Ok(false);
        }
        let journal = std::mem::take(&mut self.journal);
        if !journal.txn.is_empty() {
            self.commit(journal.txn).await?;
        }
        journal.reached.into_iter().for_each(fail_point);
        for (task, task_id) in journal.done {
            tracing::info!(task, task_id, "task recorded");
        }
        for (table, step) in journal.steps {
            self.stepping.spawn(async move { (table, step.await) });
        }
        Ok(true)
    }

    async fn commit(&mut self, txn: Txn) -> Result<()> {
        let committed = self.store.commit(self.epoch, txn).await;
        self.fenced |= !matches!(committed, Ok(Commit::Done(_)));
        match committed? {
            Commit::Done(_) => Ok(()),
            Commit::Fenced => Err(Error::new(
                ErrorKind::Cancelled,
                "leader",
                "another leader has taken over",
            )
            .advice("nothing to do: it continues this job")),
            Commit::Conflict => Err(Error::new(
                ErrorKind::Internal,
                "leader",
                "a record was changed by someone else",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_share_a_transaction_unless_their_order_or_their_number_forbids_it() {
        let put = |key: &str| Txn::default().when(key, 0).put(key, "v");
        let mut journal = Journal::default();
        assert!(journal.is_empty());
        journal.add(put("a"));
        assert!(journal.takes(&put("b")) && !journal.takes(&put("a")));
        assert!(!journal.takes(&Txn::default().delete("b")));
        let many = |n: usize| (0..n).fold(Txn::default(), |txn, k| txn.put(format!("k{k}"), "v"));
        assert!(journal.takes(&many(TXN_OPS_MAX - 1)) && !journal.takes(&many(TXN_OPS_MAX)));
        assert!(!journal.takes(&Txn::default().put("big", vec![0; TXN_BYTES])));
        let mut deletes = Journal::default();
        deletes.add(Txn::default().delete("x/"));
        assert!(!deletes.takes(&put("x/1")) && !deletes.takes(&put("y")));
        let mut waiting = Journal::default();
        waiting.done("chunk", 1);
        assert!(!waiting.is_empty());
    }
}
