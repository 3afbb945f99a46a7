//! x86-64 thread state.

pub mod xsave;

/// Alignment of the stack pointer at a program's first instruction, in bytes (psABI 3.4.1).
pub const ENTRY_STACK_ALIGNMENT: u64 = 16;

/// The general-purpose registers, numbered as instructions encode them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
#[expect(missing_docs, reason = "the names are the registers'")]
pub enum Gpr {
    Rax = 0,
    Rcx = 1,
    Rdx = 2,
    Rbx = 3,
    Rsp = 4,
    Rbp = 5,
    Rsi = 6,
    Rdi = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
    R11 = 11,
    R12 = 12,
    R13 = 13,
    R14 = 14,
    R15 = 15,
}

/// RFLAGS as a guest sees them (SDM volume 1, 3.4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Flags(pub u64);

impl Flags {
    /// Carry, parity, adjust, zero, sign, direction, overflow: what a program may set freely.
    pub const STATUS_AND_DIRECTION: u64 = 0xcd5;
    /// The single-step flag.
    pub const TRAP: u64 = 1 << 8;
    /// The alignment-check flag.
    pub const ALIGNMENT: u64 = 1 << 18;
    /// CPUID can be executed when this can be toggled.
    pub const ID: u64 = 1 << 21;
    /// Flags with what no program may clear: bit 1 and the interrupt flag.
    pub const FIXED: u64 = 0x202;

    /// These flags as user code can hold them: status, direction and ID from the guest, the rest fixed.
    #[must_use]
    pub const fn sanitised(self) -> Self {
        Flags(self.0 & (Self::STATUS_AND_DIRECTION | Self::ID) | Self::FIXED)
    }
}

impl Default for Flags {
    fn default() -> Self {
        Flags(Self::FIXED)
    }
}

/// General registers of a guest thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Registers {
    /// Indexed by [`Gpr`].
    pub gpr: [u64; 16],
    /// Program counter.
    pub pc: u64,
    /// RFLAGS.
    pub flags: Flags,
    /// Base of the guest's FS segment: its thread pointer.
    pub fs_base: u64,
    /// Base of the guest's GS segment.
    pub gs_base: u64,
}

impl Registers {
    /// One general register.
    pub const fn get(&self, register: Gpr) -> u64 {
        self.gpr[register as usize]
    }

    /// Changes one general register.
    pub const fn set(&mut self, register: Gpr, value: u64) {
        self.gpr[register as usize] = value;
    }

    /// The stack pointer.
    pub const fn stack_pointer(&self) -> u64 {
        self.gpr[Gpr::Rsp as usize]
    }

    /// Changes the stack pointer.
    pub const fn set_stack_pointer(&mut self, value: u64) {
        self.gpr[Gpr::Rsp as usize] = value;
    }

    /// The thread pointer.
    pub const fn thread_pointer(&self) -> u64 {
        self.fs_base
    }

    /// Changes the thread pointer.
    pub const fn set_thread_pointer(&mut self, value: u64) {
        self.fs_base = value;
    }

    /// The number of the system call that the thread stands at, as the kernel reads it: the low 32 bits of rax
    /// (entry_64.S passes eax, sign-extended).
    pub const fn syscall_number(&self) -> u32 {
        self.gpr[Gpr::Rax as usize] as u32
    }

    /// The six arguments of the system call that the thread stands at (syscall(2)).
    pub const fn syscall_arguments(&self) -> [u64; 6] {
        [
            self.get(Gpr::Rdi),
            self.get(Gpr::Rsi),
            self.get(Gpr::Rdx),
            self.get(Gpr::R10),
            self.get(Gpr::R8),
            self.get(Gpr::R9),
        ]
    }

    /// Puts a system call's result where the program expects it: -4095..=-1 is an errno, negated.
    pub const fn set_syscall_result(&mut self, result: i64) {
        self.gpr[Gpr::Rax as usize] = result as u64;
    }
}

/// The calling host thread's own thread pointer. The first word of the thread control block that FS points to is its own
/// address (ELF Handling For Thread-Local Storage, 3.4.6), so no FSGSBASE is needed to read it.
pub fn host_thread_pointer() -> u64 {
    let pointer: u64;
    // SAFETY: reads one word that the ABI guarantees. Inputs none, no clobbers; flags and stack are untouched.
    unsafe {
        core::arch::asm!("mov {}, fs:[0]", out(reg) pointer, options(nostack, preserves_flags, readonly, pure));
    }
    pointer
}

/// The XSAVE area of a guest thread in the *standard* (not compacted) format, the format of signal frames
/// (SDM volume 1, 13.4). Its length is what CPUID leaf 0xD says for the enabled components.
#[derive(Clone)]
pub struct VectorState {
    area: Vec<Chunk>,
}

/// XSAVE wants 64-byte alignment.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Chunk([u8; 64]);

impl VectorState {
    /// The fresh state of a program: everything in its initial configuration, MXCSR 0x1f80, x87 control word 0x37f.
    pub fn initial() -> Self {
        let mut state = VectorState { area: vec![Chunk([0; 64]); Self::area_length().div_ceil(64)] };
        state.reset();
        state
    }

    /// Makes this the state of [`VectorState::initial`]. The bytes of extended components stay, but do not count.
    pub fn reset(&mut self) {
        let bytes = self.bytes_mut();
        bytes[..xsave::EXTENDED].fill(0);
        bytes[..2].copy_from_slice(&0x037f_u16.to_le_bytes());
        bytes[xsave::MXCSR..xsave::MXCSR_MASK.start].copy_from_slice(&xsave::MXCSR_DEFAULT.to_le_bytes());
        bytes[xsave::MXCSR_MASK].copy_from_slice(&0xffff_u32.to_le_bytes());
    }

    /// Bytes of the area on this machine: CPUID(0xD, 0).EBX.
    pub fn area_length() -> usize {
        use std::sync::OnceLock;
        static LENGTH: OnceLock<usize> = OnceLock::new();
        // Asking costs a VM exit of several microseconds: ask once.
        *LENGTH.get_or_init(|| core::arch::x86_64::__cpuid_count(0xd, 0).ebx as usize)
    }

    /// The area's bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `Chunk` is `repr(C)` bytes without padding, and the vector owns `len * 64` of them.
        unsafe { core::slice::from_raw_parts(self.area.as_ptr().cast(), self.area.len() * 64) }
    }

    /// The area's bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and the borrow is unique.
        unsafe { core::slice::from_raw_parts_mut(self.area.as_mut_ptr().cast(), self.area.len() * 64) }
    }

    /// Where XSAVE writes and XRSTOR reads: 64-byte aligned.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.area.as_mut_ptr().cast()
    }
}

impl Default for VectorState {
    fn default() -> Self {
        Self::initial()
    }
}

impl core::fmt::Debug for VectorState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "VectorState({} bytes)", self.area.len() * 64)
    }
}
