//! A large array of bytes in little memory: pages that do not fit lie in a file of the scratch directory. All
//! zeros at first. As long as everything fits, no file is made.

use crate::sort::{Ledger, Reservation, SortError};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Small enough that a random access does not read much, large enough that the table of pages stays small.
const PAGE_BYTES: usize = 16 << 10;

struct Page {
    number: u64,
    changed: bool,
    bytes: Box<[u8]>,
}

/// See the module.
pub(crate) struct Paged {
    /// A page has one slot it can be in: its number modulo the number of slots.
    slots: Vec<Option<Page>>,
    len: u64,
    file: Option<(File, Reservation)>,
    scratch_dir: PathBuf,
    ledger: Arc<Ledger>,
}

impl Paged {
    /// `len` zeros, of which about `memory_bytes` are kept in memory.
    pub(crate) fn new(
        len: u64,
        memory_bytes: usize,
        scratch_dir: &Path,
        ledger: &Arc<Ledger>,
    ) -> Self {
        let pages = len.div_ceil(PAGE_BYTES as u64);
        let in_memory = (memory_bytes / PAGE_BYTES).max(1);
        let slots = usize::try_from(pages).map_or(in_memory, |pages| pages.min(in_memory));
        let mut paged = Self {
            slots: Vec::new(),
            len,
            file: None,
            scratch_dir: scratch_dir.to_owned(),
            ledger: Arc::clone(ledger),
        };
        paged.slots.resize_with(slots.max(1), || None);
        paged
    }

    pub(crate) fn bit(&mut self, at: u64) -> Result<bool, SortError> {
        Ok(*self.byte(at / 8, false)? >> (at % 8) & 1 == 1)
    }

    /// Sets a bit; whether it was set before.
    pub(crate) fn set_bit(&mut self, at: u64) -> Result<bool, SortError> {
        let byte = self.byte(at / 8, true)?;
        let before = *byte >> (at % 8) & 1 == 1;
        *byte |= 1 << (at % 8);
        Ok(before)
    }

    /// Replaces word `at` of eight bytes by `value` and gives the old one.
    pub(crate) fn replace_word(&mut self, at: u64, value: u64) -> Result<u64, SortError> {
        let start = at * 8;
        let page = self.page(start / PAGE_BYTES as u64, true)?;
        let place = (start % PAGE_BYTES as u64) as usize;
        let mut before = [0; 8];
        before.copy_from_slice(&page.bytes[place..place + 8]);
        page.bytes[place..place + 8].copy_from_slice(&value.to_le_bytes());
        Ok(u64::from_le_bytes(before))
    }

    #[inline]
    fn byte(&mut self, at: u64, change: bool) -> Result<&mut u8, SortError> {
        let page = self.page(at / PAGE_BYTES as u64, change)?;
        Ok(&mut page.bytes[(at % PAGE_BYTES as u64) as usize])
    }

    #[inline]
    fn page(&mut self, number: u64, change: bool) -> Result<&mut Page, SortError> {
        let slot = (number % self.slots.len() as u64) as usize;
        if self.slots[slot].as_ref().is_none_or(|p| p.number != number) {
            self.load(slot, number)?;
        }
        let page = self.slots[slot].as_mut().expect("the page was just loaded");
        page.changed |= change;
        Ok(page)
    }

    #[cold]
    fn load(&mut self, slot: usize, number: u64) -> Result<(), SortError> {
        debug_assert!(number < self.len.div_ceil(PAGE_BYTES as u64));
        let mut bytes = match self.slots[slot].take() {
            Some(old) if old.changed => {
                self.file()?
                    .write_all_at(&old.bytes, old.number * PAGE_BYTES as u64)
                    .map_err(SortError::io(&self.scratch_dir, "write a scratch file"))?;
                old.bytes
            }
            Some(old) => old.bytes,
            None => vec![0; PAGE_BYTES].into_boxed_slice(),
        };
        bytes.fill(0);
        if let Some((file, _)) = &self.file {
            read_up_to(file, &mut bytes, number * PAGE_BYTES as u64)
                .map_err(SortError::io(&self.scratch_dir, "read a scratch file"))?;
        }
        self.slots[slot] = Some(Page {
            number,
            changed: false,
            bytes,
        });
        Ok(())
    }

    /// The file has no name, so that it is gone with the process whatever happens.
    fn file(&mut self) -> Result<&File, SortError> {
        if self.file.is_none() {
            let space = self
                .ledger
                .reserve(self.len.next_multiple_of(PAGE_BYTES as u64))?;
            let make = || {
                fs::create_dir_all(&self.scratch_dir)?;
                let path = self
                    .scratch_dir
                    .join(format!("paged-{:p}-{}", self, self.len));
                let file = File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(&path)?;
                fs::remove_file(&path)?;
                Ok(file)
            };
            let file = make().map_err(SortError::io(&self.scratch_dir, "create a scratch file"))?;
            self.file = Some((file, space));
        }
        let (file, _) = self.file.as_ref().expect("the file was just made");
        Ok(file)
    }
}

/// Reads what is there; behind the end of the file the bytes stay as they are.
fn read_up_to(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.read_at(bytes, at) {
            Ok(0) => break,
            Ok(n) => {
                bytes = &mut bytes[n..];
                at += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    #[test]
    fn an_array_larger_than_its_memory_keeps_every_bit_and_word() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::open(dir.path(), 0).unwrap());
        let mut random = StdRng::seed_from_u64(7);
        for memory in [PAGE_BYTES, 3 * PAGE_BYTES, 1 << 20] {
            let bytes = 10 * PAGE_BYTES as u64;
            let mut bits = Paged::new(bytes, memory, dir.path(), &ledger);
            let mut words = Paged::new(bytes, memory, dir.path(), &ledger);
            let mut plain_bits = vec![false; bytes as usize * 8];
            let mut plain_words = vec![0u64; bytes as usize / 8];
            for n in 1..20_000u64 {
                let bit = random.random_range(0..plain_bits.len());
                let before = std::mem::replace(&mut plain_bits[bit], true);
                assert_eq!(bits.set_bit(bit as u64).unwrap(), before);
                let look = random.random_range(0..plain_bits.len());
                assert_eq!(bits.bit(look as u64).unwrap(), plain_bits[look]);
                let word = random.random_range(0..plain_words.len());
                let before = std::mem::replace(&mut plain_words[word], n);
                assert_eq!(words.replace_word(word as u64, n).unwrap(), before);
            }
            assert_eq!(bits.file.is_some(), memory < bytes as usize);
        }
        assert_eq!(ledger.used(), 0, "the space is given back");
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            0,
            "no file is left"
        );
    }
}
