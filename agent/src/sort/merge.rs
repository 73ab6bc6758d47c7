//! Merges runs: one stream in key order; equal keys come next to each other, in the order of the runs.
//!
//! WARNING: measure with `examples/sort_bench.rs` before and after a change.
//!
//! The idea: a tournament whose inner nodes keep the losers, so that each new pair is compared once per
//! level, from its leaf up. A node caches eight bytes of the key behind what all keys of the merge have
//! in common, so that most comparisons are of two integers in one small array.
//!
//! Runs that do not overlap are read one after the other as one source: a table that is loaded in key
//! order has one source, however many runs it has, and is not compared at all.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use thunderhead_types::KeyRange;

use super::buffer::{common_len, prefix_of};
use super::error::Result;
use super::reader::{PairStream, RunCursor, RunFile};

/// Runs that hold disjoint keys, in key order, each with its place in the order of the runs.
pub(super) type Chain = Vec<(usize, Arc<RunFile>)>;

/// Groups runs into as few chains as possible.
pub(super) fn chains(runs: &[Arc<RunFile>]) -> Vec<Chain> {
    let mut ordered: Chain = runs
        .iter()
        .cloned()
        .enumerate()
        .filter(|(_, run)| !run.is_empty())
        .collect();
    ordered.sort_by(|a, b| a.1.lower().cmp(b.1.lower()).then(a.0.cmp(&b.0)));
    let mut chains: Vec<Chain> = Vec::new();
    // Ends of the chains; the one that ended first is the only one that has to be looked at.
    let mut ends = std::collections::BinaryHeap::new();
    for (order, run) in ordered {
        let entry = (order, Arc::clone(&run));
        let free = ends
            .peek()
            .filter(|end: &&std::cmp::Reverse<(Vec<u8>, usize)>| end.0.0.as_slice() < run.lower());
        let index = match free.map(|end| end.0.1) {
            Some(index) => {
                ends.pop();
                chains[index].push(entry);
                index
            }
            None => {
                chains.push(vec![entry]);
                chains.len() - 1
            }
        };
        ends.push(std::cmp::Reverse((run.upper().to_vec(), index)));
    }
    chains
}

/// One source of a merge: the runs of a chain one after the other.
struct Source {
    waiting: VecDeque<(usize, Arc<RunFile>)>,
    range: KeyRange,
    current: Option<RunCursor>,
    /// Place of the current run in the order of the runs.
    order: usize,
}

impl Source {
    fn new(chain: &Chain, range: &KeyRange) -> Source {
        Source {
            waiting: chain.iter().cloned().collect(),
            range: range.clone(),
            current: None,
            order: 0,
        }
    }

    #[inline]
    fn advance(&mut self) -> Result<bool> {
        loop {
            if let Some(cursor) = &mut self.current
                && cursor.advance()?
            {
                return Ok(true);
            }
            let Some((order, run)) = self.waiting.pop_front() else {
                return Ok(false);
            };
            self.order = order;
            self.current = Some(run.cursor(&self.range));
        }
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], |cursor| cursor.key())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], |cursor| cursor.value())
    }

    #[inline]
    fn row(&self) -> Option<u64> {
        self.current.as_ref().and_then(|cursor| cursor.row())
    }

    #[inline]
    fn is_tied(&self) -> bool {
        self.current.as_ref().is_some_and(|cursor| cursor.is_tied())
    }
}

/// A source with the eight bytes that its current key is compared by.
#[derive(Clone, Copy)]
struct Head {
    prefix: u64,
    source: u32,
    /// Nothing is left; greater than every key.
    done: bool,
    /// It met a head with the same key, and came first. Whoever comes next in the stream lost to the one before
    /// it directly, so equal neighbours from two sources are never missed.
    tied: bool,
}

/// Runs merged into one stream.
pub struct Merge {
    sources: Vec<Source>,
    /// The loser of each inner node of the tournament; index 0 holds the winner.
    tree: Vec<Head>,
    /// Bytes that all keys have in common.
    depth: usize,
    started: bool,
}

impl Merge {
    /// Merges the pairs of `runs` inside `range`.
    pub fn new(runs: &[Arc<RunFile>], range: &KeyRange) -> Merge {
        Self::of_chains(&chains(runs), range)
    }

