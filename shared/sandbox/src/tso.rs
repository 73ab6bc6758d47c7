//! Timestamps: `physical_ms << 18 | logical`, never given twice. An upper bound is stored ahead of
//! use, so that a restart jumps forward and never back.

use crate::error::Result;
use crate::meta::Meta;
use parking_lot::Mutex;
use std::sync::Arc;
use thunderhead_types::{Clock, Timestamp};

/// Bits of the logical part.
pub(crate) const LOGICAL_BITS: u32 = 18;
const LOGICAL_END: u64 = 1 << LOGICAL_BITS;
/// How far ahead the bound is stored: one sync per this much time.
const LEASE_MS: u64 = 3000;
const BOUND: &str = "tso";

pub(crate) struct Tso {
    meta: Arc<Meta>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    physical: u64,
    logical: u64,
    bound: u64,
}

impl Tso {
    pub(crate) fn open(meta: Arc<Meta>, clock: Arc<dyn Clock>) -> Result<Self> {
        let bound = meta.get(BOUND)?.unwrap_or(0);
        let state = Mutex::new(State {
            physical: bound,
            logical: 0,
            bound,
        });
        Ok(Self { meta, clock, state })
    }

    /// The largest of `count` fresh timestamps; `count` is below 2^18.
    pub(crate) fn next(&self, count: u64) -> Result<Timestamp> {
        let mut state = self.state.lock();
        let now = self.clock.unix_ms();
        if now > state.physical {
            (state.physical, state.logical) = (now, 0);
        }
        if state.logical + count >= LOGICAL_END {
            (state.physical, state.logical) = (state.physical + 1, 0);
        }
        state.logical += count;
        if state.physical >= state.bound {
            let bound = state.physical + LEASE_MS;
            self.meta.put(BOUND, &bound)?;
            state.bound = bound;
        }
        Ok(state.physical << LOGICAL_BITS | state.logical)
    }

    /// Moves the physical part on, as a failover does.
    pub(crate) fn jump(&self, ms: u64) {
        let mut state = self.state.lock();
        (state.physical, state.logical) = (state.physical.max(self.clock.unix_ms()) + ms, 0);
    }

    /// Uses up all but `left` logical values of the current millisecond.
    pub(crate) fn exhaust(&self, left: u64) {
        let mut state = self.state.lock();
        state.physical = state.physical.max(self.clock.unix_ms()) + 1;
        state.logical = LOGICAL_END - 1 - left.min(LOGICAL_END - 1);
    }
}
