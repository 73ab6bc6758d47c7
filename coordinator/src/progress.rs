//! What is shown while a job runs: counts that the leader publishes and totals that agents send. Holds
//! numbers only; drawing them is the command line's business.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use thunderhead_proto::thunderhead::Progress as AgentTotals;
use tokio::sync::watch;

/// State of the job at one moment. Bytes are of the whole job; `agents` of the running processes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Tables of the job.
    pub tables: usize,
    /// Tables in phase `Finished`.
    pub tables_finished: usize,
    /// Chunks planned.
    pub chunks: usize,
    /// Chunks with a manifest.
    pub chunks_done: usize,
    /// Ranges planned so far.
    pub ranges: usize,
    /// Ranges ingested.
    pub ranges_done: usize,
    /// Rows in manifests.
    pub rows: u64,
    /// Bytes of all source files.
    pub source_bytes_total: u64,
    /// Source bytes of finished chunks.
    pub source_bytes_done: u64,
    /// Raw pair bytes of planned ranges.
    pub kv_bytes_planned: u64,
    /// Raw pair bytes of ingested ranges.
    pub kv_bytes_ingested: u64,
    /// Sums over the agents' own totals, ahead of the records above.
    pub agents: AgentTotals,
}

/// Publishes snapshots; cheap to clone.
#[derive(Clone)]
pub struct Progress {
    sender: Arc<watch::Sender<Snapshot>>,
    agents: Arc<Mutex<BTreeMap<String, AgentTotals>>>,
}

impl Progress {
    /// A publisher and its first watcher.
    pub fn new() -> (Self, watch::Receiver<Snapshot>) {
        let (sender, receiver) = watch::channel(Snapshot::default());
        (
            Self {
                sender: Arc::new(sender),
                agents: Arc::default(),
            },
            receiver,
        )
    }

    /// What was published last.
    pub fn latest(&self) -> Snapshot {
        *self.sender.borrow()
    }

    /// Takes the newest totals of one agent.
    pub fn agent_totals(&self, agent: &str, totals: AgentTotals) {
        self.agents.lock().insert(agent.to_owned(), totals);
    }

    /// Publishes `snapshot` with the agents' totals filled in.
    pub fn publish(&self, mut snapshot: Snapshot) {
        for totals in self.agents.lock().values() {
            snapshot.agents.source_bytes += totals.source_bytes;
            snapshot.agents.rows += totals.rows;
            snapshot.agents.kvs += totals.kvs;
            snapshot.agents.kv_bytes += totals.kv_bytes;
            snapshot.agents.ingested_bytes += totals.ingested_bytes;
        }
        self.sender.send_replace(snapshot);
    }
}
