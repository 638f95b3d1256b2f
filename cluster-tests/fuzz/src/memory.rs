//! Live bytes of this process, counted at the allocator: a length field that allocates shows here, without a sanitizer.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// What a reader may hold beside what was pushed: its own fields, and the small vectors of one record.
const FIXED_BYTES: usize = 16 << 10;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `read`, which may hold at most four times the `pushed` bytes at once: a grown buffer is up to twice what is in it, and
/// is copied when it grows.
///
/// # Panics
/// If it held more.
pub fn bounded_by(pushed: usize, read: impl FnOnce()) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    read();
    let held = PEAK.load(Relaxed).saturating_sub(before);
    let most = 4 * pushed + FIXED_BYTES;
    assert!(
        held <= most,
        "{held} bytes held for {pushed} pushed: at most {most} are fine"
    );
}
