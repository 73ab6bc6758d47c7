//! The proof of a file before any byte of it is sent. A file that TiKV cannot read kills every replica
//! of a region, so the file is read back from where it lies and nothing that the builder remembers is
//! believed: the writer's counts and properties are counted again from the entries.

use crate::block::{Cursor, Values};
use crate::bloom::{Bloom, filtered};
use crate::builder::BuiltSst;
use crate::collect::Collectors;
use crate::error::{Result, SstError};
use crate::format::{FOOTER_BYTES, Handle, KEY_SUFFIX, TRAILER_BYTES};
use crate::hash::hash64;
use crate::mvcc;
use crate::options::Cf;
use crate::pairs::BuiltSlice;
use crate::properties::{COMPARATOR, Counts, EXTERNAL_VERSION, PREFIX_EXTRACTOR, Properties};
use crate::reader::SstReader;
use crate::sink::SstContent;
use bytes::Bytes;
use thunderhead_types::{KeyRange, Timestamp};

/// What a proved file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Number of entries.
    pub entries: u64,
    /// First engine key.
    pub first_key: Vec<u8>,
    /// Last engine key.
    pub last_key: Vec<u8>,
    /// Length in bytes.
    pub size: u64,
    /// CRC-32 (IEEE) of all bytes.
    pub crc32: u32,
    /// Least timestamp in a key.
    pub min_ts: Timestamp,
    /// Greatest timestamp in a key.
    pub max_ts: Timestamp,
    /// Write family: records whose value must be in the default family. Default family: its entries.
    pub long_values: u64,
    /// Sum of the hashes of the default family's keys that those have or must have.
    long_keys: u64,
}

/// Reads `file` back and checks all of it. `range` is the range of user keys that it may hold: its
/// region's, or what was planned.
pub fn prove(file: &BuiltSst, range: &KeyRange) -> Result<Proof> {
    let proof = inspect(file.content.clone(), file.cf, range)?;
    let as_built = proof.entries == file.entries
        && proof.size == file.size
        && proof.first_key == file.first_key
        && proof.last_key == file.last_key;
    if !as_built {
        return Err(SstError::Unproved("it is not the file that was built"));
    }
    if proof.crc32 != file.crc32 {
        return Err(SstError::Unproved(
            "its CRC-32 is not that of what was written",
        ));
    }
    Ok(proof)
}

/// Like [`prove`] for bytes of which nothing is known.
pub fn prove_bytes(bytes: Bytes, cf: Cf, range: &KeyRange) -> Result<Proof> {
    inspect(SstContent::Memory(bytes), cf, range)
}

/// Proves both files of a slice, and that each record without a value has one in the default family,
/// and the other way round. Write first, then default.
pub fn prove_slice(slice: &BuiltSlice, range: &KeyRange) -> Result<(Proof, Option<Proof>)> {
    let write = prove(&slice.write, range)?;
    let default = match &slice.default {
        Some(file) => Some(prove(file, range)?),
        None => None,
    };
    let found = default
        .as_ref()
        .map_or((0, 0), |proof| (proof.long_values, proof.long_keys));
    if (write.long_values, write.long_keys) != found {
        return Err(SstError::Unproved(
            "write records and default entries do not belong together",
        ));
    }
    Ok((write, default))
}

fn inspect(content: SstContent, cf: Cf, range: &KeyRange) -> Result<Proof> {
    let crc32 = content.crc32()?;
    let reader = SstReader::open(content)?;
    check_layout(&reader)?;
    let (mut blocks, mut cursor) = (reader.block_reader(), Cursor::default());
    let filter = match reader.filter_at {
        Some(at) => blocks.read(at)?.to_vec(),
        None => Vec::new(),
    };
    let mut check = Check::new(cf, range, &reader, &filter)?;
    let mut left = reader.blocks.len();
    for (separator, handle) in &reader.blocks {
        left -= 1;
        check.block(blocks.read(*handle)?, *handle, &mut cursor)?;
        check.separator(separator, left == 0, *handle)?;
    }
    check.finish(&reader, crc32)
}

