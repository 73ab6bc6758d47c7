//! A sandbox and small clients for it: what the tests of this crate talk to.
#![allow(clippy::unwrap_used, dead_code)]

use std::time::{Duration, Instant};
use thunderhead_proto::coprocessor;
use thunderhead_proto::import_sstpb::import_sst_client::ImportSstClient;
use thunderhead_proto::import_sstpb::*;
use thunderhead_proto::kvrpcpb::{Context, GetRequest, GetResponse};
use thunderhead_proto::pdpb::pd_client::PdClient;
use thunderhead_proto::pdpb::{
    self, GetMembersRequest, GetRegionRequest, RequestHeader, ScanRegionsRequest, TsoRequest,
};
use thunderhead_proto::tikvpb::tikv_client::TikvClient;
use thunderhead_proto::{errorpb, metapb, tipb};
use thunderhead_sandbox::{Sandbox, SandboxConfig};
use thunderhead_types::Checksum;
use tonic::Status;
use tonic::transport::Channel;

pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Memcomparable form, written down once more so that tests do not lean on the code under test.
pub fn encode(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = key;
    loop {
        let n = rest.len().min(8);
        out.extend_from_slice(&rest[..n]);
        out.resize(out.len() + 8 - n, 0);
        out.push(0xff - (8 - n) as u8);
        rest = &rest[n..];
        if n < 8 {
            return out;
        }
    }
}

pub fn pairs(from: u32, to: u32, value_len: usize) -> Pairs {
    (from..to)
        .map(|i| {
            (
                format!("t{i:08}").into_bytes(),
                vec![(i % 251) as u8; value_len + i as usize % 5],
            )
        })
        .collect()
}

pub fn checksum(pairs: &Pairs) -> Checksum {
    let mut sum = Checksum::default();
    pairs.iter().for_each(|(key, value)| sum.add(key, value));
    sum
}

