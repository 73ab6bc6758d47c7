//! Ingest: from files in import directories to data of a region. The order of checks is TiKV's:
//! suspension, admission, latch, API version, region, existence; then, as the region's log is applied,
//! the metas themselves. What fails there costs the files.

use crate::check;
use crate::cluster::Cluster;
use crate::engine::{Cf, SstFile};
use crate::error::Result;
use crate::keys;
use crate::regions::{self, RegionState};
use crate::replicate::Entry;
use crate::sst::{self, Verdict};
use crate::store::Store;
use thunderhead_proto::errorpb::Error;
use thunderhead_proto::import_sstpb::SstMeta;
use thunderhead_proto::kvrpcpb::{ApiVersion, Context};
use thunderhead_proto::metapb::Region;
use tonic::Status;

/// Level-0 files (there, or coming from ingests in flight) above which a store in normal mode refuses.
const LEVEL0_MAX: u64 = 10;

/// Ids of uploaded files that the lint remembers.
const UPLOADED_IDS_MAX: usize = 1 << 20;

type Checked = Result<(), Box<Error>>;

impl Cluster {
    /// Ingests files that lie on every peer. A status is a failure outside the region protocol.
    pub(crate) fn ingest(
        &self,
        store: &Store,
        context: &Context,
        metas: &[SstMeta],
    ) -> Result<Checked, Status> {
        if let Some(left) = store.suspended_for() {
            let text = format!("imports are suspended for {:.3}s", left.as_secs_f64());
            return Ok(Err(Box::new(check::server_is_busy(
                &text,
                left.as_millis() as u64,
            ))));
        }
        if !store.import_mode()
            && store.engine.level0_files() + store.import.latched_write_files() > LEVEL0_MAX
        {
            return Ok(Err(Box::new(check::server_is_busy(
                "too many sst files are ingesting",
                0,
            ))));
        }
        let Some(_latch) = store.import.latch(metas) else {
            return Ok(Err(message("ingest file conflict".into())));
        };
        for meta in metas
            .iter()
            .filter(|meta| meta.api_version() != ApiVersion::V1)
        {
            self.check_foreign_version(store, meta)?;
        }
        let region = match self.check(store, context) {
            Ok(region) => region,
            Err(error) => return Ok(Err(error)),
        };
        if metas.is_empty() {
            let text = format!(
                "[region {}] ingest failed: Error(Kv(Error(EmptyRequest)))",
                region.id()
            );
            return Ok(Err(message(text)));
        }
        if metas.iter().any(|meta| !store.import.path(meta).exists()) {
            return Ok(Err(check::file_not_exist()));
        }
        self.lint(store, &region.region, metas)?;
        self.propose_ingest(store, context, metas)
    }

    fn propose_ingest(
        &self,
        store: &Store,
        context: &Context,
        metas: &[SstMeta],
    ) -> Result<Checked, Status> {
        let log = self.log(context.region_id);
        let mut log = log.lock();
        let region = match self.check(store, context) {
            Ok(region) => region,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(error) = metas.iter().find_map(|meta| mismatch(meta, &region)) {
            for peer in &region.region.peers {
                if let Some(store) = self.store(peer.store_id) {
                    metas.iter().for_each(|meta| store.import.delete(meta));
                }
            }
            return Ok(Err(error));
        }
        let entry = Entry {
            changes: Vec::new(),
            ssts: metas.to_vec(),
        };
        match self.propose(&mut log, &region, store, entry)? {
            Ok(()) => Ok(Ok(())),
            Err(_) => {
                drop(log);
                self.elect()?;
                Err(Status::unavailable("Stream removed (Socket closed)"))
            }
        }
    }

    /// A meta of another API version makes TiKV open the file before anything is proposed.
    fn check_foreign_version(&self, store: &Store, meta: &SstMeta) -> Result<(), Status> {
        let cf = Cf::of_sst(&meta.cf_name).ok_or_else(|| Status::unknown("InvalidSstPath"))?;
        let path = store.import.path(meta);
        let unreadable = |text: String| {
            Status::unknown(format!(
                "EngineTraits(Engine(Status {{ state: \"{text}\" }}))"
            ))
        };
        sst::check_footer(&path).map_err(unreadable)?;
        let files = [SstFile { cf, path }];
        match sst::lint(
            &files,
            &store.scratch(),
            &keys::data_start(b"m"),
            &keys::data_end(b"u"),
        )? {
            Verdict::Unreadable(text) => Err(unreadable(text)),
            Verdict::Wrong(text) if text.contains("outside") => {
                Err(Status::unknown("IncompatibleApiVersion"))
            }
            _ => Ok(()),
        }
    }

    /// Looks into files that a client built. Unreadable ones go on: they are for the apply to meet.
    fn lint(&self, store: &Store, region: &Region, metas: &[SstMeta]) -> Result<(), Status> {
        if !self.config.lint || !metas.iter().all(|meta| store.import.is_uploaded(meta)) {
            return Ok(());
        }
        if metas
            .iter()
            .any(|meta| sst::check_footer(&store.import.path(meta)).is_err())
        {
            return Ok(());
        }
        let file = |meta: &SstMeta| {
            Some(SstFile {
                cf: Cf::of_sst(&meta.cf_name)?,
                path: store.import.path(meta),
            })
        };
        let files: Vec<_> = metas.iter().filter_map(file).collect();
        let wrong = |text: String| Status::unknown(format!("sandbox lint: {text}"));
        for (file, meta) in files.iter().zip(metas) {
            let id = sst::lint_properties(file).map_err(wrong)?;
            let mut ids = self.uploaded_ids.lock();
            if ids.len() >= UPLOADED_IDS_MAX {
                ids.clear();
            }
            if *ids.entry(id).or_insert(meta.crc32) != meta.crc32 {
                return Err(wrong("two different files have one id".into()));
            }
        }
        let (start, end) = (
            keys::data_start(&region.start_key),
            keys::data_end(&region.end_key),
        );
        match sst::lint(&files, &store.scratch(), &start, &end)? {
            Verdict::Wrong(text) => Err(wrong(text)),
            _ => Ok(()),
        }
    }
}

fn message(text: String) -> Box<Error> {
    Box::new(Error {
        message: text,
        ..Default::default()
    })
}

/// Why a meta does not fit the region it is applied to.
fn mismatch(meta: &SstMeta, state: &RegionState) -> Option<Box<Error>> {
    let region = &state.region;
    if meta.uuid.len() != 16 || Cf::of_sst(&meta.cf_name).is_none() {
        return Some(message(format!(
            "invalid uuid or cf of an SST for region {}",
            region.id
        )));
    }
    if meta.region_id != region.id {
        return Some(check::region_not_found(meta.region_id));
    }
    let sent = meta.region_epoch.unwrap_or_default();
    if sent != state.epoch() {
        return Some(check::epoch_not_match_at_apply(region, sent));
    }
    let range = meta.range.clone().unwrap_or_default();
    let outside = [range.start, range.end]
        .into_iter()
        .find(|key| !regions::contains(region, key));
    outside.map(|key| check::key_not_in_region(&key, region))
}
