//! What signal frames hold: the guest's state comes out of one when it has been stopped, and vector state goes in by an
//! area of the same form.
//!
//! Layouts follow arch/x86/include/uapi/asm/sigcontext.h and uapi/asm/ucontext.h of Linux.

use crate::arch::xsave::{self, Software};
use crate::arch::{Flags, Gpr};
use crate::{Registers, VectorState};

/// Segment selectors of 64-bit user code and of its data (asm/segment.h).
pub const USER_CS: u16 = 0x33;
/// See [`USER_CS`].
pub const USER_SS: u16 = 0x2b;

/// The general registers in the order of a signal frame, and of `gregs` in libc.
pub(crate) const FRAME_ORDER: [Gpr; 16] = [
    Gpr::R8,
    Gpr::R9,
    Gpr::R10,
    Gpr::R11,
    Gpr::R12,
    Gpr::R13,
    Gpr::R14,
    Gpr::R15,
    Gpr::Rdi,
    Gpr::Rsi,
    Gpr::Rbp,
    Gpr::Rbx,
    Gpr::Rdx,
    Gpr::Rax,
    Gpr::Rcx,
    Gpr::Rsp,
];

/// An XSAVE area in a signal frame's dress.
#[derive(Debug)]
pub struct VectorFrame {
    area: VectorStateBuffer,
    /// The components (bits of XCR0) that this process's frames hold.
    components: u64,
    /// Bytes of the area that the components need.
    length: usize,
}

/// The area and, behind it, the kernel's second magic word.
type VectorStateBuffer = Vec<Line>;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// MXCSR bits that every processor with SSE2 has.
const MXCSR_BITS: u32 = 0xffff;

impl Default for VectorFrame {
    fn default() -> Self {
        Self::new()
    }
}

impl VectorFrame {
    /// A frame for the components that this process may use.
    pub fn new() -> Self {
        let components = permitted_components() & !xsave::PKRU;
        let lines = VectorState::area_length().div_ceil(64) + 1;
        VectorFrame { area: vec![Line([0; 64]); lines], components, length: xsave::area_length(components) }
    }

    /// The components that the area holds: what XRSTOR is to load.
    pub const fn components(&self) -> u64 {
        self.components
    }

    /// Copies a guest's state in, corrects what XRSTOR would refuse, and returns where the area lies.
    pub fn set(&mut self, state: &VectorState) -> *mut u8 {
        let (components, length) = (self.components, self.length);
        let area = self.area.as_flattened_bytes_mut();
        area[..length].copy_from_slice(&state.bytes()[..length]);
        Software::new(components, length as u32).write(area);
        put(area, length, xsave::MAGIC2.to_le_bytes());
        let mxcsr = u32::from_le_bytes(get(area, xsave::MXCSR)) & MXCSR_BITS;
        put(area, xsave::MXCSR, mxcsr.to_le_bytes());
        let present = u64::from_le_bytes(get(area, xsave::HEADER)) & components;
        put(area, xsave::HEADER, present.to_le_bytes());
        area[xsave::HEADER_RESERVED].fill(0);
        area.as_mut_ptr()
    }

    /// Takes the guest's vector state out of the kernel's frame and leaves the fresh state of a program in its place,
    /// so that the host is resumed with that. Async-signal-safe.
    ///
    /// # Safety
    ///
    /// `area` is the floating-point state of a signal frame that the kernel made for this thread.
    unsafe fn take(&mut self, area: *mut u8, state: &mut VectorState) {
        // SAFETY: a frame's area holds at least the FXSAVE region, the kernel's words included.
        let fxsave = unsafe { core::slice::from_raw_parts(area, xsave::SOFTWARE.end) };
        let target = state.bytes_mut();
        let Some(software) = Software::read(fxsave) else {
            // No XSAVE on this machine: the probe refuses it.
            return;
        };
        let length = software.size as usize;
        if length <= target.len() {
            // A process may have been granted further components since (arch_prctl ARCH_REQ_XCOMP_PERM).
            self.components = software.components & !xsave::PKRU;
            self.length = length;
        }
        let length = length.min(target.len());
        // SAFETY: the kernel's words say that the area is at least that long, and it is this handler's to change.
        let source = unsafe { core::slice::from_raw_parts_mut(area, length) };
        target[..length].copy_from_slice(source);
        target[xsave::SOFTWARE].fill(0);
        let present = u64::from_le_bytes(get(source, xsave::HEADER));
        put(target, xsave::HEADER, (present & !xsave::PKRU).to_le_bytes());
        make_fresh(source);
    }
}

