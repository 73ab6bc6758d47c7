//! Blocks in RocksDB's compressed form: a varint of the plain size, then LZ4 or Zstandard.

use crate::error::{Result, SstError};
use crate::format::{BLOCK_BYTES_MAX, get_varint32, put_varint, varint_len};
use crate::options::Compression;
use zstd_safe::{CCtx, CParameter, DCtx};

pub(crate) const PLAIN: u8 = 0;
const LZ4: u8 = 4;
const ZSTD: u8 = 7;

pub(crate) struct Compressor {
    method: Compression,
    zstd: Option<CCtx<'static>>,
}

impl Compressor {
    pub(crate) fn new(method: Compression) -> Result<Self> {
        let zstd = match method {
            Compression::Zstd(level) => {
                let mut context = CCtx::create();
                context
                    .set_parameter(CParameter::CompressionLevel(level))
                    .map_err(zstd_failed)?;
                Some(context)
            }
            Compression::None | Compression::Lz4 => None,
        };
        Ok(Self { method, zstd })
    }

    /// The name in the file's properties.
    pub(crate) fn name(method: Compression) -> &'static str {
        match method {
            Compression::None => "NoCompression",
            Compression::Lz4 => "LZ4",
            Compression::Zstd(_) => "ZSTD",
        }
    }

    /// Writes `plain` compressed into `to`, which is emptied first, and says how; leaves `to` in any
    /// state and says [`PLAIN`] when less than an eighth was saved.
    pub(crate) fn compress(&mut self, plain: &[u8], to: &mut Vec<u8>) -> Result<u8> {
        to.clear();
        let head = varint_len(plain.len());
        let (kind, size) = match (self.method, &mut self.zstd) {
            (Compression::Zstd(_), Some(context)) => {
                put_varint(to, plain.len());
                to.resize(head + zstd_safe::compress_bound(plain.len()), 0);
                let size = context
                    .compress2(&mut to[head..], plain)
                    .map_err(zstd_failed)?;
                (ZSTD, size)
            }
            (Compression::Lz4, _) => {
                put_varint(to, plain.len());
                to.resize(
                    head + lz4_flex::block::get_maximum_output_size(plain.len()),
                    0,
                );
                let size = lz4_flex::block::compress_into(plain, &mut to[head..])
                    .map_err(|_| SstError::Compression("LZ4"))?;
                (LZ4, size)
            }
            _ => return Ok(PLAIN),
        };
        to.truncate(head + size);
        // RocksDB's default: 896 bytes of each 1,024.
        let good = to.len() as u64 <= (plain.len() as u64 * 896) >> 10;
        Ok(if good { kind } else { PLAIN })
    }
}

fn zstd_failed(code: usize) -> SstError {
    SstError::Compression(zstd_safe::get_error_name(code))
}

pub(crate) struct Decompressor {
    zstd: DCtx<'static>,
}

impl Decompressor {
    pub(crate) fn new() -> Self {
        Self {
            zstd: DCtx::create(),
        }
    }

    /// Replaces `to` by the plain bytes of a block whose checksum was found right.
    pub(crate) fn decompress(
        &mut self,
        kind: u8,
        mut block: &[u8],
        to: &mut Vec<u8>,
        offset: u64,
    ) -> Result<()> {
        let bad = |what| SstError::corrupt(what, offset);
        to.clear();
        if kind == PLAIN {
            to.extend_from_slice(block);
            return Ok(());
        }
        let size = get_varint32(&mut block)
            .filter(|size| *size <= BLOCK_BYTES_MAX)
            .ok_or(bad("plain size of a block"))?;
        to.resize(size, 0);
        let found = match kind {
            ZSTD => self
                .zstd
                .decompress(&mut to[..], block)
                .map_err(|_| bad("Zstandard block"))?,
            LZ4 => lz4_flex::block::decompress_into(block, to).map_err(|_| bad("LZ4 block"))?,
            _ => return Err(bad("unknown compression")),
        };
        if found != size {
            return Err(bad("plain size of a block"));
        }
        Ok(())
    }
}
