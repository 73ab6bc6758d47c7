//! Keys that have several versions: TiKV's `DuplicateDetect`, region by region. What an import wrote over something
//! that was there is seen here, with both values.

use std::time::Duration;

use thunderhead_proto::import_sstpb::import_sst_client::ImportSstClient;
use thunderhead_proto::import_sstpb::{DuplicateDetectRequest, KvPair};
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, Result, Timestamp};
use tonic::Status;

use crate::importer::{Importer, place};
use crate::retry::Patience;

/// A region is read as a whole.
const DEADLINE: Duration = Duration::from_secs(600);

/// Keys of a range with a version after a timestamp and at least one more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overwritten {
    /// The newest version of each up to the timestamp.
    pub before: Checksum,
    /// Keys whose value is another one now.
    pub changed: u64,
    /// Keys that were written more than once after it.
    pub twice: u64,
}

impl Overwritten {
    fn merge(&mut self, other: &Overwritten) {
        self.before.merge(&other.before);
        self.changed += other.changed;
        self.twice += other.twice;
    }
}

/// Versions of one key after another, newest first.
struct Tally {
    since: Timestamp,
    found: Overwritten,
    versions: Vec<KvPair>,
}

impl Tally {
    fn add(&mut self, pair: KvPair) {
        if self
            .versions
            .first()
            .is_some_and(|first| first.key != pair.key)
        {
            self.end_key();
        }
        self.versions.push(pair);
    }

    fn end_key(&mut self) {
        let versions = std::mem::take(&mut self.versions);
        let new = versions.partition_point(|pair| pair.commit_ts > self.since);
        self.found.twice += u64::from(new > 1);
        if let (Some(newest), Some(old)) = (versions.first(), versions.get(new)) {
            self.found.before.add(&old.key, &old.value);
            self.found.changed += u64::from(new > 0 && newest.value != old.value);
        }
    }
}

impl Importer {
    /// What was written over in `range` after `since`. Every key must have been put, not deleted, after it.
    pub async fn overwritten(&self, range: &KeyRange, since: Timestamp) -> Result<Overwritten> {
        self.until_cancelled(self.overwritten_uncancelled(range, since))
            .await
    }

    async fn overwritten_uncancelled(
        &self,
        range: &KeyRange,
        since: Timestamp,
    ) -> Result<Overwritten> {
        let mut found = Overwritten::default();
        let mut patience = Patience::new(self.options.retry);
        let mut rest = Some(range.clone());
        while let Some(range) = rest {
            let region = self.regions.locate(&range.start).await?;
            let Some(part) = region.range.intersect(&range) else {
                return Err(Error::new(
                    ErrorKind::Internal,
                    place(0, &region),
                    "region does not hold its key",
                ));
            };
            let asked = self
                .ask_leader(&region, DEADLINE, |target| {
                    let request = DuplicateDetectRequest {
                        context: Some(target.context),
                        start_key: part.start.clone().into(),
                        end_key: part.end.clone().into(),
                        key_only: false,
                        min_commit_ts: since,
                    };
                    async move {
                        let client = ImportSstClient::new(target.channel);
                        read(
                            client.max_decoding_message_size(MESSAGE_MAX),
                            request,
                            since,
                        )
                        .await
                    }
                })
                .await?;
            match asked {
                Ok(part_found) => {
                    found.merge(&part_found);
                    patience.progress();
                    rest = (part.end != range.end)
                        .then(|| KeyRange::new(part.end.clone(), range.end.clone()));
                }
                Err(refusal) => {
                    self.react(&region, refusal, &mut patience).await?;
                    rest = Some(range);
                }
            }
        }
        Ok(found)
    }
}

/// Messages hold up to 4096 versions.
const MESSAGE_MAX: usize = 1 << 30;

async fn read(
    mut client: ImportSstClient<tonic::transport::Channel>,
    request: DuplicateDetectRequest,
    since: Timestamp,
) -> Result<(Option<thunderhead_proto::errorpb::Error>, Overwritten), Status> {
    let mut stream = client.duplicate_detect(request).await?.into_inner();
    let mut tally = Tally {
        since,
        found: Overwritten::default(),
        versions: Vec::new(),
    };
    while let Some(message) = stream.message().await? {
        if message.region_error.is_some() {
            return Ok((message.region_error, Overwritten::default()));
        }
        if let Some(error) = message.key_error {
            return Err(Status::failed_precondition(error.message));
        }
        message.pairs.into_iter().for_each(|pair| tally.add(pair));
    }
    tally.end_key();
    Ok((None, tally.found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_told_from_what_was_written_twice() {
        let version = |key: &str, commit_ts, value: &str| KvPair {
            key: key.as_bytes().to_vec().into(),
            value: value.as_bytes().to_vec().into(),
            commit_ts,
        };
        let mut tally = Tally {
            since: 10,
            found: Overwritten::default(),
            versions: Vec::new(),
        };
        for pair in [
            version("a", 12, "same"),
            version("a", 3, "same"),
            version("b", 12, "new"),
            version("b", 10, "old"),
            version("c", 13, "x"),
            version("c", 12, "y"),
        ] {
            tally.add(pair);
        }
        tally.end_key();
        let mut before = Checksum::default();
        before.add(b"a", b"same");
        before.add(b"b", b"old");
        let expected = Overwritten {
            before,
            changed: 1,
            twice: 1,
        };
        assert_eq!(tally.found, expected);
    }
}