/// Leaves the fresh state of a program in a frame's area. Rights of keys stay as they are.
fn make_fresh(area: &mut [u8]) {
    let present = u64::from_le_bytes(get(area, xsave::HEADER));
    put(area, xsave::HEADER, (present & xsave::PKRU).to_le_bytes());
    put(area, xsave::MXCSR, xsave::MXCSR_DEFAULT.to_le_bytes());
}

/// Has the host resumed with the fresh vector state of a program, whatever the frame holds. Async-signal-safe.
///
/// # Safety
///
/// `context` is a handler's third argument, of a machine with XSAVE.
pub unsafe fn leave_fresh_vector_state(context: &mut libc::ucontext_t) {
    let area = context.uc_mcontext.fpregs.cast::<u8>();
    // SAFETY: with XSAVE a frame's area holds the header behind the FXSAVE region, and it is the handler's to change.
    make_fresh(unsafe { core::slice::from_raw_parts_mut(area, xsave::EXTENDED) });
}

/// Has the handler return to 64-bit code of the host's at `pc`, with this stack pointer and no flag set, whatever was interrupted:
/// a guest may have been in 32-bit code, in whose segment the host's addresses would lose their upper halves.
/// Async-signal-safe.
pub fn resume_at(context: &mut libc::ucontext_t, pc: usize, stack_pointer: u64) {
    // cs, gs, fs and ss share a word.
    const SEGMENTS: u64 = USER_CS as u64 | (USER_SS as u64) << 48;
    let registers = &mut context.uc_mcontext.gregs;
    registers[libc::REG_RIP as usize] = pc as i64;
    registers[libc::REG_RSP as usize] = stack_pointer as i64;
    registers[libc::REG_EFL as usize] = Flags::FIXED as i64;
    registers[libc::REG_CSGSFS as usize] = SEGMENTS as i64;
}

/// Moves the interrupted guest's state out of the kernel's frame. Async-signal-safe.
///
/// # Safety
///
/// `context` is a handler's third argument, and the interrupted code was the guest's.
pub unsafe fn take_state(
    context: &libc::ucontext_t,
    registers: &mut Registers,
    vector: &mut VectorState,
    frame: &mut VectorFrame,
) {
    let machine = &context.uc_mcontext;
    for (slot, register) in machine.gregs.iter().zip(FRAME_ORDER) {
        registers.set(register, *slot as u64);
    }
    registers.pc = machine.gregs[libc::REG_RIP as usize] as u64;
    registers.flags = Flags(machine.gregs[libc::REG_EFL as usize] as u64 & !RESUME_FLAG);
    // SAFETY: the kernel's frame, by the caller's promise.
    unsafe { frame.take(machine.fpregs.cast(), vector) };
}

/// The processor sets it in the flags that it saves at a fault; no instruction reads it.
const RESUME_FLAG: u64 = 1 << 16;

/// The components that signal frames of this process hold: those that XCR0 has, without those that a process must ask
/// for (AMX) and this one has not.
fn permitted_components() -> u64 {
    const ARCH_GET_XCOMP_PERM: libc::c_int = 0x1022;
    let mut permitted = u64::MAX;
    // SAFETY: writes one word. Kernels before 5.16 refuse, and have no such components.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &raw mut permitted) };
    permitted & xsave::enabled_components()
}

fn get<const N: usize>(area: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&area[at..at + N]);
    bytes
}

fn put<const N: usize>(area: &mut [u8], at: usize, bytes: [u8; N]) {
    area[at..at + N].copy_from_slice(&bytes);
}

trait FlattenedBytes {
    fn as_flattened_bytes_mut(&mut self) -> &mut [u8];
}

impl FlattenedBytes for Vec<Line> {
    fn as_flattened_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `Line` is `repr(C)` bytes without padding.
        unsafe { core::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), self.len() * 64) }
    }
}
