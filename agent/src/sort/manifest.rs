//! What the coordinator is told of a run.

use thunderhead_proto::thunderhead as wire;

use super::writer::RunMeta;

/// Blocks are reported together up to this many bytes of pairs: fine enough to cut ranges by, and a run
/// of some gigabytes still fits into one message.
const REPORT_BYTES: u64 = 256 << 10;

/// The message about a finished run.
pub fn run_message(meta: &RunMeta) -> wire::Run {
    let mut blocks: Vec<wire::RunBlock> = Vec::new();
    for block in &meta.blocks {
        let kv_bytes = u64::from(block.kv_bytes);
        match blocks
            .last_mut()
            .filter(|last| last.raw_bytes < REPORT_BYTES)
        {
            Some(last) => {
                last.length += block.stored_len;
                last.entries += block.pairs;
                last.raw_bytes += kv_bytes;
            }
            None => blocks.push(wire::RunBlock {
                first_key: block.first_key.clone().into(),
                offset: block.offset,
                length: block.stored_len,
                entries: block.pairs,
                raw_bytes: kv_bytes,
            }),
        }
    }
    wire::Run {
        path: meta.path.to_string_lossy().into_owned(),
        file_bytes: meta.file_bytes,
        entries: meta.pairs,
        raw_bytes: meta.kv_bytes,
        first_key: meta.first_key().to_vec().into(),
        last_key: meta.last_key.clone().into(),
        blocks,
        equal_keys: meta.equal_keys,
    }
}