/// Blocks follow each other from the first byte to the footer, without a gap that nothing covers.
fn check_layout(reader: &SstReader) -> Result<()> {
    let tail = [reader.index, reader.properties_at, reader.metaindex];
    let data = reader.blocks.iter().map(|(_, handle)| *handle);
    let mut at = 0;
    for handle in data.chain(reader.filter_at).chain(tail) {
        if handle.offset != at {
            return Err(SstError::corrupt("a gap before a block", at));
        }
        at = handle.end().ok_or(SstError::corrupt("block handle", at))?;
    }
    if at + FOOTER_BYTES as u64 != reader.len {
        return Err(SstError::corrupt("a gap before the footer", at));
    }
    Ok(())
}

/// The pass over all entries.
struct Check<'a> {
    cf: Cf,
    start: Vec<u8>,
    end: Vec<u8>,
    filter: Option<Bloom<'a>>,
    collectors: Collectors,
    counts: Counts,
    /// The separator behind the last block: every further key is greater.
    floor: Vec<u8>,
    default_key: Vec<u8>,
    /// Hashes of the filtered parts of the block's keys, and the last one before them.
    filtered: Vec<u64>,
    proof: Proof,
}

impl<'a> Check<'a> {
    fn new(cf: Cf, range: &KeyRange, reader: &SstReader, filter: &'a [u8]) -> Result<Self> {
        let filter = match reader.filter_at {
            Some(at) => {
                Some(Bloom::open(filter).ok_or(SstError::corrupt("filter block", at.offset))?)
            }
            None => None,
        };
        Ok(Self {
            cf,
            start: mvcc::start_border(&range.start),
            end: mvcc::end_border(&range.end),
            filter,
            collectors: Collectors::new(cf),
            counts: Counts::default(),
            floor: Vec::new(),
            default_key: Vec::new(),
            filtered: Vec::new(),
            proof: Proof {
                entries: 0,
                first_key: Vec::new(),
                last_key: Vec::new(),
                size: reader.len,
                crc32: 0,
                min_ts: Timestamp::MAX,
                max_ts: 0,
                long_values: 0,
                long_keys: 0,
            },
        })
    }

    fn block(&mut self, block: &[u8], handle: Handle, cursor: &mut Cursor) -> Result<()> {
        let bad = |what| SstError::corrupt(what, handle.offset);
        cursor.start(block).ok_or(bad("data block"))?;
        let before = self.counts.entries;
        while let Some(value) = cursor.next(block, Values::Sized).ok_or(bad("data block"))? {
            let key = cursor
                .key
                .strip_suffix(&KEY_SUFFIX[..])
                .ok_or(bad("an entry is not a put with sequence number 0"))?;
            if self.counts.entries == before && before > 0 && key <= &self.floor[..] {
                return Err(bad("a key is not above the separator before its block"));
            }
            self.entry(key, &block[value]).map_err(bad)?;
        }
        if self.counts.entries == before {
            return Err(bad("a data block without entries"));
        }
        if let Some(bloom) = &self.filter
            && !bloom.may_contain_all(&self.filtered)
        {
            return Err(bad("the filter lacks a key"));
        }
        self.filtered.drain(..self.filtered.len().saturating_sub(1));
        self.counts.data_blocks += 1;
        self.counts.data_bytes = handle.end().ok_or(bad("block handle"))?;
        Ok(())
    }

