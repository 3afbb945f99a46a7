//! The program break (mm/mmap.c, `brk`).
#![deny(unsafe_code)]

use endo_core::{GuestAddr, GuestRange, IsolationBackend, PAGE_SIZE, Rights};

use super::{Label, Mapping, MappingFlags, MemoryMap};

/// Where the heap starts and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Break {
    /// First address that `brk` may give out.
    pub start: GuestAddr,
    /// The break: one past the heap's last byte.
    pub end: GuestAddr,
}

impl MemoryMap {
    /// Says where the heap starts: after the program's image. Rounded up to a page.
    pub fn set_brk_start(&mut self, start: GuestAddr) {
        let start = GuestAddr((start.0 + PAGE_SIZE - 1) & !(PAGE_SIZE - 1));
        self.heap = Break { start, end: start };
    }

    /// The heap's bounds.
    pub fn heap(&self) -> Break {
        self.heap
    }

    /// Moves the break, and says where it then is: where it was, if the request cannot be met.
    pub fn brk<B: IsolationBackend>(&mut self, backend: &B, to: GuestAddr) -> GuestAddr {
        if to < self.heap.start || to.0 > self.usable.end().0 {
            return self.heap.end;
        }
        let new_top = GuestAddr((to.0 + PAGE_SIZE - 1) & !(PAGE_SIZE - 1));
        let old_top = GuestAddr((self.heap.end.0 + PAGE_SIZE - 1) & !(PAGE_SIZE - 1));
        let moved = match GuestRange::from_bounds(old_top, new_top) {
            Some(grown) if grown.is_empty() => true,
            Some(grown) => self.grow_heap(backend, grown, to),
            None => {
                let shrunk = GuestRange::from_bounds(new_top, old_top).expect("the other order was tried");
                self.remove(backend, shrunk).is_ok()
            }
        };
        if moved {
            self.heap.end = to;
        }
        self.heap.end
    }

    fn grow_heap<B: IsolationBackend>(&mut self, backend: &B, grown: GuestRange, to: GuestAddr) -> bool {
        // One page is kept free above the heap, as the kernel does.
        let with_guard =
            GuestRange::new(grown.start(), grown.len() + PAGE_SIZE).expect("it is in the window");
        let heap_bytes = to.0 - self.heap.start.0;
        let is_allowed = self.usable.encloses(grown)
            && self.mappings.is_free_for_placement(with_guard)
            && heap_bytes <= self.limits().data.soft
            && self.check_limits(grown.len(), true).is_ok();
        let mapping = Mapping {
            range: grown,
            rights: Rights::READ | Rights::WRITE,
            max_rights: Rights::all(),
            flags: MappingFlags::ANONYMOUS,
            backing: None,
            label: Label::Heap,
        };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | self.future_flags;
        is_allowed && self.place(backend, mapping, flags, -1, 0).is_ok()
    }
}
