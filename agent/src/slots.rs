//! What a task takes of an agent: a slot, or a share of one. Small tasks are packed: so many of them as fill a slot
//! together are in an agent's hand at a time, so that it has its next one while its report about the last one
//! travels, and many are recorded together.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Shares of a slot, and so many small tasks at a time.
pub const SLOT: u32 = 16;
/// A task of so many bytes, or more, takes a whole slot.
const SLOT_BYTES: u64 = 4 << 20;

/// How much of a slot a task of so many bytes takes, at most [`SLOT`].
pub fn share_of_slot(bytes: u64) -> u32 {
    let share = bytes.min(SLOT_BYTES) * u64::from(SLOT) / SLOT_BYTES;
    share.max(1) as u32
}

/// The slots of one kind; whoever finds none free waits for its turn.
pub(crate) struct Slots(Semaphore);

impl Slots {
    pub(crate) fn new(slots: u32) -> Self {
        Self(Semaphore::new(slots.max(1) as usize * SLOT as usize))
    }

    /// Waits for `share` of a slot.
    pub(crate) async fn take(&self, share: u32) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        self.0.acquire_many(share.min(SLOT)).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_takes_as_much_of_a_slot_as_it_is_large_and_a_whole_one_at_most() {
        let shares = [0, 1, SLOT_BYTES / 4, SLOT_BYTES - 1, SLOT_BYTES, u64::MAX];
        assert_eq!(
            shares.map(share_of_slot),
            [1, 1, SLOT / 4, SLOT - 1, SLOT, SLOT]
        );
    }
}
