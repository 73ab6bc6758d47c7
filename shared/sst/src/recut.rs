//! A part of a finished file as a new file. When regions split or moved between building and ingest, the
//! entries are taken over as they are: no row is encoded again, no record made.

use crate::builder::{BuiltSst, SstBuilder};
use crate::error::Result;
use crate::mvcc;
use crate::options::SstOptions;
use crate::reader::SstReader;
use crate::sink::SstSink;
use thunderhead_types::KeyRange;

/// The entries of `file` whose user keys lie in `range`, as a new file with an id of its own; `None`
/// when there are none.
pub fn recut(
    file: &BuiltSst,
    range: &KeyRange,
    options: &SstOptions,
    sink: SstSink,
) -> Result<Option<BuiltSst>> {
    let reader = SstReader::open(file.content.clone())?;
    let (start, end) = (
        mvcc::start_border(&range.start),
        mvcc::end_border(&range.end),
    );
    let mut entries = reader.entries_from(&start)?;
    let mut builder = None;
    while let Some((key, value)) = entries.next_entry()? {
        if key >= &end[..] {
            break;
        }
        let to = match &mut builder {
            Some(to) => to,
            None => builder.insert(SstBuilder::new(options.clone(), file.cf, sink.clone())?),
        };
        to.add(key, value)?;
    }
    builder.map(SstBuilder::finish).transpose()
}
