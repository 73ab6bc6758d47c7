//! Which way pairs take into the cluster. `Write` works everywhere: every store builds its own files.
//! `Upload` sends files that we built once; a bad one would stop every replica of its region, so it is
//! only taken where it was tried, and only after it was tried on the cluster at hand:
//!
//! 1. every store has a version of [`TRIED`], and there is no columnar one;
//! 2. the first pairs of the first range go through `Write`, and TiKV's checksum of them is ours, or the job ends;
//! 3. the next pairs go through `Upload` with a meta of another API version, for which the leader opens and
//!    reads each file before it proposes anything, and their checksum is ours, too.
//!
//! Everything else waits for that: it is half a megabyte. Each agent of a fleet tries for itself, because it
//! is its own files that have to be good.

use std::sync::Arc;

use parking_lot::Mutex;
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, Result, Timestamp, next_key};

use crate::importer::{Importer, place};
use crate::ingest::IngestStats;
use crate::pairs::{MemoryPairs, PairBatch, PairSource};
use crate::store::is_tiflash;

/// Versions on which files that a client built were ingested, and how that was tried.
const TRIED: [(&str, &str); 1] = [(
    "9.0.",
    "on 9.0.0-beta.2, three stores, up to 2 million rows: ADMIN CHECK TABLE and checksums, also after restarts and a \
     full compaction; with files of RocksDB's own writer",
)];

/// How pairs become files of the stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IngestPath {
    /// Every store builds its own files from pairs.
    #[default]
    Write,
    /// Files are built once, here.
    Upload,
    /// `Upload` where it was tried and proves itself, else `Write`.
    Auto,
}

impl IngestPath {
    const NAMES: [(Self, &'static str); 3] = [
        (Self::Write, "write"),
        (Self::Upload, "upload"),
        (Self::Auto, "auto"),
    ];

    /// As it is written in messages.
    pub fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(path, _)| *path == self);
        found.map_or("write", |(_, name)| name)
    }

    /// The path of that name; `Write`, which works everywhere, for any other.
    pub fn of_name(name: &str) -> Self {
        let found = Self::NAMES.iter().find(|(_, known)| *known == name);
        found.map_or(Self::Write, |(path, _)| *path)
    }
}

/// How one range goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Write,
    /// As `Write`, the keys of the pairs are deleted.
    Delete,
    /// `checked`: the leader must read the files before it proposes anything.
    Upload {
        checked: bool,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Asked(How),
    Untried,
    /// How it was tried elsewhere.
    Proven(&'static str),
    Refused(String),
}

#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    /// Held by whoever tries.
    trial: tokio::sync::Mutex<()>,
    /// Why parts went through `Write` although the path is `Upload`.
    in_part: Mutex<Option<String>>,
}

impl Gate {
    pub fn new(wanted: IngestPath) -> Self {
        let state = match wanted {
            IngestPath::Write => State::Asked(How::Write),
            IngestPath::Upload => State::Asked(How::Upload { checked: false }),
            IngestPath::Auto => State::Untried,
        };
        Self {
            state: Mutex::new(state),
            trial: tokio::sync::Mutex::default(),
            in_part: Mutex::default(),
        }
    }

    /// How the next range goes.
    fn next(&self) -> How {
        match &*self.state.lock() {
            State::Asked(how) => *how,
            State::Proven(_) => How::Upload { checked: false },
            State::Untried | State::Refused(_) => How::Write,
        }
    }

    fn is_untried(&self) -> bool {
        *self.state.lock() == State::Untried
    }

    /// Nothing more goes through `Upload`, unless it was asked for.
    pub fn refuse(&self, why: String) {
        let mut state = self.state.lock();
        match &*state {
            State::Refused(_) => {}
            State::Asked(_) => self.note(why),
            State::Untried | State::Proven(_) => {
                tracing::warn!(why, "all that follows goes through Write");
                *state = State::Refused(why);
            }
        }
    }

    /// Some pairs went through `Write`; the next ones may go through `Upload` again.
    pub fn note(&self, why: String) {
        self.in_part.lock().get_or_insert(why);
    }