    /// A separator is at or after the last key of its block and before the first of the next.
    fn separator(&mut self, separator: &[u8], is_last: bool, handle: Handle) -> Result<()> {
        let last = &self.proof.last_key[..];
        if separator < last || (is_last && separator != last) {
            return Err(SstError::corrupt(
                "the index does not fit the block",
                handle.offset,
            ));
        }
        self.floor.clear();
        self.floor.extend_from_slice(separator);
        Ok(())
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if self.counts.entries > 0 && key <= &self.proof.last_key[..] {
            return Err("keys do not ascend");
        }
        if key < &self.start[..] || key >= &self.end[..] {
            return Err("a key is outside of the range");
        }
        let (data, ts) = mvcc::split_ts(key)
            .filter(|(data, _)| mvcc::is_data_key(data))
            .ok_or("a key is not an engine key")?;
        self.proof.min_ts = self.proof.min_ts.min(ts);
        self.proof.max_ts = self.proof.max_ts.max(ts);
        let long = match self.cf {
            Cf::Default => Some(ts),
            Cf::Write => {
                let record = mvcc::parse_put(value).ok_or("a write record is malformed")?;
                if record.start_ts > ts {
                    return Err("a start_ts is above its commit_ts");
                }
                record.long.then_some(record.start_ts)
            }
        };
        if let Some(start_ts) = long {
            self.default_key.clear();
            self.default_key.extend_from_slice(data);
            self.default_key.extend_from_slice(&start_ts.to_be_bytes());
            self.proof.long_values += 1;
            let hash = hash64(&self.default_key);
            self.proof.long_keys = self.proof.long_keys.wrapping_add(hash);
        }
        self.count(key, value);
        Ok(())
    }

    fn count(&mut self, key: &[u8], value: &[u8]) {
        if self.filter.is_some() {
            let hash = hash64(filtered(self.cf, key));
            if self.filtered.last() != Some(&hash) {
                self.counts.filter_entries += 1;
                self.filtered.push(hash);
            }
        }
        if self.counts.entries == 0 {
            self.proof.first_key = key.to_vec();
        }
        self.collectors.add(key, value, &self.proof.last_key);
        self.counts.entries += 1;
        self.counts.raw_key_bytes += (key.len() + KEY_SUFFIX.len()) as u64;
        self.counts.raw_value_bytes += value.len() as u64;
        self.proof.last_key.clear();
        self.proof.last_key.extend_from_slice(key);
    }

    fn finish(mut self, reader: &SstReader, crc32: u32) -> Result<Proof> {
        if self.counts.entries == 0 {
            return Err(SstError::Empty);
        }
        self.counts.index_bytes = reader.index.size + TRAILER_BYTES as u64;
        self.counts.filter_bytes = reader.filter_at.map_or(0, |at| at.size);
        let offset = reader.properties_at.offset;
        check_properties(reader.properties(), self.cf, &self.counts)
            .map_err(|what| SstError::corrupt(what, offset))?;
        for (name, value) in self.collectors.finish(&self.proof.last_key) {
            if reader.properties().get(name) != Some(&value[..]) {
                return Err(SstError::corrupt("a property of TiKV", offset));
            }
        }
        self.proof.entries = self.counts.entries;
        self.proof.crc32 = crc32;
        Ok(self.proof)
    }
}

fn check_properties(properties: &Properties, cf: Cf, counts: &Counts) -> Result<(), &'static str> {
    for (name, number) in counts.properties() {
        if properties.number(name) != Some(number) {
            return Err("a count in the properties");
        }
    }
    let extractor = match cf {
        Cf::Write => PREFIX_EXTRACTOR,
        Cf::Default => "nullptr",
    };
    let expected: [(&str, &[u8]); 7] = [
        ("rocksdb.comparator", COMPARATOR.as_bytes()),
        ("rocksdb.prefix.extractor.name", extractor.as_bytes()),
        (
            "rocksdb.external_sst_file.version",
            &EXTERNAL_VERSION.to_le_bytes(),
        ),
        ("rocksdb.external_sst_file.global_seqno", &[0; 8]),
        ("rocksdb.block.based.table.index.type", &[0; 4]),
        ("rocksdb.index.key.is.user.key", &[1]),
        ("rocksdb.index.value.is.delta.encoded", &[1]),
    ];
    for (name, value) in expected {
        if properties.get(name) != Some(value) {
            return Err("a property that decides how the file is read");
        }
    }
    let session = properties
        .get("rocksdb.creating.session.identity")
        .unwrap_or_default();
    let numbered = properties
        .number("rocksdb.original.file.number")
        .is_some_and(|number| number > 0);
    if session.len() != 20 || !session.iter().all(u8::is_ascii_alphanumeric) || !numbered {
        return Err("the file has no id of its own");
    }
    Ok(())
}
