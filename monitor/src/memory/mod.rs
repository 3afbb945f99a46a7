//! The guest's address space: what is mapped where, with which rights, and how its bytes are reached.

use endo_core::GuestRange;

/// Every mapping of a guest, and where the next one may go.
#[derive(Debug)]
pub struct MemoryMap {
    window: GuestRange,
}

impl MemoryMap {
    /// An empty address space.
    pub fn new(window: GuestRange) -> Self {
        MemoryMap { window }
    }

    /// Where mappings may lie.
    pub fn window(&self) -> GuestRange {
        self.window
    }
}