    fn prove(&self, how_tried: &'static str) {
        let mut state = self.state.lock();
        if *state == State::Untried {
            *state = State::Proven(how_tried);
        }
    }

    fn words(&self) -> String {
        let in_part = match &*self.in_part.lock() {
            None => String::new(),
            Some(why) => format!(", and in part by write: {why}"),
        };
        match &*self.state.lock() {
            State::Asked(How::Write | How::Delete) => "write: as asked for".to_owned(),
            State::Asked(How::Upload { .. }) => format!("upload: as asked for{in_part}"),
            State::Proven(tried) => format!(
                "upload: the first pairs of each path verified here; tried {tried}{in_part}"
            ),
            State::Refused(why) => format!("write: {why}"),
            State::Untried => "write: too few pairs to try Upload first".to_owned(),
        }
    }
}

impl Importer {
    /// Which path the pairs take and why, for people.
    pub fn ingest_path(&self) -> String {
        self.gate.words()
    }

    /// How the pairs of `range` go; what had to be ingested to find out is in `stats`, and what is left of
    /// the range comes back.
    pub(crate) async fn decide(
        &self,
        range: &KeyRange,
        commit_ts: Timestamp,
        source: &Arc<dyn PairSource>,
        stats: &mut IngestStats,
    ) -> Result<(How, KeyRange)> {
        let mut rest = range.clone();
        if self.gate.is_untried() {
            let _turn = self.gate.trial.lock().await;
            if self.gate.is_untried() {
                rest = self.try_upload(range, commit_ts, source, stats).await?;
            }
        }
        Ok((self.gate.next(), rest))
    }

    async fn try_upload(
        &self,
        range: &KeyRange,
        commit_ts: Timestamp,
        source: &Arc<dyn PairSource>,
        stats: &mut IngestStats,
    ) -> Result<KeyRange> {
        let how_tried = match self.tried().await? {
            Ok(how_tried) => how_tried,
            Err(why) => {
                self.gate.refuse(why);
                return Ok(range.clone());
            }
        };
        let Some([first, second]) = sample(source, range).await? else {
            return Ok(range.clone());
        };
        let head = KeyRange::new(range.start.clone(), second.start.clone());
        let next = KeyRange::new(second.start, second.end.clone());
        let rest = KeyRange::new(second.end, range.end.clone());

        let written = self
            .ingest_pieces(&head, commit_ts, first.pairs, How::Write)
            .await?;
        self.holds(&head, written.checksum).await?;
        stats.merge(&written);
        let pairs = Arc::clone(&second.pairs);
        match self.upload_canary(&next, commit_ts, pairs).await {
            Ok(uploaded) => {
                stats.merge(&uploaded);
                self.gate.prove(how_tried);
                return Ok(rest);
            }
            Err(error) if error.kind == ErrorKind::Cancelled => return Err(error),
            Err(error) => {
                // Its files may lie with stores.
                stats.strays += 1;
                self.gate
                    .refuse(format!("the pairs that tried Upload: {}", error.cause));
            }
        }
        let written = self
            .ingest_pieces(&next, commit_ts, second.pairs, How::Write)
            .await?;
        self.holds(&next, written.checksum).await?;
        stats.merge(&written);
        Ok(rest)
    }

    /// An error unless `range` holds what was just brought there by `Write`. Nothing is wrong with a path then that
    /// another one could make good: others write to the table, or the cluster does not keep what it takes. The range
    /// as a whole would not verify in the end, so it is better to stop half a megabyte into the job.
    async fn holds(&self, range: &KeyRange, written: Checksum) -> Result<()> {
        let found = self.checksum(range).await?;
        if found == written {
            return Ok(());
        }
        let region = self.regions.locate(&range.start).await?;
        let store = region.leader.map_or(0, |leader| leader.store_id);
        let cause = match found.kvs == written.kvs {
            true => format!(
                "the first {} pairs were written and are not what the cluster holds",
                written.kvs
            ),
            false => format!(
                "the cluster holds {} pairs where the first {} were written",
                found.kvs, written.kvs
            ),
        };
        Err(
            Error::new(ErrorKind::Checksum, place(store, &region), cause).advice(
                "was the table written to during the import? TRUNCATE it and import it again",
            ),
        )
    }

