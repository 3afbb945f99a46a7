//! Where the parts of a program go.
//!
//! Everything goes below 2 GiB if it can: return addresses and pointers then fit sign-extended 32-bit immediates.
//!
//! ```text
//! 0x0000_0000  nothing
//! 0x0040_0000  programs that cannot be moved, then their heap
//! 0x1000_0000  programs that can, then their heap (128 MiB of places to begin at)
//!              ↑ heap    mappings ↓, once the space above the libraries is full
//! 0x6000_0000  dynamic linker and libraries, each at a place of its own
//! 0x7000_0000  mappings ↓
//!              vDSO
//! 0x7f00_0000  stack (16 MiB of places to end at), a guard below it
//! 0x8000_0000  mappings, once the low half is full
//! ```

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;

use endo_core::{GuestAddr, GuestRange, PAGE_SIZE};

use super::elf;
use super::error::LoadError;
use super::plan::{self, Plan};
use super::{Executable, host, stack};
use crate::memory::limits::stack_limit;
use crate::memory::{Label, MemoryMap, Placement};

/// Lowest place of a program that can be moved.
const PROGRAM_START: u64 = 0x1000_0000;
/// Its start is moved up by less than this many bytes, as [`Scatter`](crate::memory::Scatter) says.
const PROGRAM_SPREAD: u64 = 128 << 20;
/// Highest end of the stack.
const STACK_END: u64 = 0x7fff_f000;
/// The stack's end is moved down by less than this many bytes at random.
const STACK_SPREAD: u64 = 16 << 20;
/// The heap's start is moved up by less than this many bytes at random (arch_randomize_brk).
const HEAP_SPREAD: u64 = 32 << 20;
/// The smallest stack that is worth having, whatever the limit says.
const MIN_STACK: u64 = 128 << 10;
/// The largest part of the window that a stack may take: one in this many bytes.
const STACK_SHARE: u64 = 16;

/// How big the stack is: `RLIMIT_STACK`, within reason for the window.
pub(super) fn stack_bytes(window: GuestRange) -> u64 {
    let most = (window.len() / STACK_SHARE).min(256 << 20);
    stack_limit().clamp(MIN_STACK, most) & !(PAGE_SIZE - 1)
}

/// What is random about a program's layout. All zero, but for the random bytes, when the caller's personality asks for
/// addresses that do not change (`setarch -R`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Randomness {
    bytes: [u8; 16],
    stack: u64,
    heap: u64,
    jitter: u64,
}

impl Randomness {
    /// Asks the kernel.
    pub(super) fn draw() -> Self {
        let bytes: [u8; 40] = host::random_bytes();
        let moves = !host::wants_fixed_addresses();
        let number = |at: usize, below: u64| {
            let raw = u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
            if moves { raw % below } else { 0 }
        };
        Randomness {
            bytes: std::array::from_fn(|i| bytes[i]),
            stack: number(16, STACK_SPREAD) & !(PAGE_SIZE - 1),
            heap: number(24, HEAP_SPREAD) & !(PAGE_SIZE - 1),
            jitter: number(32, stack::MAX_JITTER),
        }
    }

    /// What the stack's layout needs of it.
    pub(super) fn stack(&self) -> stack::Randomness {
        stack::Randomness { bytes: self.bytes, jitter: self.jitter }
    }

    /// Where a stack of this many bytes had best begin.
    pub(super) fn stack_start(&self, map: &MemoryMap, bytes: u64) -> GuestAddr {
        let end = STACK_END.min(map.usable().end().0).saturating_sub(self.stack);
        GuestAddr(end.saturating_sub(bytes))
    }

    /// Where the heap of a program that ends at `end` begins.
    pub(super) fn heap_start(&self, end: GuestAddr) -> GuestAddr {
        GuestAddr(end.0 + self.heap)
    }
}

/// Decides where an image goes.
pub(super) fn plan(map: &MemoryMap, executable: &Executable, label: Label) -> Result<Plan, LoadError> {
    let image = &executable.image;
    let (start, end) = image.span();
    let bias = match image.placement {
        elf::Placement::Fixed => 0,
        elf::Placement::Anywhere => choose(map, executable, label)?.0.wrapping_sub(start),
    };
    // Only a fixed image can wrap, or lie outside: the others were given a place that exists.
    let bytes = end - start;
    let plan = plan::plan(image, bias).ok_or(LoadError::NoRoom { what: "a program", bytes })?;
    if !map.usable().encloses(plan.span) {
        return Err(LoadError::OutsideWindow { span: plan.span, window: map.usable() });
    }
    Ok(plan)
}

fn choose(map: &MemoryMap, executable: &Executable, label: Label) -> Result<GuestAddr, LoadError> {
    let image = &executable.image;
    let (start, end) = image.span();
    let bytes = (end - start).next_multiple_of(PAGE_SIZE);
    let no_room = LoadError::NoRoom { what: "a program", bytes };
    let alignment = image.alignment();
    if alignment > map.window().len() {
        return Err(no_room);
    }
    // What has to be a multiple of the alignment is the bias, not the start.
    let offset = start & (alignment - 1);
    let align_up = |addr: u64| (addr - offset.min(addr)).next_multiple_of(alignment) + offset;
    if let (Some(scatter), Ok(status)) = (map.scatter(), executable.file.metadata()) {
        let (device, inode) = (status.dev(), status.ino());
        let preferred = match label {
            Label::Program => {
                let page = scatter.number(device, inode, 0, PROGRAM_SPREAD / PAGE_SIZE);
                Some(GuestAddr(PROGRAM_START + page * PAGE_SIZE))
            }
            _ => map.library_place(device, inode, bytes).map(|range| range.start()),
        };
        let preferred = preferred.map(|place| GuestAddr(align_up(place.0)));
        if let Some(preferred) = preferred
            && map.choose(Placement::FixedNoReplace(preferred), bytes).is_ok()
        {
            return Ok(preferred);
        }
    }
    let Some(with_slack) = bytes.checked_add(alignment - PAGE_SIZE) else { return Err(no_room) };
    let gap = map.choose(Placement::Anywhere, with_slack).map_err(|_| no_room)?;
    // Not above the gap's end: aligning takes less than the slack.
    Ok(GuestAddr(align_up(gap.start().0)))
}

/// The absolute path of an open file, or nothing if the kernel does not tell.
pub(super) fn path_of(file: &File) -> CString {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
    CString::new(link.into_os_string().into_vec()).unwrap_or_default()
}