/// Waits until `done` says so.
pub async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done().await {
        assert!(Instant::now() < end, "timed out waiting for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A region as PD describes it.
#[derive(Clone, Debug)]
pub struct Target {
    pub region: metapb::Region,
    pub leader: metapb::Peer,
    pub pending: usize,
}

impl Target {
    pub fn context(&self) -> Context {
        Context {
            region_id: self.region.id,
            region_epoch: self.region.region_epoch,
            peer: Some(self.leader),
            ..Default::default()
        }
    }

    pub fn follower(&self) -> metapb::Peer {
        *self
            .region
            .peers
            .iter()
            .find(|peer| peer.id != self.leader.id)
            .unwrap()
    }

    pub fn meta(&self, pairs: &Pairs) -> SstMeta {
        let range = Range {
            start: encode(&pairs.first().unwrap().0).into(),
            end: encode(&pairs.last().unwrap().0).into(),
        };
        SstMeta {
            uuid: uuid().into(),
            range: Some(range),
            region_id: self.region.id,
            region_epoch: self.region.region_epoch,
            ..Default::default()
        }
    }
}

pub fn uuid() -> Vec<u8> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    [u64::from(std::process::id()), n]
        .iter()
        .flat_map(|n| n.to_be_bytes())
        .collect()
}

pub struct Bench {
    pub sandbox: Sandbox,
    pub pd: PdClient<Channel>,
    pub cluster_id: u64,
    pub dir: tempfile::TempDir,
}

impl Bench {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut SandboxConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = SandboxConfig::new(dir.path());
        change(&mut config);
        Self::start_in(dir, config).await
    }

    pub async fn start_in(dir: tempfile::TempDir, config: SandboxConfig) -> Self {
        let sandbox = Sandbox::start(config).await.unwrap();
        let mut pd = PdClient::connect(format!("http://{}", sandbox.addresses().pd))
            .await
            .unwrap();
        let members = pd
            .get_members(GetMembersRequest::default())
            .await
            .unwrap()
            .into_inner();
        let cluster_id = members.header.unwrap().cluster_id;
        Self {
            sandbox,
            pd,
            cluster_id,
            dir,
        }
    }

    /// Stops everything and starts it again on the same data.
    pub async fn restart(self) -> Self {
        let Self {
            sandbox, pd, dir, ..
        } = self;
        drop(pd);
        sandbox.shutdown().await;
        let config = SandboxConfig::new(dir.path());
        Self::start_in(dir, config).await
    }

    pub fn header(&self) -> Option<RequestHeader> {
        Some(RequestHeader {
            cluster_id: self.cluster_id,
            ..Default::default()
        })
    }

    pub async fn tikv(&self, store: u64) -> TikvClient<Channel> {
        let address = &self.sandbox.addresses().stores[store as usize - 1];
        TikvClient::connect(format!("http://{address}"))
            .await
            .unwrap()
    }

    pub async fn import(&self, store: u64) -> ImportSstClient<Channel> {
        let address = &self.sandbox.addresses().stores[store as usize - 1];
        ImportSstClient::connect(format!("http://{address}"))
            .await
            .unwrap()
    }

    pub async fn tso(&mut self) -> u64 {
        let header = self.header();
        let requests = futures::stream::iter([TsoRequest {
            header,
            count: 1,
            ..Default::default()
        }]);
        let mut stream = self.pd.tso(requests).await.unwrap().into_inner();
        let ts = stream.message().await.unwrap().unwrap().timestamp.unwrap();
        (ts.physical as u64) << 18 | ts.logical as u64
    }

    pub async fn region_at(&mut self, raw: &[u8]) -> Target {
        let request = GetRegionRequest {
            header: self.header(),
            region_key: encode(raw).into(),
            ..Default::default()
        };
        let response = self.pd.get_region(request).await.unwrap().into_inner();
        Target {
            region: response.region.unwrap(),
            leader: response.leader.unwrap_or_default(),
            pending: response.pending_peers.len(),
        }
    }

    pub async fn scan(&mut self) -> Vec<pdpb::Region> {
        let request = ScanRegionsRequest {
            header: self.header(),
            ..Default::default()
        };
        self.pd
            .scan_regions(request)
            .await
            .unwrap()
            .into_inner()
            .regions
    }

    /// Splits at raw keys and waits until no peer is pending.
    pub async fn split(&mut self, raw: &[&[u8]]) {
        let keys = raw.iter().map(|key| key.to_vec()).collect::<Vec<_>>();
        self.sandbox.split(&keys).unwrap();
        until("pending peers", async || {
            self.scan()
                .await
                .iter()
                .all(|region| region.pending_peers.is_empty())
        })
        .await;
    }

    /// Write to one store.
    pub async fn write(
        &self,
        store: u64,
        meta: SstMeta,
        commit_ts: u64,
        pairs: &Pairs,
    ) -> Result<Vec<SstMeta>, Status> {
        let pair = |(key, value): &(Vec<u8>, Vec<u8>)| Pair {
            key: key.clone().into(),
            value: value.clone().into(),
            op: 0,
        };
        let batch = WriteBatch {
            commit_ts,
            pairs: pairs.iter().map(pair).collect(),
        };
        let requests = [
            WriteRequest {
                chunk: Some(write_request::Chunk::Meta(meta)),
                context: Some(Context::default()),
            },
            WriteRequest {
                chunk: Some(write_request::Chunk::Batch(batch)),
                context: None,
            },
        ];
        let response = self
            .import(store)
            .await
            .write(futures::stream::iter(requests))
            .await?;
        Ok(response.into_inner().metas)
    }

    /// Write to every peer of the region.
    pub async fn write_everywhere(
        &self,
        target: &Target,
        commit_ts: u64,
        pairs: &Pairs,
    ) -> Vec<SstMeta> {
        let meta = target.meta(pairs);
        let mut metas = Vec::new();
        for peer in &target.region.peers {
            metas = self
                .write(peer.store_id, meta.clone(), commit_ts, pairs)
                .await
                .unwrap();
        }
        metas
    }

    pub async fn upload(&self, store: u64, meta: SstMeta, file: &[u8]) -> Result<(), Status> {
        let mut requests = vec![UploadRequest {
            chunk: Some(upload_request::Chunk::Meta(meta)),
        }];
        for chunk in file.chunks(64 << 10) {
            requests.push(UploadRequest {
                chunk: Some(upload_request::Chunk::Data(chunk.to_vec().into())),
            });
        }
        self.import(store)
            .await
            .upload(futures::stream::iter(requests))
            .await
            .map(|_| ())
    }

    pub async fn ingest(
        &self,
        target: &Target,
        metas: &[SstMeta],
    ) -> Result<Option<errorpb::Error>, Status> {
        let request = MultiIngestRequest {
            context: Some(target.context()),
            ssts: metas.to_vec(),
        };
        let response = self
            .import(target.leader.store_id)
            .await
            .multi_ingest(request)
            .await?;
        Ok(response.into_inner().error)
    }

    /// The whole way for one region.
    pub async fn import_pairs(&mut self, pairs: &Pairs, commit_ts: u64) {
        let target = self.region_at(&pairs[0].0).await;
        let metas = self.write_everywhere(&target, commit_ts, pairs).await;
        assert_eq!(self.ingest(&target, &metas).await.unwrap(), None);
    }

    /// One prewritten and committed pair per entry, through the leader; peers that are down catch up later.
    pub async fn import_pairs_to_live(&mut self, pairs: &Pairs, start_version: u64) {
        use thunderhead_proto::kvrpcpb::{CommitRequest, Mutation, PrewriteRequest};
        let target = self.region_at(&pairs[0].0).await;
        let mut tikv = self.tikv(target.leader.store_id).await;
        let mutation = |(key, value): &(Vec<u8>, Vec<u8>)| Mutation {
            op: 0,
            key: key.clone().into(),
            value: value.clone().into(),
        };
        let request = PrewriteRequest {
            context: Some(target.context()),
            mutations: pairs.iter().map(mutation).collect(),
            primary_lock: pairs[0].0.clone().into(),
            start_version,
            lock_ttl: 3000,
            ..Default::default()
        };
        assert!(
            tikv.kv_prewrite(request)
                .await
                .unwrap()
                .into_inner()
                .errors
                .is_empty()
        );
        let keys = pairs.iter().map(|(key, _)| key.clone().into()).collect();
        let request = CommitRequest {
            context: Some(target.context()),
            start_version,
            keys,
            commit_version: start_version + 1,
        };
        assert!(
            tikv.kv_commit(request)
                .await
                .unwrap()
                .into_inner()
                .error
                .is_none()
        );
    }

    pub async fn checksum(
        &mut self,
        target: &Target,
        start: &[u8],
        end: &[u8],
    ) -> Result<Checksum, errorpb::Error> {
        let request = coprocessor::Request {
            context: Some(target.context()),
            tp: 105,
            data: prost::Message::encode_to_vec(&tipb::ChecksumRequest::default()).into(),
            ranges: vec![coprocessor::KeyRange {
                start: start.to_vec().into(),
                end: end.to_vec().into(),
            }],
            start_ts: self.tso().await,
            ..Default::default()
        };
        let response = self
            .tikv(target.leader.store_id)
            .await
            .coprocessor(request)
            .await
            .unwrap()
            .into_inner();
        if let Some(error) = response.region_error {
            return Err(error);
        }
        let sum: tipb::ChecksumResponse = prost::Message::decode(&response.data[..]).unwrap();
        Ok(Checksum {
            crc64_xor: sum.checksum,
            kvs: sum.total_kvs,
            bytes: sum.total_bytes,
        })
    }

    pub async fn get(&mut self, raw: &[u8], version: u64) -> GetResponse {
        let target = self.region_at(raw).await;
        let request = GetRequest {
            context: Some(target.context()),
            key: raw.to_vec().into(),
            version,
            ..Default::default()
        };
        self.tikv(target.leader.store_id)
            .await
            .kv_get(request)
            .await
            .unwrap()
            .into_inner()
    }
}

/// One HTTP request on a plain connection: status and body.
pub async fn http(address: &str, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (
        status,
        serde_json::from_str(body).unwrap_or(serde_json::Value::Null),
    )
}
