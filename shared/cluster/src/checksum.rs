//! The cluster's own tally of a key range: TiKV's checksum coprocessor, region by region at one
//! timestamp, combined. Equal to what `ADMIN CHECKSUM TABLE` computes over the same keys.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use thunderhead_proto::tikvpb::tikv_client::TikvClient;
use thunderhead_proto::{coprocessor, kvrpcpb, tipb};
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, Result, Timestamp};

use crate::importer::{Importer, give_up_with, place};
use crate::region::Region;
use crate::retry::{Pace, Patience};

/// The coprocessor's request type for checksums.
const CHECKSUM: i64 = 105;
/// Servers end a request by themselves after a minute.
const DEADLINE: Duration = Duration::from_secs(120);

impl Importer {
    /// Tally of all pairs in `range` that are visible now.
    pub async fn checksum(&self, range: &KeyRange) -> Result<Checksum> {
        self.until_cancelled(async {
            let ts = self.pd.tso().await?;
            self.checksum_of(range, ts).await
        })
        .await
    }

    /// Tally of all pairs in `range` that are visible at `ts`.
    pub async fn checksum_at(&self, range: &KeyRange, ts: Timestamp) -> Result<Checksum> {
        self.until_cancelled(self.checksum_of(range, ts)).await
    }

    /// As [`Importer::checksum_at`], of each region by itself.
    pub async fn checksums_at(
        &self,
        range: &KeyRange,
        ts: Timestamp,
    ) -> Result<Vec<(KeyRange, Checksum)>> {
        self.until_cancelled(async {
            let regions = self.regions.scan(range).await?;
            let pieces = regions
                .into_iter()
                .filter_map(|region| region.range.intersect(range));
            stream::iter(pieces)
                .map(|piece| async move {
                    let sum = self.checksum_piece(piece.clone(), ts).await?;
                    Ok((piece, sum))
                })
                .buffered(self.options.checksums_in_flight.max(1))
                .try_collect()
                .await
        })
        .await
    }

    async fn checksum_of(&self, range: &KeyRange, ts: Timestamp) -> Result<Checksum> {
        if !range.end.is_empty() && range.start >= range.end {
            return Ok(Checksum::default());
        }
        let regions = self.regions.scan(range).await?;
        let pieces = regions
            .into_iter()
            .filter_map(|region| region.range.intersect(range));
        stream::iter(pieces)
            .map(|piece| self.checksum_piece(piece, ts))
            .buffer_unordered(self.options.checksums_in_flight.max(1))
            .try_fold(Checksum::default(), |mut all, one| async move {
                all.merge(&one);
                Ok(all)
            })
            .await
    }

    /// One region's worth, or more if the region was split meanwhile.
    async fn checksum_piece(&self, piece: KeyRange, ts: Timestamp) -> Result<Checksum> {
        let mut sum = Checksum::default();
        let mut patience = Patience::new(self.options.retry);
        let mut rest = Some(piece);
        while let Some(range) = rest {
            let region = self.regions.locate(&range.start).await?;
            let Some(part) = region.range.intersect(&range) else {
                return Err(Error::new(
                    ErrorKind::Internal,
                    place(0, &region),
                    "region does not hold its key",
                ));
            };
            match self
                .checksum_region(&region, &part, ts, &mut patience)
                .await?
            {
                Some(one) => {
                    sum.merge(&one);
                    patience.progress();
                    rest = after(&range, &part);
                }
                None => rest = Some(range),
            }
        }
        Ok(sum)
    }

    /// `None` when it has to be asked again, perhaps of another region.
    async fn checksum_region(
        &self,
        region: &Region,
        part: &KeyRange,
        ts: Timestamp,
        patience: &mut Patience,
    ) -> Result<Option<Checksum>> {
        let reply = self
            .ask_leader(region, DEADLINE, |target| async move {
                let request = request(target.context, part, ts);
                let reply = TikvClient::new(target.channel).coprocessor(request).await?;
                let mut reply = reply.into_inner();
                Ok((reply.region_error.take(), reply))
            })
            .await?;
        let reply = match reply {
            Ok(reply) => reply,
            Err(refusal) => {
                self.react(region, refusal, patience).await?;
                return Ok(None);
            }
        };
        if let Some(lock) = &reply.locked {
            self.clear_lock(lock, ts, patience).await?;
            return Ok(None);
        }
        if !reply.other_error.is_empty() {
            // Usually the server's own deadline: it has too much to do.
            let waited = patience.wait(Pace::Busy(None), &reply.other_error).await;
            give_up_with(waited, place(0, region))?;
            return Ok(None);
        }
        let sum = tipb::ChecksumResponse::decode(reply.data.as_ref())
            .map_err(|e| Error::new(ErrorKind::Cluster, place(0, region), e))?;
        Ok(Some(Checksum {
            crc64_xor: sum.checksum,
            kvs: sum.total_kvs,
            bytes: sum.total_bytes,
        }))
    }
}

fn request(mut context: kvrpcpb::Context, part: &KeyRange, ts: Timestamp) -> coprocessor::Request {
    context.priority = kvrpcpb::CommandPri::Low.into();
    let checksum = tipb::ChecksumRequest {
        start_ts_fallback: ts,
        scan_on: tipb::ChecksumScanOn::Table.into(),
        algorithm: tipb::ChecksumAlgorithm::Crc64Xor.into(),
        rule: None,
    };
    coprocessor::Request {
        context: Some(context),
        tp: CHECKSUM,
        data: checksum.encode_to_vec().into(),
        ranges: vec![coprocessor::KeyRange {
            start: part.start.clone().into(),
            end: part.end.clone().into(),
        }],
        start_ts: ts,
        ..Default::default()
    }
}

/// What of `range` comes after `part`, which is its beginning.
fn after(range: &KeyRange, part: &KeyRange) -> Option<KeyRange> {
    (part.end != range.end).then(|| KeyRange::new(part.end.clone(), range.end.clone()))
}
