//! What the coordinator is told of a run.

use thunderhead_proto::thunderhead as wire;

use super::writer::RunMeta;

/// The message about a finished run.
pub fn run_message(meta: &RunMeta) -> wire::Run {
    let block = |block: &super::format::BlockMeta| wire::RunBlock {
        first_key: block.first_key.clone().into(),
        offset: block.offset,
        length: block.stored_len,
        entries: block.pairs,
        raw_bytes: u64::from(block.kv_bytes),
    };
    wire::Run {
        path: meta.path.to_string_lossy().into_owned(),
        file_bytes: meta.file_bytes,
        entries: meta.pairs,
        raw_bytes: meta.kv_bytes,
        first_key: meta.first_key().to_vec().into(),
        last_key: meta.last_key.clone().into(),
        blocks: meta.blocks.iter().map(block).collect(),
    }
}
