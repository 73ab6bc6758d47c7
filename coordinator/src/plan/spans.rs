//! Where runs lie in the key space: what they span together, and whether that reaches into a range.

use prost::bytes::Bytes;
use thunderhead_proto::thunderhead::Run;
use thunderhead_types::KeyRange;

/// First and last key of a run.
pub type Span = (Bytes, Bytes);

/// Of the runs that have something in them.
pub fn spans(runs: &[Run]) -> impl Iterator<Item = Span> {
    let held = runs.iter().filter(|run| run.entries > 0);
    held.map(|run| (run.first_key.clone(), run.last_key.clone()))
}

/// Many spans together: disjoint and ascending.
#[derive(Debug, Default, PartialEq)]
pub struct Spans(Vec<Span>);

impl Spans {
    /// What they span together.
    pub fn of(spans: impl Iterator<Item = Span>) -> Self {
        let mut sorted: Vec<Span> = spans.collect();
        sorted.sort_unstable();
        let mut merged: Vec<Span> = Vec::new();
        for (first, last) in sorted {
            match merged.last_mut() {
                Some(before) if first <= before.1 => {
                    if last > before.1 {
                        before.1 = last;
                    }
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// Whether keys of `range` may lie in one of them.
    pub fn touch(&self, range: &KeyRange) -> bool {
        let at = self
            .0
            .partition_point(|(_, last)| last.as_ref() < range.start.as_slice());
        let next = self.0.get(at);
        next.is_some_and(|(first, _)| range.end.is_empty() || first.as_ref() < range.end.as_slice())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(of: &[(&str, &str)]) -> Spans {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Spans::of(of.iter().map(|(a, b)| (bytes(a), bytes(b))))
    }

    #[test]
    fn spans_that_share_keys_become_one_and_those_beside_each_other_stay_two() {
        let merged = spans(&[("f", "g"), ("a", "c"), ("c", "d"), ("b", "b"), ("e", "e")]);
        assert_eq!(merged, spans(&[("a", "d"), ("e", "e"), ("f", "g")]));
        assert_eq!(merged.0.len(), 3);
    }

    #[test]
    fn a_span_touches_a_range_exactly_when_one_of_its_keys_may_lie_in_it() {
        let merged = spans(&[("c", "d"), ("h", "h")]);
        let touch = |start: &str, end: &str| merged.touch(&KeyRange::new(start, end));
        // A range ends before its end, a span with its last key.
        assert!(!touch("a", "c") && touch("a", "c\0"));
        assert!(touch("d", "e") && !touch("d\0", "h"));
        assert!(touch("e", "i") && !touch("i", "z"));
        assert!(touch("a", "") && touch("h", "") && !touch("h\0", ""));
        assert!(!spans(&[]).touch(&KeyRange::new(*b"", *b"")));
    }
}
