//! Places of the source as the scheduler knows them: a directory, which whoever may read it reads; or a directory with
//! the agents that hold the files, where hosts differ. One text for both, because tasks are queued by it.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

/// In no path and no name.
const SEPARATOR: char = '\0';

/// A place of files in `directory` that only agents have: `known` held them when the job was planned, `here` are those
/// of whom it is known now.
fn held_place(directory: &str, known: &[String], here: &BTreeSet<&str>) -> String {
    let mut place = format!("{directory}{SEPARATOR}{}", known.join(", "));
    for agent in here {
        place.push(SEPARATOR);
        place.push_str(agent);
    }
    place
}

/// Of two places in one directory: for agents that hold the files of both.
fn both(place: &str, other: &str) -> String {
    let mut words = place.split(SEPARATOR);
    let named: Vec<&str> = words.by_ref().take(2).collect();
    let mut both = named.join(&SEPARATOR.to_string());
    for agent in words.filter(|agent| reads(other, agent, &[])) {
        both.push(SEPARATOR);
        both.push_str(agent);
    }
    both
}

/// The directory of a source file: what an agent can read or not.
fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// Where files of one directory that are read together can be read: see [`reads`]. No files are for everyone.
pub(crate) fn place_of<'a>(
    sight: Option<&'a Sight>,
    mut paths: impl Iterator<Item = &'a str> + Clone,
) -> Cow<'a, str> {
    let held = sight.and_then(|sight| sight.place(paths.clone()));
    held.unwrap_or_else(|| paths.next().map_or("", directory).into())
}

/// Whether `agent`, which announced the roots `readable`, reads the files of this place.
pub(crate) fn reads(place: &str, agent: &str, readable: &[String]) -> bool {
    if let Some((_, holders)) = place.split_once(SEPARATOR) {
        return holders.split(SEPARATOR).skip(1).any(|name| name == agent);
    }
    place.is_empty()
        || readable.is_empty()
        || readable
            .iter()
            .any(|root| is_below(place, root.trim_end_matches('/')))
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether an agent that announced `readable` may hold files below `root`.
pub(super) fn concerns(readable: &[String], root: &str) -> bool {
    readable.iter().any(|own| {
        let own = own.trim_end_matches('/');
        is_below(root, own) || is_below(own, root)
    })
}

/// What a job waits for whose chunks lie there.
pub(crate) fn who_reads(place: &str) -> String {
    let mut parts = place.split(SEPARATOR);
    let directory = parts.next().unwrap_or_default();
    match parts.next() {
        None => format!("agents that can read {directory}"),
        Some(known) => format!("agents that hold the files in {directory}: {known}"),
    }
}

/// Who holds which file of a job's source.
pub(crate) struct Sight {
    places: Vec<String>,
    of: HashMap<String, usize>,
}

impl Sight {
    /// Of files by their paths, with who held each when the job was planned and who holds it now.
    pub(super) fn new<'a>(
        files: impl Iterator<Item = (String, &'a [String], BTreeSet<&'a str>)>,
    ) -> Self {
        let (mut numbers, mut of) = (HashMap::new(), HashMap::new());
        for (path, known, here) in files {
            let place = held_place(directory(&path), known, &here);
            let next = numbers.len();
            of.insert(path, *numbers.entry(place).or_insert(next));
        }
        let mut places = vec![String::new(); numbers.len()];
        for (place, number) in numbers {
            places[number] = place;
        }
        Self { places, of }
    }

    /// The place of files of one directory: for whoever holds all of them.
    fn place<'a>(&self, mut paths: impl Iterator<Item = &'a str>) -> Option<Cow<'_, str>> {
        let mut last = *self.of.get(paths.next()?)?;
        let mut place = Cow::Borrowed(self.places[last].as_str());
        for path in paths {
            let next = *self.of.get(path)?;
            if next != last {
                place = both(&place, &self.places[next]).into();
                last = next;
            }
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_directory_is_for_whoever_may_read_it_and_held_files_are_for_their_holders() {
        let root = |text: &str| vec![text.to_owned()];
        for (place, readable, expected) in [
            ("", root("/b"), true),
            ("/a", vec![], true),
            ("/a/b", root("/a/"), true),
            ("/a", root("/a/b"), false),
            ("/ab", root("/a"), false),
        ] {
            assert_eq!(reads(place, "x", &readable), expected, "{place}");
        }
        let known = ["one".to_owned(), "two".to_owned()];
        let file = |name: &str, here: &[&'static str]| {
            let here: BTreeSet<&str> = here.iter().copied().collect();
            (format!("/d/{name}"), &known[..], here)
        };
        let files = [
            file("1", &["one"]),
            file("2", &["one"]),
            file("3", &[]),
            file("4", &["one", "two"]),
            file("5", &["three", "two"]),
        ];
        let sight = Sight::new(files.into_iter());
        let place = |names: &[&str]| {
            let paths: Vec<String> = names.iter().map(|name| format!("/d/{name}")).collect();
            let paths = paths.iter().map(String::as_str);
            place_of(Some(&sight), paths).into_owned()
        };
        let one = place(&["1"]);
        assert_eq!(one, place(&["2"]));
        assert_eq!(one, place(&["1", "2"]));
        // Nobody was asked for it.
        assert_eq!(place(&["6"]), "/d");
        assert!(reads(&one, "one", &[]));
        // Neither who held it once, nor who announces nothing.
        assert!(!reads(&one, "two", &root("/d")) && !reads(&place(&["3"]), "one", &[]));
        assert_eq!(
            who_reads(&place(&["3"])),
            "agents that hold the files in /d: one, two"
        );
        // Files that are read together are for whoever holds all of them.
        for (names, readers) in [
            (["1", "4"], "one"),
            (["4", "1"], "one"),
            (["4", "5"], "two"),
            (["1", "5"], ""),
            (["3", "4"], ""),
        ] {
            let place = place(&names);
            let agents = ["one", "two", "three"];
            let reading: Vec<_> = agents
                .into_iter()
                .filter(|a| reads(&place, a, &[]))
                .collect();
            assert_eq!(reading.join(" "), readers, "{names:?}");
            assert_eq!(who_reads(&place), who_reads(&one), "{names:?}");
        }
        assert_eq!(who_reads("/d"), "agents that can read /d");
    }

    #[test]
    fn an_agent_is_asked_when_its_roots_and_the_source_meet() {
        let readable = |text: &str| [text.to_owned()];
        assert!(concerns(&readable("/data/"), "/data"));
        assert!(concerns(&readable("/data"), "/data/a"));
        assert!(concerns(&readable("/data/a"), "/data"));
        assert!(!concerns(&readable("/data-2"), "/data"));
        assert!(!concerns(&[], "/data"));
    }
}
