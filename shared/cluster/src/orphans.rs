//! Getting rid of files that no ingest will take in. TiKV has no call that deletes them, and its sweep
//! leaves them alone while their region keeps its epoch. But an ingest whose range is not the region's is
//! refused where it is applied, on every peer, and each peer then deletes the file that it names. So that
//! is what is sent: an ingest that cannot be taken.
//!
//! 1. The region has another epoch, or is gone: TiKV's sweep takes the file. Done.
//! 2. The leader refuses to propose what it has no file for. If an ingest of ours named the uuid before,
//!    the file was taken in; followers take theirs when they apply that entry. Done. If none did, nobody
//!    waits for the file: one byte is uploaded to the leader in its place, and 3 follows.
//! 3. The ingest names a range outside of the region. Every peer that has a file deletes it.

use std::time::Duration;

use futures::StreamExt;
use thunderhead_proto::import_sstpb::import_sst_client::ImportSstClient;
use thunderhead_proto::import_sstpb::{self, UploadRequest, upload_request};
use thunderhead_types::{Error, ErrorKind, Result};

use crate::importer::{Importer, KEY_NOT_IN_REGION};
use crate::ledger::{Entry, Uuid};
use crate::pd::status_text;
use crate::reaction::Reaction;
use crate::region::{Region, encode_border};
use crate::retry::{Pace, Patience, RetryPolicy};

/// A file that resists this long is left to TiKV's sweep.
const PATIENCE: Duration = Duration::from_secs(20);
/// For everything; the ledger keeps what is left for the next run.
const ALL: Duration = Duration::from_secs(120);
/// Files seen to at a time.
const AT_ONCE: usize = 16;
const FAMILIES: [&str; 2] = ["write", "default"];
/// What stands in for a file that the leader lacks.
const STAND_IN: &[u8] = b"x";
const STAND_IN_CRC32: u32 = 0x8cdc_1683;

impl Importer {
    /// Has every store delete the files of this and earlier processes that were not ingested. Also works
    /// after a cancel; must not run beside ingests of the same importer. Returns how many uuids are left.
    pub async fn discard_orphans(&self) -> usize {
        let entries = futures::stream::iter(self.options.ledger.entries());
        let all = entries.for_each_concurrent(AT_ONCE, |(uuid, entry)| async move {
            match self.discard(uuid, entry).await {
                Ok(()) => self.options.ledger.end(uuid),
                Err(error) => tracing::warn!(%error, "files stay until their region changes"),
            }
        });
        if tokio::time::timeout(ALL, all).await.is_err() {
            tracing::warn!("not all files of broken-off attempts could be removed");
        }
        self.options.ledger.entries().len()
    }

    async fn discard(&self, uuid: Uuid, entry: Entry) -> Result<()> {
        for cf in FAMILIES {
            let mut patience = Patience::new(RetryPolicy {
                max_elapsed: PATIENCE.min(self.options.retry.max_elapsed),
            });
            loop {
                let Some(region) = self.pd.region_by_id(entry.region).await? else {
                    return Ok(());
                };
                let old = region.epoch.version > entry.epoch.version
                    || region.epoch.conf_ver > entry.epoch.conf_ver;
                if old {
                    return Ok(());
                }
                let Some(range) = outside(&region) else {
                    let cause = "a region that holds every key has no range outside of it";
                    return Err(Error::new(ErrorKind::Cluster, "region", cause));
                };
                let meta = import_sstpb::SstMeta {
                    uuid: uuid.to_vec().into(),
                    range: Some(range),
                    crc32: STAND_IN_CRC32,
                    length: STAND_IN.len() as u64,
                    cf_name: cf.to_owned(),
                    region_id: entry.region,
                    region_epoch: Some(entry.epoch),
                    ..Default::default()
                };
                match self.send_ingest(&region, &[meta.clone()], true).await? {
                    Ok(()) => break,
                    // Refused where it was applied; another epoch is seen in the next turn.
                    Err(refusal) if refusal.cause == KEY_NOT_IN_REGION => break,
                    Err(refusal) if refusal.reaction == Reaction::Verify => {
                        if entry.named {
                            break;
                        }
                        if let Err(cause) = self.stand_in(&region, meta).await? {
                            wait(&mut patience, &region, &cause).await?;
                        }
                    }
                    Err(refusal) => wait(&mut patience, &region, &refusal.cause).await?,
                }
            }
        }
        Ok(())
    }

    async fn stand_in(
        &self,
        region: &Region,
        meta: import_sstpb::SstMeta,
    ) -> Result<Result<(), String>> {
        let Some(leader) = region.leader else {
            return Ok(Err("no leader".to_owned()));
        };
        let Some(channel) = self.stores.channel(leader.store_id).await? else {
            return Ok(Err("the leader's store is gone".to_owned()));
        };
        let messages = [
            upload_request::Chunk::Meta(meta),
            upload_request::Chunk::Data(STAND_IN.into()),
        ];
        let messages = messages.map(|chunk| UploadRequest { chunk: Some(chunk) });
        let mut client = ImportSstClient::new(channel);
        match client.upload(futures::stream::iter(messages)).await {
            Ok(_) => Ok(Ok(())),
            Err(status) if status.message().contains("FileExists") => Ok(Ok(())),
            Err(status) => Ok(Err(status_text(&status))),
        }
    }
}

async fn wait(patience: &mut Patience, region: &Region, cause: &str) -> Result<()> {
    let waited = patience.wait(Pace::Short, cause).await;
    crate::importer::give_up_with(waited, crate::importer::place(0, region))
}

/// A range whose end does not lie in the region, so that every peer refuses it.
fn outside(region: &Region) -> Option<import_sstpb::Range> {
    let start = encode_border(&region.range.start);
    let end = encode_border(&region.range.end);
    // The empty key lies before every region but the first; a region's end is not its own.
    let end = match (start.is_empty(), end.is_empty()) {
        (false, _) => Vec::new(),
        (true, false) => end,
        (true, true) => return None,
    };
    Some(import_sstpb::Range {
        start: start.into(),
        end: end.into(),
    })
}
