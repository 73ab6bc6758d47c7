//! How a file is written.

/// The column families that an ingested file may be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cf {
    /// Values that are too long for a write record.
    Default,
    /// One record for each version of a key.
    Write,
}

impl Cf {
    /// TiKV's name, as in `SSTMeta.cf_name`.
    pub fn name(self) -> &'static str {
        match self {
            Cf::Default => "default",
            Cf::Write => "write",
        }
    }
}

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4.
    Lz4,
    /// Zstandard of a level; TiKV's own for files of the bottom level, at its default level 3.
    Zstd(i32),
}

/// What makes a file's id: TiKV's block cache takes it as the key, so that two different files with the
/// same id would be read as one. The same file on several stores keeps one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SstId(pub(crate) [u64; 2]);

impl SstId {
    /// A new one, never zero.
    pub fn random() -> Self {
        Self([rand::random(), rand::random::<u64>() | 1])
    }

    /// A chosen one, for tests that compare bytes.
    pub fn fixed(upper: u64, lower: u64) -> Self {
        Self([upper, lower])
    }

    /// RocksDB's session id: 20 digits of base 36 that hold the lower 103 bits.
    pub(crate) fn session(self) -> String {
        let [upper, lower] = self.0;
        let mut digits = [0; 20];
        let (head, tail) = digits.split_at_mut(8);
        base36(head, (upper << 2) | (lower >> 62));
        base36(tail, lower & (u64::MAX >> 2));
        digits.iter().map(|&digit| char::from(digit)).collect()
    }
}

/// The lowest digits of `value`, most significant first.
fn base36(to: &mut [u8], mut value: u64) {
    for digit in to.iter_mut().rev() {
        *digit = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[(value % 36) as usize];
        value /= 36;
    }
}

/// Options of a file.
#[derive(Clone, Debug)]
pub struct SstOptions {
    /// Compression of data blocks.
    pub compression: Compression,
    /// A data block is closed at about this many bytes; TiKV's is 32 KiB.
    pub block_bytes: usize,
    /// Whether the file gets TiKV's bloom filter of 10 bits a key.
    pub bloom: bool,
    /// The id of the file; a random one when not given.
    pub id: Option<SstId>,
}

impl Default for SstOptions {
    fn default() -> Self {
        Self {
            compression: Compression::Zstd(3),
            block_bytes: 32 << 10,
            bloom: true,
            id: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_has_twenty_digits_of_base_36() {
        assert_eq!(SstId::fixed(0, 1).session(), "00000000000000000001");
        assert_eq!(SstId::fixed(0, 36).session(), "00000000000000000010");
        assert_eq!(SstId::fixed(9, 35).session(), "0000001000000000000Z");
        assert_ne!(SstId::random(), SstId::random());
    }
}
