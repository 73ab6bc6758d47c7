//! `Write` and `Upload` messages as bytes. A batch is encoded once, straight from the arena, and the same bytes go
//! to every peer; generated types would copy each pair and encode per peer.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use thunderhead_proto::import_sstpb::{WriteRequest, WriteResponse, write_request};
use thunderhead_proto::{import_sstpb, kvrpcpb};
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::pairs::PairBatch;

/// Tags with their wire types: field number << 3 | type (0 varint, 2 length-delimited).
const REQUEST_BATCH: u8 = 2 << 3 | 2;
const BATCH_COMMIT_TS: u8 = 1 << 3;
const BATCH_PAIR: u8 = 2 << 3 | 2;
const PAIR_KEY: u8 = 1 << 3 | 2;
const PAIR_VALUE: u8 = 2 << 3 | 2;
const PAIR_OP: u8 = 3 << 3;
const OP_DELETE: u8 = 1;
const UPLOAD_DATA: u8 = 2 << 3 | 2;

/// What becomes of the pairs of a feed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub commit_ts: u64,
    /// Their keys are deleted instead.
    pub deletes: bool,
}

/// The first message of a stream.
pub(crate) fn meta_message(meta: import_sstpb::SstMeta, context: kvrpcpb::Context) -> Bytes {
    let request = WriteRequest {
        chunk: Some(write_request::Chunk::Meta(meta)),
        context: Some(context),
    };
    request.encode_to_vec().into()
}

/// A message with the pairs of one batch.
pub(crate) fn batch_message(batch: &PairBatch, stamp: Stamp) -> Bytes {
    let commit_ts = stamp.commit_ts;
    if stamp.deletes {
        return delete_message(batch, commit_ts);
    }
    let pairs: usize = batch.iter().map(|(k, v)| nested_len(pair_len(k, v))).sum();
    let batch_len = 1 + encoded_len_varint(commit_ts) + pairs;
    let mut to = Vec::with_capacity(nested_len(batch_len));
    put_head(&mut to, REQUEST_BATCH, batch_len);
    to.push(BATCH_COMMIT_TS);
    encode_varint(commit_ts, &mut to);
    for (key, value) in batch.iter() {
        put_head(&mut to, BATCH_PAIR, pair_len(key, value));
        put_bytes(&mut to, PAIR_KEY, key);
        put_bytes(&mut to, PAIR_VALUE, value);
    }
    to.into()
}

/// A message that deletes the keys of one batch.
fn delete_message(batch: &PairBatch, commit_ts: u64) -> Bytes {
    let pair_len = |key: &[u8]| nested_len(key.len()) + 2;
    let pairs: usize = batch.iter().map(|(k, _)| nested_len(pair_len(k))).sum();
    let batch_len = 1 + encoded_len_varint(commit_ts) + pairs;
    let mut to = Vec::with_capacity(nested_len(batch_len));
    put_head(&mut to, REQUEST_BATCH, batch_len);
    to.push(BATCH_COMMIT_TS);
    encode_varint(commit_ts, &mut to);
    for (key, _) in batch.iter() {
        put_head(&mut to, BATCH_PAIR, pair_len(key));
        put_bytes(&mut to, PAIR_KEY, key);
        to.extend_from_slice(&[PAIR_OP, OP_DELETE]);
    }
    to.into()
}

fn nested_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn pair_len(key: &[u8], value: &[u8]) -> usize {
    nested_len(key.len()) + nested_len(value.len())
}

fn put_head(to: &mut Vec<u8>, tag: u8, len: usize) {
    to.push(tag);
    encode_varint(len as u64, to);
}

fn put_bytes(to: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    put_head(to, tag, bytes.len());
    to.extend_from_slice(bytes);
}

/// Opens a `Write` stream that sends `messages`; its reply comes when they end.
pub(crate) async fn write_stream(
    channel: Channel,
    messages: ReceiverStream<Bytes>,
) -> Result<WriteResponse, Status> {
    stream_to(channel, "/import_sstpb.ImportSST/Write", messages).await
}

/// Opens an `Upload` stream. Its reply is empty, so it reads as any other.
pub(crate) async fn upload_stream(
    channel: Channel,
    messages: ReceiverStream<Bytes>,
) -> Result<(), Status> {
    let reply = stream_to(channel, "/import_sstpb.ImportSST/Upload", messages).await;
    reply.map(drop)
}

/// The first message of an upload.
pub(crate) fn upload_meta(meta: import_sstpb::SstMeta) -> Bytes {
    let chunk = Some(import_sstpb::upload_request::Chunk::Meta(meta));
    import_sstpb::UploadRequest { chunk }.encode_to_vec().into()
}

/// A message with a part of the file.
pub(crate) fn upload_data(data: &[u8]) -> Bytes {
    let mut to = Vec::with_capacity(nested_len(data.len()));
    put_bytes(&mut to, UPLOAD_DATA, data);
    to.into()
}

async fn stream_to(
    channel: Channel,
    path: &'static str,
    messages: ReceiverStream<Bytes>,
) -> Result<WriteResponse, Status> {
    let path = PathAndQuery::from_static(path);
    let mut grpc = Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|e| Status::unavailable(format!("not connected: {e}")))?;
    let reply = grpc.client_streaming(Request::new(messages), path, EncodedCodec);
    reply.await.map(tonic::Response::into_inner)
}

struct EncodedCodec;

impl Codec for EncodedCodec {
    type Encode = Bytes;
    type Decode = WriteResponse;
    type Encoder = Encoded;
    type Decoder = Reply;

    fn encoder(&mut self) -> Encoded {
        Encoded
    }

    fn decoder(&mut self) -> Reply {
        Reply
    }
}

struct Encoded;

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

struct Reply;

impl Decoder for Reply {
    type Item = WriteResponse;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<WriteResponse>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        let reply = WriteResponse::decode(bytes);
        reply
            .map(Some)
            .map_err(|e| Status::internal(format!("unreadable reply: {e}")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_batch_reads_back_as_the_generated_types_do() {
        let mut batch = PairBatch::default();
        let pairs: Vec<(Vec<u8>, Vec<u8>)> = (0..300usize)
            .map(|i| {
                (
                    format!("key{i:05}").into_bytes(),
                    vec![i as u8; i * 3 % 700],
                )
            })
            .collect();
        for (key, value) in &pairs {
            batch.push(key, value);
        }
        for commit_ts in [1, 463_267_587_686_400_005] {
            let request = WriteRequest::decode(batch_message(
                &batch,
                Stamp {
                    commit_ts,
                    deletes: false,
                },
            ))
            .unwrap();
            let Some(write_request::Chunk::Batch(read)) = request.chunk else {
                panic!("not a batch");
            };
            assert_eq!(read.commit_ts, commit_ts);
            let read: Vec<_> = read
                .pairs
                .iter()
                .map(|p| (p.key.to_vec(), p.value.to_vec()))
                .collect();
            assert_eq!(read, pairs);
        }
    }
}
