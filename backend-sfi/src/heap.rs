//! The monitor's heap: an allocator in Rust over large pages.
//!
//! It takes the place of the C library's, whose `calloc` and `realloc` call copies of the C library's own, with vector
//! registers that the guest still holds ([`crate::memory_routines`]). Memory comes from the kernel in pieces of two
//! mebibytes, each of which may be one large page: a process touches hundreds of small pages of its heap while its program
//! starts, and to get a small page costs the kernel two microseconds, a large one fifty.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

use dlmalloc::Dlmalloc;

/// What the kernel is asked for at once.
const PIECE: usize = 2 << 20;

#[global_allocator]
static HEAP: Heap =
    Heap { allocator: UnsafeCell::new(configured()), lock: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER) };

/// Run before `main`: a child that is forked while another thread allocates finds the heap's lock free, as it would find
/// the C library's.
#[used]
#[unsafe(link_section = ".init_array")]
static MAKE_FORKABLE: extern "C" fn() = make_forkable;

extern "C" fn make_forkable() {
    extern "C" fn lock() {
        HEAP.lock();
    }
    extern "C" fn unlock() {
        HEAP.unlock();
    }
    // SAFETY: the functions stay, and may be called before and after any fork. Without memory for the registration there
    // is none for the program either.
    unsafe { libc::pthread_atfork(Some(lock), Some(unlock), Some(unlock)) };
}

/// Runs `fork`, which forks by other means than the C library's, with the heap locked, so that a child finds it free too: no
/// other thread is inside. `fork` does not allocate.
pub fn held<T>(fork: impl FnOnce() -> T) -> T {
    HEAP.lock();
    let result = fork();
    HEAP.unlock();
    result
}

const fn configured() -> Dlmalloc<Pieces> {
    let mut allocator = Dlmalloc::new_with_allocator(Pieces);
    assert!(allocator.set_granularity(PIECE), "a power of two");
    allocator
}

struct Heap {
    allocator: UnsafeCell<Dlmalloc<Pieces>>,
    lock: UnsafeCell<libc::pthread_mutex_t>,
}

// SAFETY: the allocator is used with the lock held only.
unsafe impl Sync for Heap {}

impl Heap {
    fn lock(&self) {
        // SAFETY: initialised statically, never moved.
        let status = unsafe { libc::pthread_mutex_lock(self.lock.get()) };
        debug_assert_eq!(status, 0, "a normal mutex can be locked");
    }

    fn unlock(&self) {
        // SAFETY: as above, and the caller has locked it.
        unsafe { libc::pthread_mutex_unlock(self.lock.get()) };
    }

    fn with<T>(&self, body: impl FnOnce(&mut Dlmalloc<Pieces>) -> T) -> T {
        self.lock();
        // SAFETY: the lock is held, and `body`, the allocator's own code, does not come back here.
        let result = body(unsafe { &mut *self.allocator.get() });
        self.unlock();
        result
    }
}

// SAFETY: the allocator's, which hands out distinct blocks of the size and alignment asked for.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: no precondition but the layout's own.
        self.with(|allocator| unsafe { allocator.malloc(layout.size(), layout.align()) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        self.with(|allocator| unsafe { allocator.free(block, layout.size(), layout.align()) });
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: no precondition but the layout's own.
        self.with(|allocator| unsafe { allocator.calloc(layout.size(), layout.align()) })
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        self.with(|allocator| unsafe { allocator.realloc(block, layout.size(), layout.align(), new_size) })
    }
}

/// Where the allocator's memory comes from.
struct Pieces;

// SAFETY: fresh private mappings, given back as they were taken.
unsafe impl dlmalloc::Allocator for Pieces {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let base = if size.is_multiple_of(PIECE) { map_aligned(size) } else { map(size) };
        (base, if base.is_null() { 0 } else { size }, 0)
    }

    fn remap(&self, base: *mut u8, old: usize, new: usize, can_move: bool) -> *mut u8 {
        let flags = if can_move { libc::MREMAP_MAYMOVE } else { 0 };
        // SAFETY: the allocator's own mapping, whose place it learns.
        let moved = unsafe { libc::mremap(base.cast(), old, new, flags) };
        if moved == libc::MAP_FAILED { ptr::null_mut() } else { moved.cast() }
    }

    fn free_part(&self, base: *mut u8, old: usize, new: usize) -> bool {
        self.free(base.wrapping_add(new), old - new)
    }

    fn free(&self, base: *mut u8, size: usize) -> bool {
        // SAFETY: the allocator's own mapping, of which it uses nothing any more.
        unsafe { libc::munmap(base.cast(), size) == 0 }
    }

    fn can_release_part(&self, _: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        endo_core::PAGE_SIZE as usize
    }
}

fn map(size: usize) -> *mut u8 {
    let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, where nothing is.
    let base = unsafe { libc::mmap(ptr::null_mut(), size, rights, kind, -1, 0) };
    if base == libc::MAP_FAILED { ptr::null_mut() } else { base.cast() }
}

/// A mapping that begins at a multiple of [`PIECE`], of large pages if there are any.
fn map_aligned(size: usize) -> *mut u8 {
    let Some(longer) = size.checked_add(PIECE) else { return ptr::null_mut() };
    let base = map(longer);
    if base.is_null() {
        return base;
    }
    let before = base.align_offset(PIECE);
    let aligned = base.wrapping_add(before);
    for (start, length) in [(base, before), (aligned.wrapping_add(size), PIECE - before)] {
        if length != 0 {
            // SAFETY: a part of the new mapping that nobody has heard of.
            unsafe { libc::munmap(start.cast(), length) };
        }
    }
    // SAFETY: advice about the new mapping.
    unsafe { libc::madvise(aligned.cast(), size, libc::MADV_HUGEPAGE) };
    aligned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_begin_where_a_large_page_can() {
        let base = map_aligned(2 * PIECE);
        assert!(!base.is_null() && base.addr().is_multiple_of(PIECE));
        // SAFETY: the mapping has this many bytes.
        let bytes = unsafe { core::slice::from_raw_parts_mut(base, 2 * PIECE) };
        assert!(bytes.iter().all(|&byte| byte == 0));
        bytes[2 * PIECE - 1] = 1;
        assert!(dlmalloc::Allocator::free(&Pieces, base, 2 * PIECE));
    }

    #[test]
    fn blocks_of_all_sizes_keep_what_they_hold_when_they_grow() {
        for size in [1, 100, 5000, 300_000, 3 << 20] {
            let mut bytes = vec![7_u8; size];
            bytes.resize(size * 3, 9);
            assert!(
                bytes[..size].iter().all(|&byte| byte == 7) && bytes[size..].iter().all(|&byte| byte == 9)
            );
        }
    }
}