    async fn upload_canary(
        &self,
        range: &KeyRange,
        commit_ts: Timestamp,
        pairs: Arc<dyn PairSource>,
    ) -> Result<IngestStats> {
        let how = How::Upload { checked: true };
        let stats = self.ingest_pieces(range, commit_ts, pairs, how).await?;
        if self.checksum(range).await? == stats.checksum {
            return Ok(stats);
        }
        let cause = "the checksum is not that of what was sent";
        Err(Error::new(ErrorKind::Checksum, "upload", cause))
    }

    /// How Upload was tried on stores like these, or why it was not.
    async fn tried(&self) -> Result<Result<&'static str, String>> {
        let mut how_tried = Err("there is no store".to_owned());
        for store in self.pd.stores().await? {
            if is_tiflash(&store) {
                return Ok(Err(format!("store {} is columnar", store.id)));
            }
            let version = store.version.trim_start_matches('v');
            let Some((_, how)) = TRIED.iter().find(|(tried, _)| version.starts_with(tried)) else {
                return Ok(Err(format!(
                    "Upload was not tried on version {version} (store {})",
                    store.id
                )));
            };
            how_tried = Ok(*how);
        }
        Ok(how_tried)
    }
}

/// Some pairs of a range, and the keys that they lie between.
struct Sample {
    start: Vec<u8>,
    end: Vec<u8>,
    pairs: Arc<dyn PairSource>,
}

/// The first batch of the range in two halves; `None` when there are not that many pairs.
async fn sample(source: &Arc<dyn PairSource>, range: &KeyRange) -> Result<Option<[Sample; 2]>> {
    let (source, range) = (Arc::clone(source), range.clone());
    let read = move || -> Result<Option<[Sample; 2]>> {
        let mut batch = PairBatch::default();
        source.open(&range)?.next_batch(&mut batch)?;
        let half = batch.len() / 2;
        let part = |from: usize, count: usize| {
            let pairs = batch.iter().skip(from).take(count);
            let pairs: Vec<_> = pairs.map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            let (start, end) = (pairs.first()?.0.clone(), next_key(&pairs.last()?.0));
            Some(Sample {
                start,
                end,
                pairs: Arc::new(MemoryPairs::new(pairs)),
            })
        };
        Ok(part(0, half)
            .zip(part(half, usize::MAX))
            .map(<[_; 2]>::from))
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| Error::new(ErrorKind::Internal, "sorted pairs", error))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upload_begins_when_it_is_proven_and_ends_when_it_is_refused() {
        let gate = Gate::new(IngestPath::Auto);
        assert_eq!(gate.next(), How::Write);
        gate.prove("elsewhere");
        assert_eq!(gate.next(), How::Upload { checked: false });
        assert!(gate.words().ends_with("tried elsewhere"));
        gate.refuse("a file was not proved".to_owned());
        gate.prove("elsewhere");
        assert_eq!(gate.next(), How::Write);
        assert_eq!(gate.words(), "write: a file was not proved");
    }

    #[test]
    fn what_was_asked_for_stays_and_what_went_otherwise_is_told() {
        let gate = Gate::new(IngestPath::Upload);
        gate.refuse("no".to_owned());
        assert_eq!(gate.next(), How::Upload { checked: false });
        assert!(gate.words().ends_with("in part by write: no"));
        let gate = Gate::new(IngestPath::Auto);
        gate.prove("elsewhere");
        gate.note("no room".to_owned());
        assert_eq!(gate.next(), How::Upload { checked: false });
        assert!(gate.words().ends_with("in part by write: no room"));
    }

    #[test]
    fn a_path_has_a_name_and_an_unknown_name_is_the_path_that_works_everywhere() {
        for path in [IngestPath::Write, IngestPath::Upload, IngestPath::Auto] {
            assert_eq!(IngestPath::of_name(path.name()), path);
        }
        assert_eq!(IngestPath::of_name(""), IngestPath::Write);
    }
}