    pub(super) fn of_chains(chains: &[Chain], range: &KeyRange) -> Merge {
        let runs = || chains.iter().flatten();
        let lower = runs().map(|(_, run)| run.lower()).min().unwrap_or_default();
        let upper = runs().map(|(_, run)| run.upper()).max().unwrap_or_default();
        Merge {
            sources: chains
                .iter()
                .map(|chain| Source::new(chain, range))
                .collect(),
            tree: Vec::new(),
            depth: common_len(lower, upper),
            started: false,
        }
    }

    /// Number of sources that are compared with each other.
    pub fn ways(&self) -> usize {
        self.sources.len()
    }

    /// Plays the first tournament, of at least two sources: the leaves are the nodes from `ways` on, and
    /// the node above node n is n / 2.
    fn start(&mut self) -> Result<()> {
        self.started = true;
        let ways = self.sources.len();
        let mut winners = vec![
            Head {
                prefix: 0,
                source: 0,
                done: true,
                tied: false
            };
            2 * ways
        ];
        for source in 0..ways {
            winners[ways + source] = self.head(source)?;
        }
        self.tree = winners[..ways].to_vec();
        for node in (1..ways).rev() {
            let (mut left, mut right) = (winners[2 * node], winners[2 * node + 1]);
            let (winner, loser) = if self.less(&mut right, &mut left) {
                (right, left)
            } else {
                (left, right)
            };
            winners[node] = winner;
            self.tree[node] = loser;
        }
        self.tree[0] = winners[1];
        Ok(())
    }

    #[inline]
    fn head(&mut self, source: usize) -> Result<Head> {
        let done = !self.sources[source].advance()?;
        let prefix = if done {
            u64::MAX
        } else {
            prefix_of(self.sources[source].key(), self.depth)
        };
        Ok(Head {
            prefix,
            source: source as u32,
            done,
            tied: false,
        })
    }

    #[inline(always)]
    fn less(&self, a: &mut Head, b: &mut Head) -> bool {
        if a.prefix != b.prefix {
            a.prefix < b.prefix
        } else {
            self.less_in_full(a, b)
        }
    }

    fn less_in_full(&self, a: &mut Head, b: &mut Head) -> bool {
        if a.done || b.done {
            return b.done && !a.done;
        }
        let (one, other) = (
            &self.sources[a.source as usize],
            &self.sources[b.source as usize],
        );
        match one.key().cmp(other.key()) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => {
                let first = one.order < other.order;
                if first {
                    a.tied = true
                } else {
                    b.tied = true
                }
                first
            }
        }
    }

    #[inline]
    fn replay(&mut self) -> Result<()> {
        let source = self.tree[0].source as usize;
        let mut winner = self.head(source)?;
        let mut node = (self.sources.len() + source) / 2;
        while node > 0 {
            let mut loser = self.tree[node];
            if self.less(&mut loser, &mut winner) {
                self.tree[node] = winner;
                winner = loser;
            }
            node /= 2;
        }
        self.tree[0] = winner;
        Ok(())
    }
}

impl PairStream for Merge {
    #[inline]
    fn advance(&mut self) -> Result<bool> {
        match self.sources.as_mut_slice() {
            [] => return Ok(false),
            [only] => return only.advance(),
            _ => {}
        }
        if self.started {
            self.replay()?
        } else {
            self.start()?
        }
        Ok(!self.tree[0].done)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        let source = self.tree.first().map_or(0, |winner| winner.source as usize);
        self.sources.get(source).map_or(&[], Source::key)
    }

    #[inline]
    fn value(&self) -> &[u8] {
        let source = self.tree.first().map_or(0, |winner| winner.source as usize);
        self.sources.get(source).map_or(&[], Source::value)
    }

    #[inline]
    fn row(&self) -> Option<u64> {
        let source = self.tree.first().map_or(0, |winner| winner.source as usize);
        self.sources.get(source).and_then(Source::row)
    }

    #[inline]
    fn is_tied(&self) -> bool {
        let (tied, source) = match self.tree.first() {
            Some(winner) => (winner.tied, winner.source as usize),
            None => (false, 0),
        };
        tied || self.sources.get(source).is_some_and(Source::is_tied)
    }
}
