//! What the allocator keeps of memory that an agent has freed. Buffers of some MiB come and go with long rows; glibc takes
//! the first one that is freed as the size up to which it keeps such memory, in every thread's arena, and an agent ends
//! a third above its budget. Owns the sizes from which on it does not.
#![allow(unsafe_code)]

/// Blocks of at least this size go back to the system when they are freed. Buffers of every row or block are smaller, so
/// that they do not cost page faults each time.
#[cfg(target_env = "gnu")]
const GIVEN_BACK_FROM: i32 = 2 << 20;
/// Free memory at the end of an arena that is kept.
#[cfg(target_env = "gnu")]
const KEPT: i32 = 4 << 20;

/// For the whole process, once it is called.
pub(crate) fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers and may be called at any time from any thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, GIVEN_BACK_FROM);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}
