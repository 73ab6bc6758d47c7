//! Small files of a table that follow one another share a chunk: a task, its runs and its manifest cost more than the
//! rows of a small file. Owns which files go together; what they were planned as does not change by it, neither their
//! row ids nor the order of the source.

use thunderhead_proto::thunderhead::EncodeTask;

/// Files of one chunk. Their names, sizes and row ids are recorded as one value: a few hundred bytes each.
const PARTS_MAX: usize = 256;

/// A file with its parts.
pub(super) struct PlannedFile {
    /// What is common to its parts, and the parts: several when the file is cut, none when it has no rows.
    pub(super) chunk: EncodeTask,
    /// How much work it is, in bytes that are not packed.
    pub(super) weight: u64,
    /// Where it can be read: see [`crate::spread::reads`].
    pub(super) place: String,
}

/// Room in the last chunk.
struct Room {
    weight: u64,
    place: String,
}

/// The chunks of files in source order. Files that are not cut go together while they weigh at most `weight_max`,
/// if they are read in the same way and in the same place.
pub(super) fn pack(files: Vec<PlannedFile>, weight_max: u64) -> Vec<EncodeTask> {
    let mut chunks: Vec<EncodeTask> = Vec::new();
    let mut room: Option<Room> = None;
    for file in files {
        let PlannedFile {
            mut chunk,
            weight,
            place,
        } = file;
        let mut parts = std::mem::take(&mut chunk.parts);
        let whole = parts.len() == 1;
        if parts.is_empty() {
            continue;
        }
        if let (true, Some(room), Some(last)) = (whole, &mut room, chunks.last_mut())
            && room.place == place
            && room.weight.saturating_add(weight) <= weight_max
            && last.parts.len() < PARTS_MAX
            && (&last.columns, &last.format_json) == (&chunk.columns, &chunk.format_json)
        {
            room.weight += weight;
            last.parts.append(&mut parts);
            continue;
        }
        chunks.extend(parts.into_iter().map(|part| EncodeTask {
            parts: vec![part],
            ..chunk.clone()
        }));
        room = whole.then_some(Room { weight, place });
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use thunderhead_proto::thunderhead::FilePart;

    /// A file of so many parts.
    fn file(name: &str, weight: u64, parts: u64) -> PlannedFile {
        let part = |offset| FilePart {
            path: name.into(),
            offset,
            row_id_base: 7,
            row_id_end: 9,
            ..FilePart::default()
        };
        PlannedFile {
            chunk: EncodeTask {
                parts: (0..parts).map(part).collect(),
                columns: vec!["a".into()],
                format_json: b"{}".to_vec().into(),
                ..EncodeTask::default()
            },
            weight,
            place: "/d".into(),
        }
    }

    /// The files of each chunk.
    fn packed(files: Vec<PlannedFile>) -> String {
        let all: Vec<FilePart> = files.iter().flat_map(|f| f.chunk.parts.clone()).collect();
        let chunks = pack(files, 10);
        let parts: Vec<FilePart> = chunks.iter().flat_map(|c| c.parts.clone()).collect();
        assert_eq!(parts, all, "nothing is lost, and all stays in its order");
        let names = chunks.iter().map(|chunk| {
            assert_eq!(chunk.columns.len(), 1);
            let names = chunk.parts.iter().map(|part| part.path.as_str());
            names.collect::<Vec<_>>().join("")
        });
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn files_that_follow_one_another_go_together_up_to_their_bound() {
        let one = |name: &str, weight| file(name, weight, 1);
        assert_eq!(packed(vec![]), "");
        assert_eq!(packed(vec![one("a", 3), one("b", 3), one("c", 4)]), "abc");
        assert_eq!(packed(vec![one("a", 3), one("b", 3), one("c", 5)]), "ab c");
        // The next one that is small enough stays behind the one that is not.
        assert_eq!(
            packed(vec![one("a", 3), one("b", 9), one("c", 1), one("d", 1)]),
            "a bc d"
        );
        assert_eq!(
            packed(vec![one("a", 1), one("b", 11), one("c", 1)]),
            "a b c"
        );
        assert_eq!(packed(vec![one("a", 1), one("b", u64::MAX)]), "a b");
        let many: Vec<_> = (0..2 * PARTS_MAX + 1).map(|_| one("a", 0)).collect();
        let sizes = pack(many, 10);
        let sizes: Vec<usize> = sizes.iter().map(|chunk| chunk.parts.len()).collect();
        assert_eq!(sizes, [PARTS_MAX, PARTS_MAX, 1]);
    }

    #[test]
    fn a_file_that_is_cut_stays_apart_and_one_without_rows_is_not_there() {
        let files = vec![
            file("a", 1, 1),
            file("B", 1, 3),
            file("c", 1, 1),
            file("-", 1, 0),
            file("d", 1, 1),
        ];
        assert_eq!(packed(files), "a B B B cd");
    }

    #[test]
    fn files_in_other_places_or_of_another_form_are_not_for_one_chunk() {
        let mut files: Vec<_> = ["a", "b", "c", "d", "e", "f"]
            .map(|name| file(name, 1, 1))
            .into();
        files[2].place = "/e".into();
        files[3].place = "/e".into();
        files[4].chunk.columns = vec!["b".into()];
        files[5].chunk.format_json = b"[]".to_vec().into();
        assert_eq!(packed(files), "ab cd e f");
    }
}
